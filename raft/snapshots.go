package raft

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/strongroom/strongroom/fsm"

	hraft "github.com/hashicorp/raft"
)

// snapshotStore keeps snapshots private to this user, reads back each one
// that was written, and says when one is safe.
type snapshotStore struct {
	*hraft.FileSnapshotStore
	path   string
	stored func() error
}

func openSnapshots(path string, log *slog.Logger) (*snapshotStore, error) {
	// FileSnapshotStore adds a folder "snapshots" of its own.
	files, err := hraft.NewFileSnapshotStoreWithLogger(filepath.Dir(path), retainSnapshots, newLibraryLogger(log))
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	return &snapshotStore{FileSnapshotStore: files, path: path, stored: func() error { return nil }}, nil
}

// Create implements hraft.SnapshotStore. The library makes folders 0755 and
// files by umask.
func (s *snapshotStore) Create(version hraft.SnapshotVersion, index, term uint64, members hraft.Configuration, membersIndex uint64, trans hraft.Transport) (hraft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, members, membersIndex, trans)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.path, sink.ID()+".tmp")
	err = os.Chmod(dir, 0o700)
	for _, name := range []string{"meta.json", "state.bin"} {
		err = errors.Join(err, os.Chmod(filepath.Join(dir, name), 0o600))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot: %w", err), sink.Cancel())
	}
	return &verifiedSink{SnapshotSink: sink, store: s}, nil
}

// check restores the snapshot into a machine of its own.
func (s *snapshotStore) check(id string) error {
	_, r, err := s.Open(id)
	if err != nil {
		return err
	}
	return errors.Join(fsm.New().Restore(r), drain(r), r.Close())
}

// drain reads to the end, so that a longer file does not go unnoticed.
func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d bytes after the end of the snapshot", n)
	}
	return err
}

// usable answers the index of the newest snapshot that restores, 0 if there
// is none. Unreadable ones are set aside by nobody: they stay for examination.
func (s *snapshotStore) usable(log *slog.Logger) (uint64, error) {
	list, err := s.List()
	if err != nil {
		return 0, fmt.Errorf("snapshots: %w", err)
	}
	for _, meta := range list {
		err := s.check(meta.ID)
		if err == nil {
			return meta.Index, nil
		}
		log.Error("a snapshot is unreadable", "snapshot", meta.ID, "error", err)
	}
	return 0, nil
}

// verifiedSink reads back what it wrote. Only after Close returned without an
// error does the library compact the log.
type verifiedSink struct {
	hraft.SnapshotSink
	store *snapshotStore
	done  bool
}

func (s *verifiedSink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	if err := s.store.check(s.ID()); err != nil {
		err = fmt.Errorf("the snapshot %s, read back, is not what was written: %w", s.ID(), err)
		return errors.Join(err, os.RemoveAll(filepath.Join(s.store.path, s.ID())))
	}
	return s.store.stored()
}
