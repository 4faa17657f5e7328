package raft

import (
	"context"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"

	hraft "github.com/hashicorp/raft"
)

// gate makes reads linearizable. A read that began at t is answered when
//
//   - this node leads in term T and has applied all of its predecessors' log
//     (the tenure is ready),
//   - a majority of the voters of the latest configuration has acknowledged,
//     in term T, something that was sent at or after t; this node counts
//     itself while it is a voter,
//   - this node still leads in term T, and
//   - every command up to the commit index at t is applied.
//
// Why that is enough, and why the library's VerifyLeader is not: DESIGN.md.
//
// One round serves all reads that waited when it began; a read that comes
// later waits for the next one.
type gate struct {
	node *Node
	kick chan struct{}

	mu   sync.Mutex
	next *round // not begun, or nil
}

type round struct {
	done  chan struct{}
	err   error
	reads int
}

func newGate(n *Node) *gate { return &gate{node: n, kick: make(chan struct{}, 1)} }

// ReadState answers a state that holds every write that was acknowledged, on
// any node, before the call. fault.NoLeader: this node cannot know, because
// it does not lead, is not ready, or lost touch with the majority.
func (n *Node) ReadState(ctx context.Context) (*fsm.State, error) {
	if n.tenure() == nil {
		return nil, n.noLeader(nil)
	}
	r := n.gate.join()
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, n.noLeader(ctx.Err())
	}
	if r.err != nil {
		return nil, r.err
	}
	return n.machine.State(), nil
}

func (g *gate) join() *round {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == nil {
		g.next = &round{done: make(chan struct{})}
		select {
		case g.kick <- struct{}{}:
		default:
		}
	}
	g.next.reads++
	return g.next
}

// run serves rounds until ctx ends.
func (g *gate) run(ctx context.Context) {
	for {
		select {
		case <-g.kick:
		case <-ctx.Done():
			g.mu.Lock()
			r := g.next
			g.next = nil
			g.mu.Unlock()
			if r != nil {
				r.err = g.node.noLeader(ctx.Err())
				close(r.done)
			}
			return
		}
		g.mu.Lock()
		r := g.next
		g.next = nil
		g.mu.Unlock()
		if r == nil {
			continue
		}
		began := time.Now()
		r.err = g.serve(ctx, began)
		g.node.metrics.round(r.reads, time.Since(began), r.err)
		close(r.done)
	}
}

// serve is one round, for reads that began before t.
func (g *gate) serve(ctx context.Context, t time.Time) error {
	n := g.node
	office := n.tenure()
	if office == nil {
		return n.noLeader(nil)
	}
	commit := n.raft.CommitIndex()
	var err error
	if n.cfg.Faults.VerifyLeaderReads {
		err = n.raft.VerifyLeader().Error()
	} else {
		err = g.confirm(ctx, office, t)
	}
	if err == nil {
		err = g.awaitApplied(ctx, office, commit)
	}
	if err != nil {
		return n.noLeader(err)
	}
	return nil
}

// confirm waits until a majority has heard from this leader after t.
func (g *gate) confirm(ctx context.Context, office *tenure, t time.Time) error {
	n := g.node
	tick := time.NewTicker(n.cfg.Timing.Lease / 4)
	defer tick.Stop()
	triggered := false
	for {
		if g.majority(office.term, t) {
			return nil
		}
		if !n.holds(office) {
			return hraft.ErrLeadershipLost
		}
		if !triggered {
			// It only makes the library send heartbeats now, rather than at
			// their next time; its own answer means nothing here.
			n.raft.VerifyLeader()
			triggered = true
		}
		select {
		case <-n.guard.wake:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// majority counts voters of the latest configuration, committed or not: that
// is the one by which this leader's entries are committed.
func (g *gate) majority(term uint64, t time.Time) bool {
	n := g.node
	voters, heard := 0, 0
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage != hraft.Voter {
			continue
		}
		voters++
		if string(s.ID) == n.cfg.NodeID || n.guard.acknowledgedSince(s.ID, term, t) {
			heard++
		}
	}
	return heard > voters/2
}

// awaitApplied waits until every command up to commit is in the state. The
// tenure is looked at after the majority was heard: it must hold on both
// sides of the round.
func (g *gate) awaitApplied(ctx context.Context, office *tenure, commit uint64) error {
	n := g.node
	target, err := n.data.logs.lastCommand(commit, n.machine.appliedIndex(), n.logs)
	if err != nil {
		return err
	}
	tick := time.NewTicker(n.cfg.Timing.Lease / 4)
	defer tick.Stop()
	for {
		if !n.holds(office) {
			return hraft.ErrLeadershipLost
		}
		applied, moved := n.machine.progress()
		if applied >= target {
			return nil
		}
		select {
		case <-moved:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// noLeader is the answer of a node that cannot serve. cause goes to the log
// only.
func (n *Node) noLeader(cause error) error {
	return fault.Wrap(fault.NoLeader, cause, "this node does not lead the cluster or has lost touch with it; ask again")
}
