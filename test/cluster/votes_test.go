package cluster_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

// noVote writes down that a node shall have no vote, as whoever leads then would
// be told to.
func noVote(t *testing.T, c *cluster.Cluster, n *cluster.Node) {
	t.Helper()
	do(t, c, fsm.SetVote{Meta: meta(), NodeID: n.ID, ReadOnly: true})
}

func TestAVoterBecomesAReadReplicaAndAVoterAgain(t *testing.T) {
	c := cluster.StartWith(t, 3, cluster.Options{Timing: unhurried})
	known(t, c)
	hurry(t, c)
	n := c.Others(c.Leader())[0]
	noVote(t, c, n)
	awaitRole(t, c, n.ID, raft.RoleNonVoter)
	c.MustWrite("register", "by two")
	cluster.Await(t, "its copy", func() bool { return n.Raft().Local().Index() == c.Leader().Raft().Local().Index() })
	require.NoError(t, n.Raft().Standing())

	// It counts for nothing, and comes back as what it is.
	c.Kill(n)
	c.MustWrite("register", "by two of two")
	c.StartNode(n)
	require.Equal(t, raft.RoleNonVoter, member(c, n.ID).Role)
	sameHashes(t, c)

	do(t, c, fsm.SetVote{Meta: meta(), NodeID: n.ID})
	n.Raft().SetHealth(raft.HSMHealthy, raft.TrailOK)
	awaitRole(t, c, n.ID, raft.RoleFollower)
	// Before a majority knows of the vote, the loss of one of two voters would be
	// the loss of the majority.
	cluster.Await(t, "every member to know of the vote", func() bool {
		for _, other := range c.Nodes {
			for _, m := range other.Raft().Members() {
				if m.ID == n.ID && m.Role == raft.RoleNonVoter {
					return false
				}
			}
		}
		return true
	})
	c.Kill(c.Others(n)[0])
	c.MustWrite("register", "with its vote")
	require.Equal(t, "with its vote", c.MustRead("register"))
}

func TestALeaderGivesUpItsVoteAfterItHandedOver(t *testing.T) {
	c := cluster.StartWith(t, 3, cluster.Options{Timing: unhurried})
	known(t, c)
	c.MustWrite("register", "before")
	old := c.Leader()
	noVote(t, c, old)
	c.LeaderAmong(c.Others(old)...)
	awaitRole(t, c, old.ID, raft.RoleNonVoter)
	require.Equal(t, "before", c.MustRead("register"))
	c.MustWrite("register", "after")
	require.NoError(t, old.Raft().Standing(), "it takes part still")
	sameHashes(t, c)

	// The second vote goes while the first is gone; the third stays.
	next := c.Leader()
	noVote(t, c, next)
	awaitRole(t, c, next.ID, raft.RoleNonVoter)
	c.MustWrite("register", "one voter, two replicas")
	last := c.Leader()
	cluster.Await(t, "the last vote to be refused", func() bool {
		err := last.Raft().MayRemove(last.ID)
		return fault.Is(err, fault.Conflict)
	})
	require.ErrorContains(t, last.Raft().MayRemove(last.ID), "is the last voter")
}

// needed makes a cluster of three in which one is down, and it is written down
// that one of the others shall have no vote, though nobody can do without it.
func needed(t *testing.T, atAnyPrice bool) (c *cluster.Cluster, leader, down, up *cluster.Node) {
	c = cluster.StartWith(t, 3, cluster.Options{Timing: unhurried, Faults: func(string) *raft.Faults {
		return &raft.Faults{VoteAtAnyPrice: atAnyPrice}
	}})
	known(t, c)
	down = c.Others(c.Leader())[0]
	c.Kill(down)
	cluster.Await(t, "a vote to be needed", func() bool {
		leader = c.Leader()
		for _, up = range c.Others(leader) {
			if up != down {
				break
			}
		}
		return fault.Is(leader.Raft().MayRemove(up.ID), fault.Conflict)
	})
	noVote(t, c, up)
	return c, leader, down, up
}

// The state decides, and the configuration follows when it can: not while the
// others are no majority, whoever leads, and then without being told again.
func TestAVoteThatIsNeededStaysUntilItIsNot(t *testing.T) {
	c, leader, down, up := needed(t, false)
	require.Never(t, func() bool { return member(c, up.ID).Role == raft.RoleNonVoter }, 1500*time.Millisecond, 20*time.Millisecond)
	c.MustWrite("register", "by the two")

	// It leads, and cannot hand over: of the others one is down again.
	cluster.Await(t, up.ID+" to lead", func() bool {
		if c.Leader() == up {
			return true
		}
		ctx, cancel := context.WithTimeout(context.Background(), cluster.Patience)
		defer cancel()
		_ = leader.Raft().TransferLeadership(ctx, up.ID)
		return false
	})
	c.Kill(leader)
	c.StartNode(down)
	c.LeaderAmong(up)
	c.MustWrite("register", "by the two others")
	require.NotEqual(t, raft.RoleNonVoter, member(c, up.ID).Role)

	c.StartNode(leader)
	awaitRole(t, c, up.ID, raft.RoleNonVoter)
	c.LeaderAmong(leader, down)
	require.Equal(t, "by the two others", c.MustRead("register"))
	c.MustWrite("register", "by those that stay")
	sameHashes(t, c)
}

// Without the guard the cluster stands still.
func TestAVoteTakenAtAnyPriceStopsTheCluster(t *testing.T) {
	c, leader, down, up := needed(t, true)
	cluster.Await(t, "nobody to lead", func() bool {
		_, one, _ := leader.Raft().Leader()
		_, other, _ := up.Raft().Leader()
		return !one && !other
	})
	c.StartNode(down)
	c.LeaderAmong(leader, down)
	awaitRole(t, c, up.ID, raft.RoleNonVoter)
}

// Of five, three shall have no vote, and two of these are dead. If the one that
// is alive went first, two of four would be left, which is no majority.
func TestTheDeadLoseTheirVotesFirst(t *testing.T) {
	c := cluster.StartWith(t, 5, cluster.Options{Timing: unhurried})
	known(t, c)
	others := c.Others(c.Leader())
	alive, dead := others[0], others[2:]
	for _, n := range dead {
		c.Kill(n)
	}
	leader := c.Leader()
	cluster.Await(t, "the dead to be missed", func() bool {
		for _, m := range leader.Raft().Members() {
			if slices.ContainsFunc(dead, func(n *cluster.Node) bool { return n.ID == m.ID }) && m.Waiting == "" {
				return false
			}
		}
		return true
	})
	var all sync.WaitGroup
	for _, n := range []*cluster.Node{alive, dead[0], dead[1]} {
		command, err := fsm.Encode(fsm.SetVote{Meta: meta(), NodeID: n.ID, ReadOnly: true})
		require.NoError(t, err)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), cluster.Patience)
			defer cancel()
			_, _ = leader.Raft().Propose(ctx, command) // at once, or it is seen below
		})
	}
	all.Wait()
	for _, n := range []*cluster.Node{alive, dead[0], dead[1]} {
		noVote(t, c, n)
	}
	for _, n := range []*cluster.Node{alive, dead[0], dead[1]} {
		awaitRole(t, c, n.ID, raft.RoleNonVoter)
	}
	c.MustWrite("register", "by two voters")
}
