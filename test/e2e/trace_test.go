package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/test/localcluster"
)

// traced answers the events of a request as audit trace -o json has them.
func traced(t *testing.T, c *localcluster.Cluster, id string) []wire.AuditEvent {
	t.Helper()
	r := c.CLI("", "audit", "trace", id, "-o", "json")
	require.Zero(t, r.Code, r.Err)
	var got struct{ Events []wire.AuditEvent }
	require.NoError(t, json.Unmarshal([]byte(r.Out), &got))
	return got.Events
}

// throughAFollower sends a request to a follower, with headers that claim that
// it came another way, and answers who served it.
func throughAFollower(t *testing.T, c *localcluster.Cluster, token, operation, body string) (follower, id string, status int) {
	t.Helper()
	node := c.Leader()%c.Nodes + 1
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.Addr(node)+"/api/v1/"+operation, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	for _, name := range []string{"Via", "Strongroom-Via", "Strongroom-Member", "Strongroom-Peer", "Strongroom-Source-Address"} {
		req.Header.Set(name, "10.9.9.9")
	}
	resp, err := c.Client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	return localcluster.Name(node), resp.Header.Get("Strongroom-Request-Id"), resp.StatusCode
}

// The story of a request names the node that the client reached and the one
// that served it, whatever headers say, and each use of a key by its place in
// the chain of the node that made it.
func TestTheStoryOfARequestThatWasHandedOn(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/trace/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, path)
	reader := c.Principal("trace-reader", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/trace/**"]}]`)

	follower, id, status := throughAFollower(t, c, reader, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path))
	require.Equal(t, http.StatusOK, status)
	events := traced(t, c, id)
	require.Len(t, events, 2)
	opened, got := events[0], events[1]
	require.Equal(t, []string{"kms.decrypt", "secrets.get_value"}, []string{opened.Event, got.Event})
	require.Equal(t, []string{follower, follower}, []string{opened.Via, got.Via})
	require.NotEqual(t, follower, got.Node)
	require.Equal(t, "127.0.0.1", got.SourceAddress)
	require.Len(t, got.KMS, 1)
	require.Equal(t, opened.Sequence, got.KMS[0].Sequence)
	require.Equal(t, opened.Node, got.Node)
	lines := chainBytes(t, trailDir(c, c.Leader()))
	require.Contains(t, lines, fmt.Sprintf(`"node":%q,"sequence":%d,`, got.Node, opened.Sequence), "the chain itself has it")
	require.Contains(t, lines, fmt.Sprintf(`"requestId":%q,"event":"kms.decrypt","outcome":"ok"`, id))
	require.Contains(t, lines, fmt.Sprintf(`"via":%q`, follower))

	told := c.CLI("", "audit", "trace", id)
	require.Zero(t, told.Code, told.Err)
	require.Regexp(t, `(?s)^Request `+id+`\n\n`+
		`\S+Z  came in at `+follower+` from 127\.0\.0\.1, handed on to `+got.Node+`\n`+
		`  asked by trace-reader, with credential \S+\n`+
		`  secrets\.get_value `+path+`.*, version 1\n`+
		`  ├─ allowed\n`+
		fmt.Sprintf(`  ├─ kms\.decrypt with key \S+, version 1: a call to the HSM, ok; event %d of %s\n`, opened.Sequence, got.Node)+
		fmt.Sprintf(`.*  └─ answered ok, at index \d+, after \S+; event %d of %s\n$`, got.Sequence, got.Node), told.Out)
	require.NotContains(t, told.Out, "10.9.9.9")
}

// A denial says so and how to look up why; each item of a batch has its own
// verdict and its own use of a key.
func TestTheStoryOfADenialAndOfABatch(t *testing.T) {
	c := suite.Shared(t)
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/story/a","value":"eA=="}`)
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/story/b","value":"eA=="}`)
	reader := c.Principal("story-reader", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/story/**"]}]`)

	_, id, status := throughAFollower(t, c, reader, "secrets/getSecretValue", `{"path":"/app/e2e/elsewhere"}`)
	require.Equal(t, http.StatusForbidden, status)
	denied := traced(t, c, id)
	require.Len(t, denied, 1)
	told := c.CLI("", "audit", "trace", id)
	require.Contains(t, told.Out, "secrets.get_value /app/e2e/elsewhere\n  ├─ denied (")
	require.Contains(t, told.Out, "decision "+denied[0].DecisionID+": strongroom explain "+denied[0].DecisionID)
	require.Contains(t, told.Out, "answered denied: AccessDenied")
	require.NotContains(t, told.Out, "kms.")

	_, id, status = throughAFollower(t, c, "srt_nobody", "secrets/getSecretValue", `{"path":"/app/e2e/story/a"}`)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, c.CLI("", "audit", "trace", id).Out, "  asked by somebody who is not known\n")

	follower, id, status := throughAFollower(t, c, reader, "secrets/batchGetSecretValue",
		`{"items":[{"path":"/app/e2e/story/a"},{"path":"/app/e2e/elsewhere"},{"path":"/app/e2e/story/b"}]}`)
	require.Equal(t, http.StatusOK, status)
	sequences := map[uint64]wire.AuditEvent{}
	for _, e := range traced(t, c, id) {
		require.Equal(t, follower, e.Via)
		sequences[e.Sequence] = e
	}
	require.Len(t, sequences, 6, "three items, two uses of a key, the batch")
	var items []string
	for _, e := range sequences {
		if e.Event == "secrets.get_value" && e.Outcome == "ok" {
			require.Len(t, e.KMS, 1)
			require.Equal(t, e.Path, sequences[e.KMS[0].Sequence].Path, "the use of the key for this very item")
			items = append(items, e.Path)
		}
	}
	slices.Sort(items)
	require.Equal(t, []string{"/app/e2e/story/a", "/app/e2e/story/b"}, items)
	told = c.CLI("", "audit", "trace", id)
	require.Regexp(t, `(?s)├─ secrets\.get_value /app/e2e/story/a, version 1: ok; event \d+ of node\d\n  │  └─ kms\.decrypt with .*`+
		`├─ secrets\.get_value /app/e2e/elsewhere: denied, AccessDenied; event \d+ of node\d\n  │  └─ denied \(.*`+
		`├─ secrets\.get_value /app/e2e/story/b, version 1: ok; event \d+ of node\d\n  │  └─ kms\.decrypt with .*`+
		`└─ answered ok`, told.Out)
}

func TestAnUnknownRequestHasNoStory(t *testing.T) {
	c := suite.Shared(t)
	r := c.CLI("", "audit", "trace", "0198c0de-0000-7000-8000-00000000000a")
	require.Equal(t, 1, r.Code)
	require.Empty(t, r.Out)
	require.Regexp(t, regexp.MustCompile(`NotFound: no trail that could be asked has an event of request 0198c0de-`), r.Err)
	require.Contains(t, r.Err, "what to do:  is it the id of a request")
}

// A read that needed no HSM says so in its story, and a path rule has the HSM
// asked again. The HSM's own count is the judge.
func TestTheStoryTellsWhichReadAskedTheHSM(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/cached/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, path)
	asked := regexp.MustCompile(`(?m)^strongroom_hsm_calls_total\{function="open",result="ok"\} (\d+)$`)
	opens := func(node int) string {
		found := asked.FindStringSubmatch(c.Metrics(node))
		require.NotNil(t, found, "no such count on %s", localcluster.Name(node))
		return found[1]
	}
	read := func() (node int, id string, spared bool) {
		node = c.Leader()
		before := opens(node)
		r := c.Send(node, c.Token, "secrets/getSecretValue", `{"path":%q}`, path)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
		return node, r.RequestID(), opens(node) == before
	}
	told := func(id string) bool {
		events := traced(t, c, id)
		require.Len(t, events, 2)
		require.Equal(t, events[0].Cached, events[1].KMS[0].Cached)
		return events[0].Cached
	}
	// The leader may change, and the probe opens something now and then: so
	// each is waited for.
	c.Await("a read from memory", func() bool {
		_, id, spared := read()
		if !spared {
			return false
		}
		require.True(t, told(id), "the HSM was not asked, and the trail says that it was")
		out := c.CLI("", "audit", "trace", id)
		require.Contains(t, out.Out, "cached, no call to the HSM")
		return true
	})
	rule := c.CLI("", "path-rule", "put", "/app/e2e/cached/", "--hsm-each-read")
	require.Zero(t, rule.Code, rule.Err)
	for range 5 {
		_, id, spared := read()
		require.False(t, spared)
		require.False(t, told(id))
	}
	c.OK(1, "secrets/deletePathRule", `{"prefix":"/app/e2e/cached/"}`)
}
