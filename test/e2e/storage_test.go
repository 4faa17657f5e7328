package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// seen answers what a node says without a credential.
func seen(t *testing.T, c *localcluster.Cluster, node int, what string) (int, string) {
	t.Helper()
	resp, err := c.Client().Get(c.Addr(node) + what)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// A node starts while its HSM is away. It cannot open its log: it says so, and
// goes on by itself, in the same process, when the HSM is back.
func TestANodeThatStartsWithoutItsHSMWaitsForIt(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.OK(1, "secrets/createSecret", `{"path":"/app/storage/waits","value":"eA=="}`)
	c.Lead(1)
	c.Kill(3)
	tokens := filepath.Join(c.NodeDir(3), "tokens")
	require.NoError(t, os.Rename(tokens, tokens+".away"))
	require.NoError(t, os.Mkdir(tokens, 0o700))
	c.StartNode(3)
	c.Await("node3 to say what it waits for", func() bool {
		status, body := seen(t, c, 3, "/api/v1/health/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "waiting for the HSM, which opens the log of this node")
	})
	require.Contains(t, c.Log(3), "waiting for the HSM: the log of this node opens by it only")
	status, body := seen(t, c, 3, "/api/v1/health/live")
	require.Equal(t, http.StatusOK, status, body)
	status, body = seen(t, c, 3, "/api/v1/health/leader")
	require.Equal(t, http.StatusServiceUnavailable, status, body)
	require.Contains(t, c.Metrics(3), "strongroom_hsm_healthy 0\n")
	r := c.Send(3, c.Token, "secrets/getSecretValue", `{"path":"/app/storage/waits"}`)
	require.Equal(t, "HsmUnavailable", r.Code(), "%s", r.Body)
	require.True(t, r.Retryable())
	waiting, ok := c.Server(3)
	require.True(t, ok)

	require.NoError(t, os.Remove(tokens))
	require.NoError(t, os.Rename(tokens+".away", tokens))
	c.AwaitReady(3)
	serving, ok := c.Server(3)
	require.True(t, ok)
	require.Equal(t, waiting.PID, serving.PID, "without a restart")
	c.Lead(3)
	value, err := c.Send(3, c.Token, "secrets/getSecretValue", `{"path":"/app/storage/waits"}`).Value()
	require.NoError(t, err)
	require.Equal(t, "x", value)
}

// Who stops a node that waits has it stop.
func TestANodeThatWaitsForItsHSMCanBeStopped(t *testing.T) {
	c := suite.Fresh(t, 1)
	c.Stop()
	tokens := filepath.Join(c.NodeDir(1), "tokens")
	require.NoError(t, os.RemoveAll(tokens))
	require.NoError(t, os.Mkdir(tokens, 0o700))
	cmd := exec.Command(c.Binary, "server", "--config", filepath.Join(c.NodeDir(1), "config.yaml"))
	require.NoError(t, cmd.Start())
	c.Await("the node to wait", func() bool {
		_, body := seen(t, c, 1, "/api/v1/health/ready")
		return strings.Contains(body, "waiting for the HSM")
	})
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait(), "in good order")
}

// database opens the log of a node that is down.
func database(t *testing.T, c *localcluster.Cluster, node int, do func(*boltstore.BoltStore)) {
	t.Helper()
	db, err := boltstore.NewBoltStore(filepath.Join(c.NodeDir(node), "data", "raft.db"))
	require.NoError(t, err)
	do(db)
	require.NoError(t, db.Close())
}

// A bit flips in the log of a node. The node notices at its start, has the
// others give it the entry again, and serves and leads as before.
func TestAFlippedBitInTheLogIsMendedByTheOthers(t *testing.T) {
	c := suite.Fresh(t, 3)
	for i := range 20 {
		c.OK(1, "secrets/createSecret", `{"path":"/app/storage/flip/%d","value":"eA=="}`, i)
	}
	c.Lead(1)
	c.Kill(3)
	database(t, c, 3, func(db *boltstore.BoltStore) {
		last, err := db.LastIndex()
		require.NoError(t, err)
		var e hraft.Log
		require.NoError(t, db.GetLog(last-5, &e))
		e.Data[len(e.Data)/2] ^= 1
		require.NoError(t, db.StoreLog(&e))
	})
	before := len(c.Log(3))
	c.StartNode(3)
	c.AwaitReady(3)
	c.Await("the log to be whole", func() bool { return strings.Contains(c.Log(3)[before:], "the log of this node is whole again") })
	require.Contains(t, c.Log(3)[before:], "the log of this node is damaged")
	c.Await("the metric", func() bool { return strings.Contains(c.Metrics(3), "strongroom_raft_mending 0\n") })
	c.Lead(3)
	require.Equal(t, "eA==", c.OK(3, "secrets/getSecretValue", `{"path":"/app/storage/flip/19"}`)["value"])
}

// The storage key of each node is changed, one after the other. What was
// copied from a disk before does not open any more, not even with the HSM.
func TestStorageKeysAreRotatedNodeByNode(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.OK(1, "secrets/createSecret", `{"path":"/app/storage/rotated","value":"eA=="}`)
	config := func(node int) string { return filepath.Join(c.NodeDir(node), "config.yaml") }
	running := c.CLI("", "hsm", "rotate-storage-key", "--config", config(1))
	require.Equal(t, 1, running.Code, running.Out)
	require.Contains(t, running.Err, "in use by another process")
	data := filepath.Join(c.NodeDir(3), "data")
	for node := 3; node >= 1; node-- {
		c.Kill(node)
		if node == 3 {
			require.NoError(t, os.CopyFS(data+".stolen", os.DirFS(data)))
		}
		for range 2 { // again and again is well too
			r := c.CLI("", "hsm", "rotate-storage-key", "--config", config(node))
			require.Equal(t, 0, r.Code, r.Err)
			require.Contains(t, r.Out, "is sealed under a new storage key")
		}
		require.Equal(t, 1, storageRoots(t, c, node), "the old storage roots are gone")
		c.StartNode(node)
		c.AwaitReady(node)
	}
	for node := 1; node <= 3; node++ {
		c.Lead(node)
		require.Equal(t, "eA==", c.OK(node, "secrets/getSecretValue", `{"path":"/app/storage/rotated"}`)["value"])
	}

	c.Kill(3)
	require.NoError(t, os.Rename(data, data+".now"))
	require.NoError(t, os.Rename(data+".stolen", data))
	before := len(c.Log(3))
	c.StartNode(3)
	c.Await("the old copy to be refused", func() bool {
		return strings.Contains(c.Log(3)[before:], "the HSM has no storage root for generation 1")
	})
	c.AwaitEnd(3)
	require.NoError(t, os.RemoveAll(data))
	require.NoError(t, os.Rename(data+".now", data))
	c.StartNode(3)
	c.AwaitReady(3)
}

// storageRoots counts the storage roots in a node's token.
func storageRoots(t *testing.T, c *localcluster.Cluster, node int) int {
	t.Helper()
	objects, _ := tokenObjects(t, c, node)
	return strings.Count(fmt.Sprint(objects), "strongroom storage")
}

// A node loses the file of its storage keys, or is given another node's, and
// says so. The others give it its log again.
func TestANodeThatLostItsStorageKeyIsGivenItsLogAgain(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.OK(1, "secrets/createSecret", `{"path":"/app/storage/lost","value":"eA=="}`)
	c.Lead(1)
	c.Kill(3)
	config := filepath.Join(c.NodeDir(3), "config.yaml")
	file := filepath.Join(c.NodeDir(3), "data", "storage.keys")
	stranger, err := os.ReadFile(filepath.Join(c.NodeDir(2), "data", "storage.keys"))
	require.NoError(t, err)
	for what, content := range map[string]string{
		`belongs to node "node2"`:                                          string(stranger),
		"the HSM does not open generation 1 of":                            strings.Replace(string(own(t, file)), `"box": "`, `"box": "AAAA`, 1),
		"was written by a build that did not seal it, or the file is lost": "",
		"is not a file of storage keys that this version can read":         "{}",
	} {
		kept := own(t, file)
		require.NoError(t, os.Remove(file))
		if content != "" {
			require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		}
		before := len(c.Log(3))
		c.StartNode(3)
		c.Await("node3 to say: "+what, func() bool { return strings.Contains(c.Log(3)[before:], what) })
		c.AwaitEnd(3)
		require.NoError(t, os.WriteFile(file, kept, 0o600))
	}

	require.NoError(t, os.Remove(file))
	refused := c.CLI("", "hsm", "rotate-storage-key", "--config", config)
	require.Equal(t, 1, refused.Code)
	require.Contains(t, refused.Err, "--lost")
	r := c.CLI("", "hsm", "rotate-storage-key", "--lost", "--config", config)
	require.Equal(t, 0, r.Code, r.Err)
	c.StartNode(3)
	c.AwaitReady(3)
	c.Await("the log to be whole", func() bool { return strings.Contains(c.Metrics(3), "strongroom_raft_mending 0\n") })
	c.Lead(3)
	require.Equal(t, "eA==", c.OK(3, "secrets/getSecretValue", `{"path":"/app/storage/lost"}`)["value"])
}

func own(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	return raw
}
