package fsm_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

const nodeSnapshotGolden = "testdata/snapshots/v1/nodes.snapshot"

// dataFolder is the id of a data folder.
func dataFolder(n byte) []byte { return bytes.Repeat([]byte{n}, 16) }

// nodeStory holds what is known of nodes. It is a promise to logs like story:
// append to a new one for what is new.
func nodeStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	none := uint64(0)
	token := fsm.JoinToken{ID: "j1", Hash: hashOf("j1"), NodeID: "n6", ReadOnly: true, CIDRs: []string{"10.0.0.0/8"}, ExpiresAt: start + day}
	spare := fsm.JoinToken{ID: "j2", Hash: hashOf("j2"), ExpiresAt: start + day}
	return []fsm.Command{
		genesis(start),
		fsm.AdmitNode{Meta: meta(), NodeID: "n2", Address: "n2:7401", Folder: dataFolder(2), Member: true},
		fsm.SetNode{Meta: meta(), NodeID: "n4", Address: "n4:7401"},
		fsm.SetNode{Meta: meta(), NodeID: "n5", Address: "n4:7401"}, // refused
		fsm.SetNode{Meta: meta(), NodeID: "n5", Address: "n5:7401", ReadOnly: true},
		fsm.AdmitNode{Meta: meta(), NodeID: "n4", Address: "n4:7401", Folder: dataFolder(4)},
		fsm.AdmitNode{Meta: meta(), NodeID: "n4", Address: "n4:7401", Folder: dataFolder(5)}, // refused
		fsm.SetJoinToken{Meta: meta(), Token: token},
		fsm.SetJoinToken{Meta: meta(), Token: spare},
		fsm.AdmitNode{Meta: meta(), NodeID: "n6", Address: "n6:7401", Folder: dataFolder(6), TokenHash: hashOf("j1")},
		fsm.AdmitNode{Meta: meta(), NodeID: "n7", Address: "n7:7401", Folder: dataFolder(7), TokenHash: hashOf("j1")}, // refused
		fsm.SetJoinToken{Meta: meta(), Token: fsm.JoinToken{ID: "j2"}, Revoke: true},
		fsm.SetNode{Meta: meta(), NodeID: "n4", Remove: true, Reason: "its disk"},
		fsm.SetNode{Meta: meta(), NodeID: "n4", Address: "n4:7401"}, // refused
		fsm.SetNode{Meta: meta(), NodeID: "n8", Address: "n4:7401"},
		fsm.SetNode{Meta: meta(), NodeID: "n1", Address: "n1:7401", Remove: true, Reason: "replaced"},
		fsm.PutAutopilot{Meta: meta(), Autopilot: fsm.Autopilot{Stabilization: 5000, MaxTrailing: 10, RemoveDeadAfter: day, MinVoters: 5}, Expected: &none},
	}
}

func TestGoldenNodeSnapshot(t *testing.T) {
	w := emptyWorld(t)
	refused := 0
	for _, c := range nodeStory() {
		if w.do(c).Refused != nil {
			refused++
		}
	}
	require.Equal(t, 4, refused)
	old := golden(t, nodeSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	s := m.State()
	require.True(t, s.ClusterNode("n1").Removed(), "one of the first members, which had no record")
	require.True(t, s.ClusterNode("n4").Removed())
	require.Equal(t, "n4:7401", s.ClusterNode("n8").Address, "the address of a node that was removed is free")
	n6 := s.ClusterNode("n6")
	require.True(t, n6.ReadOnly, "the token said so")
	require.Equal(t, "j1", n6.TokenID)
	require.Equal(t, "n6", s.JoinToken("j1").UsedBy)
	require.Equal(t, "used", s.JoinToken("j1").Spent(start))
	require.Equal(t, "revoked", s.JoinToken("j2").Spent(start))
	require.EqualValues(t, 5000, s.Autopilot().Stabilization)
	require.EqualValues(t, fsm.DefaultMinVoters, fsm.New().State().Autopilot().MinVoters)
}

// A snapshot of everything at once: records come by rising type, whatever the
// order in which their kinds were thought of.
func TestSnapshotOfAnchorsCanariesAndNodesCanBeRestored(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/canary", SecretID: "s1", KeyID: defaultKey})
	w.ok(fsm.SetCanary{Meta: w.meta(), Path: "/canary", Canary: true})
	w.ok(fsm.PutDetectors{Meta: w.meta()})
	w.ok(fsm.AnchorHeads{Meta: w.meta(), Heads: []fsm.TrailHead{trailHead("n1", 1, 5, false)}})
	w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n4", Address: "n4:7401"})
	w.ok(fsm.PutAutopilot{Meta: w.meta()})
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(snapshot(t, w.m))))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
}

