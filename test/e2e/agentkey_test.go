package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// signedAgentConfig is agentConfig with an access key in place of the token.
func signedAgentConfig(t *testing.T, c *localcluster.Cluster, dir string, key map[string]any, more, files string) (config, secretFile string) {
	t.Helper()
	config = agentConfig(t, c, dir, "unused", more, files)
	require.NoError(t, os.Remove(filepath.Join(dir, "token")))
	secretFile = filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secretFile, []byte(key["secretAccessKey"].(string)+"\n"), 0o600))
	raw, err := os.ReadFile(config)
	require.NoError(t, err)
	text := strings.Replace(string(raw), fmt.Sprintf("tokenFile: %q", filepath.Join(dir, "token")),
		fmt.Sprintf("accessKeyId: %s\n  secretAccessKeyFile: %q", key["accessKeyId"], secretFile), 1)
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	return config, secretFile
}

// An agent signs what it sends, holds its key's file to the rules of a token's,
// follows changes, and gets nothing with a key that is deleted.
func TestTheAgentSignsWithAnAccessKey(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/agent-key/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("hush-one"))
	c.Principal("agent-key", fmt.Sprintf(readsValues, "/app/e2e/agent-key"))
	key := c.OK(1, "iam/createAccessKey", `{"principal":"agent-key"}`)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	out := filepath.Join(dir, "db")
	config, secretFile := signedAgentConfig(t, c, dir, key, "  instance: signs-1", fmt.Sprintf("  - {path: %s, destination: %q}", path, out))
	once := func() (int, string) {
		t.Helper()
		r := c.CLI("", "agent", "--once", "--config", config)
		require.NotContains(t, r.Out+r.Err, "hush-")
		require.NotContains(t, r.Out+r.Err, key["secretAccessKey"])
		return r.Code, r.Err
	}
	// Others may read the secret: nothing is sent.
	require.NoError(t, os.Chmod(secretFile, 0o644))
	code, text := once()
	require.Equal(t, 1, code)
	require.Contains(t, text, "connection.secretAccessKeyFile: ")
	require.Contains(t, text, "chmod 600")
	require.NoFileExists(t, out)
	require.NoError(t, os.Chmod(secretFile, 0o600))

	d := runs(t, c, "unused", "agent", "--config", config)
	content(c, out, "hush-one")
	confirmed(t, c, 1, path, "signs-1", 1)
	c.OK(2, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64("hush-two"))
	content(c, out, "hush-two")
	confirmed(t, c, 1, path, "signs-1", 2)
	events := c.OK(1, "audit/queryEvents", `{"path":%q,"event":"secrets.get_value","limit":1}`, path)["events"].([]any)
	require.Equal(t, key["accessKeyId"], events[0].(map[string]any)["credentialId"])

	// The leader changes: what it remembers of signatures is gone, and the agent
	// signs again.
	c.Lead(c.Others(c.Leader())[0])
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64("hush-three"))
	content(c, out, "hush-three")

	// The key is deleted: the file stays, and nothing new is got.
	c.OK(1, "iam/deleteAccessKey", `{"accessKeyId":%q}`, key["accessKeyId"])
	c.Await("the agent to say that it is not let in", func() bool { return strings.Contains(d.log(), "access key, is unknown, expired or revoked") })
	content(c, out, "hush-three")
	require.NoError(t, d.Process.Signal(syscall.SIGTERM))
	require.Zero(t, d.code())
	code, text = once()
	require.Equal(t, 1, code)
	require.Contains(t, text, "Unauthenticated")
	require.NotContains(t, d.log(), key["secretAccessKey"])
}
