package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// vendor is a real PKCS#11 module that is not SoftHSM, with a token ready for
// a node.
type vendor struct {
	settings string            // of the section hsm, but for tokenLabel and pinFile
	pin      string            // of the user
	within   []string          // a command that whatever loads the module is started through
	prepare  func(run command) // makes the token, when the node's configuration is there
	contents func() string     // all that the token holds, as a program that is not ours tells it
	cannot   []string          // words of the one reason why it is refused
}

// command runs the built binary's command line where the module can be loaded.
type command func(args ...string) localcluster.Run

// A module that cannot keep the keys in, or cannot do what is needed at all,
// is told apart by what it does, before anything depends on it: in a line that
// says what it lacks. A server that is started with it all the same says the
// same, never becomes ready, does not spin, and puts nothing into the token.
func TestModulesThatCannotServeAreRefusedInWords(t *testing.T) {
	for name, token := range map[string]func(*testing.T, *localcluster.Cluster) vendor{"NSS": nss, "openCryptoki": openCryptoki} {
		t.Run(name, func(t *testing.T) {
			c := suite.Fresh(t, 1)
			c.Stop()
			v := token(t, c)
			config := giveModule(t, c, v)
			run := func(args ...string) localcluster.Run {
				line := slices.Concat(v.within, []string{c.Binary}, args, []string{"--config", config})
				return c.Bash(c.Dir, `exec "$@"`, line...)
			}
			v.prepare(run)
			before := v.contents()

			for _, name := range []string{"status", "create-transport-key"} {
				r := run("hsm", name)
				require.Equal(t, 1, r.Code, "%s%s", r.Out, r.Err)
				require.Empty(t, r.Out)
				requireReason(t, v, r.Err)
				require.Equal(t, 1, strings.Count(r.Err, "\n"), "one line: %s", r.Err)
			}

			from := len(c.Log(1))
			c.StartNode(1, v.within...)
			server := awaitServer(t, c)
			c.Await("a reason", func() bool { return strings.Contains(notReady(c), v.cannot[0]) })
			requireReason(t, v, notReady(c))
			tries := requireCalm(t, c, from)
			requireReason(t, v, tries[0])
			again, runs := c.Server(1)
			require.True(t, runs)
			require.Equal(t, server.PID, again.PID, "it is the same server still")
			require.False(t, ready(c))
			c.Kill(1)
			require.Equal(t, before, v.contents(), "nothing was left in the token")
		})
	}
}

// giveModule puts a module into a node's configuration in SoftHSM's place.
func giveModule(t *testing.T, c *localcluster.Cluster, v vendor) (path string) {
	t.Helper()
	path = filepath.Join(c.NodeDir(1), "config.yaml")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, _, found := strings.Cut(string(text), "\nhsm:\n")
	require.True(t, found)
	pin := filepath.Join(c.NodeDir(1), "vendor-pin")
	require.NoError(t, os.WriteFile(pin, []byte(v.pin+"\n"), 0o600))
	quoted, err := json.Marshal(pin)
	require.NoError(t, err)
	text = []byte(before + "\nhsm:\n  tokenLabel: vendor\n  pinFile: " + string(quoted) + "\n" + v.settings)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

// requireReason: what is told names the module, says what it lacks, and is no
// trace of a crash.
func requireReason(t *testing.T, v vendor, text string) {
	t.Helper()
	for _, words := range v.cannot {
		require.Contains(t, text, words)
	}
	for _, words := range []string{"goroutine", "panic", "SIG", v.pin} {
		require.NotContains(t, text, words)
	}
}

func awaitServer(t *testing.T, c *localcluster.Cluster) (p localcluster.Process) {
	t.Helper()
	c.Await("the server", func() bool {
		found, runs := c.Server(1)
		p = found
		return runs
	})
	return p
}

func ready(c *localcluster.Cluster) bool {
	status, _ := health(c)
	return status == http.StatusOK
}

// notReady answers the reason that the node gives.
func notReady(c *localcluster.Cluster) string {
	_, body := health(c)
	var answer struct{ Reason string }
	_ = json.Unmarshal([]byte(body), &answer) // a server that does not listen yet has no reason
	return answer.Reason
}

func health(c *localcluster.Cluster) (status int, body string) {
	resp, err := c.Client().Get(c.Addr(1) + "/api/v1/health/ready")
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// requireCalm waits for some more starts of the worker, and answers what the
// log says of them: each further one comes later than the one before, so that
// a module that will never do costs next to nothing.
func requireCalm(t *testing.T, c *localcluster.Cluster, from int) []string {
	t.Helper()
	const starts = 8
	line := regexp.MustCompile(`(?m)^time=(\S+) .*msg="hsm worker did not start".*$`)
	var tries [][]string
	c.Await("eight starts of the worker", func() bool {
		tries = line.FindAllStringSubmatch(c.Log(1)[from:], -1)
		return len(tries) >= starts
	})
	first, err := time.Parse(time.RFC3339Nano, tries[0][1])
	require.NoError(t, err)
	last, err := time.Parse(time.RFC3339Nano, tries[starts-1][1])
	require.NoError(t, err)
	// Waits double on both sides, from 200 ms (the worker's supervisor) and
	// from 100 ms (the server, which asks for the root key).
	require.Greater(t, last.Sub(first), 2*time.Second)
	var out []string
	for _, try := range tries {
		out = append(out, try[0])
	}
	return out
}
