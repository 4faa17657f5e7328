package e2e_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

type event struct {
	Node, RequestID, Event, Outcome, Code, Principal, SourceAddress, Path, KeyID, DecisionID, Reason string
	Version                                                                                          uint64
	KMS                                                                                              []struct{ Event, KeyID string }
}

// eventsOf asks the trail, through any node, what happened in one request.
func eventsOf(t *testing.T, c *localcluster.Cluster, node int, requestID string) []event {
	t.Helper()
	require.NotEmpty(t, requestID)
	r := c.Send(node, c.Token, "audit/queryEvents", `{"requestId":%q}`, requestID)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
	var answer struct {
		Events      []event
		Unreachable []string
	}
	require.NoError(t, json.Unmarshal(r.Body, &answer))
	require.Empty(t, answer.Unreachable)
	return answer.Events
}

// The id that a client got with its answer leads to the whole story, on
// whichever node it was served and asked: who read what from where, and the
// use of the key that it took.
func TestTheTrailTellsWhoReadWhatUnderWhichKey(t *testing.T) {
	c := suite.Shared(t)
	key := c.OK(1, "kms/createKey", `{"alias":"alias/e2e-audit"}`)["keyId"]
	const path = "/app/e2e/audit/secret"
	c.OK(1, "secrets/createSecret", `{"path":%q,"kmsKeyId":"alias/e2e-audit"}`, path)
	put := c.Send(2, c.Token, "secrets/putSecretValue", `{"path":%q,"value":"eA=="}`, path)
	require.Equal(t, http.StatusOK, put.Status, "%s", put.Body)
	reader := c.Principal("reader", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/audit/**"]}]`)
	read := c.Send(3, reader, "secrets/getSecretValue", `{"path":%q}`, path)
	require.Equal(t, http.StatusOK, read.Status, "%s", read.Body)
	other := c.Send(3, reader, "secrets/getSecretValue", `{"path":"/app/e2e/other"}`)
	require.Equal(t, http.StatusForbidden, other.Status, "%s", other.Body)
	nobody := c.Send(2, "srt_nobody", "secrets/getSecretValue", `{"path":%q}`, path)
	require.Equal(t, http.StatusUnauthorized, nobody.Status, "%s", nobody.Body)
	for node := 1; node <= 3; node++ {
		story := eventsOf(t, c, node, put.RequestID())
		require.Len(t, story, 2, "%+v", story)
		require.Equal(t, []string{"kms.encrypt", "secrets.put_value"}, []string{story[0].Event, story[1].Event})
		require.Equal(t, key, story[0].KeyID)

		story = eventsOf(t, c, node, read.RequestID())
		require.Len(t, story, 2, "%+v", story)
		opened, got := story[0], story[1]
		require.Equal(t, "kms.decrypt", opened.Event)
		require.Equal(t, key, opened.KeyID)
		require.Equal(t, "secrets.get_value", got.Event)
		require.Equal(t, event{
			Node: got.Node, RequestID: read.RequestID(), Event: "secrets.get_value", Outcome: "ok", Principal: "reader",
			SourceAddress: "127.0.0.1", Path: path, KeyID: got.KeyID, Version: 1, KMS: got.KMS, DecisionID: got.DecisionID,
		}, got)
		require.Len(t, got.KMS, 1)
		require.Equal(t, "kms.decrypt", got.KMS[0].Event)

		denied := eventsOf(t, c, node, other.RequestID())
		require.Len(t, denied, 1, "a denial opens nothing: %+v", denied)
		require.Equal(t, []string{"secrets.get_value", "denied", "AccessDenied", "reader", "/app/e2e/other"},
			[]string{denied[0].Event, denied[0].Outcome, denied[0].Code, denied[0].Principal, denied[0].Path})
		require.Contains(t, string(other.Body), denied[0].DecisionID)
		require.NotEmpty(t, denied[0].DecisionID)

		failed := eventsOf(t, c, node, nobody.RequestID())
		require.Len(t, failed, 1, "%+v", failed)
		require.Equal(t, []string{"denied", "Unauthenticated", "", "127.0.0.1"}, []string{failed[0].Outcome, failed[0].Code, failed[0].Principal, failed[0].SourceAddress})
	}
}
