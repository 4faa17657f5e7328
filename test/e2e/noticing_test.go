package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// A token is stolen and used on every node, the canary on one that does not
// lead. The cluster alerts once, by whoever leads; the incident lists what was
// given by all; and once the quarantine is answered no node lets anybody in.
func TestAnIncidentFromTheAlertToTheRotation(t *testing.T) {
	c := suite.Shared(t)
	for _, name := range []string{"db", "turn", "trap"} {
		c.OK(1, "secrets/createSecret", `{"path":"/app/incident/%s","value":%q}`, name, localcluster.B64(name))
	}
	c.OK(1, "secrets/updateSecret", `{"path":"/app/incident/turn","rotation":{"kind":"generate","generate":{"kind":"hex"}}}`)
	c.OK(1, "secrets/setCanary", `{"path":"/app/incident/trap","canary":true}`)
	stolen := c.Principal("incident-svc", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/incident/**"]}]`)
	for node := 1; node <= 3; node++ {
		require.Equal(t, http.StatusOK, c.Send(node, stolen, "secrets/getSecretValue", `{"path":"/app/incident/db"}`).Status)
	}
	require.Equal(t, http.StatusOK, c.Send(1, stolen, "secrets/getSecretValue", `{"path":"/app/incident/turn"}`).Status)
	follower := c.Others(c.Leader())[0]
	require.Equal(t, http.StatusOK, c.Send(follower, stolen, "secrets/getSecretValue", `{"path":"/app/incident/trap"}`).Status)

	alerts := func() []any {
		return c.OK(1, "audit/queryEvents", `{"event":"alert.canary","principal":"incident-svc"}`)["events"].([]any)
	}
	c.Await("the alert", func() bool { return len(alerts()) > 0 })
	require.Len(t, alerts(), 1)
	require.Equal(t, "/app/incident/trap", alerts()[0].(map[string]any)["path"])

	run := c.CLI("", "incident", "incident-svc", "--since", "1h", "--quarantine", "--mark-compromised", "--rotate", "--reason", "ticket 7")
	require.Zero(t, run.Code, run.Err)
	require.Contains(t, run.Err, "incident-svc is in quarantine; tokens revoked: 1.")
	require.Contains(t, run.Err, "Versions marked as compromised: 3.")
	require.Contains(t, run.Err, "Rotations started: 1.")
	require.NotContains(t, run.Out, "MAY LACK")
	require.Contains(t, run.Out, "incident-svc was given 3 versions")
	for _, path := range []string{"db", "turn", "trap"} {
		require.Contains(t, run.Out, "/app/incident/"+path)
	}
	require.Regexp(t, `(?s)rotated by hand.*/app/incident/db\n  /app/incident/trap\n`, run.Out)
	for node := 1; node <= 3; node++ {
		require.Equal(t, "Unauthenticated", c.Send(node, stolen, "secrets/getSecretValue", `{"path":"/app/incident/db"}`).Code(), "node %d", node)
	}
	c.Await("the rotation", func() bool {
		return c.OK(1, "secrets/describeSecret", `{"path":"/app/incident/turn"}`)["currentVersion"].(float64) == 2
	})
	again := c.CLI("", "incident", "incident-svc", "-o", "json")
	require.Zero(t, again.Code, again.Err)
	require.Contains(t, again.Out, `"complete": true`)
	require.Equal(t, 3, strings.Count(again.Out, `"compromised": true`))
	require.Equal(t, 1, strings.Count(again.Out, `"rotated": true`))
	require.Contains(t, c.Metrics(1), "strongroom_principals_quarantined 1")

	// What one must not do is said with the way out, and nothing is done.
	last := c.CLI("", "principal", "quarantine", "admin", "--reason", "drill")
	require.NotZero(t, last.Code)
	require.Contains(t, last.Err, "attach full-access to another principal first")
	c.OK(1, "iam/releasePrincipal", `{"principal":"incident-svc","reason":"it was a drill"}`)
}

// A canary is touched while nobody leads: whoever comes to lead tells it, once.
func TestAnAlertSurvivesTheLossOfALeader(t *testing.T) {
	c := suite.Shared(t)
	c.OK(1, "secrets/createSecret", `{"path":"/app/alert/trap","value":%q}`, localcluster.B64("x"))
	c.OK(1, "secrets/setCanary", `{"path":"/app/alert/trap","canary":true}`)
	stolen := c.Principal("alert-svc", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/alert/**"]}]`)
	old := c.Leader()
	other := c.Others(old)[0]
	require.Equal(t, http.StatusOK, c.Send(other, stolen, "secrets/getSecretValue", `{"path":"/app/alert/trap"}`).Status)
	c.Kill(old)
	c.Await("another leader", func() bool { l := c.Leader(); return l != 0 && l != old })
	alerts := func() int {
		return len(c.OK(other, "audit/queryEvents", `{"event":"alert.canary","principal":"alert-svc"}`)["events"].([]any))
	}
	c.Revive()
	c.Await("the alert", func() bool { return alerts() > 0 })
	require.Equal(t, 1, alerts())
}
