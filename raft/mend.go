package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/durable"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
)

// keyMending is where the stable store keeps how far a log has to be fetched
// anew, 0 for none.
const keyMending = "StrongroomMending"

// stableKeys is all that is in the stable store: the library's names, and ours.
var stableKeys = []string{keyCurrentTerm, "LastVoteTerm", "LastVoteCand", keyMending, keyBirthTerm, keyRecovering}

// mending is a node whose log was damaged and is being fetched anew from the
// others. It has acknowledged entries that it does not hold now. As long as
// that is so it gives no vote and does not stand for election: DESIGN.md has
// why that is enough.
type mending struct {
	until atomic.Uint64 // the last index that this node may have acknowledged; 0: nothing is missing
}

// Mending reports whether this node waits for the others to give it again what
// was damaged in its log. It does not vote meanwhile.
func (n *Node) Mending() bool { return n.mending.going() }

func (m *mending) going() bool { return m.until.Load() != 0 }

// findings is what a look at the whole data folder found.
type findings struct {
	first, last uint64              // of the log
	base        *hraft.SnapshotMeta // newest snapshot that restores, nil for none
	newest      uint64              // index of the newest snapshot that is there, readable or not
	unreadable  []string            // snapshots newer than base
	stale       uint64              // highest damaged entry that base holds, 0 for none
	cut         uint64              // first entry that is damaged, missing, or beyond a gap; 0 for none
	why         error               // why the log has to be cut
	members     hraft.Configuration // as base and the entries before cut have them
}

func (f *findings) baseIndex() uint64 {
	if f.base == nil {
		return 0
	}
	return f.base.Index
}

