package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// agentConfig writes a configuration; files is its list of files.
func agentConfig(t *testing.T, c *localcluster.Cluster, dir, token, more, files string) string {
	t.Helper()
	name := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(name, []byte(token), 0o600))
	var addresses []string
	for node := 1; node <= c.Nodes; node++ {
		addresses = append(addresses, c.Addr(node))
	}
	raw, err := json.Marshal(addresses)
	require.NoError(t, err)
	config := filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf("connection:\n  addresses: %s\n  caFile: %q\n  tokenFile: %q\n  maxAge: 8s\n%s\nfiles:\n%s", raw, filepath.Join(c.Dir, "ca.pem"), name, more, files)
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	return config
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func agentHealth(address string) (int, string) {
	resp, err := http.Get("http://" + address + "/health")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(raw)
}

// Files follow their secrets; a version counts as in use when the command has
// succeeded, not before; and files stay while nobody is there.
func TestTheAgentKeepsFilesAndConfirmsAfterTheCommand(t *testing.T) {
	c := suite.Fresh(t, 3)
	const db, user = "/app/e2e/agent/db", "/app/e2e/agent/user"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, db, localcluster.B64("hush-one"))
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, user, localcluster.B64(`{"name":"hush-ann"}`))
	token := c.Principal("agent", fmt.Sprintf(readsValues, "/app/e2e/agent"))
	dir, address := t.TempDir(), freeAddress(t)
	require.NoError(t, os.Chmod(dir, 0o700))
	in := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(in("conf.tmpl"), []byte(`user={{ secretJSON "`+user+`" "name" }} password={{ secret "`+db+`" | json }}`), 0o600))
	config := agentConfig(t, c, dir, token, fmt.Sprintf("  instance: agent-1\nstatus:\n  listen: %q", address), fmt.Sprintf(`
  - path: %s
    destination: %s
    mode: 0400
  - template: %s
    destination: %s
    onChange:
      command: [/bin/sh, -c, 'test ! -e "$0/broken" && cp "$0/conf" "$0/loaded"', %q]
`, db, in("db"), in("conf.tmpl"), in("conf"), dir))
	d := runs(t, c, "unused", "agent", "--config", config)
	content(c, in("db"), "hush-one")
	content(c, in("loaded"), `user=hush-ann password="hush-one"`)
	for name, want := range map[string]os.FileMode{"db": 0o400, "conf": 0o600} {
		info, err := os.Stat(in(name))
		require.NoError(t, err)
		require.Equal(t, want, info.Mode(), name)
	}
	confirmed(t, c, 1, db, "agent-1", 1)
	c.Await("health", func() bool { code, _ := agentHealth(address); return code == http.StatusOK })

	// The command fails: the file is new, and the version is not in use alone.
	require.NoError(t, os.WriteFile(in("broken"), nil, 0o600))
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, db, localcluster.B64("hush-two"))
	content(c, in("db"), "hush-two")
	content(c, in("conf"), `user=hush-ann password="hush-two"`)
	c.Await("the failure to be told", func() bool {
		code, body := agentHealth(address)
		return code == http.StatusServiceUnavailable && strings.Contains(body, "onChange.command")
	})
	for _, line := range consumersOf(c, t, 1, db) {
		require.Zero(t, line.MovedTo, "%+v", line)
	}
	require.Equal(t, "VersionInUse", c.Send(1, c.Token, "secrets/destroyVersion", `{"path":%q,"version":1,"reason":"rotated"}`, db).Code())
	require.NoError(t, os.Remove(in("broken")))
	content(c, in("loaded"), `user=hush-ann password="hush-two"`)
	confirmed(t, c, 1, db, "agent-1", 2)
	c.OK(1, "secrets/destroyVersion", `{"path":%q,"version":1,"reason":"rotated"}`, db)

	leader := c.Leader()
	c.Kill(leader)
	other := c.Others(leader)[0]
	c.OK(other, "secrets/putSecretValue", `{"path":%q,"value":%q}`, db, localcluster.B64("hush-three"))
	content(c, in("loaded"), `user=hush-ann password="hush-three"`)

	// All nodes are away for longer than the ceiling: the files stay.
	for _, node := range c.Others(leader) {
		c.Kill(node)
	}
	c.Await("the status to say so", func() bool {
		code, body := agentHealth(address)
		return code == http.StatusServiceUnavailable && strings.Contains(body, `"state":"stale"`)
	})
	content(c, in("db"), "hush-three")
	c.Revive()
	c.Await("health again", func() bool { code, _ := agentHealth(address); return code == http.StatusOK })

	// SIGHUP: a mistake changes nothing, a good configuration is taken.
	good, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, append(good, "\nfrobnicate: 1\n"...), 0o600))
	require.NoError(t, d.Process.Signal(syscall.SIGHUP))
	c.Await("the refusal", func() bool { return strings.Contains(d.log(), "frobnicate is not a setting of the file") })
	require.NoError(t, os.WriteFile(config, append(good, fmt.Sprintf("  - {path: %s, field: name, destination: %q}\n", user, in("name"))...), 0o600))
	require.NoError(t, d.Process.Signal(syscall.SIGHUP))
	content(c, in("name"), "hush-ann")

	require.NoError(t, d.Process.Signal(syscall.SIGTERM))
	require.Zero(t, d.code())
	content(c, in("db"), "hush-three")
	require.NotContains(t, d.log(), "hush-")
	left, err := filepath.Glob(in(".*"))
	require.NoError(t, err)
	require.Empty(t, left, "no temporary file stays")
}

