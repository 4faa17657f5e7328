package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/cluster"
)

func TestWriteIsReadAfterAllNodesWereStopped(t *testing.T) {
	c := cluster.Start(t, 3)
	c.MustWrite("register", "v1")
	c.MustWrite("register", "v2")
	for _, n := range c.Nodes {
		c.Stop(n)
	}
	for _, n := range c.Nodes {
		c.StartNode(n)
	}
	require.Equal(t, "v2", c.MustRead("register"))
	c.MustWrite("register", "v3")
	require.Equal(t, "v3", c.MustRead("register"))
}

func TestSingleNode(t *testing.T) {
	c := cluster.Start(t, 1)
	c.MustWrite("register", "v1")
	require.Equal(t, "v1", c.MustRead("register"))
	c.Stop(c.Nodes[0])
	c.StartNode(c.Nodes[0])
	require.Equal(t, "v1", c.MustRead("register"))
}

// TestANodeSaysWhenItsStateIsNotOfThePastAnyMore: until then nothing may be
// done by it, such as taking in a root key that has been replaced since.
func TestANodeSaysWhenItsStateIsNotOfThePastAnyMore(t *testing.T) {
	c := cluster.Start(t, 3)
	for i := range 200 {
		c.MustWrite("register", fmt.Sprint("v", i))
	}
	had := map[string]uint64{}
	for _, n := range c.Nodes {
		require.Eventually(t, n.Raft().CaughtUp, 10*time.Second, time.Millisecond)
		had[n.ID] = n.Raft().Local().Index()
	}
	for _, n := range c.Nodes {
		c.Stop(n)
	}
	c.StartNode(c.Nodes[0])
	require.Never(t, c.Nodes[0].Raft().CaughtUp, 500*time.Millisecond, 5*time.Millisecond, "alone it cannot know")
	c.StartNode(c.Nodes[1])
	c.StartNode(c.Nodes[2])
	for _, n := range c.Nodes {
		require.Eventually(t, func() bool {
			if !n.Raft().CaughtUp() {
				return false
			}
			require.GreaterOrEqual(t, n.Raft().Local().Index(), had[n.ID], "said too early")
			return true
		}, 10*time.Second, 50*time.Microsecond)
	}
}
