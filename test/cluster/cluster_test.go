package cluster_test

import (
	"testing"

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
