package cluster_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

const newer = fsm.Level + 1

// mixed starts n1 and n2 of the next release, and n3 of this one, with its
// faults changed by third.
func mixed(t *testing.T, options cluster.Options, first, third func(*raft.Faults)) *cluster.Cluster {
	options.Timing = unhurried
	options.Faults = func(id string) *raft.Faults {
		f := &raft.Faults{Level: newer}
		switch {
		case id == "n3":
			f.Level = fsm.Level
			if third != nil {
				third(f)
			}
		case first != nil:
			first(f)
		}
		return f
	}
	c := cluster.StartWith(t, 3, options)
	lead(t, c, c.Nodes[0])
	if first == nil { // else n3 may be fenced before it has said anything
		known(t, c)
	}
	return c
}

// lead has a node lead.
func lead(t *testing.T, c *cluster.Cluster, to *cluster.Node) {
	t.Helper()
	cluster.Await(t, to.ID+" to lead", func() bool {
		leader := c.Leader()
		if leader == to {
			return true
		}
		ctx, cancel := context.WithTimeout(context.Background(), cluster.Patience)
		defer cancel()
		_ = leader.Raft().TransferLeadership(ctx, to.ID)
		return false
	})
}

// memberOf answers what a node tells of another one.
func memberOf(n *cluster.Node, id string) raft.Member {
	for _, m := range n.Raft().Members() {
		if m.ID == id {
			return m
		}
	}
	return raft.Member{}
}

func atLevel(t *testing.T, level uint32, nodes ...*cluster.Node) {
	t.Helper()
	for _, n := range nodes {
		cluster.Await(t, n.ID+" at the level", func() bool { return n.Raft().Local().Level() == level })
	}
}

// A member of an older release holds the raise back, whether it answers or is
// silent, and whatever gossip says of it. When it runs the new one, the level
// is raised, and there is no way back for anybody.
func TestTheLevelIsRaisedWhenEveryMemberKnowsIt(t *testing.T) {
	c := mixed(t, cluster.Options{Snapshot: raft.SnapshotConfig{Threshold: 4, Interval: 20 * time.Millisecond, Trailing: 2}},
		nil, func(f *raft.Faults) { f.GossipLevel = newer })
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	var mu sync.Mutex
	var told []raft.Admission
	for _, n := range c.Nodes {
		c.Stop(n)
		n.Admitted = func(a raft.Admission) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, a)
		}
		c.StartNode(n)
	}
	lead(t, c, n1)
	cluster.Await(t, "the lie", func() bool { return memberOf(n2, "n3").Level == newer })
	cluster.Await(t, "the truth", func() bool { return memberOf(n1, "n3").Level == fsm.Level })
	// A round of asking has ended, so by now the lie would have done its work.
	atLevel(t, fsm.FirstLevel, c.Nodes...)

	c.Stop(n3)
	cluster.Await(t, "its silence", func() bool { return memberOf(n1, "n3").Level == 0 })
	atLevel(t, fsm.FirstLevel, n1, n2)

	n3.SetLevel(newer)
	c.StartNode(n3)
	atLevel(t, newer, c.Nodes...)
	record := n1.Raft().Local().FeatureLevel()
	require.Equal(t, "n1", record.RaisedBy)
	cluster.Await(t, "the event", func() bool {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, a := range told {
			if a.Level != 0 {
				require.Equal(t, newer, a.Level)
				require.Equal(t, record.Index, a.Index)
				n++
			}
		}
		require.LessOrEqual(t, n, 1)
		return n == 1
	})

	// The way back: from the log, and from a snapshot that replaced it.
	c.Stop(n3)
	n3.SetLevel(fsm.Level)
	require.ErrorContains(t, c.RefusesToStart(n3), "a level that was raised is never lowered")
	n3.SetLevel(newer)
	for tries := 0; ; tries++ {
		require.Less(t, tries, 10, "the raise is still in the log")
		c.StartNode(n3)
		before := c.Leader().Raft().Local().Index()
		// What it is given as a snapshot leaves its log as it was.
		cluster.Await(t, "n3 to be in step", func() bool { return n3.Raft().Local().Index() >= before })
		for range 10 {
			do(t, c, fsm.Sweep{Meta: meta(), Limit: 1})
		}
		cluster.Await(t, "a snapshot of after the raise", func() bool { return n3.SnapshotIndex(t) > before })
		c.Stop(n3) // which may come before the compaction that follows
		if first, _ := n3.LogRange(t); first > record.Index {
			break
		}
	}
	n3.SetLevel(fsm.Level)
	require.ErrorContains(t, c.RefusesToStart(n3), "feature level")
	n3.SetLevel(newer)
	c.StartNode(n3)
	atLevel(t, newer, n3)
}

