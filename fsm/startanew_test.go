package fsm_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// anewStory is a restored cluster. It is a promise to logs like story.
func anewStory() []fsm.Command {
	meta := fsm.Meta{Time: start + 3*day, Principal: "restore", RequestID: "anew"}
	return append(nodeStory(), fsm.StartAnew{Meta: meta, Members: []fsm.NodeAddress{{ID: "n2", Address: "other:7401"}, {ID: "n3", Address: "n5:7401"}}})
}

// doubtStory is anewStory as it is written since the command doubts what
// happened after the backup.
func doubtStory() []fsm.Command {
	out := anewStory()
	anew := out[len(out)-1].(fsm.StartAnew)
	anew.Doubt = true
	return append(out[:len(out)-1], anew)
}

func TestARestoredClusterForgetsDataFolders(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range anewStory() {
		w.do(c)
	}
	nodes := map[string]*fsm.ClusterNode{}
	for n := range w.m.State().ClusterNodes("") {
		nodes[n.ID] = n
		require.True(t, n.Removed() || n.Folder == nil, n.ID)
	}
	require.Equal(t, "other:7401", nodes["n2"].Address, "a member may be on another machine now")
	require.True(t, nodes["n1"].Removed(), "who was removed stays so")
	require.True(t, nodes["n4"].Removed())
	require.True(t, nodes["n5"].Removed(), "its address is that of a member")
	require.False(t, nodes["n6"].Removed())

	w.ok(fsm.AdmitNode{Meta: w.meta(), NodeID: "n2", Address: "other:7401", Folder: dataFolder(22), Member: true})
	w.ok(fsm.AdmitNode{Meta: w.meta(), NodeID: "n3", Address: "n5:7401", Folder: dataFolder(33), Member: true})
	w.ok(fsm.AdmitNode{Meta: w.meta(), NodeID: "n6", Address: "n6:7401", Folder: dataFolder(66)})
	w.refused(fault.Conflict, fsm.AdmitNode{Meta: w.meta(), NodeID: "n2", Address: "other:7401", Folder: dataFolder(2), Member: true}, "another data folder")
	restored := fsm.New()
	require.NoError(t, restored.Restore(bytes.NewReader(snapshot(t, w.m))))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(restored.State()))
}

func TestARestoredClusterWithARemovedMemberIsRefused(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range nodeStory() {
		w.do(c)
	}
	anew := func(members ...fsm.NodeAddress) fsm.StartAnew { return fsm.StartAnew{Meta: w.meta(), Members: members} }
	w.refused(fault.Conflict, anew(fsm.NodeAddress{ID: "n4", Address: "n4:7401"}), "a removed id never comes back")
	w.refused(fault.InvalidRequest, anew(), "members")
	w.refused(fault.InvalidRequest, anew(fsm.NodeAddress{ID: "n2", Address: "a:1"}, fsm.NodeAddress{ID: "n3", Address: "a:1"}), "twice")
	w.refused(fault.InvalidRequest, anew(fsm.NodeAddress{ID: "n2"}), "address")
}

// After the backup was saved join tokens may have been used, and values handed
// out, of which the restored state has not heard.
func TestARestoreDoubtsWhatHappenedAfterTheBackup(t *testing.T) {
	for name, doubt := range map[string]bool{"as it is written": true, "of an older log": false} {
		t.Run(name, func(t *testing.T) {
			w := threeNodes(t)
			w.secret("/app/db", 2)
			w.ok(fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: "j1", Hash: hashOf("j1"), ExpiresAt: start + day}})
			w.ok(fsm.StartAnew{Meta: w.meta(), Members: []fsm.NodeAddress{{ID: "n1", Address: "n1:7401"}}, Doubt: doubt})
			spent := w.m.State().JoinToken("j1").Spent(w.now)
			session := w.ok(fsm.OpenLedger{Meta: w.meta(), Node: "n1", Trail: "chain", Boot: "boot"}).Session
			destroy := fsm.DestroyVersion{Meta: w.meta(), Path: "/app/db", Version: 1, Reason: "old", Session: session}
			if !doubt {
				require.Empty(t, spent)
				w.ok(destroy)
				return
			}
			require.Equal(t, "revoked", spent)
			require.Contains(t, w.refused(fault.VersionInUse, destroy).Details, "mayHoldUntil")
			m := fsm.New()
			require.NoError(t, m.Restore(bytes.NewReader(snapshot(t, w.m))))
			require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
			w.now += fsm.DefaultMaxAge + fsm.ClockSlack + 1
			destroy.Meta = w.meta()
			w.ok(destroy)
		})
	}
}
