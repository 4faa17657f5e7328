package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/internal/atrest"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// An entry's data on disk is a record of atrest: sealed under a storage key
// that this node's HSM opened, and bound to this cluster, this node, and
//
//	index uint64 | term uint64 | type uint8 | extensions
//
// with numbers big endian. raft-boltdb keeps index, term, type and the time of
// appending beside it, in the clear; an entry that was changed, exchanged or
// brought from elsewhere does not open.
//
// What the library keeps of terms and votes is signed and not sealed: nothing
// in it is secret, and a node whose storage key is lost must still be able to
// read how it voted.
const (
	entryKind  = "strongroom log entry"
	stableKind = "strongroom stable "
)

// CorruptError says that an entry of the local log is not what was written.
// The node must stop and be given a new data folder.
type CorruptError struct {
	Index  uint64
	Reason string

	// mendable: the database around the entry is whole, and the storage keys
	// are those that it was written with.
	mendable bool
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the entry %d of the log in raft.db is damaged (%s); "+
		"stop this node, keep its data folder for examination, and let it join again with an empty one", e.Index, e.Reason)
}

// logStore is the log and the votes of one node on disk.
type logStore struct {
	bolt LogDatabase // raft-boltdb, or what a simulation has for it
	keys *atrest.Keys

	// writing is when the oldest write in flight began, in nanoseconds of
	// clock, 0 for none. Raft writes from one goroutine.
	writing atomic.Int64
	born    time.Time

	before   func()      // a test's slow disk, or nil
	stored   func()      // called after entries are safe on disk
	mustStop func(error) // called for what must end this node
}

func openLogStore(path string, timeout time.Duration, keys *atrest.Keys, reads bool) (*logStore, error) {
	bolt, err := boltstore.New(boltstore.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			// The freelist is found again by scanning at start; to write it
			// whole at each commit costs more the larger the file is.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			Timeout:        timeout,
			ReadOnly:       reads,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return newLogStore(bolt, keys), nil
}

func newLogStore(bolt LogDatabase, keys *atrest.Keys) *logStore {
	return &logStore{bolt: bolt, keys: keys, born: time.Now(), stored: func() {}, mustStop: func(error) {}}
}

// stalledFor answers how long the write in flight has been going on, 0 when
// there is none. It is monotonic.
func (s *logStore) stalledFor() time.Duration {
	began := s.writing.Load()
	if began == 0 {
		return 0
	}
	return time.Since(s.born) - time.Duration(began)
}

// StoreLog implements hraft.LogStore.
func (s *logStore) StoreLog(entry *hraft.Log) error { return s.StoreLogs([]*hraft.Log{entry}) }

// StoreLogs writes the entries in one transaction and returns when they are
// synced. An error is the end of this node: whether the entries are on the
// disk is unknown, and to go on could count an entry that is not.
func (s *logStore) StoreLogs(entries []*hraft.Log) error {
	s.writing.Store(max(1, int64(time.Since(s.born))))
	defer s.writing.Store(0)
	if s.before != nil {
		s.before()
	}
	sealed := make([]*hraft.Log, len(entries))
	for i, e := range entries {
		var err error
		if sealed[i], err = sealEntry(s.keys, e); err != nil {
			err = fmt.Errorf("seal entry %d of the log: %w", e.Index, err)
			s.mustStop(err)
			return err
		}
	}
	if err := s.bolt.StoreLogs(sealed); err != nil {
		err = fmt.Errorf("write entries %d to %d of the log: %w", entries[0].Index, entries[len(entries)-1].Index, err)
		s.mustStop(err)
		return err
	}
	s.stored()
	return nil
}

// GetLog answers an entry as it was written, or an error. hraft.ErrLogNotFound
// means that there is none; a damaged entry is a *CorruptError and the end of
// this node.
func (s *logStore) GetLog(index uint64, out *hraft.Log) error {
	err := s.read(index, out)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		s.mustStop(err)
	}
	return err
}

