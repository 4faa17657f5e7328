package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// The drill of docs/backup.md: all data folders are lost, and the cluster
// starts anew from the backup that a node had saved by itself. What was
// acknowledged before it was saved is there, on every node; what is in it is
// of no use to who has the file alone.
func TestAClusterIsRestoredFromItsBackup(t *testing.T) {
	c := suite.Fresh(t, 3)
	saved := t.TempDir()
	c.Configure(func(node int) string {
		return fmt.Sprintf("\nsnapshots:\n  dir: %q\n  every: 1m\n", filepath.Join(saved, localcluster.Name(node)))
	})
	const path = "/app/e2e/restore/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"b25l"}`, path)
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":"dHdv"}`, path)
	c.OK(1, "secrets/destroyVersion", `{"path":%q,"version":1,"force":true,"reason":"drill"}`, path)
	reader := c.Principal("restore-reader", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/restore/**"]}]`)
	gone := c.Principal("restore-gone", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/restore/**"]}]`)
	c.OK(1, "iam/revokeTokens", `{"principal":"restore-gone"}`)

	// By hand, and by the schedule: which one saves what was put is waited for.
	byHand := filepath.Join(saved, "by-hand.age")
	r := c.CLI("", "snapshot", "save", byHand)
	require.Zero(t, r.Code, r.Err)
	config := func(node int) string { return filepath.Join(c.NodeDir(node), "config.yaml") }
	r = c.CLI("", "snapshot", "verify", byHand, "--config", config(3))
	require.Zero(t, r.Code, r.Err)
	require.Contains(t, r.Out, "The backup is whole, authentic, and restores.")
	require.Contains(t, r.Out, "with 1 stored versions") // one is destroyed
	raw, err := os.ReadFile(byHand)
	require.NoError(t, err)
	require.NotContains(t, string(raw), path)
	for node := 1; node <= c.Nodes; node++ {
		c.Await("a saved snapshot of "+localcluster.Name(node), func() bool {
			files, err := filepath.Glob(filepath.Join(saved, localcluster.Name(node), "strongroom-*.age"))
			require.NoError(t, err)
			return len(files) > 0 && !strings.Contains(c.Metrics(node), "strongroom_snapshot_verified_timestamp_seconds 0\n")
		})
	}
	c.OK(1, "cluster/verifySnapshot", `{}`)

	// Everything is lost but HSMs, configuration and the backup.
	r = c.CLI("", "snapshot", "restore", byHand, "--bootstrap", "--config", config(2))
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Err, "belongs to a cluster already")
	c.Stop()
	for node := 1; node <= c.Nodes; node++ {
		require.NoError(t, os.RemoveAll(filepath.Join(c.NodeDir(node), "data")))
	}
	changed := append([]byte(nil), raw...)
	changed[len(changed)-40] ^= 1
	bad := filepath.Join(saved, "bad.age")
	require.NoError(t, os.WriteFile(bad, changed, 0o600))
	r = c.CLI("", "snapshot", "restore", bad, "--bootstrap", "--config", config(2))
	require.Equal(t, 1, r.Code)
	require.NoFileExists(t, filepath.Join(c.NodeDir(2), "data", "initialised"), "nothing is begun with a backup that is not whole")
	token := filepath.Join(saved, "new.token")
	r = c.CLI("", "snapshot", "restore", byHand, "--bootstrap", "--config", config(2), "--admin", "nobody", "--admin-token-file", token)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Err, "--admin: the backup has no principal nobody")
	require.NoFileExists(t, token)
	r = c.CLI("", "snapshot", "restore", byHand, "--bootstrap", "--config", config(2), "--admin-token-file", token)
	require.Zero(t, r.Code, r.Err)

	began := time.Now()
	c.Up()
	t.Logf("the restored cluster serves after %v", time.Since(began))
	fresh, err := os.ReadFile(token)
	require.NoError(t, err)
	for node := 1; node <= c.Nodes; node++ {
		require.Equal(t, "dHdv", c.OK(node, "secrets/getSecretValue", `{"path":%q}`, path)["value"])
		require.Equal(t, http.StatusOK, c.Send(node, reader, "secrets/getSecretValue", `{"path":%q}`, path).Status)
		require.Equal(t, http.StatusUnauthorized, c.Send(node, gone, "secrets/getSecretValue", `{"path":%q}`, path).Status, "what was revoked before stays so")
		require.Equal(t, http.StatusOK, c.Send(node, strings.TrimSpace(string(fresh)), "iam/whoAmI", `{}`).Status)
		require.NotEqual(t, http.StatusOK, c.Send(node, c.Token, "secrets/getSecretValue", `{"path":%q,"version":1}`, path).Status)
	}
	c.OK(3, "secrets/putSecretValue", `{"path":%q,"value":"dGhyZWU="}`, path)
	require.Equal(t, "dGhyZWU=", c.OK(1, "secrets/getSecretValue", `{"path":%q}`, path)["value"])
	require.EqualValues(t, 3, c.OK(1, "secrets/describeSecret", `{"path":%q}`, path)["latestVersion"])
}
