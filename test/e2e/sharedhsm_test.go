package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// sharedHSM makes a cluster of three nodes with one token: by the ceremonies
// of the operations guide, in the place of the one that strongroom dev made,
// which has a token for each node.
func sharedHSM(t *testing.T) *localcluster.Cluster {
	t.Helper()
	c := suite.Fresh(t, 3)
	c.Stop()
	first := c.NodeDir(1)
	_, hsm := configOf(t, c, 1)
	for node := 1; node <= 3; node++ {
		before, _ := configOf(t, c, node)
		require.NoError(t, os.WriteFile(filepath.Join(c.NodeDir(node), "config.yaml"), []byte(before+hsm), 0o600))
		for _, dir := range []string{"data", "tokens"} {
			require.NoError(t, os.RemoveAll(filepath.Join(c.NodeDir(node), dir)))
		}
		require.NoError(t, os.Mkdir(filepath.Join(c.NodeDir(node), "data"), 0o700))
	}
	require.NoError(t, os.Mkdir(filepath.Join(first, "tokens"), 0o700))
	token, config, pem := filepath.Join(c.Dir, "admin.token"), filepath.Join(first, "config.yaml"), filepath.Join(t.TempDir(), "hsm.pem")
	require.NoError(t, os.Remove(token))
	for _, line := range [][]string{
		{"hsm", "init-token", "--config", config, "--so-pin-file", filepath.Join(first, "hsm-so-pin")},
		{"hsm", "create-transport-key", "--config", config, "--out", pem},
		{"init", "--config", config, "--transport-key", "node2=" + pem, "--transport-key", "node3=" + pem, "--admin-token-file", token},
	} {
		r := c.CLI("", line...)
		require.Zero(t, r.Code, "%v: %s", line, r.Err)
	}
	// The other nodes' operators find the pair that is there.
	r := c.CLI("", "hsm", "create-transport-key", "--config", filepath.Join(c.NodeDir(2), "config.yaml"))
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Err, "has a transport key already")
	c.Up()
	return c
}

// configOf answers a node's configuration, parted before the section hsm.
func configOf(t *testing.T, c *localcluster.Cluster, node int) (before, hsm string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.NodeDir(node), "config.yaml"))
	require.NoError(t, err)
	at := strings.Index(string(text), "\nhsm:\n")
	require.Positive(t, at)
	return string(text[:at]), string(text[at:])
}

// Three nodes with one token are one cluster as any other: a key made by one
// is used by all, the leader may die, all may die, the root key may be rotated
// while clients go on. The token never has more than one root of a version:
// whoever does not find it does not make one. And no node ever waits for a
// person because the others were using the token at the same time.
func TestThreeNodesShareOneHSM(t *testing.T) {
	c := sharedHSM(t)
	first := []string{"strongroom root mac v1", "strongroom root v1"}
	require.Equal(t, first, rootsIn(t, c, 1))

	w := startWriters(t, c, "/app/e2e/shared", 6, 3)
	k := startKeyMakers(t, c)
	k.awaitMore(6)
	leader := c.Leader()
	killed := time.Now()
	c.Signal(leader, syscall.SIGKILL)
	require.NotEqual(t, leader, w.firstAfter(killed).node)
	c.AwaitEnd(leader)
	k.awaitMore(6)
	c.StartNode(leader)
	c.AwaitReady(leader)

	for range 5 { // every worker begins at the same moment
		for node := 1; node <= 3; node++ {
			if worker, runs := c.Worker(node); runs {
				_ = syscall.Kill(worker.PID, syscall.SIGKILL) // it may have ended by itself
			}
		}
		k.awaitMore(3)
		for node := 1; node <= 3; node++ {
			c.AwaitReady(node)
		}
	}
	require.Equal(t, first, rootsIn(t, c, 1))

	rotateSharedRoot(t, c)
	k.awaitMore(6)
	w.awaitMore(20)
	w.halt()
	k.halt()
	second := []string{"strongroom root mac v2", "strongroom root v2"}
	require.Equal(t, second, rootsIn(t, c, 1))

	c.KillAll()
	require.NoError(t, os.Remove(filepath.Join(c.Dir, "ready")))
	c.Up()
	for node := 1; node <= 3; node++ {
		c.AwaitReady(node)
		w.check(t, node)
		k.check(node)
		require.NotContains(t, c.Log(node), "until a person acts")
	}
	require.Equal(t, second, rootsIn(t, c, 1))
}

