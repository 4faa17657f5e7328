package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// bindMany makes n secrets under a key, a few at a time.
func bindMany(t *testing.T, c *localcluster.Cluster, prefix, key string, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				body := fmt.Sprintf(`{"path":"%s/s%04d","kmsKeyId":%q,"value":%q}`, prefix, i, key, localcluster.B64(fmt.Sprint("value ", i)))
				r, _, err := c.Persist(context.Background(), []int{1 + i%3, 1 + (i+1)%3, 1 + (i+2)%3}, "secrets/createSecret", localcluster.Repeatable("secrets/createSecret", body))
				if err != nil || r.Status != 200 {
					t.Errorf("%d: %v %s", i, err, r.Body)
					return
				}
			}
		})
	}
	wg.Wait()
	require.False(t, t.Failed())
}

func (w *readers) run(ctx context.Context, c *localcluster.Cluster, reader, n int, prefix string) {
	for i := reader; ctx.Err() == nil; i++ {
		body := fmt.Sprintf(`{"path":"%s/s%04d"}`, prefix, i%n)
		patience, cancel := context.WithTimeout(context.Background(), localcluster.Patience)
		r, _, err := c.Persist(patience, []int{1 + i%3, 1 + (i+1)%3, 1 + (i+2)%3}, "secrets/getSecretValue", body)
		cancel()
		value, valueErr := r.Value()
		w.mu.Lock()
		w.done++
		if err != nil || valueErr != nil || value != fmt.Sprint("value ", i%n) {
			w.wrong = append(w.wrong, fmt.Sprintf("%s: %v %v %q", body, err, valueErr, value))
		}
		w.mu.Unlock()
	}
}

// readers read the same secrets over and over; what is retryable they repeat,
// as the client does, everything else counts.
type readers struct {
	mu    sync.Mutex
	done  int
	wrong []string
}

// TestAKeyIsRetiredUnderReadersThoughItsLeaderDies: a thousand secrets move
// to another key while sixteen clients read them and the leader is killed;
// nobody reads a wrong value, nothing is lost, and afterwards the old key can
// go.
func TestAKeyIsRetiredUnderReadersThoughItsLeaderDies(t *testing.T) {
	c := suite.Shared(t)
	const n, prefix = 1000, "/app/e2e/retire"
	c.OK(1, "kms/createKey", `{"alias":"alias/retire-old"}`)
	c.OK(1, "kms/createKey", `{"alias":"alias/retire-new"}`)
	bindMany(t, c, prefix, "alias/retire-old", n)
	for node := 1; node <= 3; node++ {
		for _, operation := range []string{"kms/disableKey", "kms/scheduleKeyDeletion"} {
			r := c.Send(node, c.Token, operation, `{"keyId":"alias/retire-old"}`)
			require.Equal(t, "KeyInUse", r.Code(), "%s", r.Body)
			require.Contains(t, r.Message(), "1000 secrets")
		}
	}
	before := tokensOf(t, c)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var watching sync.WaitGroup
	all := &readers{}
	for r := range 16 {
		watching.Go(func() { all.run(ctx, c, r*61, n, prefix) })
	}
	retired := c.OK(2, "kms/retireKey", `{"keyId":"alias/retire-old","toKeyId":"alias/retire-new","ratePerSecond":400}`)
	require.Equal(t, "retiring", retired["state"])
	job := func() (state string, done int) {
		var got struct {
			State string
			Done  int
		}
		r, _, err := c.Persist(context.Background(), []int{1, 2, 3}, "cluster/describeJob", fmt.Sprintf(`{"jobId":%q}`, retired["jobId"]))
		require.NoError(t, err)
		require.Equal(t, 200, r.Status, "%s", r.Body)
		require.NoError(t, json.Unmarshal(r.Body, &got))
		return got.State, got.Done
	}
	c.Await("a part of the secrets to have moved", func() bool { _, done := job(); return done > n/5 })
	leader := c.Leader()
	c.Signal(leader, syscall.SIGKILL)
	c.AwaitEnd(leader)
	state, done := job()
	require.True(t, state == "running" && done < n, "the leader was to die in the middle: %s, %d", state, done)
	c.StartNode(leader)
	c.Await("the job's end", func() bool { state, _ := job(); return state == "done" })
	c.AwaitReady(leader)
	cancel()
	watching.Wait()
	require.Empty(t, all.wrong)
	require.Greater(t, all.done, n)

	key := c.OK(leader, "kms/describeKey", `{"keyId":"alias/retire-old"}`)
	require.Equal(t, "disabled", key["state"])
	require.NotZero(t, key["emptyIndex"])
	require.EqualValues(t, 0, key["boundSecrets"])
	require.EqualValues(t, n, c.OK(leader, "kms/describeKey", `{"keyId":"alias/retire-new"}`)["boundSecrets"])
	r := c.Send(1, c.Token, "secrets/getSecretValue", `{"path":"%s/s0999"}`, prefix)
	value, err := r.Value()
	require.NoError(t, err)
	require.Equal(t, "value 999", value)
	require.Equal(t, "pendingDeletion", c.OK(1, "kms/scheduleKeyDeletion", `{"keyId":"alias/retire-old"}`)["state"])

	health := c.OK(3, "kms/getKeyHealth", `{}`)
	for _, one := range health["secretsOnInactiveKeys"].([]any) { // of other tests
		require.NotContains(t, one.(map[string]any)["path"], prefix)
	}
	for _, one := range health["keys"].([]any) {
		k := one.(map[string]any)
		nodes := k["nodes"].([]any)
		require.Len(t, nodes, 3)
		for _, n := range nodes {
			on := n.(map[string]any)
			waits := on["reason"] == "the key has no material" // keys of other tests that wait for an import
			require.NotEqual(t, waits, on["usable"], "%v", k)
		}
	}
	require.Equal(t, before, tokensOf(t, c), "no key is left in any token")
}

// tokensOf lists what lies in the tokens of all nodes.
func tokensOf(t *testing.T, c *localcluster.Cluster) map[int][]object {
	out := map[int][]object{}
	for node := 1; node <= 3; node++ {
		out[node], _ = tokenObjects(t, c, node)
	}
	return out
}