func TestTheAgentOnDenialAndOnce(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/agent-denied/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("hush-one"))
	token := c.Principal("agent-denied", fmt.Sprintf(readsValues, "/app/e2e/agent-denied"))
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	in := func(name string) string { return filepath.Join(dir, name) }
	once := func(want int, files string) string {
		t.Helper()
		r := c.CLI("", "agent", "--once", "--config", agentConfig(t, c, dir, token, "  instance: once-1", files))
		require.Equal(t, want, r.Code, r.Err)
		require.NotContains(t, r.Out+r.Err, "hush-")
		return r.Err
	}
	once(0, fmt.Sprintf("  - {path: %s, destination: %q}", path, in("once")))
	content(c, in("once"), "hush-one")
	confirmed(t, c, 1, path, "once-1", 1)
	require.Contains(t, once(1, fmt.Sprintf("  - {path: %s, destination: %q, onChange: {command: [/bin/false]}}", path, in("once"))), "/bin/false")
	require.Contains(t, once(1, fmt.Sprintf("  - {path: /app/other, destination: %q}", in("other"))), "/app/other: AccessDenied: the right that is missing is secrets:getSecretValue")

	// Never through a link, nor where somebody else could put one.
	require.NoError(t, os.WriteFile(in("victim"), []byte("mine"), 0o600))
	require.NoError(t, os.Symlink(in("victim"), in("link")))
	require.NoError(t, os.Symlink(dir, in("linked")))
	require.NoError(t, os.Mkdir(in("open"), 0o700))
	require.NoError(t, os.Chmod(in("open"), 0o777))
	for _, destination := range []string{in("link"), in("linked/x"), in("open/x")} {
		require.Contains(t, once(1, fmt.Sprintf("  - {path: %s, destination: %q}", path, destination)), "destination")
	}
	content(c, in("victim"), "mine")

	config := agentConfig(t, c, dir, token, "  instance: denied-1", fmt.Sprintf("  - {path: %s, destination: %q}\n  - {path: %s, destination: %q, onDenied: remove}", path, in("kept"), path, in("removed")))
	d := runs(t, c, "unused", "agent", "--config", config)
	content(c, in("kept"), "hush-one")
	content(c, in("removed"), "hush-one")
	c.OK(1, "iam/detachPolicy", `{"policy":"agent-denied","principal":"agent-denied"}`)
	c.Await("the removal", func() bool { _, err := os.Stat(in("removed")); return os.IsNotExist(err) })
	content(c, in("kept"), "hush-one")
	c.Await("the log to say so", func() bool { return strings.Contains(d.log(), "a value is refused") })
	c.OK(1, "iam/attachPolicy", `{"policy":"agent-denied","principal":"agent-denied"}`)
	content(c, in("removed"), "hush-one")
}
