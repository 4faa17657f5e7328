package e2e_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// A decision is in the trail of the node that made it. Whichever node leads
// later finds it there, over the node link, with its grounds; and a simulation
// asks again what all of them recorded.
func TestDecisionsAreExplainedWhoeverLeads(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/explain/secret"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, path)
	token := c.Principal("explained", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/explain/**"]}]`)
	made := c.Leader()
	denied := c.Send(1, token, "secrets/getSecretValue", `{"path":"/app/e2e/other/secret"}`)
	require.Equal(t, http.StatusForbidden, denied.Status)
	var failure struct {
		Error struct{ Details struct{ DecisionID string } }
	}
	require.NoError(t, json.Unmarshal(denied.Body, &failure))
	id := failure.Error.Details.DecisionID
	require.NotEmpty(t, id)
	require.Equal(t, http.StatusOK, c.Send(2, token, "secrets/getSecretValue", `{"path":%q}`, path).Status)

	c.Lead(c.Others(made)[0])
	require.Equal(t, http.StatusOK, c.Send(2, token, "secrets/getSecretValue", `{"path":%q}`, path).Status)
	for node := 1; node <= 3; node++ {
		got := c.OK(node, "iam/explain", `{"decisionId":%q}`, id)
		require.Equal(t, "deny", got["decision"])
		require.Equal(t, "denied: no statement allows explained to secrets:getSecretValue on /app/e2e/other/secret", got["text"])
		require.Equal(t, "deny", got["now"].(map[string]any)["decision"])
		require.NotEqual(t, "", got["node"])
	}
	r := c.CLI("", "explain", id)
	require.Zero(t, r.Code, r.Err)
	require.Contains(t, r.Out, "; the closest is statements[0] of policy explained (path /app/e2e/explain/**)")

	var out struct {
		Loses []struct {
			Principal, Path string
			Count           int
		}
		Unreachable []string
	}
	answer := c.Send(3, c.Token, "iam/simulatePolicy", `{"name":"explained","statements":[],"since":"1h"}`)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer.Body)
	require.NoError(t, json.Unmarshal(answer.Body, &out))
	require.Empty(t, out.Unreachable)
	require.Len(t, out.Loses, 1)
	require.Equal(t, path, out.Loses[0].Path)
	require.Equal(t, 2, out.Loses[0].Count, "one of each leader's trail")
}