// verify reads all that a start would rely on: every entry of the log, and
// that log and snapshots leave no gap between them. The library would panic
// on some of it and pass over the rest. What is damaged is cut off, if the
// others can give it to this node again; until they have, m is going.
func (d *dataDir) verify(log *slog.Logger, m *mending) error {
	until, err := d.logs.number(keyMending)
	if err != nil {
		return err
	}
	f, err := d.look(log)
	if err != nil {
		return err
	}
	if resumed, err := d.resumeRecovery(f, log); err != nil {
		return err
	} else if resumed {
		until = 0
		if f, err = d.look(log); err != nil {
			return err
		}
	}
	if f.last == 0 && f.newest == 0 && until == 0 {
		if d.marked {
			return d.lostError()
		}
		return nil
	}
	if err := d.checkTerm(f); err != nil {
		return err
	}
	if f.cut != 0 {
		if err := d.othersHave(f); err != nil {
			return err
		}
		until = max(until, f.last, f.newest)
		if err := d.cut(f, until, log); err != nil {
			return err
		}
	}
	if f.stale != 0 {
		log.Error("entries of the log are damaged that a snapshot holds too; they are removed", "up to", f.stale)
		if err := d.logs.DeleteRange(f.first, f.stale); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	if err := d.snaps.setAside(f.unreadable); err != nil {
		return err
	}
	m.until.Store(until)
	return d.mark()
}

func (d *dataDir) look(log *slog.Logger) (*findings, error) {
	f := &findings{}
	var err error
	if f.first, err = d.logs.FirstIndex(); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	if f.last, err = d.logs.LastIndex(); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	snapshots, err := d.snaps.List()
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	if len(snapshots) > 0 {
		f.newest = snapshots[0].Index
	}
	if f.base, f.unreadable, err = d.snaps.usable(log); err != nil {
		return nil, err
	}
	if f.base != nil {
		f.members = f.base.Configuration
	}
	return f, d.lookAtEntries(f)
}

func (d *dataDir) lookAtEntries(f *findings) error {
	base := f.baseIndex()
	switch {
	case f.last > 0 && f.first > base+1:
		f.cut = f.first
		f.why = fmt.Errorf("the log begins at entry %d, and the newest readable snapshot ends at %d: entries between are lost", f.first, base)
		return nil
	case max(base, f.last) < f.newest:
		f.cut = max(base, f.last) + 1
		f.why = fmt.Errorf("the snapshot %s is unreadable and the log ends at entry %d, before it", f.unreadable[0], f.last)
	}
	var e hraft.Log
	for index := f.first; index <= f.last && f.last > 0; index++ {
		err := d.logs.read(index, &e)
		if errors.Is(err, hraft.ErrLogNotFound) {
			if index <= base {
				// A snapshot that was installed over a shorter log leaves a
				// gap that the snapshot covers.
				continue
			}
			err = &CorruptError{Index: index, Reason: "it is missing", mendable: true}
		}
		var corrupt *CorruptError
		switch {
		case err == nil && e.Type == hraft.LogCommand && fsm.RaisesTo(e.Data) > d.snaps.level:
			// Committed or not: with this build the node must not find out.
			return &fsm.LevelError{Needs: fsm.RaisesTo(e.Data), Knows: d.snaps.level}
		case err == nil && e.Type == hraft.LogConfiguration && index > base:
			f.members = hraft.DecodeConfiguration(e.Data)
		case err == nil:
		case !errors.As(err, &corrupt) || !corrupt.mendable:
			return err
		case index <= base:
			f.stale = index
		default:
			f.cut, f.why = index, err
			return nil
		}
	}
	return nil
}

// checkTerm refuses a folder whose votes do not verify or are older than its
// log: an older file was put in the place of a newer one, or the term is gone.
func (d *dataDir) checkTerm(f *findings) error {
	for _, key := range stableKeys {
		if _, err := d.logs.Get([]byte(key)); err != nil && !errors.Is(err, boltstore.ErrKeyNotFound) {
			return err
		}
	}
	term, err := d.logs.number(keyCurrentTerm)
	if err != nil {
		return err
	}
	var newest uint64
	if f.base != nil {
		newest = f.base.Term
	}
	var e hraft.Log
	if f.last > 0 && d.logs.read(f.last, &e) == nil {
		newest = max(newest, e.Term)
	}
	if term < newest {
		return fmt.Errorf("%s says that this node has seen term %d, and it holds entries of term %d: part of it is older than the rest, or lost. "+
			"It must not take part under its old identity, for it may have voted; give it a new node id and an empty folder", storeFile, term, newest)
	}
	return nil
}

// othersHave refuses to cut the log of a node that may be the only one: nobody
// could give it anything again, and where its configuration names it alone it
// would elect itself, without a word to anybody.
func (d *dataDir) othersHave(f *findings) error {
	n := voters(f.members)
	if n == 0 {
		n = d.initial
	}
	if n < 2 {
		return fmt.Errorf("%w; the data folder %s names no other voter that could give it to this node again", f.why, d.path)
	}
	return nil
}

// cut removes the log from the first damaged entry on. How far it went is
// written down before, and a copy is kept for examination.
func (d *dataDir) cut(f *findings, until uint64, log *slog.Logger) error {
	if err := d.keepCopy(); err != nil {
		return err
	}
	log.Error("the log of this node is damaged; it is fetched anew from the others, and this node does not vote before that",
		"error", f.why, "from", f.cut, "to", until)
	if err := d.logs.SetUint64([]byte(keyMending), until); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if f.cut > f.last {
		return nil
	}
	if err := d.logs.DeleteRange(f.cut, f.last); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

// keepCopy keeps raft.db as it is.
func (d *dataDir) keepCopy() error {
	aside := filepath.Join(d.path, damagedDir)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return fmt.Errorf("keep a copy of %s: %w", storeFile, err)
	}
	return d.copyLog(aside)
}

// copyLog copies raft.db, which nobody writes to now, into a folder.
func (d *dataDir) copyLog(aside string) error {
	from, err := os.Open(filepath.Join(d.path, storeFile))
	if err != nil {
		return fmt.Errorf("keep a copy of %s: %w", storeFile, err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(aside, storeFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep a copy of %s: %w", storeFile, err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Sync(), to.Close(), durable.SyncDir(aside)); err != nil {
		return fmt.Errorf("keep a copy of %s: %w", storeFile, err)
	}
	return nil
}

func voters(members hraft.Configuration) int {
	n := 0
	for _, s := range members.Servers {
		if s.Suffrage == hraft.Voter {
			n++
		}
	}
	return n
}

// watchMending ends the mending once everything up to the last entry that was
// ever in this log is known to be committed, and here.
func (n *Node) watchMending(ctx context.Context) {
	if !n.mending.going() {
		return
	}
	tick := time.NewTicker(max(time.Millisecond, n.cfg.Timing.Heartbeat/4))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// A snapshot that was installed counts as applied and holds only what
		// is committed.
		if max(n.raft.CommitIndex(), n.raft.AppliedIndex()) < n.mending.until.Load() {
			continue
		}
		if err := n.data.logs.SetUint64([]byte(keyMending), 0); err != nil {
			n.fail(fmt.Errorf("write that the log is whole: %w", err))
			return
		}
		n.mending.until.Store(0)
		n.cfg.Logger.Info("the log of this node is whole again; it votes")
		return
	}
}