func TestWhoMayTakePart(t *testing.T) {
	w := newWorld(t)
	admit := func(node string, folder byte) fsm.AdmitNode {
		return fsm.AdmitNode{Meta: w.meta(), NodeID: node, Address: node + ":7401", Folder: dataFolder(folder)}
	}
	stranger := admit("n4", 4)
	w.refused(fault.Conflict, stranger, "neither announced nor brings a join token")
	stranger.TokenHash = hashOf("guessed")
	w.refused(fault.Conflict, stranger, "neither announced nor brings a join token")

	w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n4", Address: "n4:7401"})
	elsewhere := admit("n4", 4)
	elsewhere.Address = "n5:7401"
	w.refused(fault.Conflict, elsewhere, "announced at n4:7401")
	w.ok(admit("n4", 4))
	require.True(t, w.ok(admit("n4", 4)).Unchanged, "it asks at each start")
	w.refused(fault.Conflict, admit("n4", 5), "another data folder")
	member := admit("n4", 5)
	member.Member = true
	w.refused(fault.Conflict, member, "another data folder")
	w.refused(fault.AlreadyExists, fsm.SetNode{Meta: w.meta(), NodeID: "n4", Address: "n9:7401"}, "is a member")

	w.refused(fault.Conflict, fsm.SetNode{Meta: w.meta(), NodeID: "n5", Address: "n4:7401"}, "is the address of n4; remove that node first")
	w.refused(fault.InvalidRequest, fsm.SetNode{Meta: w.meta(), NodeID: "n4", Remove: true}, "reason:")
	w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n4", Remove: true, Reason: "its disk"})
	require.True(t, w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n4", Remove: true, Reason: "again"}).Unchanged)
	for _, c := range []fsm.Command{admit("n4", 4), member, fsm.SetNode{Meta: w.meta(), NodeID: "n4", Address: "n4:7401"}} {
		w.refused(fault.Conflict, c, "never comes back")
	}
	w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n5", Address: "n4:7401"})

	w.refused(fault.InvalidRequest, fsm.SetNode{Meta: w.meta(), NodeID: "n6"}, "address:")
	w.refused(fault.InvalidRequest, fsm.SetNode{Meta: w.meta(), Address: "a:1"}, "nodeId:")
	short := admit("n5", 5)
	short.Folder = short.Folder[:3]
	w.refused(fault.InvalidRequest, short, "folder:")
}

func TestJoinTokenIsGoodOnceForWhomItIsFor(t *testing.T) {
	w := newWorld(t)
	token := func(id, node string, until int64) fsm.SetJoinToken {
		return fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: id, Hash: hashOf(id), NodeID: node, ExpiresAt: until}}
	}
	admit := func(node, id string) fsm.AdmitNode {
		return fsm.AdmitNode{Meta: w.meta(), NodeID: node, Address: node + ":7401", Folder: dataFolder(node[1]), TokenHash: hashOf(id)}
	}
	w.ok(token("any", "", start+day))
	w.ok(token("bound", "n7", start+day))
	w.ok(token("revoked", "", start+day))
	w.ok(token("short", "", start+hour))
	w.refused(fault.AlreadyExists, token("any", "", start+day), "tokenId:")
	same := token("other", "", start+day)
	same.Token.Hash = hashOf("any")
	w.refused(fault.AlreadyExists, same, "same text")
	w.refused(fault.InvalidRequest, token("long", "", start+31*day), "ttl:")
	w.refused(fault.InvalidRequest, token("past", "", start-1), "ttl:")
	bare := token("bare", "", start+day)
	bare.Token.Hash = nil
	w.refused(fault.InvalidRequest, bare, "token:")

	w.ok(admit("n4", "any"))
	w.refused(fault.Conflict, admit("n5", "any"), "used before")
	w.refused(fault.Conflict, admit("n5", "bound"), "is for the node n7")
	w.ok(admit("n7", "bound"))
	revoke := fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: "revoked"}, Revoke: true}
	w.ok(revoke)
	require.True(t, w.ok(revoke).Unchanged)
	w.refused(fault.Conflict, admit("n5", "revoked"), "revoked")
	w.refused(fault.Conflict, fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: "any"}, Revoke: true}, "n4 has used the token")
	w.refused(fault.NotFound, fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: "none"}, Revoke: true}, "listJoinTokens")
	late := admit("n5", "short")
	late.Meta.Time = start + 2*hour
	w.refused(fault.Conflict, late, "a time that is over")

	w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n9", Remove: true, Reason: "gone"})
	gone := token("for-n9", "n9", w.m.State().Time()+hour)
	w.refused(fault.Conflict, gone, "never comes back")
}

// Spent tokens make room for new ones; those that could still be used do not.
func TestJoinTokensAreBounded(t *testing.T) {
	w := newWorld(t)
	put := func(id string) fsm.SetJoinToken {
		return fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: id, Hash: hashOf(id), ExpiresAt: start + day}}
	}
	for i := range 256 {
		w.ok(put(fmt.Sprintf("j%d", i)))
	}
	w.refused(fault.Conflict, put("more"), "revokeJoinToken makes room")
	w.ok(fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: "j7"}, Revoke: true})
	w.ok(put("more"))
	require.Nil(t, w.m.State().JoinToken("j7"))
	require.NotNil(t, w.m.State().JoinTokenByHash(hashOf("more")))
}

func TestAutopilotSettingsThatCannotBeMeantAreRefused(t *testing.T) {
	w := newWorld(t)
	for says, a := range map[string]fsm.Autopilot{
		"stabilization:":   {Stabilization: 999},
		"maxTrailing:":     {MaxTrailing: 100_001},
		"removeDeadAfter:": {RemoveDeadAfter: 59_999},
		"minVoters:":       {MinVoters: 100},
	} {
		w.refused(fault.InvalidRequest, fsm.PutAutopilot{Meta: w.meta(), Autopilot: a}, says)
	}
	one := uint64(1)
	w.refused(fault.Conflict, fsm.PutAutopilot{Meta: w.meta(), Expected: &one}, "expectedRevision:")
	require.EqualValues(t, 1, w.ok(fsm.PutAutopilot{Meta: w.meta(), Expected: new(uint64)}).Revision)
}
