package raft

import hraft "github.com/hashicorp/raft"

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
	Version      string
}

// self is the hint of this node, its HSM aside.
func (n *Node) self() hint {
	return hint{applied: n.machine.appliedIndex(), api: n.cfg.APIAddress, version: n.cfg.Version}
}

// Members answers every member of the configuration, in its order.
func (n *Node) Members() []Member {
	hints := n.gossip.hints()
	own := n.self()
	own.hsm = n.gossip.hsmState()
	hints[n.cfg.NodeID] = own
	_, leader := n.raft.LeaderWithID()
	var out []Member
	add := func(id, address, role string) {
		h, alive := hints[id]
		out = append(out, Member{
			ID: id, Address: address, APIAddress: h.api, Role: role, Alive: alive,
			AppliedIndex: h.applied, HSM: h.hsm, Version: h.version,
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
