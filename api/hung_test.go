package api

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
)

// hung lets the leader take one request and never answer it, as a process
// that is stopped does; entered is closed when it has it.
func hung(n *node) (entered chan struct{}) {
	entered = make(chan struct{})
	var taken atomic.Bool
	n.log.hook(func(ctx context.Context) error {
		if taken.Swap(true) {
			return nil
		}
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}, nil)
	return entered
}

// TestALeaderThatHangsHoldsNobodyOnceAnotherLeads: its connections stay open,
// so only the change of leader tells.
func TestALeaderThatHangsHoldsNobodyOnceAnotherLeads(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.ok("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`)

	entered := hung(leader)
	answered := make(chan reply, 1)
	go func() { answered <- follower.call("secrets/getSecretValue", `{"path":"/a/b"}`) }()
	<-entered
	leader.lead("n2")
	r := <-answered
	require.Equal(t, 200, r.status, "a read is asked again")
	require.Contains(t, r.body, mark)

	leader.lead("n1")
	entered = hung(leader)
	body := `{"path":"/a/c","clientToken":"hung-1"}`
	go func() { answered <- follower.call("secrets/createSecret", body) }()
	<-entered
	leader.lead("n2")
	r = <-answered
	require.Equal(t, 503, r.status)
	require.Equal(t, "Uncertain", r.failed(t).Code, "a write that it had may yet be done")
	require.Equal(t, 200, follower.call("secrets/createSecret", body).status)
}

// TestALeaderMaySayUntilTheEndThatNothingWasDone: it gives up at the moment
// at which the request's time is up, and knows what became of it. To hang up
// on it then would make a write uncertain that surely was not done.
func TestALeaderMaySayUntilTheEndThatNothingWasDone(t *testing.T) {
	leader, follower := pair(t, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	leader.log.hook(func(ctx context.Context) error {
		<-ctx.Done()
		return fault.New(fault.NoLeader, "no majority answered in time")
	}, nil)
	for range 5 {
		r := follower.call("secrets/createSecret", `{"path":"/a/b"}`)
		require.Equal(t, "NoLeader", r.failed(t).Code)
		require.Contains(t, r.failed(t).Message, "nothing was done")
	}
}
