package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestARotationOutlivesItsLeader: it is asked for, the leader dies at once,
// and the next one does it, once.
func TestARotationOutlivesItsLeader(t *testing.T) {
	c := suite.Fresh(t, 3)
	const path = "/app/e2e/rotated"
	leader := c.Leader()
	c.OK(leader, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, path)
	c.OK(leader, "secrets/updateSecret", `{"path":%q,"rotation":{"kind":"generate","interval":"30d","generate":{"kind":"hex"}}}`, path)
	c.OK(leader, "secrets/rotateSecret", `{"path":%q}`, path)
	c.Kill(leader)
	node := c.Others(leader)[0]
	c.AwaitReady(node)
	c.Await("the rotation", func() bool {
		rotation := c.OK(node, "secrets/describeSecret", `{"path":%q}`, path)["rotation"].(map[string]any)
		return rotation["state"] == "idle" && rotation["lastRotatedAt"] != nil
	})
	require.Len(t, versions(t, c, node, path), 2)
	events := c.OK(node, "audit/queryEvents", `{"event":"secrets.rotation_step","path":%q}`, path)["events"].([]any)
	for _, e := range events {
		require.Equal(t, "system:rotation", e.(map[string]any)["principal"])
	}
}
