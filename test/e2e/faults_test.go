package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/test/localcluster"
)

// goClient is the Go client as an application uses it.
func goClient(t *testing.T, c *localcluster.Cluster) *client.Client {
	t.Helper()
	out, err := client.New(client.Config{
		Addresses: []string{c.Addr(1), c.Addr(2), c.Addr(3)}, CAFile: filepath.Join(c.Dir, "ca.pem"), RetryFor: localcluster.Patience,
		Token: func() (secret.Bytes, error) { return secret.New([]byte(c.Token)), nil },
	})
	require.NoError(t, err)
	t.Cleanup(out.Close)
	return out
}

// load is traffic that notes what it is answered.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	served  int
	refused []string // answers that a client may not repeat
	errs    []error  // what an application would have seen
}

// startLoad puts and gets by the Go client, and gets without it from nodes.
func startLoad(t *testing.T, c *localcluster.Cluster, path string, nodes []int) *load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop}
	t.Cleanup(l.halt)
	for i := range 4 {
		own := fmt.Sprintf("%s/w%d", path, i)
		c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, own)
		application := goClient(t, c)
		l.running.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				l.note(putAndGet(application, own, fmt.Sprintf("%d of %d", round, i)))
			}
		})
		node := nodes[i%len(nodes)]
		l.running.Go(func() {
			for ctx.Err() == nil {
				r, err := c.Do(context.Background(), node, c.Token, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, own))
				l.mu.Lock()
				switch {
				case err != nil:
					l.errs = append(l.errs, fmt.Errorf("node%d: %w", node, err))
				case r.Status != http.StatusOK && !r.Retryable():
					l.refused = append(l.refused, string(r.Body))
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

func putAndGet(application *client.Client, path, want string) error {
	ctx := context.Background()
	put := &wire.PutSecretValueRequest{Path: path, Value: &wire.Value{Bytes: secret.New([]byte(want))}}
	if err := application.Do(ctx, "secrets", "putSecretValue", put, nil); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	var got wire.GetSecretValueResponse
	if err := application.Do(ctx, "secrets", "getSecretValue", &wire.GetSecretValueRequest{Path: path}, &got); err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if string(got.Value.Expose()) != want {
		return errors.New("another value than the one just written")
	}
	return nil
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.served++
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

func (l *load) halt() {
	l.stop()
	l.running.Wait()
}

func (l *load) awaitMore(c *localcluster.Cluster, n int) {
	want := l.count() + n
	c.Await(fmt.Sprintf("%d more requests", n), func() bool { return l.count() >= want })
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served
}

// Restarting nodes one at a time is what every upgrade does: applications must
// not notice, and leadership has moved before the node lets go of anything.
func TestALeaderThatIsToldToStopLetsNobodyDown(t *testing.T) {
	c := suite.Shared(t)
	handedOver := 0
	for round := 0; handedOver < 2; round++ {
		// A successor on a busy machine may miss its moment. Nobody must notice
		// that either, but it cannot be every time.
		require.Less(t, round, 6, "leadership was never handed over")
		leader := c.Leader()
		from := len(c.Log(leader))
		l := startLoad(t, c, fmt.Sprintf("/app/e2e/stop%d", round), c.Others(leader))
		l.awaitMore(c, 40)
		c.Signal(leader, syscall.SIGTERM)
		l.awaitMore(c, 40)
		c.AwaitEnd(leader)
		l.awaitMore(c, 40)
		log := c.Log(leader)[from:]
		c.StartNode(leader)
		c.AwaitReady(leader)
		l.halt()
		require.Empty(t, l.errs, "an application saw this")
		require.Empty(t, l.refused)
		require.NotContains(t, log, "requests were cut off")
		if !strings.Contains(log, "leadership was not handed over") {
			requireHandOver(t, log, c.Log(c.Leader()))
			handedOver++
		}
	}
}

// requireHandOver: first another node led, then this one ended.
func requireHandOver(t *testing.T, log, successor string) {
	t.Helper()
	stopping, resigned, stopped := at(t, log, "stopping"), at(t, log, "this node leads no more"), at(t, log, "stopped")
	require.False(t, resigned.Before(stopping))
	require.False(t, stopped.Before(resigned))
	last := strings.LastIndex(successor, `msg="this node leads the cluster"`)
	require.Positive(t, last)
	took := at(t, successor[strings.LastIndex(successor[:last], "\n")+1:], "this node leads the cluster")
	require.True(t, took.Before(stopped), "the next leader was there before the last one was gone")
}

// at is when a message was logged.
func at(t *testing.T, log, message string) time.Time {
	t.Helper()
	line := regexp.MustCompile(`time=(\S+) level=\w+ msg="?` + message + `"? `).FindStringSubmatch(log)
	require.NotNil(t, line, "%q is not in the log:\n%s", message, log)
	out, err := time.Parse(time.RFC3339Nano, line[1])
	require.NoError(t, err)
	return out
}

// The vendor's library crashes: its process is replaced, the server lives on.
// Requests in between wait, or are told that they may come again.
func TestAServerOutlivesItsHSMWorker(t *testing.T) {
	c := suite.Shared(t)
	for round := range 3 {
		leader := c.Leader()
		server, _ := c.Server(leader)
		worker, ok := c.Worker(leader)
		require.True(t, ok)
		l := startLoad(t, c, fmt.Sprintf("/app/e2e/worker%d", round), []int{1, 2, 3})
		l.awaitMore(c, 40)
		killed := time.Now()
		require.NoError(t, syscall.Kill(worker.PID, syscall.SIGKILL))
		// An encryption needs the HSM, whatever is cached.
		c.Await("the HSM", func() bool {
			r := c.Send(leader, c.Token, "kms/encrypt", `{"keyId":"alias/default","plaintext":"eA=="}`)
			require.True(t, r.Status == http.StatusOK || r.Retryable(), "%s", r.Body)
			return r.Status == http.StatusOK
		})
		back := time.Since(killed)
		t.Logf("encrypting again %v after the worker's end", back)
		require.Less(t, back, 15*time.Second, "two on a machine with nothing else to do")
		c.AwaitReady(leader)
		l.awaitMore(c, 40)
		l.halt()
		require.Empty(t, l.errs, "an application saw this")
		require.Empty(t, l.refused)
		next, ok := c.Worker(leader)
		require.True(t, ok)
		require.NotEqual(t, worker.PID, next.PID)
		again, ok := c.Server(leader)
		require.True(t, ok)
		require.Equal(t, server.PID, again.PID, "the server must be the same process")
		require.NotContains(t, c.Metrics(leader), "strongroom_hsm_worker_restarts_total 0\n")
	}
}

// The leader's token goes away as a folder, which SoftHSM answers with
// success and nothing in it. Leadership goes to a node that has its token, so
// applications read on through every node; the node without one says so,
// serves what needs no key itself, and uses its token again when it is back,
// in the same process.
func TestALeaderWithoutItsTokenHandsOver(t *testing.T) {
	c := suite.Shared(t)
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/token-away","value":"eA=="}`)
	leader := c.Leader()
	server, _ := c.Server(leader)
	l := startLoad(t, c, "/app/e2e/token-away-load", []int{1, 2, 3})
	l.awaitMore(c, 40)

	tokens := filepath.Join(c.NodeDir(leader), "tokens")
	require.NoError(t, os.Rename(tokens, tokens+".away"))
	gone := time.Now()
	require.NoError(t, os.Mkdir(tokens, 0o700))
	c.Await("another leader", func() bool { now := c.Leader(); return now != 0 && now != leader })
	t.Logf("another node leads %v after the leader's token went away", time.Since(gone))
	l.awaitMore(c, 40)
	require.Equal(t, "eA==", c.OK(leader, "secrets/getSecretValue", `{"path":"/app/e2e/token-away"}`)["value"], "the others have their tokens")
	c.OK(leader, "secrets/describeSecret", `{"path":"/app/e2e/token-away"}`)
	require.Contains(t, c.Metrics(leader), "strongroom_hsm_healthy 0\n")

	require.NoError(t, os.Remove(tokens))
	require.NoError(t, os.Rename(tokens+".away", tokens))
	c.AwaitReady(leader)
	c.Await("the HSM", func() bool { return strings.Contains(c.Metrics(leader), "strongroom_hsm_healthy 1\n") })
	c.Lead(leader)
	l.awaitMore(c, 40)
	l.halt()
	require.Empty(t, l.errs, "an application saw this")
	require.Empty(t, l.refused)
	c.OK(leader, "kms/encrypt", `{"keyId":"alias/default","plaintext":"eA=="}`)
	again, ok := c.Server(leader)
	require.True(t, ok)
	require.Equal(t, server.PID, again.PID, "without a restart")
}
