package raft

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// An entry's data on disk:
//
//	format uint8 = 1 | sum [16] | data
//
// sum is the first half of SHA-256 over
//
//	"strongroom log entry" | format | index uint64 | term uint64 | type uint8 |
//	length of extensions uint64 | extensions | data
//
// with numbers big endian. raft-boltdb and bbolt carry no checksum of their
// own: without it, a byte that flips on the disk would be served as truth.
const (
	entryFormat = 1
	entrySum    = sha256.Size / 2
	entryHeader = 1 + entrySum
	entryDomain = "strongroom log entry"
)

// CorruptError says that an entry of the local log is not what was written.
// The node must stop and be given a new data folder.
type CorruptError struct {
	Index  uint64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the entry %d of the log in raft.db is damaged (%s); "+
		"stop this node, keep its data folder for examination, and let it join again with an empty one", e.Index, e.Reason)
}

// logStore is the log and the votes of one node on disk.
type logStore struct {
	bolt *boltstore.BoltStore

	// writing is when the oldest write in flight began, in nanoseconds of
	// clock, 0 for none. Raft writes from one goroutine.
	writing atomic.Int64
	born    time.Time

	before   func()      // a test's slow disk, or nil
	stored   func()      // called after entries are safe on disk
	mustStop func(error) // called for what must end this node
}

func openLogStore(path string, timeout time.Duration) (*logStore, error) {
	bolt, err := boltstore.New(boltstore.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			// The freelist is found again by scanning at start; to write it
			// whole at each commit costs more the larger the file is.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			Timeout:        timeout,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &logStore{bolt: bolt, born: time.Now(), stored: func() {}, mustStop: func(error) {}}, nil
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
		sealed[i] = sealEntry(e)
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
		return &CorruptError{Index: index, Reason: "it does not decode"}
	}
	if raw.Index != index {
		return &CorruptError{Index: index, Reason: fmt.Sprintf("it is entry %d", raw.Index)}
	}
	data, reason := openEntry(&raw)
	if reason != "" {
		return &CorruptError{Index: index, Reason: reason}
	}
	raw.Data = data
	*out = raw
	return nil
}

func sealEntry(e *hraft.Log) *hraft.Log {
	sum := entryChecksum(e, e.Data)
	out := *e
	out.Data = make([]byte, 0, entryHeader+len(e.Data))
	out.Data = append(out.Data, entryFormat)
	out.Data = append(out.Data, sum[:]...)
	out.Data = append(out.Data, e.Data...)
	return &out
}

func openEntry(e *hraft.Log) (data []byte, reason string) {
	if len(e.Data) < entryHeader {
		return nil, "it is too short"
	}
	if e.Data[0] != entryFormat {
		return nil, fmt.Sprintf("its format is %d, this version reads %d", e.Data[0], entryFormat)
	}
	data = e.Data[entryHeader:]
	sum := entryChecksum(e, data)
	if subtle.ConstantTimeCompare(sum[:], e.Data[1:entryHeader]) != 1 {
		return nil, "its checksum does not match"
	}
	return data, ""
}

func entryChecksum(e *hraft.Log, data []byte) [entrySum]byte {
	h := sha256.New()
	b := append(make([]byte, 0, 64), entryDomain...)
	b = append(b, entryFormat)
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, byte(e.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(len(e.Extensions)))
	h.Write(b)
	h.Write(e.Extensions)
	h.Write(data)
	return [entrySum]byte(h.Sum(nil)[:entrySum])
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
func (s *logStore) Set(key, value []byte) error { return s.bolt.Set(key, value) }

// Get implements hraft.StableStore.
func (s *logStore) Get(key []byte) ([]byte, error) { return s.bolt.Get(key) }

// SetUint64 implements hraft.StableStore.
func (s *logStore) SetUint64(key []byte, value uint64) error { return s.bolt.SetUint64(key, value) }

// GetUint64 implements hraft.StableStore.
func (s *logStore) GetUint64(key []byte) (uint64, error) { return s.bolt.GetUint64(key) }

func (s *logStore) close() error { return s.bolt.Close() }
