package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// move is the ceremony that brings the root key into one more HSM, as the
// operations page has it.
type move struct {
	*localcluster.Cluster
	t        *testing.T
	from, to int
	dir      string
}

func (m move) file(name string) string { return filepath.Join(m.dir, name) }

func (m move) config(node int) string { return filepath.Join(m.NodeDir(node), "config.yaml") }

// step runs a command line that must end with code. Nothing that it prints
// holds a PIN.
func (m move) step(code int, args ...string) localcluster.Run {
	m.t.Helper()
	r := m.CLI("", args...)
	require.Equal(m.t, code, r.Code, "%v: %s%s", args, r.Out, r.Err)
	for node := 1; node <= m.Nodes; node++ {
		for _, name := range []string{"hsm-pin", "hsm-so-pin"} {
			pin, err := os.ReadFile(filepath.Join(m.NodeDir(node), name))
			require.NoError(m.t, err)
			require.NotContains(m.t, r.Out+r.Err, strings.TrimSpace(string(pin)))
		}
	}
	return r
}

func (m move) fingerprint(node int) string {
	m.t.Helper()
	var status struct{ TransportKeyFingerprint, RootProfile string }
	r := m.step(0, "hsm", "status", "--config", m.config(node), "-o", "json")
	require.NoError(m.t, json.Unmarshal([]byte(r.Out), &status), r.Out)
	return status.TransportKeyFingerprint
}

// newHSM takes the receiver's HSM away and puts an empty one in its place, with
// a transport key.
func (m move) newHSM() {
	m.t.Helper()
	m.Kill(m.to)
	tokens := filepath.Join(m.NodeDir(m.to), "tokens")
	require.NoError(m.t, os.RemoveAll(tokens))
	require.NoError(m.t, os.Mkdir(tokens, 0o700))
	m.step(0, "hsm", "init-token", "--config", m.config(m.to), "--so-pin-file", filepath.Join(m.NodeDir(m.to), "hsm-so-pin"))
	m.step(0, "hsm", "create-transport-key", "--config", m.config(m.to), "--out", m.file("new.pem"))
	m.StartNode(m.to)
	m.Await("the node to say that this is another HSM", func() bool { return strings.Contains(m.Log(m.to), "the HSM has no storage root for generation 1") })
	m.AwaitEnd(m.to)
	m.step(0, "hsm", "rotate-storage-key", "--lost", "--config", m.config(m.to))
}

func (m move) export(code int, fingerprint, out string) localcluster.Run {
	m.t.Helper()
	return m.step(code, "hsm", "export-root-to", "--config", m.config(m.from), "--root", m.file("root.json"), "--transport-key", m.file("new.pem"),
		"--fingerprint", fingerprint, "--so-pin-file", filepath.Join(m.NodeDir(m.from), "hsm-so-pin"), "--out", m.file(out))
}

