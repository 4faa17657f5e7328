package fsm_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/fsm"
)

type nodeGame struct{ admitted, removed, byToken, refused int }

// TestWhoTakesPartIsDecidedOnce plays random announcements, tokens, admissions
// and removals, and holds what must be true of every state against each.
func TestWhoTakesPartIsDecidedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { playNodes(t) })
	games := rapid.Custom(playNodes) // that never change, so what they reach never changes
	var all nodeGame
	for seed := range 60 {
		one := games.Example(seed)
		all.admitted, all.removed, all.byToken, all.refused = all.admitted+one.admitted, all.removed+one.removed, all.byToken+one.byToken, all.refused+one.refused
	}
	require.Greater(t, all.admitted, 20)
	require.Greater(t, all.removed, 20)
	require.Greater(t, all.byToken, 5)
	require.Greater(t, all.refused, 100)
}

func playNodes(t *rapid.T) (out nodeGame) {
	w := newWorld(t)
	draw := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	some := func(label string) string { return draw(label, "n1", "n2", "n3", "n4", "n5", "n6") }
	for range rapid.IntRange(20, 80).Draw(t, "commands") {
		w.now += rapid.SampledFrom([]int64{0, 0, 500, hour}).Draw(t, "time")
		before := w.m.State()
		node, address := some("node"), draw("address", "a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "h:1")
		if r := before.ClusterNode(node); r != nil && rapid.Bool().Draw(t, "as announced") {
			address = r.Address
		}
		token := draw("token", "j1", "j2", "j3", "j4")
		admit := fsm.AdmitNode{Meta: w.meta(), NodeID: node, Address: address, Folder: dataFolder(byte(rapid.IntRange(1, 2).Draw(t, "folder")))}
		withToken := admit
		withToken.TokenHash = hashOf(token)
		var bound string
		if rapid.Bool().Draw(t, "bound") {
			bound = some("for")
		}
		c := rapid.SampledFrom([]fsm.Command{
			fsm.SetNode{Meta: w.meta(), NodeID: node, Address: address, ReadOnly: rapid.Bool().Draw(t, "read only")},
			fsm.SetVote{Meta: w.meta(), NodeID: node, ReadOnly: rapid.Bool().Draw(t, "no vote")},
			fsm.SetNode{Meta: w.meta(), NodeID: node, Remove: true, Reason: draw("reason", "gone", "gone", "gone", "")},
			admit, withToken, withToken,
			fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: token, Hash: hashOf(token), NodeID: bound, ExpiresAt: w.now + 2*hour}},
			fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: token}, Revoke: true},
		}).Draw(t, "command")
		var would *fsm.Refusal
		a, admits := c.(fsm.AdmitNode)
		if admits {
			would = before.WouldAdmit(a)
			require.Same(t, before, w.m.State(), "asking changes nothing")
		}
		result := w.do(c)
		if admits {
			require.Equal(t, result.Refused, would, "what a leader is told is what Apply decides")
		}
		if result.Refused != nil {
			out.refused++
		}
		checkNodes(t, before, w.m.State())
		if vote, is := c.(fsm.SetVote); is {
			if result.Refused == nil {
				require.Equal(t, vote.ReadOnly, w.m.State().ClusterNode(node).ReadOnly)
			}
			continue
		}
		for n := range w.m.State().ClusterNodes("") {
			if old := before.ClusterNode(n.ID); old != nil && old.Folder != nil {
				require.Equal(t, old.ReadOnly, n.ReadOnly, "a vote is given and taken by SetVote alone")
			}
		}
	}
	s, end := w.m.State(), fsm.Dump(w.m.State())
	require.Equal(t, end, fsm.Dump(replay(t, w.log).State()), "the log again gives the same state")
	restored := fsm.New()
	require.NoError(t, restored.Restore(bytes.NewReader(snapshot(t, w.m))))
	require.Equal(t, end, fsm.Dump(restored.State()))
	for n := range s.ClusterNodes("") {
		if n.Folder != nil {
			out.admitted++
		}
		if n.Removed() {
			out.removed++
		}
		if n.TokenID != "" {
			out.byToken++
		}
	}
	return out
}

// checkNodes holds one step against the state before it.
func checkNodes(t *rapid.T, before, s *fsm.State) {
	addresses, tokens := map[string]string{}, map[string]string{}
	for n := range s.ClusterNodes("") {
		old := before.ClusterNode(n.ID)
		if old.Removed() {
			require.Equal(t, old, n, "a removed node changes no more")
			continue
		}
		if old != nil && old.Folder != nil {
			require.Equal(t, old.Folder, n.Folder, "a node takes part with one folder")
			require.Equal(t, old.Address, n.Address)
		}
		if n.TokenID != "" {
			require.Empty(t, tokens[n.TokenID], "two nodes by one token")
			tokens[n.TokenID] = n.ID
		}
		if n.Removed() {
			continue
		}
		require.Empty(t, addresses[n.Address], "two nodes at one address")
		addresses[n.Address] = n.ID
	}
	for n := range before.ClusterNodes("") {
		require.NotNil(t, s.ClusterNode(n.ID), "a record was forgotten")
	}
	for k := range s.JoinTokens("") {
		if k.UsedAt == 0 {
			continue
		}
		require.True(t, k.NodeID == "" || k.NodeID == k.UsedBy, "a token of another node was used")
		require.Equal(t, k.ID, s.ClusterNode(k.UsedBy).TokenID)
		require.Zero(t, k.RevokedAt)
	}
}
