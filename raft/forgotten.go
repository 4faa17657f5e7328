package raft

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
)

// A cluster that was recovered, or restored, has a name and certificates that
// the machines of the one before have, too. When those come back with their
// folders, enough of them are a majority of that cluster, and nothing in Raft
// ends it: both go on, each without a word from the other. Here is what ends
// it as soon as one of each can reach the other, and what is said.
const (
	heedEvery    = 2 * time.Second
	forgottenFor = time.Minute // that a node counts as running after it was heard of
)

// forgotten are the nodes that were cut off by a recovery and were heard of.
type forgotten struct {
	mu   sync.Mutex
	seen map[string]time.Time
	told map[string]time.Time
}

// seeRemoved notes that peer, which proved to be that node and is no member,
// was heard of. It is of interest if a recovery has cut it off.
func (n *Node) seeRemoved(peer string, remote netip.Addr) {
	state := n.machine.State()
	if !state.ClusterNode(peer).Removed() || !cutOff(state, peer) {
		return
	}
	f := &n.forgotten
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen, f.told = map[string]time.Time{}, map[string]time.Time{}
	}
	now := time.Now()
	f.seen[peer] = now
	if now.Sub(f.told[peer]) < forgottenFor {
		return
	}
	f.told[peer] = now
	n.cfg.Logger.Error("a node runs that was cut off when the cluster was recovered: its folder must not be used any more; "+
		"if a majority of those nodes runs, they serve another history under the name of this cluster. Stop it, and move its data folder away",
		"peer", peer, "remote", remote.String())
}

func cutOff(state *fsm.State, node string) bool {
	for r := range state.Recoveries() {
		for _, c := range r.CutOff {
			if c.ID == node {
				return true
			}
		}
	}
	return false
}

// forgottenRunning answers how many nodes that were cut off were heard of
// lately.
func (n *Node) forgottenRunning() int {
	f := &n.forgotten
	f.mu.Lock()
	defer f.mu.Unlock()
	count := 0
	for _, at := range f.seen {
		if time.Since(at) < forgottenFor {
			count++
		}
	}
	return count
}

// heed is work of the leader, until its office ends: it asks members that do
// not follow it whether it may take part still. One of them may be the node on
// which the cluster was recovered, or restored, while this one was away: it
// says so, and this node fences itself. So do those that followed it, which
// then hear of no leader and ask themselves.
//
// That one member's word is enough gives no member a new power: whoever has a
// member's key can end any leader's office by a higher term.
func (n *Node) heed(ctx context.Context) {
	office := n.tenure()
	if office == nil || n.cfg.Faults.HeedsNobody {
		return
	}
	began := time.Now()
	tick := time.NewTicker(heedEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, s := range n.servers() {
			sent, _ := n.guard.progress(s.ID, office.term)
			if s.ID == n.cfg.NodeID || time.Since(began) < joinLeaderOut || time.Since(sent) < joinLeaderOut {
				continue
			}
			a, err := n.askOne(ctx, s)
			if ctx.Err() != nil {
				return
			}
			if err == nil && a.Outcome == joinRefused {
				n.refuse(s.ID + " says: " + a.Reason)
				return
			}
		}
	}
}
