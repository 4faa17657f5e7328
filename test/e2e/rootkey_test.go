package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// rootsIn answers the labels of the root keys in a node's token, in order.
func rootsIn(t *testing.T, c *localcluster.Cluster, node int) (labels []string) {
	t.Helper()
	objects, _ := tokenObjects(t, c, node)
	for _, o := range objects {
		if o.kind != "" && o.label != "strongroom transport" && o.label != "strongroom storage" {
			labels = append(labels, o.label)
		}
	}
	slices.Sort(labels)
	return labels
}

// TestTheRootKeyIsRotatedThoughItsLeaderDies: all key material moves to a new
// root key while clients read and the leader is killed; nobody notices, every
// key is the key that it was, and in the end no token holds the old root.
func TestTheRootKeyIsRotatedThoughItsLeaderDies(t *testing.T) {
	c := suite.Fresh(t, 3)
	const n, prefix = 40, "/app/e2e/root"
	bindMany(t, c, prefix, "alias/default", n)
	for i := range n {
		c.OK(1+i%3, "kms/createKey", `{"alias":"alias/k%d"}`, i)
	}
	keys := map[string]matrixKey{} // by usage
	for usage := range matrixMakers {
		keys[usage] = newMatrixKey(c, "rotated", usage)
	}
	c.OK(1, "kms/createKey", `{"alias":"alias/rsa","spec":"rsa-2048","usage":"sign"}`)
	public := c.OK(1, "kms/getPublicKey", `{"keyId":"alias/rsa"}`)["publicKey"]

	c.Principal("signer", `[{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/e2e/root/**"]}]`)
	signer := c.OK(1, "iam/createAccessKey", `{"principal":"signer"}`)
	signs := func(node int) bool {
		return send(t, c, node, signedWith(t, c, node, signer, "iam/whoAmI", `{}`, time.Now()), `{}`).Status == http.StatusOK
	}
	c.Await("the leader to take signed requests", func() bool { return signs(1) })

	// A node whose HSM cannot be asked would be left behind with the old root.
	follower := 1 + c.Leader()%3
	c.Signal(follower, syscall.SIGKILL)
	c.AwaitEnd(follower)
	r := c.Send(c.Leader(), c.Token, "cluster/rotateRootKey", `{}`)
	require.Equal(t, "Conflict", r.Code(), "%s", r.Body)
	require.Contains(t, r.Message(), localcluster.Name(follower))
	c.StartNode(follower)
	c.AwaitReady(follower)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var watching sync.WaitGroup
	all := &readers{}
	for r := range 8 {
		watching.Go(func() { all.run(ctx, c, r*7, n, prefix) })
	}
	started := c.OK(2, "cluster/rotateRootKey", `{"ratePerSecond":8}`)
	require.EqualValues(t, 2, started["version"])
	job := func() (state string, done int) {
		var got struct {
			State string
			Done  int
		}
		r, _, err := c.Persist(context.Background(), []int{1, 2, 3}, "cluster/describeJob", fmt.Sprintf(`{"jobId":%q}`, started["jobId"]))
		require.NoError(t, err)
		require.Equal(t, 200, r.Status, "%s", r.Body)
		require.NoError(t, json.Unmarshal(r.Body, &got))
		return got.State, got.Done
	}
	c.Await("a part of the keys to have moved", func() bool { _, done := job(); return done > 0 })
	leader := c.Leader()
	c.Signal(leader, syscall.SIGKILL)
	c.AwaitEnd(leader)
	state, done := job()
	require.True(t, state == "running" && done < n, "the leader was to die in the middle: %s, %d", state, done)
	c.StartNode(leader)
	c.OK(1+leader%3, "kms/createKey", `{"alias":"alias/meanwhile"}`)
	c.Await("the job's end", func() bool { state, _ := job(); return state == "done" })
	c.AwaitReady(leader)
	cancel()
	watching.Wait()
	require.Empty(t, all.wrong)
	require.Greater(t, all.done, n)

	// The old root stays until somebody says that it may go.
	for node := 1; node <= 3; node++ {
		require.Equal(t, []string{"strongroom root mac v1", "strongroom root mac v2", "strongroom root v1", "strongroom root v2"}, rootsIn(t, c, node))
	}
	r = c.Send(1, c.Token, "cluster/removeRootKey", `{"version":2}`)
	require.Equal(t, "Conflict", r.Code())
	c.OK(3, "cluster/removeRootKey", `{"version":1}`)
	for node := 1; node <= 3; node++ {
		c.Await("the old root to go from "+localcluster.Name(node), func() bool { return len(rootsIn(t, c, node)) == 2 })
		require.Equal(t, []string{"strongroom root mac v2", "strongroom root v2"}, rootsIn(t, c, node))
	}
	for node := 1; node <= 3; node++ {
		c.Signal(node, syscall.SIGKILL)
		c.AwaitEnd(node)
		c.StartNode(node)
		c.AwaitReady(node)
	}
	// Derived anew, by an HSM that has only the new root: the same secret.
	c.Await("the access key to sign as before", func() bool { return signs(2) })
	for usage, k := range keys {
		for _, uses := range k.uses(usage) {
			for operation, body := range uses {
				c.OK(1, operation, "%s", body)
			}
		}
	}
	require.Equal(t, public, c.OK(1, "kms/getPublicKey", `{"keyId":"alias/rsa"}`)["publicKey"])
	signature := c.OK(2, "kms/sign", `{"keyId":"alias/rsa","message":%q}`, message)["signature"]
	require.Equal(t, true, c.OK(3, "kms/verify", `{"keyId":"alias/rsa","message":%q,"signature":%q}`, message, signature)["valid"])
	for i := range n {
		r := c.Send(1+i%3, c.Token, "secrets/getSecretValue", `{"path":"%s/s%04d"}`, prefix, i)
		value, err := r.Value()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("value ", i), value)
	}
	// A follower that was just started may still be on its way through the
	// rotation, with its HSM a look behind its state.
	c.Await("every HSM to use every key", func() bool {
		for _, one := range c.OK(1, "kms/getKeyHealth", `{"limit":100}`)["keys"].([]any) {
			for _, on := range one.(map[string]any)["nodes"].([]any) {
				if on.(map[string]any)["usable"] != true {
					return false
				}
			}
		}
		return true
	})
}