// A node loses its HSM. It gets a new one and the root key from another node,
// whose server goes on meanwhile, and serves values again, as leader too.
func TestNodeGetsTheRootKeyIntoANewHSM(t *testing.T) {
	c := suite.Fresh(t, 3, "--profile", "flexible")
	m := move{c, t, 1, 3, t.TempDir()}
	c.OK(1, "secrets/createSecret", `{"path":"/app/move/one","value":%q}`, localcluster.B64("kept"))
	require.Contains(t, m.step(0, "hsm", "status", "--config", m.config(1)).Out, "with the security officer's consent (flexible)")

	old := m.fingerprint(3)
	m.newHSM()
	require.Contains(t, m.step(1, "hsm", "import-root", "--config", m.config(3), "--in", m.config(3)).Err, "not a whole root export")
	c.StartNode(3)
	c.Await("node3 to say that it has no root key", func() bool {
		return strings.Contains(c.Log(3), "was not wrapped to this HSM's transport key")
	})
	c.Kill(3)

	described := m.step(0, "cluster", "get-root-key", "-o", "json")
	require.NoError(t, os.WriteFile(m.file("root.json"), []byte(described.Out), 0o600))
	require.Contains(t, m.export(1, old, "moved").Err, "swapped on its way")
	before, _ := tokenObjects(t, c, 1)
	fingerprint := m.fingerprint(3)
	require.Contains(t, m.export(0, fingerprint, "moved").Out, fingerprint)
	require.Contains(t, m.export(2, fingerprint, "moved").Err, "is there already")
	after, _ := tokenObjects(t, c, 1)
	require.Equal(t, before, after, "nothing is left behind")

	require.Contains(t, m.step(1, "hsm", "import-root", "--config", m.config(2), "--in", m.file("moved")).Err, "is for the HSM whose transport key has the fingerprint "+fingerprint)
	for range 2 {
		m.step(0, "hsm", "import-root", "--config", m.config(3), "--in", m.file("moved"))
	}
	c.StartNode(3)
	c.AwaitReady(3)
	c.Lead(3)
	value, err := c.Send(3, c.Token, "secrets/getSecretValue", `{"path":"/app/move/one"}`).Value()
	require.NoError(t, err)
	require.Equal(t, "kept", value)
	c.OK(3, "secrets/putSecretValue", `{"path":"/app/move/one","value":%q}`, localcluster.B64("and sealed"))
	c.Lead(1)
	value, err = c.Send(1, c.Token, "secrets/getSecretValue", `{"path":"/app/move/one"}`).Value()
	require.NoError(t, err)
	require.Equal(t, "and sealed", value)
	require.Contains(t, c.CLI("", "audit", "query", "--event", "cluster.get_root_key").Out, "cluster.get_root_key")
}

// The way out of a strict cluster: the new HSM, which can have no root key of
// now, is named to a rotation, whose root key it receives like the others.
func TestStrictClusterGivesANewHSMTheNextRootKey(t *testing.T) {
	c := suite.Fresh(t, 3)
	m := move{c, t, 1, 3, t.TempDir()}
	c.OK(1, "secrets/createSecret", `{"path":"/app/move/two","value":%q}`, localcluster.B64("kept"))
	m.newHSM()
	fingerprint := m.fingerprint(3)
	for _, node := range []int{1, 2} {
		c.Kill(node)
		config, err := os.OpenFile(m.config(node), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = fmt.Fprintf(config, "  admitTransportKeys: [%q]\n", fingerprint) // hsm is the last section
		require.NoError(t, errors.Join(err, config.Close()))
		c.StartNode(node)
	}
	c.StartNode(3)
	c.AwaitReady(1)
	var job any
	c.Await("a rotation to begin", func() bool {
		r := c.Send(1, c.Token, "cluster/rotateRootKey", `{}`)
		job = r.Object(c)["jobId"]
		return r.Status == http.StatusOK
	})
	c.Await("the rotation's end", func() bool { return c.OK(1, "cluster/describeJob", `{"jobId":%q}`, job)["state"] == "done" })
	c.AwaitReady(3)
	require.Equal(t, []string{"strongroom root mac v2", "strongroom root v2"}, rootsIn(t, c, 3))
	c.Lead(3)
	value, err := c.Send(3, c.Token, "secrets/getSecretValue", `{"path":"/app/move/two"}`).Value()
	require.NoError(t, err)
	require.Equal(t, "kept", value)
	c.OK(3, "cluster/removeRootKey", `{"version":1}`)
	c.Await("the old root to go", func() bool { return len(rootsIn(t, c, 1)) == 2 })
	c.AwaitReady(3)
}

// A strict cluster says that its root key stays where it is, and the way out.
func TestStrictHSMPassesNothingOn(t *testing.T) {
	c := suite.Shared(t)
	m := move{c, t, 1, 2, t.TempDir()}
	require.Contains(t, m.step(0, "hsm", "status", "--config", m.config(1)).Out, "never (strict)")
	described := m.step(0, "cluster", "get-root-key", "-o", "json")
	require.NoError(t, os.WriteFile(m.file("root.json"), []byte(described.Out), 0o600))
	m.step(0, "hsm", "transport-key", "--config", m.config(2), "--out", m.file("new.pem"))
	require.Contains(t, m.export(1, m.fingerprint(2), "moved").Err, "A root rotation that names the new HSM as a recipient")
	require.NoFileExists(t, m.file("moved"))
	c.AwaitReady(1)
}
