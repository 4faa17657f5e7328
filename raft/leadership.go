package raft

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/strongroom/strongroom/internal/fault"

	hraft "github.com/hashicorp/raft"
)

// tenure is one time in office: leader in one term.
type tenure struct {
	term   uint64
	ctx    context.Context
	cancel context.CancelFunc
	ready  bool // under Node.mu: the barrier has passed
	ended  bool // under Node.mu: no more work may begin
	work   sync.WaitGroup
}

// leading answers the term in which this node leads now. State and term are
// two reads: the library leaves the state of a leader before it takes a
// higher term, and takes a term before it becomes its leader, so a term that
// is the same before and after belongs to the state between.
func (n *Node) leading() (uint64, bool) {
	term := n.raft.CurrentTerm()
	lead := n.raft.State() == hraft.Leader
	return term, lead && n.raft.CurrentTerm() == term
}

// tenure answers the current one if this node may serve in it, else nil.
func (n *Node) tenure() *tenure {
	n.mu.Lock()
	t := n.office
	usable := t != nil && t.ready && !t.ended
	n.mu.Unlock()
	if !usable || !n.holds(t) {
		return nil
	}
	return t
}

// holds reports whether t is still the time in office, and nothing speaks
// against serving in it: no hand-over under way, no failed or hanging log.
func (n *Node) holds(t *tenure) bool {
	term, lead := n.leading()
	handing := n.transferring.Load() && !n.cfg.Faults.ReadInTransfer
	return lead && term == t.term && !handing && !n.silent()
}

// OnLeadership has run called each time this node has taken office and has
// applied everything that came before; at once, if it is in office. Its
// context ends with the office, and the node waits for run to return before
// it takes office again or closes. It must be called before Close.
func (n *Node) OnLeadership(run func(ctx context.Context)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaderWork = append(n.leaderWork, run)
	if t := n.office; t != nil && t.ready && !t.ended {
		t.work.Go(func() { run(t.ctx) })
	}
}

// lead follows the library's state until ctx ends. LeaderCh may drop edges,
// so it only wakes: what counts is state and term.
func (n *Node) lead(ctx context.Context) {
	tick := time.NewTicker(n.cfg.Timing.Lease / 2)
	defer tick.Stop()
	var current *tenure
	for {
		term, lead := n.leading()
		if current != nil && (!lead || term != current.term) {
			n.leave(current)
			current = nil
		}
		if current == nil && lead {
			current = n.takeOffice(ctx, term)
		}
		select {
		case <-n.raft.LeaderCh():
		case <-tick.C:
		case <-ctx.Done():
			if current != nil {
				n.leave(current)
			}
			return
		}
	}
}

func (n *Node) takeOffice(ctx context.Context, term uint64) *tenure {
	t := &tenure{term: term}
	t.ctx, t.cancel = context.WithCancel(ctx)
	n.mu.Lock()
	n.office = t
	n.mu.Unlock()
	n.cfg.Logger.Info("this node leads the cluster", "term", term)
	t.work.Go(func() { n.settle(t) })
	return t
}

// settle passes the barrier and begins the work of the leader. Before the
// barrier the state may lack what a predecessor acknowledged.
func (n *Node) settle(t *tenure) {
	for {
		if n.cfg.Faults.NoBarrier {
			break
		}
		err := n.await(t.ctx, func() error { return n.raft.Barrier(n.cfg.Timing.ApplyTimeout).Error() })
		if err == nil {
			break
		}
		if !n.holdsTerm(t) || t.ctx.Err() != nil || !errors.Is(err, hraft.ErrEnqueueTimeout) {
			return
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.ended || !n.holdsTerm(t) {
		return
	}
	t.ready = true
	for _, run := range n.leaderWork {
		t.work.Go(func() { run(t.ctx) })
	}
}

func (n *Node) holdsTerm(t *tenure) bool {
	term, lead := n.leading()
	return lead && term == t.term
}

func (n *Node) leave(t *tenure) {
	n.mu.Lock()
	t.ended = true
	n.office = nil
	n.mu.Unlock()
	n.cfg.Logger.Info("this node leads no more", "term", t.term)
	t.cancel()
	t.work.Wait()
}

// await runs wait, which ends when the library answers, and returns early when
// ctx ends. Close does not wait for it: a change of members that was taken in
// just before leadership was lost is sometimes never answered, and would keep
// a node from stopping.
func (n *Node) await(ctx context.Context, wait func() error) error {
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TransferLeadership hands leadership to the voter to, or, if that is empty,
// to the one that gossip praises most: alive, HSM and audit trail in order, least behind.
// fault.NoLeader: this node does not lead. fault.Conflict: it leads on.
// fault.Uncertain: ctx ended first.
func (n *Node) TransferLeadership(ctx context.Context, to string) error {
	if _, lead := n.leading(); !lead {
		return n.noLeader(nil)
	}
	if to == n.cfg.NodeID {
		return nil
	}
	if to == "" {
		to = n.successor()
	}
	target, err := n.voter(to)
	if err != nil {
		return err
	}
	if err := n.mayLead(ctx, target); err != nil {
		return err
	}
	if !n.transferring.CompareAndSwap(false, true) {
		return fault.New(fault.Conflict, "leadership is being handed over already")
	}
	// No read is answered from here until the library has decided, also when
	// the caller has gone.
	err = n.await(ctx, func() error {
		defer n.transferring.Store(false)
		if target == nil {
			return n.raft.LeadershipTransfer().Error()
		}
		return n.raft.LeadershipTransferToServer(target.ID, target.Address).Error()
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fault.Wrap(fault.Uncertain, err, "leadership was being handed over when the time ran out")
	default:
		return fault.Wrap(fault.Conflict, err, "leadership was not handed over; ask again or name another node")
	}
}

// voter answers the voter id, nil for "".
func (n *Node) voter(id string) (*hraft.Server, error) {
	if id == "" {
		return nil, nil
	}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if string(s.ID) == id && s.Suffrage == hraft.Voter {
			return &s, nil
		}
	}
	return nil, fault.Invalid("to", "no voter of this cluster has the id %q", id)
}

// successor picks by hints, of those that stay voters; "" leaves the choice to
// the library.
func (n *Node) successor() string {
	best, applied := "", uint64(0)
	for _, m := range n.Members() {
		if m.Fit() && !leaves(n.machine.State().ClusterNode(m.ID)) && (best == "" || m.AppliedIndex > applied) {
			best, applied = m.ID, m.AppliedIndex
		}
	}
	return best
}
