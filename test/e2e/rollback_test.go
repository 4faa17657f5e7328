package e2e_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// TestARollbackIsSeenOnEveryNode: a value is put without being activated,
// activated, rolled back and disabled, each by way of another node, and a
// leader that is killed takes none of it along.
func TestARollbackIsSeenOnEveryNode(t *testing.T) {
	c := suite.Fresh(t, 3)
	const path = "/app/e2e/web/rollback"
	everywhere := func(want string) {
		t.Helper()
		for node := 1; node <= 3; node++ {
			value, err := c.Send(node, c.Token, "secrets/getSecretValue", `{"path":%q}`, path).Value()
			require.NoError(t, err)
			require.Equal(t, want, value)
		}
	}
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("one"))
	c.OK(2, "secrets/putSecretValue", `{"path":%q,"value":%q,"activate":false}`, path, localcluster.B64("two"))
	everywhere("one")
	c.OK(3, "secrets/setVersionLabel", `{"path":%q,"version":2,"label":"current","expectedVersion":1}`, path)
	everywhere("two")

	leader := c.Leader()
	c.Signal(leader, syscall.SIGKILL)
	c.AwaitEnd(leader)
	c.StartNode(leader)
	c.AwaitReady(leader)
	everywhere("two")
	got := c.OK(leader, "secrets/setVersionLabel", `{"path":%q,"version":1,"label":"current","reason":"two does not work"}`, path)
	require.Equal(t, map[string]any{"current": 1.0, "previous": 2.0}, got["labels"])
	everywhere("one")
	c.OK(1, "secrets/disableVersion", `{"path":%q,"version":1}`, path)
	for node := 1; node <= 3; node++ {
		require.Equal(t, "VersionNotActive", c.Send(node, c.Token, "secrets/getSecretValue", `{"path":%q}`, path).Code())
	}
	r := c.CLI("", "secret", "enable", path, "--version", "1")
	require.Equal(t, 0, r.Code, r.Err)
	everywhere("one")
	r = c.CLI("", "secret", "versions", path, "-o", "json")
	for _, want := range []string{"activated", "two does not work", "disabled", "enabled"} {
		require.Contains(t, r.Out, want)
	}
}

// TestAnExpiryIsToldOnceWhoeverLeads: the leader writes one event, and the one
// that comes after it finds that it was told.
func TestAnExpiryIsToldOnceWhoeverLeads(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/web/expires"
	expiresAt := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	told := func() int {
		return len(c.OK(1, "audit/queryEvents", `{"event":"secrets.version_expires_soon","path":%q}`, path)["events"].([]any))
	}
	put := func(node int, value string) {
		c.OK(node, "secrets/putSecretValue", `{"path":%q,"value":%q,"expiresAt":%q,"notifyBefore":"2h","reason":"for an hour"}`, path, localcluster.B64(value), expiresAt)
	}
	c.OK(1, "secrets/createSecret", `{"path":%q}`, path)
	put(2, "one")
	c.Await("the event of version 1", func() bool { return told() == 1 })
	leader := c.Leader()
	c.Signal(leader, syscall.SIGKILL)
	c.AwaitEnd(leader)
	c.StartNode(leader)
	c.AwaitReady(leader)
	put(leader, "two")
	c.Await("the event of version 2", func() bool { return told() >= 2 })
	require.Equal(t, 2, told(), "version 1 is not told again")
	for _, v := range c.OK(3, "secrets/listSecretVersions", `{"path":%q}`, path)["versions"].([]any) {
		require.NotEmpty(t, v.(map[string]any)["notifiedAt"])
	}
}
