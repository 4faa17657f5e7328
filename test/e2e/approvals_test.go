package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two people, by the command line and through different nodes, with the
// leader killed between the approval and its use: nothing is lost of it, and
// it serves once.
func TestTwoPeopleAcrossTheLossOfALeader(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/two/web/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"Zmlyc3Q="}`, path)
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":"c2Vjb25k"}`, path)
	file := func(name, token string) string {
		f := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(f, []byte(token), 0o600))
		return f
	}
	ann := file("ann", c.Principal("two-ann", `[{"effect":"allow","roles":["secrets-read-access","secrets-destroy-access"],"paths":["/app/two/**"]}]`))
	bob := file("bob", c.Principal("two-bob", `[{"effect":"allow","actions":["iam:approve","iam:deny"]}]`))
	c.OK(1, "iam/putPolicy", `{"name":"two-people","statements":[{"effect":"requireApproval","actions":["secrets:destroyVersion"],"paths":["/app/two/**"],"approval":{"principals":["two-bob"],"count":1}}]}`)
	c.OK(1, "iam/attachPolicy", `{"policy":"two-people","group":"everyone"}`)
	destroy := []string{"secret", "destroy", path, "--version", "1", "--token-file", ann}

	denied := c.CLI("", destroy...)
	require.NotZero(t, denied.Code)
	require.Contains(t, denied.Err, "needs:       1 of two-bob (policy two-people); 0 given")
	require.Contains(t, denied.Err, "--ask-approval REASON asks for it")

	asked := c.CLI("", append(destroy, "--ask-approval", "leaked, ticket 7")...)
	require.Zero(t, asked.Code, asked.Err)
	require.Contains(t, asked.Out, "pending")
	require.Contains(t, asked.Err, "run the same command without --ask-approval")
	id := field(t, asked.Out, "approval:")

	waiting := c.CLI("", "approval", "ls", "--for-me", "--token-file", bob)
	require.Contains(t, waiting.Out, id)
	require.Contains(t, waiting.Out, "leaked, ticket 7")
	own := c.CLI("", "approval", "approve", id, "--token-file", ann)
	require.NotZero(t, own.Code)
	require.Contains(t, own.Err, "iam:approve is not allowed")
	given := c.CLI("", "approval", "approve", id, "--comment", "seen it", "--token-file", bob)
	require.Zero(t, given.Code, given.Err)
	require.Contains(t, given.Out, "two-bob at ")

	old := c.Leader()
	c.Kill(old)
	c.Await("another leader", func() bool { l := c.Leader(); return l != 0 && l != old })
	// It is refused while the old leader has not told whom it gave the version.
	// What is refused uses no approval up.
	c.Revive()
	c.Await("the destruction", func() bool { return c.CLI("", destroy...).Code == 0 })
	again := c.CLI("", destroy...)
	require.NotZero(t, again.Code)
	require.Contains(t, again.Err, "needs the approval of other people")
	shown := c.CLI("", "approval", "show", id, "--token-file", bob)
	require.Contains(t, shown.Out, "used")

	var story []string
	for _, e := range c.OK(1, "audit/queryEvents", `{"approvalId":%q}`, id)["events"].([]any) {
		event := e.(map[string]any)
		story = append(story, event["outcome"].(string)+" "+event["event"].(string))
	}
	for _, want := range []string{"ok iam.request_approval", "denied iam.approve", "ok iam.approve", "ok secrets.destroy_version"} {
		require.Contains(t, story, want)
	}
}

// field answers what stands behind name in lines of text.
func field(t *testing.T, text, name string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("no %s in %q", name, text)
	return ""
}
