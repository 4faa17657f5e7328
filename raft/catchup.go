package raft

import (
	"sync"

	hraft "github.com/hashicorp/raft"
)

// catchUp is how far the replay of the log after a start has come.
type catchUp struct {
	mu     sync.Mutex
	target uint64 // 0: not known yet
	done   bool
}

// CaughtUp reports whether the state holds all that this node's log held when
// it first heard of a leader after its start; once true it stays true. Until
// then the state may be of any time in the past. It says nothing of what the
// others have committed since: only ReadState does.
func (n *Node) CaughtUp() bool {
	c := &n.catchUp
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return true
	}
	if _, _, known := n.Leader(); !known {
		return false // nobody has said how much of the log is committed
	}
	// A tail that was never committed may be cut off, and must not be waited
	// for.
	last := max(n.raft.LastIndex(), 1)
	if c.target == 0 || last < c.target {
		c.target = last
	}
	// The library counts an entry as applied once it is on its way to the
	// state machine, so that is asked too.
	c.done = n.raft.AppliedIndex() >= c.target && n.machine.appliedIndex() >= n.lastCommand(c.target)
	return c.done
}

// lastCommand answers the index of the last command in the log at or before
// index, 0 if a snapshot has taken its place.
func (n *Node) lastCommand(index uint64) uint64 {
	for ; index > 0; index-- {
		var entry hraft.Log
		if err := n.logs.GetLog(index, &entry); err != nil {
			return 0
		}
		if entry.Type == hraft.LogCommand {
			return index
		}
	}
	return 0
}