// raisedOver is a cluster that was raised without asking n3, which cannot
// follow.
func raisedOver(t *testing.T, third func(*raft.Faults)) *cluster.Cluster {
	c := mixed(t, cluster.Options{}, func(f *raft.Faults) { f.RaiseUnasked = true }, third)
	atLevel(t, newer, c.Nodes[0], c.Nodes[1])
	return c
}

// What the argument rests on: a node takes no raise that it cannot follow. It
// fences itself, says why, holds nothing that it cannot read, and gets no
// leadership.
func TestANodeTakesNothingOfALevelThatItDoesNotKnow(t *testing.T) {
	c := raisedOver(t, nil)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	cluster.Await(t, "the fence", func() bool { return n3.Raft().Standing() != nil })
	require.ErrorContains(t, n3.Raft().Standing(), "feature level")
	raise := n1.Raft().Local().FeatureLevel().Index
	do(t, c, fsm.Sweep{Meta: meta(), Limit: 1})
	require.Less(t, n3.Raft().Local().Index(), raise)
	lead(t, c, n2)
	err := n2.Raft().TransferLeadership(context.Background(), "n3")
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.ErrorContains(t, err, "n3 knows feature level")
	select {
	case err := <-n3.Fatal:
		t.Fatalf("it must stay up and say why: %v", err)
	default:
	}

	c.Stop(n3)
	_, last := n3.LogRange(t)
	require.Less(t, last, raise)
	c.StartNode(n3) // it holds nothing that it cannot read
	cluster.Await(t, "what the leader says", func() bool { return n3.Raft().Standing() != nil })
	require.ErrorContains(t, n3.Raft().Standing(), "feature level")
	c.Stop(n3)
	n3.SetLevel(newer)
	c.StartNode(n3)
	atLevel(t, newer, n3)
	require.NoError(t, n3.Raft().Standing())
}

// The control: with the door open the raise is in its log, where it counts as
// acknowledged, and only the state machine stops it.
func TestWithoutTheDoorARaiseIsAcknowledgedByNodesThatCannotFollow(t *testing.T) {
	c := raisedOver(t, func(f *raft.Faults) { f.TakesAnyLevel = true })
	n3 := c.Nodes[2]
	select {
	case err := <-n3.Fatal:
		require.ErrorContains(t, err, "above that of this build")
	case <-time.After(cluster.Patience):
		t.Fatal("it went on over a raise that it cannot follow")
	}
	c.Stop(n3)
	_, last := n3.LogRange(t)
	require.GreaterOrEqual(t, last, c.Leader().Raft().Local().FeatureLevel().Index)
	require.ErrorContains(t, c.RefusesToStart(n3), "feature level")
}

func TestANodeOfALowerLevelIsNotAdmitted(t *testing.T) {
	c := cluster.StartWith(t, 3, cluster.Options{Timing: unhurried, Faults: func(id string) *raft.Faults {
		if id == "n4" {
			return &raft.Faults{Level: fsm.Level}
		}
		return &raft.Faults{Level: newer}
	}})
	atLevel(t, newer, c.Nodes...)
	n4 := c.Add("n4", "")
	do(t, c, fsm.SetNode{Meta: meta(), NodeID: "n4", Address: n4.Address})
	c.StartNode(n4)
	cluster.Await(t, "the refusal", func() bool {
		err := n4.Raft().Standing()
		return err != nil && !raft.IsStranger(err)
	})
	cluster.Await(t, "the reason", func() bool {
		err := n4.Raft().Standing()
		return err != nil && len(err.Error()) > 0 && err.Error() == (&fsm.LevelError{Needs: newer, Knows: fsm.Level}).Error()
	})
	require.Empty(t, c.Leader().Raft().Local().ClusterNode("n4").Folder)
	c.Stop(n4)
	n4.SetLevel(newer)
	c.StartNode(n4)
	cluster.Await(t, "its admission", func() bool { return n4.Raft().Standing() == nil })
	atLevel(t, newer, n4)
}
