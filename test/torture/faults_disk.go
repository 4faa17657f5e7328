package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
)

func diskFamilies() []family {
	both := []target{leader, follower}
	return []family{
		{"hung disk", both, 0, 6 * time.Second, 2, hungDisk},
		{"full disk", both, 500 * time.Millisecond, 4 * time.Second, 2, fullDisk},
		{"flipped byte", []target{follower}, 0, 0, 1, flippedByte},
		{"torn trail", both, 0, 0, 1, tornTrail},
	}
}

// hungDisk freezes the file system. If it is the leader's, another node must
// lead, since nobody else would notice that it commits nothing.
func hungDisk(l *Lab, s step) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	thaw, err := n.freeze()
	if err != nil {
		return fault{}, err
	}
	return fault{
		verify: func() error {
			if s.On == leader {
				return l.awaitOther(n)
			}
			return l.await("the log of "+n.name()+" to hang", func() bool {
				stalled, ok := n.metric("strongroom_raft_log_write_stall_seconds")
				return ok && stalled != "0" || !n.runs()
			})
		},
		disarm: thaw,
	}, nil
}

// fullDisk leaves not one block. The node refuses, or ends itself where its
// log cannot be written; both say so.
func fullDisk(l *Lab, s step) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	if err := n.fill(); err != nil {
		return fault{}, errors.Join(err, n.free())
	}
	return fault{
		verify: func() error {
			if room, err := n.room(); err != nil || room > 0 {
				return fmt.Errorf("there are %d bytes left: %w", room, err)
			}
			return l.await(n.name()+" to say that its disk is full", func() bool { return !n.runs() || !n.healthy("ready") })
		},
		disarm: n.free,
	}, nil
}

// flippedByte changes a byte in an entry of a log at rest. The node must
// notice at its start and have the others give it the entry again.
func flippedByte(l *Lab, s step) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	n.kill()
	place := n.here()
	if err := n.flip(int(s.Number)); err != nil {
		return fault{}, errors.Join(err, n.start())
	}
	return fault{disarm: func() error {
		if err := n.start(); err != nil {
			return err
		}
		err := l.await(n.name()+" to notice", func() bool { return strings.Contains(n.said(place), "the log of this node is damaged") })
		return errors.Join(err, l.await(n.name()+" to be whole", func() bool { return strings.Contains(n.said(place), "the log of this node is whole again") }))
	}}, nil
}

func (n *node) flip(number int) (err error) {
	db, err := boltstore.NewBoltStore(filepath.Join(n.disk, "data", "raft.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	first, err := db.FirstIndex()
	if err != nil {
		return err
	}
	last, err := db.LastIndex()
	if err != nil {
		return err
	}
	// One of the last entries, which no snapshot holds yet.
	for back := uint64(number % 8); last > first && back <= last-first; back++ {
		var e hraft.Log
		if err := db.GetLog(last-back, &e); err != nil {
			return err
		}
		if e.Type == hraft.LogCommand && len(e.Data) > 0 {
			e.Data[number%len(e.Data)] ^= 1
			return db.StoreLog(&e)
		}
	}
	return errors.New("no entry of the log can be changed")
}

// tornTrail leaves half a line at the end of the trail, as a machine does that
// loses its mains. The node must cut it at its start and say so.
func tornTrail(l *Lab, s step) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	n.kill()
	files, err := filepath.Glob(filepath.Join(n.trail(), "audit-*.jsonl"))
	if err != nil || len(files) == 0 {
		return fault{}, fmt.Errorf("%s has no trail: %w", n.name(), err)
	}
	last := slices.Max(files)
	const torn = `{"sequence":`
	f, err := os.OpenFile(last, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fault{}, err
	}
	_, err = f.WriteString(torn)
	if err := errors.Join(err, f.Close()); err != nil {
		return fault{}, err
	}
	return fault{disarm: func() error {
		if err := n.start(); err != nil {
			return err
		}
		return l.await("the torn end to be cut", func() bool {
			raw, err := os.ReadFile(last)
			return err == nil && !strings.Contains(string(raw), torn+"\n") && !strings.HasSuffix(string(raw), torn) && strings.Contains(string(raw), "torn bytes after the last whole event were cut")
		})
	}}, nil
}
