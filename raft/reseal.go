package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/durable"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
)

// resealBatch is how many entries one transaction writes anew.
const resealBatch = 256

// Reseal seals everything in the data folder of a node, which is not running,
// under the newest of the keys that cfg.Storage answers, and then calls done,
// with the folder still locked. It can be called again after any failure: what
// is under the newest key already is left alone.
func Reseal(cfg Config, done func() error) (err error) {
	cfg = cfg.withDefaults()
	if err := cfg.checkStore(); err != nil {
		return err
	}
	d, err := openDataDir(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.logs.reseal(); err != nil {
		return err
	}
	if err := d.snaps.reseal(); err != nil {
		return err
	}
	return done()
}

func (s *logStore) reseal() error {
	for _, key := range stableKeys {
		value, err := s.Get([]byte(key))
		if errors.Is(err, boltstore.ErrKeyNotFound) {
			continue
		}
		if err == nil {
			err = s.Set([]byte(key), value)
		}
		if err != nil {
			return err
		}
	}
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	var batch []*hraft.Log
	for index := first; index <= last; index++ {
		e, err := s.older(index)
		if err != nil {
			return err
		}
		if e != nil {
			batch = append(batch, e)
		}
		if len(batch) == resealBatch || index == last && len(batch) > 0 {
			if err := s.StoreLogs(batch); err != nil {
				return err
			}
			batch = nil
		}
	}
	return nil
}

// older answers an entry that is under a key that is not the newest, nil where
// there is none.
func (s *logStore) older(index uint64) (*hraft.Log, error) {
	var raw, e hraft.Log
	err := s.bolt.GetLog(index, &raw)
	if errors.Is(err, hraft.ErrLogNotFound) {
		return nil, nil
	}
	if err == nil {
		if number, err := atrest.Generation(raw.Data); err == nil && number == s.keys.Newest() {
			return nil, nil
		}
		err = s.read(index, &e)
	}
	return &e, err
}

// reseal writes each snapshot anew, from the oldest on: the library keeps the
// newest.
func (s *snapshotStore) reseal() error {
	list, err := s.List()
	if err != nil {
		return err
	}
	_, transport := hraft.NewInmemTransport("") // for a field of meta.json that nobody reads any more
	for _, meta := range slices.Backward(list) {
		number, err := s.generation(meta.ID)
		if err != nil {
			return err
		}
		if number == s.keys.Newest() {
			continue
		}
		if err := s.copyAnew(meta, transport); err != nil {
			return fmt.Errorf("the snapshot %s: %w", meta.ID, err)
		}
	}
	return nil
}

func (s *snapshotStore) copyAnew(meta *hraft.SnapshotMeta, transport hraft.Transport) error {
	_, r, err := s.Open(meta.ID)
	if err != nil {
		return err
	}
	sink, err := s.Create(meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, transport)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	if _, err := io.Copy(sink, r); err != nil {
		return errors.Join(err, sink.Cancel(), r.Close())
	}
	if err := errors.Join(r.Close(), sink.Close()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(s.path, meta.ID)), durable.SyncDir(s.path))
}

// generation answers which storage key a snapshot is under.
func (s *snapshotStore) generation(id string) (uint32, error) {
	f, err := os.Open(filepath.Join(s.path, id, "state.bin"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(f, head); err != nil {
		return 0, fmt.Errorf("the snapshot %s: %w", id, err)
	}
	return atrest.Generation(head)
}

// StartOver makes the data folder of a node, which is not running, fit for the
// keys that cfg.Storage answers, where those that it was sealed under are
// lost. Log and snapshots go aside, and the others give them to this node
// again; terms and votes are taken as they are, without the key that would
// tell whether they were changed. Until the node holds again what it may have
// acknowledged it gives no vote. done is called at the end, with the folder
// still locked. It can be called again after any failure.
func StartOver(cfg Config, done func() error) (err error) {
	cfg = cfg.withDefaults()
	if err := cfg.checkStore(); err != nil {
		return err
	}
	if len(cfg.InitialMembers) < 2 {
		return errors.New("this node is the only member that its configuration names: nobody could give it its log again")
	}
	d, err := openDataDir(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.startOver(); err != nil {
		return err
	}
	return done()
}

func (d *dataDir) startOver() error {
	last, err := d.logs.LastIndex()
	if err != nil {
		return err
	}
	snapshots, err := d.snaps.List()
	if err != nil {
		return err
	}
	var ids []string
	until := last
	for _, meta := range snapshots {
		ids, until = append(ids, meta.ID), max(until, meta.Index)
	}
	if until, err = d.logs.signAnew(until); err != nil {
		return err
	}
	if until == 0 {
		return fmt.Errorf("the data folder %s holds no log: there is nothing to start over with", d.path)
	}
	if last > 0 {
		if err := d.keepCopy(); err != nil {
			return err
		}
		first, err := d.logs.FirstIndex()
		if err != nil {
			return err
		}
		if err := d.logs.DeleteRange(first, last); err != nil {
			return err
		}
	}
	if err := d.snaps.setAside(ids); err != nil {
		return err
	}
	return d.mark()
}

// signAnew signs the stable store as it is, with the mending up to until, or
// to where one was going on to already.
func (s *logStore) signAnew(until uint64) (uint64, error) {
	for _, key := range stableKeys {
		signed, err := s.bolt.Get([]byte(key))
		if errors.Is(err, boltstore.ErrKeyNotFound) {
			continue
		}
		var value []byte
		if err == nil {
			value, err = atrest.Unverified(signed)
		}
		if err != nil {
			return 0, fmt.Errorf("%s in %s cannot be read (%w): this node cannot tell how it voted; give it a new node id and an empty data folder", key, storeFile, err)
		}
		if key == keyMending && len(value) == 8 {
			until = max(until, binary.BigEndian.Uint64(value))
			continue
		}
		if err := s.Set([]byte(key), value); err != nil {
			return 0, err
		}
	}
	return until, s.SetUint64([]byte(keyMending), until)
}
