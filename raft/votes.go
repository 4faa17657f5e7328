package raft

import (
	"context"
	"errors"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"

	hraft "github.com/hashicorp/raft"
)

// leaves reports whether the state says that a voter shall be none any more:
// it was removed, or shall be a read replica.
func leaves(record *fsm.ClusterNode) bool {
	return record.Removed() || record != nil && record.ReadOnly
}

// letGo makes one step towards what the state says of members that were removed
// and of voters that shall have no vote, and reports whether it did.
//
// Those that do not answer go first. They count for the majority and help with
// none, so that each of them makes the next step safer; the other way round a
// cluster of five that lets go of three, two of them dead, would stand still
// with two of four.
func (n *Node) letGo(ctx context.Context, state *fsm.State, servers []hraft.Server, index uint64) (bool, error) {
	var answer, silent []hraft.Server
	for _, s := range servers {
		record := state.ClusterNode(string(s.ID))
		switch {
		case !record.Removed() && (s.Suffrage != hraft.Voter || !leaves(record)):
		case n.answers(string(s.ID)):
			answer = append(answer, s)
		default:
			silent = append(silent, s)
		}
	}
	for _, s := range append(silent, answer...) {
		id, record := string(s.ID), state.ClusterNode(string(s.ID))
		if !record.Removed() {
			// It was asked when the vote was taken away, and may be wrong by now. A
			// removal is final; a vote can wait for better times.
			voters, healthy := n.votersWithout(id, servers)
			if healthy <= voters/2 && !n.cfg.Faults.VoteAtAnyPrice {
				continue
			}
		}
		if id == n.cfg.NodeID {
			to, err := n.heir(servers)
			if err != nil {
				return true, err
			}
			return true, n.TransferLeadership(ctx, to)
		}
		if !record.Removed() {
			n.cfg.Logger.Info("a member gives up its vote", "peer", id)
			return true, n.await(ctx, func() error { return n.raft.DemoteVoter(s.ID, index, n.cfg.Timing.ApplyTimeout).Error() })
		}
		n.cfg.Logger.Info("removing a node from the configuration", "peer", id, "reason", record.Reason)
		return true, n.await(ctx, func() error { return n.raft.RemoveServer(s.ID, index, n.cfg.Timing.ApplyTimeout).Error() })
	}
	return false, nil
}

// heir answers the voter to which a leader hands over that shall be none: the
// fittest of those that stay, and without a fit one any of them that answers.
// One that is to go itself would only hand on.
func (n *Node) heir(servers []hraft.Server) (string, error) {
	if to := n.successor(); to != "" {
		return to, nil
	}
	for _, s := range servers {
		id := string(s.ID)
		if s.Suffrage == hraft.Voter && id != n.cfg.NodeID && !leaves(n.machine.State().ClusterNode(id)) && n.answers(id) {
			return id, nil
		}
	}
	return "", errors.New("this node leads and shall not; no voter that stays answers, so it cannot hand over")
}

// answers reports whether a member has answered this node in this term, not
// long ago.
func (n *Node) answers(id string) bool {
	sent, _ := n.guard.progress(id, n.raft.CurrentTerm())
	return id == n.cfg.NodeID || time.Since(sent) <= 4*n.cfg.Timing.Heartbeat
}

// votersWithout answers how many voters there are besides id and those that are
// to go, and are still in the configuration, and how many of them answer and
// are in step. Only what they acknowledged in this term counts: a leader that
// has just taken office knows nothing of those that it has not heard. One that
// is far behind may be one that does not vote before its log is whole (mend.go).
func (n *Node) votersWithout(id string, servers []hraft.Server) (voters, healthy int) {
	state, term, last := n.machine.State(), n.raft.CurrentTerm(), n.raft.LastIndex()
	for _, s := range servers {
		if s.Suffrage != hraft.Voter || string(s.ID) == id || leaves(state.ClusterNode(string(s.ID))) {
			continue
		}
		voters++
		_, end := n.guard.progress(string(s.ID), term)
		if string(s.ID) == n.cfg.NodeID || n.answers(string(s.ID)) && end+state.Autopilot().MaxTrailing >= last {
			healthy++
		}
	}
	return voters, healthy
}

// Removing calls commit, which writes down that id is removed, or shall have no
// vote, if MayRemove has nothing against it: one after the other, so that two
// cannot both count on the voter that the other one takes.
func (n *Node) Removing(id string, commit func() error) error {
	n.removals.Lock()
	defer n.removals.Unlock()
	if err := n.MayRemove(id); err != nil {
		return err
	}
	return commit()
}

// MayRemove answers nil if the members that stay could go on without id, or
// without its vote: there is no way to force it, for without a majority nothing
// could be committed, the removal included. fault.NoLeader: this node does not
// lead.
func (n *Node) MayRemove(id string) error {
	if n.tenure() == nil {
		return n.noLeader(nil)
	}
	servers := n.raft.GetConfiguration().Configuration().Servers
	voters, healthy := n.votersWithout(id, servers)
	switch {
	case !votes(servers, id):
		return nil
	case voters == 0:
		return fault.New(fault.Conflict, "nodeId: %s is the last voter; a cluster without one is gone", id)
	case healthy <= voters/2:
		return fault.New(fault.Conflict, "nodeId: without %s, %d of %d voters answer and are in step, which is no majority, and the cluster would stand still; bring the others back, or remove those that are gone first", id, healthy, voters)
	}
	return nil
}

func votes(servers []hraft.Server, id string) bool {
	for _, s := range servers {
		if string(s.ID) == id {
			return s.Suffrage == hraft.Voter
		}
	}
	return false
}

// Settle has the leader bring the configuration in step with the state, and
// waits until id is no member any more, as far as this node knows. It answers
// false when ctx ends before that; the leader goes on.
func (n *Node) Settle(ctx context.Context, id string) bool {
	return n.settles(ctx, func() bool { return !n.isMember(id) })
}

// SettleVote is Settle for a member that shall have no vote.
func (n *Node) SettleVote(ctx context.Context, id string) bool {
	return n.settles(ctx, func() bool { return !votes(n.raft.GetConfiguration().Configuration().Servers, id) })
}

func (n *Node) settles(ctx context.Context, done func() bool) bool {
	n.pilot.kick()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
