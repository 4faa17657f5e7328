package e2e_test

import (
	"fmt"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// An emergency in which the leader dies, too: the session, what was read and
// what is to be done about it are with the next one, a read that comes
// afterwards is noted like those before, and the end holds on every node.
func TestBreakGlassAcrossTheLossOfALeader(t *testing.T) {
	c := suite.Shared(t)
	for _, name := range []string{"before", "after"} {
		c.OK(1, "secrets/createSecret", `{"path":"/app/glass/%s","value":%q}`, name, localcluster.B64(name))
	}
	ann := c.Principal("glass-ann", `[{"effect":"allow","actions":["iam:openBreakGlass"]}]`)
	bob := c.Principal("glass-bob", `[{"effect":"allow","actions":["iam:listBreakGlass","iam:reviewBreakGlass"]}]`)
	c.OK(1, "iam/putPolicy", `{"name":"glass","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/glass/**"]}]}`)
	c.OK(1, "iam/attachPolicy", `{"policy":"glass","principal":"glass-ann","mode":"breakGlass"}`)
	c.OK(1, "iam/putAccessPolicy", `{"name":"glass","paths":["/app/glass/**"],"principals":["glass-ann"],"notAfter":"2020-01-01T00:00:00Z"}`)
	read := func(node int, name string) localcluster.Response {
		r, err := c.Do(t.Context(), node, ann, "secrets/getSecretValue", fmt.Sprintf(`{"path":"/app/glass/%s"}`, name))
		if err != nil {
			return localcluster.Response{}
		}
		return r
	}
	require.Equal(t, http.StatusForbidden, read(1, "before").Status)
	opened := c.Send(2, ann, "iam/openBreakGlass", `{"reason":"incident"}`)
	require.Equal(t, "", opened.Code())
	id := opened.Object(c)["breakGlassId"]
	require.Equal(t, http.StatusOK, read(1, "before").Status)

	old := c.Leader()
	c.Kill(old)
	c.Await("another leader", func() bool { l := c.Leader(); return l != 0 && l != old })
	others := c.Others(old)
	c.Await("a read by the next leader", func() bool { return read(others[0], "after").Status == http.StatusOK })
	c.Revive()
	for node := 1; node <= 3; node++ {
		c.Await("a read through each node", func() bool { return read(node, "before").Status == http.StatusOK })
	}
	session := func() map[string]any {
		return c.Send(1, bob, "iam/listBreakGlass", `{"state":"all"}`).Object(c)["sessions"].([]any)[0].(map[string]any)
	}
	require.EqualValues(t, 2, session()["reads"])
	require.EqualValues(t, 2, session()["rotateDuties"])

	require.Equal(t, "", c.Send(1, ann, "iam/closeBreakGlass", `{"breakGlassId":%q}`, id).Code())
	for node := 1; node <= 3; node++ {
		require.Equal(t, "AccessDenied", read(node, "after").Code(), "node %d", node)
	}
	for _, name := range []string{"before", "after"} {
		c.OK(1, "secrets/generateSecret", `{"path":"/app/glass/%s","kind":"hex"}`, name)
	}
	require.Equal(t, "", c.Send(3, bob, "iam/reviewBreakGlass", `{"breakGlassId":%q,"notes":"seen"}`, id).Code())
	require.Empty(t, c.Send(2, bob, "iam/listBreakGlass", `{"state":"duties"}`).Object(c)["sessions"])
	duties := regexp.MustCompile(`(?m)^strongroom_break_glass_duties\{duty="(rotate|review)"\} 0$`)
	for node := 1; node <= 3; node++ {
		c.Await("the gauges of each node", func() bool { return len(duties.FindAllString(c.Metrics(node), -1)) == 2 })
	}
	var story []string
	for _, e := range c.OK(1, "audit/queryEvents", `{"breakGlassId":%q,"outcome":"ok"}`, id)["events"].([]any) {
		story = append(story, fmt.Sprint(e.(map[string]any)["event"]))
	}
	require.Equal(t, "iam.open_break_glass", story[0], "also if the node that led is the only one that has it")
	require.Contains(t, story, "secrets.get_value")
	require.Contains(t, story, "iam.close_break_glass")
	require.Contains(t, story, "iam.review_break_glass")
}
