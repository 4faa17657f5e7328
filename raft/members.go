package raft

import (
	"time"

	hraft "github.com/hashicorp/raft"
)

// Roles of a member.
const (
	RoleLeader   = "leader"
	RoleFollower = "follower"
	RoleNonVoter = "nonVoter"
)

// Member is what this node knows of a member: id, address and role from the
// Raft configuration, the rest from gossip, which may be late or wrong.
type Member struct {
	ID           string
	Address      string
	APIAddress   string
	Role         string
	Alive        bool
	AppliedIndex uint64
	HSM          string
	Audit        string // TrailOK, TrailDown; "": it does not say
	DiskShort    bool   // it says that there is no room for writes in its data folder
	Version      string
	Level        uint32 // feature level that its build knows; 0: it does not say
	// InStepSince is since when it has been in step, as far as this node knows,
	// which must lead to know it; zero: it is not, or nobody knows. Waiting says
	// why it is not in step or has no vote yet.
	InStepSince time.Time
	Waiting     string
	// HeardAt is when it last answered this node, which leads.
	HeardAt time.Time
}

// Fit reports whether the member says that it could do a leader's work: it
// votes, its HSM works, and it does not say that its trail takes no events
// or that its disk has no room.
func (m *Member) Fit() bool {
	return m.Role == RoleFollower && m.Alive && m.HSM == HSMHealthy && m.Audit != TrailDown && !m.DiskShort
}

// self is the hint of this node, its health aside.
func (n *Node) self() hint {
	if lie := n.cfg.Faults.GossipLevel; lie != 0 {
		return hint{applied: n.machine.appliedIndex(), api: n.cfg.APIAddress, version: n.cfg.Version, level: lie}
	}
	return hint{applied: n.machine.appliedIndex(), api: n.cfg.APIAddress, version: n.cfg.Version, level: n.cfg.level()}
}

// Members answers every member of the configuration, in its order.
func (n *Node) Members() []Member {
	hints := n.gossip.hints()
	hints[n.cfg.NodeID] = n.gossip.health(n.self())
	_, leader := n.raft.LeaderWithID()
	leading := n.tenure() != nil
	var out []Member
	add := func(id, address, role string) {
		h, alive := hints[id]
		var v view
		if leading {
			v = n.pilot.view(id)
			// What it said to this node counts, not what gossip says of it.
			if said, asked := n.pilot.saidLevel(id); asked {
				h.level = said
			}
		}
		out = append(out, Member{
			ID: id, Address: address, APIAddress: h.api, Role: role, Alive: alive,
			AppliedIndex: h.applied, HSM: h.hsm, Audit: h.audit, DiskShort: h.disk == diskShort, Version: h.version, Level: h.level,
			InStepSince: v.inStep, Waiting: v.waiting, HeardAt: v.heard,
		})
	}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		role := RoleNonVoter
		switch {
		case s.ID == leader:
			role = RoleLeader
		case s.Suffrage == hraft.Voter:
			role = RoleFollower
		}
		add(string(s.ID), string(s.Address), role)
	}
	if out == nil {
		for _, s := range n.cfg.InitialMembers {
			add(s.ID, s.Address, RoleFollower)
		}
	}
	return out
}

// GossipAddress answers where this node gossips: host:port with the port
// that was bound.
func (n *Node) GossipAddress() string { return n.gossip.address(n.cfg.NodeID) }
