package raft

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"

	hraft "github.com/hashicorp/raft"
)

// steerEvery is how often the leader holds the configuration of Raft against
// what the state says of nodes.
const steerEvery = 250 * time.Millisecond

// pilot is what this node, while it leads, has seen of each other member.
type pilot struct {
	mu    sync.Mutex
	views map[string]view
	asked map[string]bool      // members that have asked since this process began
	told  map[string]time.Time // when a refusal of a node was last told
	kicks chan struct{}
	// levels is what each member said in the last round of asking; nil: there
	// was none.
	levels map[string]uint32
}

// view is one member as the leader sees it.
type view struct {
	heard   time.Time // when it last acknowledged something, or the leader took office
	inStep  time.Time // since when it has been in step and healthy; zero: it is not
	waiting string    // why it has no vote yet; "": it has, or shall have none
}

// steer is autopilot: work of the leader, until its office ends. It changes the
// configuration of Raft one step at a time:
//
//   - a node that was removed leaves it, and a voter that shall have no vote
//     loses it; a leader hands over first, and its successor does it (votes.go),
//   - a node that was admitted is in it, without a vote,
//   - a member without a vote that shall have one gets it when it has been in
//     step, with a working HSM, for as long as the settings say,
//   - a member that is silent for longer than the settings allow is removed, if
//     they say so and enough voters stay.
func (n *Node) steer(ctx context.Context) {
	office := n.tenure()
	if office == nil {
		return // it has ended already
	}
	began := time.Now()
	n.pilot.reset()
	tick := time.NewTicker(steerEvery)
	defer tick.Stop()
	for {
		if err := n.steerOnce(ctx, office.term, began); err != nil && ctx.Err() == nil {
			n.cfg.Logger.Warn("the membership could not be changed; it is tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-n.pilot.kicks:
		case <-ctx.Done():
			return
		}
	}
}

func (p *pilot) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.views = map[string]view{}
}

func (p *pilot) asks(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil || len(p.asked) >= 1024 {
		p.asked = map[string]bool{}
	}
	p.asked[id] = true
}

func (p *pilot) hasAsked(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[id]
}

// mayTell reports whether it is time for another event about a node that is
// refused.
func (p *pilot) mayTell(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.told[id]) < joinTold {
		return false
	}
	if p.told == nil || len(p.told) >= 1024 {
		p.told = map[string]time.Time{}
	}
	p.told[id] = time.Now()
	return true
}

func (p *pilot) view(id string) view {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.views[id]
}

// kick has steer look now.
func (p *pilot) kick() {
	select {
	case p.kicks <- struct{}{}:
	default:
	}
}

// steerOnce makes at most one change.
func (n *Node) steerOnce(ctx context.Context, term uint64, began time.Time) error {
	state := n.machine.State()
	future := n.raft.GetConfiguration()
	servers, index := future.Configuration().Servers, future.Index()
	n.observe(state, servers, term, began)
	if acted, err := n.letGo(ctx, state, servers, index); acted {
		return err
	}
	for record := range state.ClusterNodes("") {
		if record.Folder == nil || record.Removed() || n.isMember(record.ID) {
			continue
		}
		return n.await(ctx, func() error {
			return n.raft.AddNonvoter(hraft.ServerID(record.ID), hraft.ServerAddress(record.Address), index, n.cfg.Timing.ApplyTimeout).Error()
		})
	}
	for _, s := range servers {
		v := n.pilot.view(string(s.ID))
		record := state.ClusterNode(string(s.ID))
		stable := time.Duration(state.Autopilot().Stabilization) * time.Millisecond
		if s.Suffrage != hraft.Nonvoter || record == nil || record.ReadOnly || v.inStep.IsZero() || time.Since(v.inStep) < stable {
			continue
		}
		n.cfg.Logger.Info("a member gets a vote", "peer", string(s.ID), "inStepFor", time.Since(v.inStep).Round(time.Millisecond))
		return n.await(ctx, func() error { return n.raft.AddVoter(s.ID, s.Address, index, n.cfg.Timing.ApplyTimeout).Error() })
	}
	return n.removeDead(ctx, state, servers)
}

