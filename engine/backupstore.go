package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/strongroom/strongroom/internal/backup"
)

// BackupStore is a place where a node keeps its backups: a folder, or what
// internal/objectstore makes of a bucket. It shows nobody a backup that is not
// whole, and replaces none. What comes out of it is believed only once the
// backup has proven itself.
type BackupStore interface {
	// Save makes a backup of what write writes, at a time, of the state at index.
	Save(ctx context.Context, at time.Time, index uint64, write func(io.Writer) error) (backup.Saved, error)
	// List answers the backups of this node, the newest first.
	List(ctx context.Context) ([]backup.Saved, error)
	// Open and Remove take Saved.Path.
	Open(ctx context.Context, path string) (io.ReadCloser, error)
	Remove(ctx context.Context, path string) error
	// String names the place for people.
	String() string
}

// store answers nil if this node saves nothing.
func (b Backups) store() BackupStore {
	switch {
	case b.Store != nil:
		return b.Store
	case b.Dir != "":
		return folderStore{backup.Folder{Dir: b.Dir}}
	}
	return nil
}

// folderStore is a folder as a BackupStore. Disks know no contexts.
type folderStore struct{ folder backup.Folder }

func (f folderStore) Save(_ context.Context, at time.Time, index uint64, write func(io.Writer) error) (backup.Saved, error) {
	path, err := f.folder.Save(at, index, write)
	if err != nil {
		return backup.Saved{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return backup.Saved{}, err
	}
	return backup.Saved{Path: path, At: at, Size: info.Size()}, nil
}

func (f folderStore) List(context.Context) ([]backup.Saved, error) { return f.folder.List() }

func (f folderStore) Open(_ context.Context, path string) (io.ReadCloser, error) {
	return os.Open(path)
}

func (f folderStore) Remove(_ context.Context, path string) error { return os.Remove(path) }

func (f folderStore) String() string { return f.folder.Dir }

// pruneBackups removes all but the newest Keep backups of this node. Each is
// tried: one that cannot be removed keeps no other.
func (e *Engine) pruneBackups(ctx context.Context, store BackupStore) error {
	if e.Backups.Keep == 0 {
		return nil
	}
	all, err := store.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, old := range all[min(e.Backups.Keep, len(all)):] {
		errs = append(errs, store.Remove(ctx, old.Path))
	}
	return errors.Join(errs...)
}
