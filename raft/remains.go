package raft

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/strongroom/strongroom/fsm"

	hraft "github.com/hashicorp/raft"
)

// Remains is what the data folder of one node holds, when it may be all that
// is left of the cluster.
type Remains struct {
	// LastIndex and LastTerm are of the last entry that is readable here. Of
	// several folders, the one with the highest term holds most, and among
	// those of the same term the one with the highest index.
	LastIndex, LastTerm uint64
	// LastCommand is the time of the last command among those.
	LastCommand time.Time
	// Committed is up to where this folder proves that a majority had it. What
	// is above may never have been acknowledged to anybody, and may have been.
	Committed uint64
	// Missing, if not 0, is up to where this node once had entries, which are
	// damaged: those above LastIndex are lost.
	Missing uint64
	// Others are the other members of the configuration that the folder knows.
	Others []Server
	// Decided: a recovery was decided here before and is not finished.
	Decided *fsm.Recovery
	// State is that behind LastIndex, with all of the log applied.
	State *fsm.State

	snapshot uint64 // index of the snapshot that State began with
	above    uint64 // highest index that there ever was in the folder
}

// Examine looks at the data folder of a node, which is not running, and
// changes nothing of what is stored there.
func Examine(cfg Config) (out Remains, err error) {
	d, err := openRemains(&cfg, openDataDirReadOnly)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return d.remains(cfg.Logger)
}

func openRemains(cfg *Config, open func(Config) (*dataDir, error)) (*dataDir, error) {
	*cfg = cfg.withDefaults()
	if err := cfg.checkStore(); err != nil {
		return nil, err
	}
	if done, err := Initialised(cfg.DataDir); err != nil || !done {
		return nil, errors.Join(err, fmt.Errorf("the data folder %s holds nothing of a cluster", cfg.DataDir))
	}
	return open(*cfg)
}

// remains reads everything, as a start does, and applies the log to the
// newest snapshot.
func (d *dataDir) remains(log *slog.Logger) (Remains, error) {
	var out Remains
	until, err := d.logs.number(keyMending)
	if err != nil {
		return out, err
	}
	f, err := d.look(log)
	if err != nil {
		return out, err
	}
	if err := d.checkTerm(f); err != nil {
		return out, err
	}
	state, last, err := d.replay(f)
	if err != nil {
		return out, err
	}
	if state.Genesis() == nil {
		return out, fmt.Errorf("the data folder %s holds no state that could be read: there is nothing to go on from; restore a backup", d.path)
	}
	out = Remains{
		LastIndex: last.Index, LastTerm: last.Term, LastCommand: time.UnixMilli(state.Time()), Committed: f.baseIndex(), State: state,
		snapshot: f.baseIndex(), above: max(until, f.last, f.newest, last.Index),
	}
	if m := max(until, f.last, f.newest); m > last.Index {
		out.Missing = m
	}
	for _, s := range f.members.Servers {
		if string(s.ID) != d.node {
			out.Others = append(out.Others, Server{ID: string(s.ID), Address: string(s.Address)})
		}
	}
	if decided, err := d.logs.number(keyRecovering); err != nil {
		return out, err
	} else if decided != 0 && f.base != nil && f.base.Term == decided {
		for r := range state.Recoveries() {
			out.Decided = r
		}
	}
	return out, nil
}

// replay answers the state behind the last entry that can be relied on, and
// that entry: from the newest readable snapshot on, without a gap, up to the
// first entry that is damaged.
func (d *dataDir) replay(f *findings) (*fsm.State, hraft.Log, error) {
	m := fsm.NewAt(d.snaps.level)
	last := hraft.Log{}
	if f.base != nil {
		_, r, err := d.snaps.Open(f.base.ID)
		if err != nil {
			return nil, last, err
		}
		if err := errors.Join(m.Restore(r), r.Close()); err != nil {
			return nil, last, err
		}
		last.Index, last.Term = f.base.Index, f.base.Term
	}
	for index := last.Index + 1; index <= f.last && (f.cut == 0 || index < f.cut); index++ {
		var e hraft.Log
		err := d.logs.read(index, &e)
		if errors.Is(err, hraft.ErrLogNotFound) {
			break // a gap, which look has seen: what is behind it joins nothing
		}
		if err != nil {
			return nil, last, err
		}
		if e.Type == hraft.LogCommand {
			if _, err := m.Apply(e.Index, e.Data); err != nil {
				return nil, last, fmt.Errorf("apply entry %d: %w", index, err)
			}
		}
		last = e
	}
	return m.State(), last, nil
}