// observe notes who is in step, and what keeps whom from a vote.
func (n *Node) observe(state *fsm.State, servers []hraft.Server, term uint64, began time.Time) {
	settings, hints, last := state.Autopilot(), n.gossip.hints(), n.raft.LastIndex()
	now := time.Now()
	n.pilot.mu.Lock()
	defer n.pilot.mu.Unlock()
	views := make(map[string]view, len(servers))
	for _, s := range servers {
		id := string(s.ID)
		if id == n.cfg.NodeID {
			views[id] = view{heard: now, inStep: began}
			continue
		}
		v := n.pilot.views[id]
		sent, end := n.guard.progress(id, term)
		v.heard, v.waiting = began, ""
		if sent.After(began) {
			v.heard = sent
		}
		record := state.ClusterNode(id)
		switch hint, alive := hints[id]; {
		case now.Sub(v.heard) > 4*n.cfg.Timing.Heartbeat || sent.IsZero():
			v.waiting = "it does not answer"
		case end+settings.MaxTrailing < last:
			v.waiting = fmt.Sprintf("it is %d entries behind", last-end)
		case s.Suffrage == hraft.Voter:
		case record == nil:
			v.waiting = "it has not said yet with which data folder it takes part"
		case !alive:
			v.waiting = "its gossip is not heard, so nobody knows how its HSM is"
		case hint.hsm != HSMHealthy:
			v.waiting = fmt.Sprintf("its HSM is %s: without the root key it serves nothing (see cluster.md, the root key of a new member)", orUnknown(hint.hsm))
		}
		switch {
		case v.waiting != "":
			v.inStep = time.Time{}
		case v.inStep.IsZero():
			v.inStep = now
		}
		if v.waiting == "" && s.Suffrage == hraft.Nonvoter && record != nil && !record.ReadOnly {
			left := time.Duration(settings.Stabilization)*time.Millisecond - now.Sub(v.inStep)
			v.waiting = fmt.Sprintf("it is in step, and gets its vote in %v", max(0, left).Round(time.Second))
		}
		views[id] = v
	}
	n.pilot.views = views
}

func orUnknown(hsm string) string {
	if hsm == "" {
		return "not known"
	}
	return hsm
}

// removeDead removes one member that was silent for too long.
func (n *Node) removeDead(ctx context.Context, state *fsm.State, servers []hraft.Server) error {
	settings := state.Autopilot()
	if settings.RemoveDeadAfter == 0 {
		return nil
	}
	for _, s := range servers {
		silence := time.Since(n.pilot.view(string(s.ID)).heard)
		if n.cfg.Faults.Silent != nil {
			silence += n.cfg.Faults.Silent(string(s.ID))
		}
		if string(s.ID) == n.cfg.NodeID || silence < time.Duration(settings.RemoveDeadAfter)*time.Millisecond {
			continue
		}
		n.removals.Lock()
		defer n.removals.Unlock()
		voters, healthy := n.votersWithout(string(s.ID), servers)
		if s.Suffrage == hraft.Voter && (uint64(voters) < settings.MinVoters || healthy <= voters/2) {
			return nil // what holds for one voter holds for the next look
		}
		result, err := n.proposeCommand(ctx, fsm.SetNode{
			Meta:   fsm.Meta{Time: time.Now().UnixMilli(), Principal: "strongroom", RequestID: "autopilot-" + string(s.ID)},
			NodeID: string(s.ID), Address: string(s.Address), Remove: true,
			Reason: fmt.Sprintf("autopilot: silent for more than %v", time.Duration(settings.RemoveDeadAfter)*time.Millisecond),
		})
		n.cfg.Admitted(Admission{NodeID: string(s.ID), Address: string(s.Address), Index: result.Index, Err: err, Removed: true})
		return err
	}
	return nil
}

// MemberAt answers the member that has the address, "" if none has.
func (n *Node) MemberAt(address string) string { return n.nodeAt(address) }
