package e2e_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// archive is the folder of what a node's file sink has written, as an operator
// has it: the file, and those that were moved away.
type archive struct {
	t    *testing.T
	dir  string
	away int
}

func (a *archive) path() string { return filepath.Join(a.dir, "audit.jsonl") }

// move does what logrotate does.
func (a *archive) move() {
	a.away++
	require.NoError(a.t, os.Rename(a.path(), fmt.Sprintf("%s.%03d", a.path(), a.away)))
}

// lines answers all that was written, in order, and each but once.
func (a *archive) lines() []string {
	var out []string
	seen := map[string]bool{}
	for i := 1; i <= a.away+1; i++ {
		name := fmt.Sprintf("%s.%03d", a.path(), i)
		if i > a.away {
			name = a.path()
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // not made yet
		}
		for line := range strings.Lines(string(raw)) {
			if !seen[line] {
				seen[line] = true
				out = append(out, line)
			}
		}
	}
	return out
}

// has reports whether an event with the text was written.
func (a *archive) has(text string) bool { return strings.Contains(strings.Join(a.lines(), ""), text) }

// hookServer is a receiver that is away at first.
type hookServer struct {
	*httptest.Server
	key []byte

	mu     sync.Mutex
	up     bool
	asked  int
	forged int
	events []map[string]any
}

func (h *hookServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	mac := hmac.New(sha256.New, h.key)
	fmt.Fprintf(mac, "%s.%s", r.Header.Get("Strongroom-Timestamp"), body)
	if err != nil || !hmac.Equal([]byte("v1="+hex.EncodeToString(mac.Sum(nil))), []byte(r.Header.Get("Strongroom-Signature"))) {
		h.forged++
	}
	if !h.up {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for line := range bytes.Lines(body) {
		var e map[string]any
		if json.Unmarshal(line, &e) != nil {
			h.forged++
		}
		h.events = append(h.events, e)
	}
}

// has reports whether all requests were signed and an event about the path has
// come.
func (h *hookServer) has(path string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	raw, err := json.Marshal(h.events)
	return err == nil && h.forged == 0 && strings.Contains(string(raw), path)
}

// A server with sinks goes through what happens to one: its file is rotated
// with a signal and without, it is killed in the middle of its work, its
// receiver is away. What the sinks have is the trail, whole and verified.
func TestSinksHaveTheTrailWhateverHappens(t *testing.T) {
	c := suite.Fresh(t, 1)
	a := &archive{t: t, dir: t.TempDir()}
	h := &hookServer{key: bytes.Repeat([]byte("k"), 32)}
	h.Server = httptest.NewTLSServer(h)
	t.Cleanup(h.Close)
	key, ca := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(h.key)+"\n"), 0o600))
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o600))
	c.Configure(func(int) string {
		return fmt.Sprintf("audit:\n  sinks:\n    - {name: archive, type: file, path: %q, batchTime: 10ms}\n"+
			"    - {name: hook, type: webhook, url: %q, signingKeyFile: %q, caFile: %q, format: ecs, events: [\"secrets.*\"], outcomes: [ok], batchTime: 10ms}\n", a.path(), h.URL, key, ca)
	})
	happens := func(name string) {
		c.OK(1, "secrets/createSecret", `{"path":"/app/sinks/%s","value":"c2VjcmV0LXZhbHVl"}`, name)
	}
	arrives := func(name string) {
		t.Helper()
		c.Await("the event of "+name, func() bool { return a.has(`"/app/sinks/` + name + `"`) })
	}
	happens("first")
	arrives("first")
	server, runs := c.Server(1)
	require.True(t, runs)

	a.move()
	c.Signal(1, syscall.SIGHUP)
	c.Await("the new file after SIGHUP", func() bool { _, err := os.Stat(a.path()); return err == nil })
	happens("after-hup")
	arrives("after-hup")
	after, runs := c.Server(1)
	require.True(t, runs)
	require.Equal(t, server.PID, after.PID, "SIGHUP ends nothing")

	a.move()
	happens("after-move")
	arrives("after-move")

	for i := range 3 {
		for j := range 10 {
			happens(fmt.Sprintf("killed-%d-%d", i, j))
		}
		c.Kill(1)
		c.StartNode(1)
		c.AwaitReady(1)
	}
	happens("last")
	arrives("last")
	c.Await("the hook to be asked", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.asked > 1 })
	require.Contains(t, c.Metrics(1), `strongroom_audit_sink_sent_total{sink="hook"} 0`)
	require.Contains(t, c.Metrics(1), `strongroom_audit_sink_gap_total{sink="archive"} 0`)
	h.mu.Lock()
	h.up = true
	h.mu.Unlock()
	c.Signal(1, syscall.SIGHUP) // now, and not when its pause is over
	c.Await("the hook to have everything", func() bool {
		return h.has("/app/sinks/first") && h.has("/app/sinks/killed-2-9") && h.has("/app/sinks/last")
	})
	h.requireOnly(t)
	require.NotContains(t, strings.Join(a.lines(), ""), "c2VjcmV0LXZhbHVl")
	requireVerifies(t, c, a.lines())
}

// requireOnly asserts that the filters were kept, and the order.
func (h *hookServer) requireOnly(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	newest := 0.0
	for _, e := range h.events {
		inner := e["event"].(map[string]any)
		require.Regexp(t, `^secrets\.`, inner["action"])
		require.Equal(t, "success", inner["outcome"])
		require.Greater(t, inner["sequence"], newest, "this receiver has broken off nothing: each once, in order")
		newest = inner["sequence"].(float64)
	}
}

// requireVerifies does what the manual says to do with an archive.
func requireVerifies(t *testing.T, c *localcluster.Cluster, lines []string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "audit-00000000000000000001.jsonl"), []byte(strings.Join(lines, "")), 0o600))
	r := c.CLI("", "audit", "verify", dir)
	require.Zero(t, r.Code, "%s%s", r.Out, r.Err)
	require.Contains(t, r.Out, fmt.Sprint(len(lines)))
}

// SIGHUP is harmless to a server that has no sinks.
func TestHangupWithoutSinks(t *testing.T) {
	c := suite.Shared(t)
	before, runs := c.Server(2)
	require.True(t, runs)
	for range 3 {
		c.Signal(2, syscall.SIGHUP)
	}
	c.Await("the line of the log", func() bool { return strings.Contains(c.Log(2), "reloading") })
	c.AwaitReady(2)
	after, runs := c.Server(2)
	require.True(t, runs)
	require.Equal(t, before.PID, after.PID)
}
