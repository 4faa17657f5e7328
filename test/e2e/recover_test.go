package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/test/localcluster"
)

// acks are writes that a cluster acknowledged before its majority died.
type acks struct {
	mu     sync.Mutex
	values map[string]map[uint64]string // path → version → value
	count  int
}

// writeUntilNobodyAnswers writes to all nodes. done ends the load, and waits.
func writeUntilNobodyAnswers(c *localcluster.Cluster) (a *acks, done func()) {
	a = &acks{values: map[string]map[uint64]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range 4 {
		path := fmt.Sprintf("/app/e2e/recover/%d", i)
		c.OK(1, "secrets/createSecret", `{"path":%q}`, path)
		running.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				value := localcluster.B64(fmt.Sprintf("writer %d round %d", i, round))
				r, err := c.Do(ctx, 1+round%c.Nodes, c.Token, "secrets/putSecretValue", fmt.Sprintf(`{"path":%q,"value":%q}`, path, value))
				var answer wire.PutSecretValueResponse
				if err != nil || r.Status != http.StatusOK || json.Unmarshal(r.Body, &answer) != nil {
					continue // nobody was told that it is kept
				}
				a.mu.Lock()
				if a.values[path] == nil {
					a.values[path] = map[uint64]string{}
				}
				a.values[path][answer.Version] = value
				a.count++
				a.mu.Unlock()
			}
		})
	}
	return a, func() {
		cancel()
		running.Wait()
	}
}

func (a *acks) seen() (count int, copied map[string]map[uint64]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	copied = map[string]map[uint64]string{}
	for path, versions := range a.values {
		copied[path] = map[uint64]string{}
		for version, value := range versions {
			copied[path][version] = value
		}
	}
	return a.count, copied
}

// gauge answers a metric without labels of a node.
func gauge(c *localcluster.Cluster, node int, name string) float64 {
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(c.Metrics(node))
	if m == nil {
		return -1
	}
	value, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return -1
	}
	return value
}

func stored(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = string(raw)
		return err
	}))
	return out
}

// The drill of docs/cluster.md: two of three nodes die under load, and their
// disks are gone. The third goes on with all that it had been told of; a new
// node comes to have everything; one that comes back is kept out.
func TestAMajorityIsLostForGood(t *testing.T) {
	c := suite.Fresh(t, 3)
	n := newNewcomers(t, c)
	status := c.OK(1, "cluster/status", `{}`)
	cluster := status["clusterId"].(string)
	c.OK(1, "cluster/setAutopilot", `{"stabilization":"1s"}`)
	written, halt := writeUntilNobodyAnswers(c)
	c.Await("writes", func() bool { count, _ := written.seen(); return count >= 50 })
	_, before := written.seen()
	index := 0.0
	for node := 1; node <= 3; node++ {
		index = max(index, gauge(c, node, "strongroom_raft_commit_index"))
	}
	c.Await("node3 to have those", func() bool { return gauge(c, 3, "strongroom_raft_applied_index") >= index })
	c.Signal(1, 9)
	c.Signal(2, 9)
	halt()
	_, all := written.seen()
	recovery := func(stdin string, args ...string) localcluster.Run {
		return c.CLI(stdin, append([]string{"cluster", "recover", "--config", n.config(3)}, args...)...)
	}
	r := recovery("", "--look")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Err, "in use by another process", "its server runs")
	c.KillAll()
	require.NoError(t, os.RemoveAll(filepath.Join(c.NodeDir(1), "data")))

	// Whatever is not an order changes nothing.
	tokens, away := filepath.Join(c.NodeDir(3), "tokens"), filepath.Join(c.NodeDir(3), "tokens-away")
	require.NoError(t, os.Rename(tokens, away))
	r = recovery("", "--reason", "drill", "--confirm", cluster)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Err, "HSM")
	require.NoError(t, os.Rename(away, tokens))
	data := filepath.Join(c.NodeDir(3), "data")
	folder := stored(t, data)
	r = recovery("", "--look")
	require.Zero(t, r.Code, r.Err)
	for _, says := range []string{"last entry", "term ", "last command", "node1 at", "node2 at", "What may be lost"} {
		require.Contains(t, r.Out, says)
	}
	require.Equal(t, 2, recovery(cluster+"\n").Code, "no reason")
	for _, typed := range []string{"", "yes\n", "node3\n"} {
		r = recovery(typed, "--reason", "drill")
		require.Equal(t, 1, r.Code)
		require.Contains(t, r.Err, "nothing was changed")
	}
	require.Equal(t, 1, recovery("", "--reason", "drill", "--confirm", "other").Code)
	require.Equal(t, folder, stored(t, data))

	r = recovery(cluster+"\n", "--reason", "two machines burnt")
	require.Zero(t, r.Code, r.Err)
	require.Contains(t, r.Out, "Removed for ever: node1, node2.")
	r = recovery("", "--reason", "again", "--confirm", cluster)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Err, "nothing to recover")

	c.StartNode(3)
	c.AwaitReady(3)
	for path, versions := range all {
		latest := uint64(c.OK(3, "secrets/describeSecret", `{"path":%q}`, path)["latestVersion"].(float64))
		for version := range before[path] {
			require.LessOrEqual(t, version, latest, "it was on this node when the others died")
		}
		for version, value := range versions {
			if version <= latest {
				require.Equal(t, value, c.OK(3, "secrets/getSecretValue", `{"path":%q,"version":%d}`, path, version)["value"])
			}
		}
	}
	c.OK(3, "secrets/createSecret", `{"path":"/app/e2e/after","value":%q}`, localcluster.B64("after"))
	recoveries := c.OK(3, "cluster/status", `{}`)["recoveries"].([]any)
	require.Len(t, recoveries, 1)
	require.Equal(t, "two machines burnt", recoveries[0].(map[string]any)["reason"])
	require.Equal(t, []any{"node1", "node2"}, recoveries[0].(map[string]any)["cutOff"])
	c.Await("the event of the recovery", func() bool {
		r := c.Send(3, c.Token, "audit/queryEvents", `{"event":"cluster.recover"}`)
		return r.Status == http.StatusOK && strings.Contains(string(r.Body), "two machines burnt") && strings.Contains(string(r.Body), "cut off: node1, node2")
	})

	// One comes back with its folder.
	c.StartNode(2)
	c.Await("node2 to be told that it never comes back", func() bool { return strings.Contains(c.Log(2), "never comes back") })
	c.Await("node3 to say so", func() bool { return gauge(c, 3, "strongroom_raft_cut_off_nodes_running") == 1 })
	require.NotEqual(t, http.StatusOK, c.Send(2, c.Token, "cluster/status", `{}`).Status)
	c.Kill(2)

	// A new one.
	n.prepare(4, "")
	n.run(0, "cluster", "add", "node4", n.link(4))
	c.StartNode(4)
	n.awaitMember(3, "node4", "to be a member", func(m wire.Member) bool { return m.Role == "nonVoter" })
	c.Kill(3)
	config, err := os.OpenFile(n.config(3), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = fmt.Fprintf(config, "  admitTransportKeys: [%q]\n", n.fingerprint(4)) // hsm is the last section
	require.NoError(t, err)
	require.NoError(t, config.Close())
	c.StartNode(3)
	c.AwaitReady(3)
	var job any
	c.Await("a rotation of the root key to begin", func() bool {
		r := c.Send(3, c.Token, "cluster/rotateRootKey", `{}`)
		job = r.Object(c)["jobId"]
		return r.Status == http.StatusOK
	})
	c.Await("the rotation's end", func() bool { return c.OK(3, "cluster/describeJob", `{"jobId":%q}`, job)["state"] == "done" })
	n.awaitMember(3, "node4", "to have a vote", func(m wire.Member) bool { return m.Role == "follower" && m.RootKey == "ok" })
	c.AwaitReady(4)
	require.Equal(t, localcluster.B64("after"), c.OK(4, "secrets/getSecretValue", `{"path":"/app/e2e/after"}`)["value"])
}

