package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/test/localcluster"
)

// newcomers makes nodes that the local cluster was not made with, as the page
// about the cluster has it.
type newcomers struct {
	move
	link func(node int) string // address of the node link
}

func newNewcomers(t *testing.T, c *localcluster.Cluster) newcomers {
	t.Helper()
	var port int
	_, err := fmt.Sscanf(c.Addr(1), "https://127.0.0.1:%d", &port)
	require.NoError(t, err)
	return newcomers{move{Cluster: c, t: t, dir: t.TempDir()}, func(node int) string { return fmt.Sprintf("127.0.0.1:%d", port+10*(node-1)+1) }}
}

var membersBlock = regexp.MustCompile(`(?m)^  initialMembers:\n(    - .*\n)+`)

// prepare makes folder, configuration and certificates of a node, and an HSM
// token with a transport key.
func (n newcomers) prepare(node int, settings string) {
	n.t.Helper()
	raw, err := os.ReadFile(n.config(1))
	require.NoError(n.t, err)
	api, old := strings.TrimPrefix(n.Addr(node), "https://"), strings.TrimPrefix(n.Addr(1), "https://")
	var first, port int
	_, err = fmt.Sscanf(old+" "+api, "127.0.0.1:%d 127.0.0.1:%d", &first, &port)
	require.NoError(n.t, err)
	text := membersBlock.ReplaceAllString(string(raw), fmt.Sprintf("  join: [%q, %q]\n%s", n.link(2), n.link(3), settings))
	text = strings.NewReplacer("/node1/", "/"+localcluster.Name(node)+"/", "id: node1\n", "id: "+localcluster.Name(node)+"\n", "strongroom-node1", "strongroom-"+localcluster.Name(node),
		"/node1\"", "/"+localcluster.Name(node)+"\"").Replace(text)
	for offset := range 3 {
		text = regexp.MustCompile(fmt.Sprintf(`(listen: "?)127\.0\.0\.1:%d`, first+offset)).ReplaceAllString(text, fmt.Sprintf("${1}127.0.0.1:%d", port+offset))
	}
	dir := n.NodeDir(node)
	for _, name := range []string{"tokens", "data"} {
		require.NoError(n.t, os.MkdirAll(filepath.Join(dir, name), 0o700))
	}
	write := func(name, content string) {
		require.NoError(n.t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	write("config.yaml", text)
	write("softhsm2.conf", fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", filepath.Join(dir, "tokens")))
	write("hsm-pin", "newcomer-pin-31\n")
	write("hsm-so-pin", "newcomer-so-pin-31\n")
	ca := func(name string) string { return filepath.Join(n.Dir, name) }
	n.run(0, "tls", "issue-server", "--ca-cert", ca("ca.pem"), "--ca-key", ca("ca-key.pem"), "--host", "127.0.0.1", "--cert", filepath.Join(dir, "api.pem"), "--key", filepath.Join(dir, "api-key.pem"))
	n.run(0, "tls", "issue-node", "--ca-cert", ca("cluster-ca.pem"), "--ca-key", ca("cluster-ca-key.pem"), "--config", n.config(node))
	n.run(0, "hsm", "init-token", "--config", n.config(node), "--so-pin-file", filepath.Join(dir, "hsm-so-pin"))
	n.run(0, "hsm", "create-transport-key", "--config", n.config(node), "--out", n.file(localcluster.Name(node)+".pem"))
}

func (n newcomers) run(code int, args ...string) localcluster.Run {
	n.t.Helper()
	r := n.CLI("", args...)
	require.Equal(n.t, code, r.Code, "%v: %s%s", args, r.Out, r.Err)
	return r
}

func (n newcomers) members(through int) map[string]wire.Member {
	n.t.Helper()
	r := n.Send(through, n.Token, "cluster/members", `{}`)
	out := map[string]wire.Member{}
	if r.Status != http.StatusOK {
		return out
	}
	var all wire.MembersResponse
	require.NoError(n.t, json.Unmarshal(r.Body, &all))
	for _, m := range all.Members {
		out[m.NodeID] = m
	}
	return out
}

func (n newcomers) awaitMember(through int, node, what string, is func(m wire.Member) bool) {
	n.t.Helper()
	n.Await(node+" "+what, func() bool {
		m, there := n.members(through)[node]
		return there && is(m)
	})
}

// giveRootKey admits the transport keys of nodes and rotates the root key, as
// the page about the cluster has it.
func (n newcomers) giveRootKey(nodes ...int) {
	n.t.Helper()
	var fingerprints []string
	for _, node := range nodes {
		fingerprints = append(fingerprints, fmt.Sprintf("%q", n.fingerprint(node)))
	}
	for node := 1; node <= 3; node++ {
		n.Kill(node)
		config, err := os.OpenFile(n.config(node), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(n.t, err)
		_, err = fmt.Fprintf(config, "  admitTransportKeys: [%s]\n", strings.Join(fingerprints, ", ")) // hsm is the last section
		require.NoError(n.t, err)
		require.NoError(n.t, config.Close())
		n.StartNode(node)
		n.AwaitReady(node)
	}
	var job any
	n.Await("a rotation to begin", func() bool {
		r := n.Send(1, n.Token, "cluster/rotateRootKey", `{}`)
		job = r.Object(n.Cluster)["jobId"]
		return r.Status == http.StatusOK
	})
	n.Await("the rotation's end", func() bool { return n.OK(1, "cluster/describeJob", `{"jobId":%q}`, job)["state"] == "done" })
}

// load writes and reads with the Go client until stop is called, which answers
// the first operation that failed. done counts those that did not.
func (n newcomers) load(nodes ...int) (done *atomic.Int64, stop func() error) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done = &atomic.Int64{}
	var failed atomic.Pointer[error]
	var running sync.WaitGroup
	var addresses []string
	for _, node := range nodes {
		addresses = append(addresses, n.Addr(node))
	}
	for i := range 4 {
		c, err := client.New(client.Config{
			Addresses: append(append([]string{}, addresses[i%len(addresses):]...), addresses[:i%len(addresses)]...), CAFile: filepath.Join(n.Dir, "ca.pem"),
			Token: func() (secret.Bytes, error) { return secret.Copy([]byte(n.Token)), nil },
		})
		require.NoError(n.t, err)
		path := fmt.Sprintf("/app/load/%s/%d", filepath.Base(n.dir), i)
		n.OK(nodes[0], "secrets/createSecret", `{"path":%q}`, path)
		running.Go(func() {
			defer c.Close()
			for round := 0; ctx.Err() == nil; round++ {
				put := &wire.PutSecretValueRequest{Path: path, Value: wire.NewValue([]byte(fmt.Sprint(round)))}
				put.ClientToken = fmt.Sprintf("%s-%d-%d", filepath.Base(n.dir), i, round)
				var answer wire.PutSecretValueResponse
				err := c.Do(context.Background(), "secrets", "putSecretValue", put, &answer)
				var read wire.GetSecretValueResponse
				if err == nil {
					err = c.Do(context.Background(), "secrets", "getSecretValue", &wire.GetSecretValueRequest{Path: path}, &read)
				}
				if err == nil && string(read.Value.Expose()) != fmt.Sprint(round) {
					err = fmt.Errorf("round %d of %s reads another", round, path)
				}
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				done.Add(2)
			}
		})
	}
	return done, func() error {
		cancel()
		running.Wait()
		if err := failed.Load(); err != nil {
			return *err
		}
		return nil
	}
}

// A cluster of three grows to five, one node announced, one by a join token,
// and then survives the loss of two.
func TestClusterGrowsToFiveAndLosesTwo(t *testing.T) {
	c := suite.Fresh(t, 3)
	n := newNewcomers(t, c)
	c.OK(1, "cluster/setAutopilot", `{"stabilization":"1s"}`)
	c.OK(1, "secrets/createSecret", `{"path":"/app/grow","value":%q}`, localcluster.B64("kept"))

	// A certificate of the cluster is not enough.
	n.prepare(4, "")
	c.StartNode(4)
	c.Await("node4 to say that nobody knows it", func() bool { return strings.Contains(c.Log(4), "neither a member nor announced") })
	require.NotContains(t, n.members(1), "node4")

	n.run(0, "cluster", "add", "node4", n.link(4))
	n.awaitMember(1, "node4", "to be a member without a vote, for its HSM has no root key", func(m wire.Member) bool {
		return m.Role == "nonVoter" && m.Voter && m.RootKey == "missing" && strings.Contains(m.Waiting, "does not have the root key")
	})

	token := n.file("join-token")
	n.run(0, "cluster", "join-token", "create", "--node-id", "node5", "--out", token)
	n.prepare(5, fmt.Sprintf("  joinTokenFile: %q\n", token))
	c.StartNode(5)
	n.awaitMember(1, "node5", "to be a member without a vote", func(m wire.Member) bool { return m.Role == "nonVoter" && m.JoinTokenID != "" })
	require.Contains(t, n.run(0, "cluster", "join-token", "ls").Out, "used")

	// The token was good once.
	n.prepare(6, fmt.Sprintf("  joinTokenFile: %q\n", token))
	c.StartNode(6)
	c.Await("node6 to say that the token was used", func() bool { return strings.Contains(c.Log(6), "was used before") })
	require.NotContains(t, n.members(1), "node6")
	require.NotContains(t, c.Log(6)+c.Log(5)+c.Log(1), strings.TrimSpace(readFile(t, token)), "the token is in no log")

	n.giveRootKey(4, 5)
	for _, node := range []int{4, 5} {
		n.awaitMember(1, localcluster.Name(node), "to have a vote", func(m wire.Member) bool { return m.Role == "follower" && m.RootKey == "ok" })
		c.AwaitReady(node)
		value, err := c.Send(node, c.Token, "secrets/getSecretValue", `{"path":"/app/grow"}`).Value()
		require.NoError(t, err)
		require.Equal(t, "kept", value)
	}
	require.Contains(t, n.run(0, "audit", "query", "--event", "cluster.admit_member", "-o", "json").Out, "by the join token")

	leader := c.Leader()
	lost := []int{leader, c.Others(leader)[0]}
	for _, node := range lost {
		c.Kill(node)
	}
	c.OK(5, "secrets/putSecretValue", `{"path":"/app/grow","value":%q}`, localcluster.B64("by three of five"))
	value, err := c.Send(4, c.Token, "secrets/getSecretValue", `{"path":"/app/grow"}`).Value()
	require.NoError(t, err)
	require.Equal(t, "by three of five", value)
	for _, node := range lost {
		c.StartNode(node)
		c.AwaitReady(node)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(raw)
}

// The leader is removed while clients write: no operation fails, the node says
// what it is, and neither its id nor an address that is in use can be taken.
func TestLeaderIsRemovedUnderLoad(t *testing.T) {
	c := suite.Fresh(t, 3)
	n := newNewcomers(t, c)
	leader := c.Leader()
	name, stay := localcluster.Name(leader), c.Others(leader)
	done, stop := n.load(1, 2, 3)
	c.Await("operations before", func() bool { return done.Load() > 50 })
	n.run(0, "cluster", "remove", name, "--reason", "its lease ends")
	c.Await(name+" to leave", func() bool {
		_, there := n.members(stay[0])[name]
		return !there && len(n.members(stay[0])) == 2
	})
	c.Await(name+" to say that it was removed", func() bool {
		return strings.Contains(c.Log(leader), "this node was removed from the cluster (its lease ends)")
	})
	require.Contains(t, n.run(0, "audit", "query", "--event", "secrets.create", "-o", "json").Out, `"node": "`+name+`"`, "its trail is answered by the copies of the others")
	after := done.Load() + 50
	c.Await("operations after", func() bool { return done.Load() > after })
	require.NoError(t, stop())
	require.False(t, saysReady(t, c, leader))

	r := n.run(1, "cluster", "add", name, n.link(leader))
	require.Contains(t, r.Err, "never comes back")
	r = n.run(1, "cluster", "add", "node9", n.link(stay[0]))
	require.Contains(t, r.Err, "is the address of "+localcluster.Name(stay[0]))
	c.OK(stay[0], "secrets/createSecret", `{"path":"/app/after","value":%q}`, localcluster.B64("two of two"))

	// It comes back with its folder, and is told.
	c.Kill(leader)
	c.StartNode(leader)
	c.Await(name+" to say so again", func() bool {
		resp, err := c.Client().Get(c.Addr(leader) + "/api/v1/health/ready")
		if err != nil {
			return false // it is starting
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), "never comes back")
	})
}

func saysReady(t *testing.T, c *localcluster.Cluster, node int) bool {
	t.Helper()
	resp, err := c.Client().Get(c.Addr(node) + "/api/v1/health/ready")
	require.NoError(t, err)
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// A node whose disk was replaced has forgotten what it promised. It must not
// vote under its old id, and is told what to do.
func TestWipedNodeTakesNoPart(t *testing.T) {
	c := suite.Fresh(t, 3)
	n := newNewcomers(t, c)
	for node := 1; node <= 3; node++ {
		n.awaitMember(1, localcluster.Name(node), "to be known with its data folder", func(m wire.Member) bool { return m.Waiting == "" })
	}
	wiped := c.Others(c.Leader())[0]
	c.Await("the folder of every member to be known", func() bool {
		return strings.Count(n.run(0, "audit", "query", "--event", "cluster.admit_member").Out, "cluster.admit_member") >= 3
	})
	c.Kill(wiped)
	data := filepath.Join(c.NodeDir(wiped), "data")
	require.NoError(t, os.RemoveAll(data))
	require.NoError(t, os.Mkdir(data, 0o700))
	c.StartNode(wiped)
	c.Await("the node to be refused", func() bool { return strings.Contains(c.Log(wiped), "has taken part with another data folder") })
	require.False(t, saysReady(t, c, wiped))
	_, err := os.Stat(filepath.Join(data, "initialised"))
	require.ErrorIs(t, err, os.ErrNotExist, "it has stored nothing")

	// Without it and another one there is no majority, whatever it is asked.
	other := c.Others(c.Leader())
	leader := c.Leader()
	for _, node := range other {
		if node != wiped {
			c.Kill(node)
			c.Await("the leader to step down", func() bool { return !saysReady(t, c, leader) })
			c.StartNode(node)
			c.AwaitReady(node)
		}
	}
	name := localcluster.Name(wiped)
	n.run(0, "cluster", "remove", name, "--reason", "its disk died")
	n.Await(name+" to leave", func() bool { return len(n.members(leader)) == 2 })
}
