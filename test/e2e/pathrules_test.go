package e2e_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// TestPathRulesHoldWhoeverLeads: a rule is tried out, made and asked for by
// the command line; what it forbids is refused by each node, and what it does
// not keep is destroyed once it is old enough, by whichever leader is there
// then.
func TestPathRulesHoldWhoeverLeads(t *testing.T) {
	c := suite.Fresh(t, 3)
	const path, old = "/ruled/dev/web/db", "/ruled/legacy"
	cli := func(args ...string) string {
		t.Helper()
		r := c.CLI("", args...)
		require.Equal(t, 0, r.Code, r.Err)
		return r.Out
	}
	states := func() (out []string) {
		for _, v := range c.OK(1, "secrets/listSecretVersions", `{"path":%q}`, path)["versions"].([]any) {
			out = append(out, v.(map[string]any)["state"].(string))
		}
		return out
	}
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, old, localcluster.B64("one"))
	require.Contains(t, cli("path-rule", "lint", "/ruled/", "--rule", `{"segments":["{env:dev|prod}","{service}","{name}"]}`), "must have 3 segments")
	cli("path-rule", "put", "/ruled/", "--segments", "{env:dev|prod},{service},{name}", "--required-tags", "owner", "--keep-versions", "2", "--min-retention", "1h")
	require.Contains(t, cli("path-rule", "ls", "-o", "json"), `"minRetention": "1h0m0s"`)

	for node := 1; node <= 3; node++ {
		r := c.Send(node, c.Token, "secrets/createSecret", `{"path":"/ruled/qa/web/db","tags":{"owner":"web"}}`)
		require.Equal(t, "InvalidRequest", r.Code())
		require.Contains(t, string(r.Body), "segment 1 (env) must be dev or prod")
		r = c.Send(node, c.Token, "secrets/generateSecret", `{"path":%q,"kind":"uuid","create":true}`, path)
		require.Equal(t, "InvalidRequest", r.Code())
		require.Contains(t, string(r.Body), "requires the tag owner")
	}
	require.Equal(t, 0, c.CLI("one", "secret", "put", path, "--create", "--tags", "owner=web").Code)
	for range 4 {
		c.OK(2, "secrets/generateSecret", `{"path":%q,"kind":"uuid"}`, path)
	}
	c.OK(3, "secrets/setVersionLabel", `{"path":%q,"version":2,"label":"blue"}`, path)
	r := c.CLI("", "secret", "destroy", path, "--version", "1")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Err, "minRetention of the rule /ruled/")
	require.Equal(t, "Conflict", c.Send(2, c.Token, "secrets/deleteSecret", `{"path":%q,"force":true}`, path).Code())
	require.Equal(t, []string{"active", "active", "active", "active", "active"}, states(), "none is an hour old")

	leader := c.Leader()
	c.Signal(leader, syscall.SIGKILL)
	c.AwaitEnd(leader)
	c.StartNode(leader)
	c.AwaitReady(leader)
	require.Equal(t, "/ruled/", c.OK(leader, "secrets/describeSecret", `{"path":%q}`, path)["rule"].(map[string]any)["from"].(map[string]any)["keepVersions"])
	c.OK(leader, "secrets/putPathRule", `{"prefix":"/ruled/","keepVersions":2,"minRetention":"1s","expectedRevision":1}`)
	c.Await("the destruction of what the rule does not keep", func() bool { return states()[4] == "destroyed" && states()[2] == "destroyed" })
	require.Equal(t, []string{"active", "active", "destroyed", "active", "destroyed"}, states(), "2 has a label")
	require.Contains(t, cli("secret", "versions", path, "-o", "json"), "keepVersions 2 of the rule /ruled/")
	events := c.OK(1, "audit/queryEvents", `{"event":"secrets.destroy_version","path":%q,"outcome":"ok"}`, path)["events"].([]any)
	require.Len(t, events, 2)
	require.Equal(t, "strongroom:leader", events[0].(map[string]any)["principal"])
	cli("path-rule", "delete", "/ruled/")
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, old, localcluster.B64("two"))
}
