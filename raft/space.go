package raft

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A log write that fails for want of room is the end of the process: the
// library cannot tell what of it is on the disk. So a node stops taking things
// in before that. Below Config.MinFreeBytes it proposes nothing, if it leads;
// below half of that it takes no entries of a leader's either. What a leader
// had on its way when it stopped fits in between. Reads, votes and heartbeats
// go on, and so does everything else once there is room.
type space struct {
	least int64
	free  atomic.Int64
}

const spaceLook = 500 * time.Millisecond

// short reports whether there is less room than a leader needs.
func (s *space) short() bool { return s.free.Load() < s.least }

// full reports whether there is less room than a node needs that follows.
func (s *space) full() bool { return s.free.Load() < s.least/2 }

func (s *space) err() error {
	return fmt.Errorf("the disk of its data folder has %d bytes free, and %d are required", s.free.Load(), s.least)
}

func (s *space) look(dir string) error {
	var at unix.Statfs_t
	if err := unix.Statfs(dir, &at); err != nil {
		return fmt.Errorf("data folder: free space: %w", err)
	}
	s.free.Store(int64(at.Bavail) * at.Bsize)
	return nil
}

// watchSpace looks at the disk of the data folder until ctx ends. A disk that
// cannot be asked keeps the answer of before: watchDisk judges it.
func (n *Node) watchSpace(ctx context.Context) {
	tick := time.NewTicker(spaceLook)
	defer tick.Stop()
	was := false
	for {
		if err := n.space.look(n.cfg.DataDir); err != nil {
			n.cfg.Logger.Warn("free space", "error", err)
		}
		if short := n.space.short(); short != was {
			was = short
			if short {
				n.cfg.Logger.Error("this node takes no writes", "error", n.space.err())
			} else {
				n.cfg.Logger.Info("there is room for writes again", "free", n.space.free.Load())
			}
			n.gossip.setDisk(n.Room())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Room answers nil if the disk of the data folder has room for writes.
func (n *Node) Room() error {
	if n.space.short() {
		return n.space.err()
	}
	return nil
}
