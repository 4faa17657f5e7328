package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/durable"
)

// Folder holds backups under names that sort by time. It touches no file of
// another name.
type Folder struct{ Dir string }

const (
	stampLayout = "20060102T150405Z"
	partial     = ".partial"
)

var namePattern = regexp.MustCompile(`^strongroom-(\d{8}T\d{6}Z)-i\d+\.age$`)

// Name is that of a backup of the state at an index, saved at a time. Names
// sort by time.
func Name(at time.Time, index uint64) string {
	return fmt.Sprintf("strongroom-%s-i%d.age", at.UTC().Format(stampLayout), index)
}

// SavedAt reads the time in a name, and reports whether it is that of a backup.
func SavedAt(name string) (at time.Time, ours bool) {
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return time.Time{}, false
	}
	at, err := time.Parse(stampLayout, m[1])
	return at, err == nil
}

// Saved is one backup of a folder or a bucket.
type Saved struct {
	Path string    // or s3://bucket/key
	At   time.Time // by its name
	Size int64
}

// Save makes a backup of what write writes: private to this user, and on the
// disk under its name, or not there at all.
func (f Folder) Save(at time.Time, index uint64, write func(io.Writer) error) (path string, err error) {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return "", fmt.Errorf("snapshots.dir: %w", err)
	}
	if err := f.clear(); err != nil {
		return "", err
	}
	path = filepath.Join(f.Dir, Name(at, index))
	return path, WriteFile(path, write)
}

// clear removes what a save left that did not come to its end.
func (f Folder) clear() error {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return fmt.Errorf("snapshots.dir: %w", err)
	}
	for _, e := range entries {
		if name, left := strings.CutSuffix(e.Name(), partial); left && namePattern.MatchString(name) {
			err = errors.Join(err, os.Remove(filepath.Join(f.Dir, e.Name())))
		}
	}
	return err
}

// WriteFile writes a file of mode 0600 that is whole and on the disk, or not
// there. It replaces none.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is there already, and is not replaced", path)
	}
	out, err := os.OpenFile(path+partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(write(out), out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(path+partial, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+partial))
	}
	return durable.SyncDir(filepath.Dir(path))
}

// List answers the backups of the folder, the newest first; none if there is
// no folder.
func (f Folder) List() ([]Saved, error) {
	entries, err := os.ReadDir(f.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("snapshots.dir: %w", err)
	}
	var out []Saved
	for _, e := range entries {
		at, ours := SavedAt(e.Name())
		if !ours {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // it goes, or is none of ours
		}
		out = append(out, Saved{Path: filepath.Join(f.Dir, e.Name()), At: at, Size: info.Size()})
	}
	slices.Reverse(out)
	return out, nil
}
