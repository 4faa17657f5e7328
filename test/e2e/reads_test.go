package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// put writes a value through one node. A leader that a busy machine held up
// may be deposed at any time, so an answer that says "again" is heeded: the same
// bytes again make no other version.
func put(c *localcluster.Cluster, node int, path, value string) (localcluster.Response, error) {
	return ask(c, node, "secrets/putSecretValue", fmt.Sprintf(`{"path":%q,"value":%q}`, path, localcluster.B64(value)))
}

// get reads the current value through one node.
func get(c *localcluster.Cluster, node int, path string) (localcluster.Response, error) {
	return ask(c, node, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path))
}

func ask(c *localcluster.Cluster, node int, operation, body string) (localcluster.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), localcluster.Patience)
	defer cancel()
	r, _, err := c.Persist(ctx, []int{node}, operation, body)
	return r, err
}

// Who writes through one follower and reads through the other at once finds
// what he wrote, a thousand times of a thousand.
func TestAWriteThroughOneFollowerIsReadThroughTheOther(t *testing.T) {
	c := suite.Shared(t)
	followers := c.Others(c.Leader())
	const readers, rounds = 8, 125
	var running sync.WaitGroup
	for i := range readers {
		path := fmt.Sprintf("/app/e2e/fresh/r%d", i)
		c.OK(1, "secrets/createSecret", `{"path":%q}`, path)
		running.Go(func() {
			for round := range rounds {
				want := fmt.Sprintf("round %d", round)
				r, err := put(c, followers[round%2], path, want)
				if !assert.NoError(t, err) || !assert.Equal(t, http.StatusOK, r.Status, "%s", r.Body) {
					return
				}
				r, err = get(c, followers[(round+1)%2], path)
				if !assert.NoError(t, err) {
					return
				}
				got, err := r.Value()
				if !assert.NoError(t, err) || !assert.Equal(t, want, got) {
					return
				}
			}
		})
	}
	running.Wait()
}

// A leader that has just taken office does not know yet what is committed.
// Reads at that moment, on every node, still answer the last write.
func TestReadsRightAfterLeadershipMovedAreNotStale(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/fresh/transfer"
	c.OK(1, "secrets/createSecret", `{"path":%q}`, path)
	for round := range 12 {
		leader := c.Leader()
		next := c.Others(leader)[round%2]
		want := fmt.Sprintf("round %d", round)
		r, err := put(c, c.Others(leader)[0], path, want)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
		c.Await("leadership to move", func() bool { // a successor that is busy may miss its moment
			return c.CLI("", "cluster", "transfer-leadership", "--to", localcluster.Name(next)).Code == 0
		})
		var running sync.WaitGroup
		for i := range 9 {
			running.Go(func() {
				r, err := get(c, 1+i%3, path)
				if !assert.NoError(t, err) {
					return
				}
				got, err := r.Value()
				assert.NoError(t, err)
				assert.Equal(t, want, got)
			})
		}
		running.Wait()
	}
}

// A leader that was stopped, as a paused virtual machine is, still believes
// that it leads when it wakes up. Requests that waited for it in its own
// sockets meanwhile are the first thing that it does: sixty of them, so that some
// are served before it has looked at the clock.
func TestALeaderThatWasPausedDoesNotAnswerFromThePast(t *testing.T) {
	c := suite.Shared(t)
	const path, waiting = "/app/e2e/fresh/pause", 60
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("before"))
	for round := range 5 {
		leader := c.Leader()
		old, fresh := fmt.Sprintf("old %d", round), fmt.Sprintf("new %d", round)
		r, err := put(c, leader, path, old)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
		read := func(trace *httptrace.ClientTrace) (localcluster.Response, error) {
			ctx := httptrace.WithClientTrace(context.Background(), trace)
			return c.Do(ctx, leader, c.Token, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path))
		}
		// Open connections, over which requests reach a process that stands still:
		// each request keeps its own until all have one.
		var connected atomic.Int32
		all := make(chan struct{})
		together(waiting, func() {
			var once sync.Once
			_, _ = read(&httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
				once.Do(func() {
					if connected.Add(1) == waiting {
						close(all)
					}
					select {
					case <-all:
					case <-time.After(localcluster.Patience):
					}
				})
			}})
		})

		c.Signal(leader, syscall.SIGSTOP)
		writeElsewhere(t, c, c.Others(leader), fmt.Sprintf(`{"path":%q,"value":%q,"clientToken":"pause-%d"}`, path, localcluster.B64(fresh), round))

		sent, done := make(chan struct{}, 2*waiting), make(chan struct{})
		answers := make(chan localcluster.Response, waiting)
		go func() {
			defer close(done)
			together(waiting, func() {
				wrote := func(httptrace.WroteRequestInfo) { sent <- struct{}{} }
				if r, err := read(&httptrace.ClientTrace{WroteRequest: wrote}); err == nil {
					answers <- r
				}
			})
		}()
		c.Await("the requests to be in the sockets of the leader", func() bool { return len(sent) >= waiting })
		c.Signal(leader, syscall.SIGCONT)
		<-done
		close(answers)
		served := 0
		for r := range answers {
			got, err := r.Value()
			if err != nil {
				require.True(t, r.Retryable(), "%s", r.Body)
				continue
			}
			served++
			require.Equal(t, fresh, got)
		}
		require.Positive(t, served, "no answer came at all, so nothing was tested")
		c.AwaitReady(leader)
	}
}

// writeElsewhere puts a value while the leader stands still. A request that a
// node had handed to it before a new one was elected hangs with it, so each
// attempt gets three seconds; the clientToken makes it safe to begin again.
func writeElsewhere(t *testing.T, c *localcluster.Cluster, nodes []int, body string) {
	t.Helper()
	attempt := 0
	c.Await("a write without the old leader", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		attempt++
		r, err := c.Do(ctx, nodes[attempt%len(nodes)], c.Token, "secrets/putSecretValue", body)
		if err != nil {
			return false
		}
		require.True(t, r.Status == http.StatusOK || r.Retryable(), "%s", r.Body)
		return r.Status == http.StatusOK
	})
}

// together does the same n times at the same time.
func together(n int, do func()) {
	var running sync.WaitGroup
	for range n {
		running.Go(do)
	}
	running.Wait()
}