// rotateSharedRoot rotates the root key and removes the one before, under
// whatever load there is.
func rotateSharedRoot(t *testing.T, c *localcluster.Cluster) {
	t.Helper()
	var started map[string]any
	c.Await("the start of a rotation", func() bool {
		r := c.Send(c.Leader(), c.Token, "cluster/rotateRootKey", `{"ratePerSecond":50}`)
		if r.Status == http.StatusOK {
			started = r.Object(c)
		}
		// A member whose worker is just being replaced is no recipient.
		require.Contains(t, []string{"", "Conflict", "NoLeader", "HsmUnavailable"}, r.Code(), "%s", r.Body)
		return started != nil
	})
	c.Await("the end of the rotation", func() bool {
		return c.OK(2, "cluster/describeJob", `{"jobId":%q}`, started["jobId"])["state"] == "done"
	})
	for node := 1; node <= 3; node++ {
		c.AwaitReady(node)
	}
	require.Equal(t, []string{"strongroom root mac v1", "strongroom root mac v2", "strongroom root v1", "strongroom root v2"}, rootsIn(t, c, 1))
	c.OK(3, "cluster/removeRootKey", `{"version":1}`)
	c.Await("the old root to go from every node", func() bool {
		gone := 0
		for node := 1; node <= 3; node++ {
			if strings.Contains(c.Log(node), `msg="a replaced root key is gone from the HSM"`) {
				gone++
			}
		}
		return gone == 3
	})
}

// keyMakers make keys, each on one node, rotate them on the next, and use them
// on the third.
type keyMakers struct {
	t       *testing.T
	c       *localcluster.Cluster
	mu      sync.Mutex
	boxes   []string // ciphertexts, one for each key made
	failed  []string
	ended   chan struct{}
	running sync.WaitGroup
	once    sync.Once
}

func startKeyMakers(t *testing.T, c *localcluster.Cluster) *keyMakers {
	k := &keyMakers{t: t, c: c, ended: make(chan struct{})}
	t.Cleanup(k.halt)
	for i := range 3 {
		k.running.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-k.ended:
					return
				default:
				}
				box, err := k.one(fmt.Sprintf("alias/shared-%d-%d", i, round), i)
				k.mu.Lock()
				if err != nil {
					k.failed = append(k.failed, err.Error())
				} else {
					k.boxes = append(k.boxes, box)
				}
				k.mu.Unlock()
			}
		})
	}
	return k
}

// one makes a key, asking node after node, beginning with one of its own.
func (k *keyMakers) one(alias string, begin int) (box string, err error) {
	for step, request := range [][2]string{
		{"kms/createKey", fmt.Sprintf(`{"alias":%q}`, alias)},
		{"kms/rotateKey", fmt.Sprintf(`{"keyId":%q}`, alias)},
		{"kms/encrypt", fmt.Sprintf(`{"keyId":%q,"plaintext":%q}`, alias, localcluster.B64(alias))},
	} {
		node := 1 + (begin+step)%3
		order := append([]int{node}, k.c.Others(node)...)
		ctx, cancel := context.WithTimeout(context.Background(), localcluster.Patience)
		r, _, err := k.c.Persist(ctx, order, request[0], localcluster.Repeatable(request[0], request[1]))
		cancel()
		if err != nil || r.Status != http.StatusOK {
			return "", fmt.Errorf("%s: %v %s", request[0], err, r.Body)
		}
		if step == 2 {
			var answer struct{ Ciphertext string }
			err = json.Unmarshal(r.Body, &answer)
			return answer.Ciphertext, err
		}
	}
	return "", nil
}

func (k *keyMakers) made() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.boxes)
}

func (k *keyMakers) awaitMore(n int) {
	want := k.made() + n
	k.c.Await(fmt.Sprintf("%d more keys", n), func() bool { return k.made() >= want })
}

func (k *keyMakers) halt() {
	k.once.Do(func() { close(k.ended) })
	k.running.Wait()
}

// check opens on one node what each of the keys has sealed.
func (k *keyMakers) check(node int) {
	k.t.Helper()
	k.halt()
	require.Empty(k.t, k.failed)
	for _, box := range k.boxes {
		k.c.OK(node, "kms/decrypt", `{"ciphertext":%q}`, box)
	}
}