// One of three is thought lost, and two are left: the one that is ahead goes
// on. Then all others come back at once, a majority of the cluster as it was:
// none of them serves.
func TestAForgottenMajorityComesBack(t *testing.T) {
	c := suite.Fresh(t, 3)
	n := newNewcomers(t, c)
	cluster := c.OK(1, "cluster/status", `{}`)["clusterId"].(string)
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/again","value":%q}`, localcluster.B64("one"))
	c.KillAll()
	last := regexp.MustCompile(`last entry +term (\d+), index (\d+)`)
	ahead, term, index := 0, 0, 0
	for _, node := range []int{2, 3} {
		r := c.CLI("", "cluster", "recover", "--config", n.config(node), "--look")
		require.Zero(t, r.Code, r.Err)
		m := last.FindStringSubmatch(r.Out)
		require.NotNil(t, m, r.Out)
		its, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		at, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		if its > term || its == term && at > index {
			ahead, term, index = node, its, at
		}
	}
	r := c.CLI("", "cluster", "recover", "--config", n.config(ahead), "--reason", "drill", "--confirm", cluster)
	require.Zero(t, r.Code, r.Err)
	c.StartNode(ahead)
	c.AwaitReady(ahead)
	c.OK(ahead, "secrets/putSecretValue", `{"path":"/app/e2e/again","value":%q}`, localcluster.B64("two"))
	for _, node := range c.Others(ahead) {
		c.StartNode(node)
	}
	for _, node := range c.Others(ahead) {
		c.Await(localcluster.Name(node)+" to be told that it never comes back", func() bool { return strings.Contains(c.Log(node), "never comes back") })
	}
	for _, node := range c.Others(ahead) {
		require.NotEqual(t, http.StatusOK, c.Send(node, c.Token, "secrets/getSecretValue", `{"path":"/app/e2e/again"}`).Status)
	}
	require.Contains(t, c.Log(ahead), "a node runs that was cut off when the cluster was recovered")
	require.Equal(t, localcluster.B64("two"), c.OK(ahead, "secrets/getSecretValue", `{"path":"/app/e2e/again"}`)["value"])
}
