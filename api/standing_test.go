package api

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A node that takes no part waits for no leader: its clients go elsewhere. One
// that does waits as long as a request may take.
func TestNodeThatWasRemovedKeepsNobodyWaiting(t *testing.T) {
	c := newCluster(t)
	var standing error
	n := c.start("n1", func(cfg *Config) {
		cfg.Timeout = 10 * time.Minute
		cfg.Standing = func() error { return standing }
	})
	c.lead("n1")
	require.Equal(t, 200, n.call("cluster/status", `{}`).status)
	c.tell("n1", "")
	standing = errors.New("removed")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	answered := make(chan reply, 1)
	go func() { answered <- n.call("cluster/status", `{}`) }()
	select {
	case r := <-answered:
		require.Equal(t, "NoLeader", r.failed(t).Code)
		require.Contains(t, r.body, "takes no part in the cluster")
	case <-ctx.Done():
		require.Fail(t, "it waits for a leader that will never come")
	}
}
