package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

// misreading is a cluster of three of which one applies "wrong" where the
// command says "right", once it is told to by its id.
func misreading(t *testing.T, options raft.Faults) (c *cluster.Cluster, misread func(*cluster.Node)) {
	var who atomic.Pointer[string]
	slow := raft.Timing{Heartbeat: 2 * time.Second, Election: 2 * time.Second, Lease: time.Second} // a busy machine changes no leader
	c = cluster.StartWith(t, 3, cluster.Options{Timing: slow, Faults: func(id string) *raft.Faults {
		f := options
		f.MarkEvery = 4
		f.Applied = func(command []byte) []byte {
			if bad := who.Load(); bad != nil && *bad == id {
				return bytes.ReplaceAll(command, []byte("right"), []byte("wrong"))
			}
			return command
		}
		return &f
	}})
	return c, func(n *cluster.Node) { who.Store(&n.ID) }
}

func writeSome(c *cluster.Cluster, word string) {
	for i := range 8 {
		c.MustWrite(word, fmt.Sprintf("%s-%d", word, i))
	}
}

func stopped(t *testing.T, n *cluster.Node) error {
	t.Helper()
	var err error
	cluster.Await(t, "the node to stop itself", func() bool {
		select {
		case err = <-n.Fatal:
			return true
		default:
			return false
		}
	})
	return err
}

func TestAReplicaThatPartedStopsItselfAndSaysWhere(t *testing.T) {
	for who, choose := range map[string]func(*cluster.Cluster) *cluster.Node{
		"a follower": func(c *cluster.Cluster) *cluster.Node { return c.Others(c.Leader())[0] },
		"the leader": func(c *cluster.Cluster) *cluster.Node { return c.Leader() },
	} {
		t.Run(who, func(t *testing.T) {
			c, misread := misreading(t, raft.Faults{})
			writeSome(c, "before")
			bad := choose(c)
			misread(bad)
			writeSome(c, "right")
			err := stopped(t, bad)
			require.ErrorContains(t, err, "not the one of the majority")
			require.ErrorContains(t, err, "the commands below entry ")
			require.ErrorContains(t, err, "after they were equal at entry ")
			c.Kill(bad)
			require.FileExists(t, filepath.Join(bad.DataDir, "parted"))
			require.ErrorContains(t, c.RefusesToStart(bad), "add the machine with a new node id")

			c.MustWrite("right", "right again")
			require.Equal(t, "right again", c.MustRead("right"))
			for _, n := range c.Others(bad) {
				require.Empty(t, n.Fatal, "the majority goes on")
			}
		})
	}
}

// misremembering is a cluster with a follower that has "wrong" in its state
// where it applied "right", in the moment in which the content of the states
// is compared: an hour later.
func misremembering(t *testing.T, options raft.Faults) (*cluster.Cluster, *cluster.Node) {
	t.Helper()
	c, _ := misreading(t, options)
	cluster.Await(t, "all nodes to be admitted, after which nothing is written by itself", func() bool {
		return len(slices.Collect(c.Leader().Raft().Local().ClusterNodes(""))) == 3
	})
	c.MustWrite("held", "right")
	bad := c.Others(c.Leader())[0]
	index := c.Leader().Raft().Local().Index()
	cluster.Await(t, "the write on the follower", func() bool { return bad.Raft().Local().Index() >= index })
	bad.Tamper(t, "right", "wrong")
	cluster.Await(t, "a write", func() bool {
		return c.Leader().WriteAt(t.Context(), "clock", "an hour later", time.Now().Add(time.Hour)) == nil
	})
	return c, bad
}

// Everybody was told the same and decided the same, but one remembers
// something else.
func TestAReplicaThatHoldsSomethingElseStopsItself(t *testing.T) {
	c, bad := misremembering(t, raft.Faults{})
	err := stopped(t, bad)
	require.ErrorContains(t, err, "differ in policies")
	require.Equal(t, "right", c.MustRead("held"))
}

// The negative control: a node that goes on serves what is wrong.
func TestWithoutComparisonAReplicaServesWhatIsWrong(t *testing.T) {
	c, bad := misremembering(t, raft.Faults{NoComparison: true})
	writeSome(c, "after")
	cluster.Await(t, "a read by the follower", func() bool {
		got, err := bad.Follow(t.Context(), "held")
		return err == nil && got == "wrong"
	})
	require.Empty(t, bad.Fatal)
}

// One against one with the third silent: nobody knows who is right. The one
// that follows leaves reads to the leader; the third decides when it is back.
func TestADoubtIsDecidedByTheThird(t *testing.T) {
	c, misread := misreading(t, raft.Faults{})
	leader := c.Leader()
	bad, third := c.Others(leader)[0], c.Others(leader)[1]
	c.Stop(third)
	misread(bad)
	writeSome(c, "right")
	cluster.Await(t, "the follower to leave reads to the leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := bad.Follow(ctx, "right")
		return fault.Is(err, fault.NoLeader)
	})
	require.Empty(t, bad.Fatal)
	require.Equal(t, "right-7", c.MustRead("right"))
	c.StartNode(third)
	require.ErrorContains(t, stopped(t, bad), "the commands below entry ")
	require.Empty(t, leader.Fatal)
	require.Empty(t, third.Fatal)
}
