package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/test/localcluster"
)

// A follower gives up its vote, then the leader does, while clients write: no
// operation fails. The last vote stays, and a replica gets its vote back.
func TestVotesAreTakenAndGivenUnderLoad(t *testing.T) {
	c := suite.Fresh(t, 3)
	n := newNewcomers(t, c)
	c.OK(1, "cluster/setAutopilot", `{"stabilization":"1s"}`)
	for node := 1; node <= 3; node++ {
		n.awaitMember(1, localcluster.Name(node), "to be known with its data folder", func(m wire.Member) bool { return m.Waiting == "" })
	}
	c.Await("the folder of every member to be known", func() bool {
		return strings.Count(n.run(0, "audit", "query", "--event", "cluster.admit_member").Out, "cluster.admit_member") >= 3
	})
	done, stop := n.load(1, 2, 3)
	c.Await("operations before", func() bool { return done.Load() > 20 })
	give := func(node int) {
		t.Helper()
		var said wire.SetVoterResponse
		require.NoError(t, json.Unmarshal([]byte(n.run(0, "cluster", "vote", localcluster.Name(node), "--voter=false", "-o", "json").Out), &said))
		require.False(t, said.Voter)
		n.awaitMember(1, localcluster.Name(node), "to have no vote", func(m wire.Member) bool { return m.Role == "nonVoter" && !m.Voter && m.Waiting == "" })
	}
	first := c.Others(c.Leader())[0]
	give(first)
	second := c.Leader()
	give(second)
	last := 6 - first - second
	c.Await("the last voter to lead", func() bool { return c.Leader() == last })
	r := n.run(1, "cluster", "vote", localcluster.Name(last), "--voter=false")
	require.Contains(t, r.Err, "is the last voter")
	after := done.Load() + 20
	c.Await("operations after", func() bool { return done.Load() > after })
	require.NoError(t, stop())

	told := n.run(0, "audit", "query", "--event", "cluster.set_voter", "-o", "json").Out
	require.Contains(t, told, localcluster.Name(first)+": no vote")

	c.Kill(second) // nobody counts on it
	c.OK(last, "secrets/createSecret", `{"path":"/app/votes","value":%q}`, localcluster.B64("by one voter"))
	n.run(0, "cluster", "vote", localcluster.Name(first), "--voter=true")
	n.awaitMember(last, localcluster.Name(first), "to have its vote again", func(m wire.Member) bool { return m.Role == "follower" && m.Voter })
	value, err := c.Send(first, c.Token, "secrets/getSecretValue", `{"path":"/app/votes"}`).Value()
	require.NoError(t, err)
	require.Equal(t, "by one voter", value)
}
