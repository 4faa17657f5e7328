package raft

import (
	"context"
	"errors"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"

	hraft "github.com/hashicorp/raft"
)

// Propose commits an encoded command and answers what Apply answered; a
// refusal is in the result. fault.NoLeader: the command is surely not
// written. fault.Uncertain: it may or may not be, now or later.
// fault.TooLarge: over Config.MaxCommandBytes. fault.Conflict: the command
// needs a feature level that the cluster has not; the text names the members
// that hold it back. It returns when ctx ends.
// command must not change until the cluster has forgotten it, so it must not
// be used again.
func (n *Node) Propose(ctx context.Context, command []byte) (fsm.Result, error) {
	if len(command) > n.cfg.MaxCommandBytes {
		return fsm.Result{}, fault.New(fault.TooLarge, "the command has %d bytes; at most %d are allowed", len(command), n.cfg.MaxCommandBytes)
	}
	if err := ctx.Err(); err != nil {
		return fsm.Result{}, n.noLeader(err)
	}
	if n.tenure() == nil {
		return fsm.Result{}, n.noLeader(nil)
	}
	if err := n.Room(); err != nil {
		return fsm.Result{}, fault.Wrap(fault.NoLeader, err, "this node takes no writes: %v; make room there, or ask again: another one may lead by then", err)
	}
	if !n.proposing() {
		return fsm.Result{}, n.noLeader(nil)
	}
	if err := n.levelAllows(command); err != nil {
		n.proposals.Done()
		return fsm.Result{}, err
	}
	room := n.cfg.Timing.ApplyTimeout
	if deadline, ok := ctx.Deadline(); ok {
		room = max(time.Millisecond, min(room, time.Until(deadline)))
	}
	type answer struct {
		outcome outcome
		err     error
	}
	done, began := make(chan answer, 1), time.Now()
	go func() {
		defer n.proposals.Done()
		future := n.raft.Apply(command, room)
		if err := future.Error(); err != nil {
			done <- answer{err: err}
			return
		}
		out, ok := future.Response().(outcome)
		if !ok {
			out.err = errors.New("the state machine gave no answer")
		}
		done <- answer{outcome: out}
	}()
	select {
	case a := <-done:
		err := n.proposalError(a.err, a.outcome.err)
		n.metrics.proposal(time.Since(began), err)
		return a.outcome.result, err
	case <-ctx.Done():
		err := uncertain(ctx.Err())
		n.metrics.proposal(time.Since(began), err)
		return fsm.Result{}, err
	}
}

// proposing registers a proposal unless the node is closing, which waits for
// those under way.
func (n *Node) proposing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return false
	}
	n.proposals.Add(1)
	return true
}

// proposalError sorts what the library answered. Only the three named below
// are given before the entry is in the log; ErrLeadershipLost comes for an
// entry that the next leader may well commit.
func (n *Node) proposalError(err, applied error) error {
	switch {
	case err == nil && applied == nil:
		return nil
	case err == nil:
		return uncertain(applied)
	case errors.Is(err, hraft.ErrNotLeader), errors.Is(err, hraft.ErrEnqueueTimeout),
		errors.Is(err, hraft.ErrLeadershipTransferInProgress):
		return n.noLeader(err)
	default:
		return uncertain(err)
	}
}

func uncertain(cause error) error {
	return fault.Wrap(fault.Uncertain, cause, "the outcome is unknown: the write may have happened; repeat it with the same client token")
}