func (s *logStore) read(index uint64, out *hraft.Log) (err error) {
	// bbolt asserts its page structure by panics.
	defer func() {
		if p := recover(); p != nil {
			err = &CorruptError{Index: index, Reason: fmt.Sprint("the database file is damaged: ", p)}
		}
	}()
	var raw hraft.Log
	if err := s.bolt.GetLog(index, &raw); err != nil {
		if errors.Is(err, hraft.ErrLogNotFound) {
			return err
		}
		return &CorruptError{Index: index, Reason: "it does not decode", mendable: true}
	}
	if raw.Index != index {
		return &CorruptError{Index: index, Reason: fmt.Sprintf("it is entry %d", raw.Index), mendable: true}
	}
	data, err := openEntry(s.keys, &raw)
	if err != nil {
		// A key that is not there is the fault of the keys' file: to fetch
		// the whole log anew would hide it.
		return &CorruptError{Index: index, Reason: err.Error(), mendable: !errors.Is(err, atrest.ErrUnknown)}
	}
	raw.Data = data
	*out = raw
	return nil
}

func sealEntry(keys *atrest.Keys, e *hraft.Log) (*hraft.Log, error) {
	data, err := keys.Seal(entryKind, entryPlace(e), e.Data)
	if err != nil {
		return nil, err
	}
	out := *e
	out.Data = data
	return &out, nil
}

func openEntry(keys *atrest.Keys, e *hraft.Log) ([]byte, error) {
	return keys.Open(entryKind, entryPlace(e), e.Data)
}

func entryPlace(e *hraft.Log) []byte {
	b := make([]byte, 0, 17+len(e.Extensions))
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, byte(e.Type))
	return append(b, e.Extensions...)
}

// lastCommand answers the highest index at or below index that holds a
// command, looking no further down than applied. Other entries never reach
// the state machine, so waiting for them there would last for ever.
func (s *logStore) lastCommand(index, applied uint64, from hraft.LogStore) (uint64, error) {
	var e hraft.Log
	for ; index > applied; index-- {
		err := from.GetLog(index, &e)
		if errors.Is(err, hraft.ErrLogNotFound) {
			// Compacted: a snapshot holds it, so it was applied.
			return applied, nil
		}
		if err != nil {
			return 0, err
		}
		if e.Type == hraft.LogCommand {
			return index, nil
		}
	}
	return applied, nil
}

// FirstIndex implements hraft.LogStore.
func (s *logStore) FirstIndex() (uint64, error) { return s.bolt.FirstIndex() }

// LastIndex implements hraft.LogStore.
func (s *logStore) LastIndex() (uint64, error) { return s.bolt.LastIndex() }

// DeleteRange implements hraft.LogStore.
func (s *logStore) DeleteRange(low, high uint64) error { return s.bolt.DeleteRange(low, high) }

// Set implements hraft.StableStore.
func (s *logStore) Set(key, value []byte) error {
	signed, err := s.keys.Sign(stableKind+string(key), value)
	if err != nil {
		return fmt.Errorf("sign %s: %w", key, err)
	}
	return s.bolt.Set(key, signed)
}

// Get implements hraft.StableStore. The library knows by the text of the
// error that there is none.
func (s *logStore) Get(key []byte) ([]byte, error) {
	signed, err := s.bolt.Get(key)
	if err != nil {
		return nil, err
	}
	value, err := s.keys.Verify(stableKind+string(key), signed)
	if err != nil {
		return nil, fmt.Errorf("%s in %s is damaged (%w): this node cannot tell how it voted; give it a new node id and an empty data folder", key, storeFile, err)
	}
	return value, nil
}

// SetUint64 implements hraft.StableStore.
func (s *logStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements hraft.StableStore.
func (s *logStore) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%s in %s has %d bytes", key, storeFile, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

// number answers a number of the stable store, 0 if it was never set.
func (s *logStore) number(key string) (uint64, error) {
	value, err := s.GetUint64([]byte(key))
	if errors.Is(err, boltstore.ErrKeyNotFound) {
		return 0, nil
	}
	return value, err
}

func (s *logStore) close() error { return s.bolt.Close() }
