package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/durable"

	hraft "github.com/hashicorp/raft"
)

// The state.bin of a snapshot is a stream of atrest: sealed under a storage
// key, and bound to this cluster, this node, and
//
//	version uint64 | index uint64 | term uint64 | index of the configuration uint64 | configuration
//
// with numbers big endian. The library keeps those in meta.json beside it, in
// the clear, and takes the members of the cluster from there: a meta.json that
// was changed makes a snapshot that does not open.
const snapshotKind = "strongroom snapshot"

// damagedDir is where snapshots go that do not open, for examination.
const damagedDir = "damaged"

// snapshotStore seals snapshots, keeps them private to this user, reads back
// each one that was written, and says when one is safe. What it hands out is
// open: a snapshot on its way to another node is sealed there anew.
type snapshotStore struct {
	*hraft.FileSnapshotStore
	keys   *atrest.Keys
	level  uint32 // feature level that this build knows
	path   string
	before func(name string) error // asked before anything of a snapshot is written
	stored func() error
}

func openSnapshots(path string, log *slog.Logger, keys *atrest.Keys, level uint32) (*snapshotStore, error) {
	// FileSnapshotStore adds a folder "snapshots" of its own.
	files, err := hraft.NewFileSnapshotStoreWithLogger(filepath.Dir(path), retainSnapshots, newLibraryLogger(log))
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	return &snapshotStore{FileSnapshotStore: files, keys: keys, level: level, path: path, before: noQuestion, stored: func() error { return nil }}, nil
}

// Create implements hraft.SnapshotStore. The library makes folders 0755 and
// files by umask.
func (s *snapshotStore) Create(version hraft.SnapshotVersion, index, term uint64, members hraft.Configuration, membersIndex uint64, trans hraft.Transport) (hraft.SnapshotSink, error) {
	if err := s.before("snapshot"); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
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
	place := snapshotPlace(&hraft.SnapshotMeta{Version: version, Index: index, Term: term, Configuration: members, ConfigurationIndex: membersIndex})
	sealer, err := s.keys.SealStream(sink, snapshotKind, place)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot: %w", err), sink.Cancel())
	}
	return &verifiedSink{SnapshotSink: sink, sealer: sealer, store: s}, nil
}

func snapshotPlace(m *hraft.SnapshotMeta) []byte {
	var b []byte
	for _, n := range []uint64{uint64(m.Version), m.Index, m.Term, m.ConfigurationIndex} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, hraft.EncodeConfiguration(m.Configuration)...)
}

// List implements hraft.SnapshotStore. The library takes the id from
// meta.json, which anybody may have changed: it must be the name of a folder
// here before it becomes part of a path.
func (s *snapshotStore) List() ([]*hraft.SnapshotMeta, error) {
	list, err := s.FileSnapshotStore.List()
	return slices.DeleteFunc(list, func(m *hraft.SnapshotMeta) bool {
		if filepath.Base(m.ID) != m.ID {
			return true
		}
		_, err := os.Stat(filepath.Join(s.path, m.ID, "state.bin"))
		return err != nil
	}), err
}

// Open implements hraft.SnapshotStore: the size it answers is that of what is
// read, which is what a follower is told.
func (s *snapshotStore) Open(id string) (*hraft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	opener, err := s.keys.OpenStream(r, snapshotKind, snapshotPlace(meta))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the snapshot %s: %w", id, err), r.Close())
	}
	out := *meta
	out.Size = atrest.StreamSize(meta.Size)
	return &out, openSnapshot{opener, r}, nil
}

type openSnapshot struct {
	io.Reader
	io.Closer
}

// check restores the snapshot into a machine of its own.
func (s *snapshotStore) check(id string) error {
	_, r, err := s.Open(id)
	if err != nil {
		return err
	}
	return errors.Join(fsm.NewAt(s.level).Restore(r), drain(r), r.Close())
}

// drain reads to the end, so that a longer file does not go unnoticed.
func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d bytes after the end of the snapshot", n)
	}
	return err
}

// usable answers the newest snapshot that restores, nil if there is none, and
// the ids of newer ones that do not.
func (s *snapshotStore) usable(log *slog.Logger) (newest *hraft.SnapshotMeta, unreadable []string, err error) {
	list, err := s.List()
	if err != nil {
		return nil, nil, fmt.Errorf("snapshots: %w", err)
	}
	for _, meta := range list {
		err := s.check(meta.ID)
		if err == nil {
			return meta, unreadable, nil
		}
		// It is whole, and of a newer build: to set it aside would be to forget.
		var level *fsm.LevelError
		if errors.Is(err, atrest.ErrUnknown) || errors.As(err, &level) {
			return nil, nil, err
		}
		log.Error("a snapshot is unreadable", "snapshot", meta.ID, "error", err)
		unreadable = append(unreadable, meta.ID)
	}
	return nil, unreadable, nil
}

// setAside moves snapshots out of the library's sight, which would offer them
// to followers for ever.
func (s *snapshotStore) setAside(ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	aside := filepath.Join(filepath.Dir(s.path), damagedDir)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	for _, id := range ids {
		to := filepath.Join(aside, id)
		if err := errors.Join(os.RemoveAll(to), os.Rename(filepath.Join(s.path, id), to)); err != nil {
			return fmt.Errorf("snapshots: %w", err)
		}
	}
	return errors.Join(durable.SyncDir(aside), durable.SyncDir(s.path))
}

// verifiedSink seals what it is given, and reads back what it wrote. Only after Close returned without an
// error does the library compact the log.
type verifiedSink struct {
	hraft.SnapshotSink
	sealer io.WriteCloser
	store  *snapshotStore
	done   bool
}

func (s *verifiedSink) Write(p []byte) (int, error) {
	if err := s.store.before("snapshot"); err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	return s.sealer.Write(p)
}

func (s *verifiedSink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	if err := errors.Join(s.store.before("snapshot"), s.sealer.Close()); err != nil {
		return errors.Join(err, s.SnapshotSink.Cancel())
	}
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	if err := s.store.check(s.ID()); err != nil {
		err = fmt.Errorf("the snapshot %s, read back, is not what was written: %w", s.ID(), err)
		return errors.Join(err, os.RemoveAll(filepath.Join(s.store.path, s.ID())))
	}
	return s.store.stored()
}
