package fsm_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

const voteSnapshotGolden = "testdata/snapshots/v1/votes.snapshot"

// voteStory holds votes that are taken and given. It is a promise to logs like
// story: append to a new one for what is new.
func voteStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	return []fsm.Command{
		genesis(start),
		fsm.AdmitNode{Meta: meta(), NodeID: "n1", Address: "n1:7401", Folder: dataFolder(1), Member: true},
		fsm.AdmitNode{Meta: meta(), NodeID: "n2", Address: "n2:7401", Folder: dataFolder(2), Member: true},
		fsm.SetNode{Meta: meta(), NodeID: "n3", Address: "n3:7401", ReadOnly: true},
		fsm.SetVote{Meta: meta(), NodeID: "n1", ReadOnly: true},
		fsm.SetVote{Meta: meta(), NodeID: "n3"},
		fsm.AdmitNode{Meta: meta(), NodeID: "n3", Address: "n3:7401", Folder: dataFolder(3)},
		fsm.SetVote{Meta: meta(), NodeID: "n9", ReadOnly: true}, // refused
		fsm.SetVote{Meta: meta(), NodeID: "n2", ReadOnly: true},
	}
}

func TestGoldenVoteSnapshot(t *testing.T) {
	w := emptyWorld(t)
	refused := 0
	for _, c := range voteStory() {
		if w.do(c).Refused != nil {
			refused++
		}
	}
	require.Equal(t, 1, refused)
	old := golden(t, voteSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	for node, readOnly := range map[string]bool{"n1": true, "n2": true, "n3": false} {
		require.Equal(t, readOnly, m.State().ClusterNode(node).ReadOnly, node)
	}
}

func TestVotesAreGivenAndTakenOfThoseThatAreKnown(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.AdmitNode{Meta: w.meta(), NodeID: "n1", Address: "n1:7401", Folder: dataFolder(1), Member: true})
	w.refused(fault.NotFound, fsm.SetVote{Meta: w.meta(), NodeID: "n2", ReadOnly: true}, "no node n2 takes part")
	w.refused(fault.InvalidRequest, fsm.SetVote{Meta: w.meta(), ReadOnly: true}, "nodeId:")
	before := w.m.State().ClusterNode("n1")
	require.False(t, w.ok(fsm.SetVote{Meta: w.meta(), NodeID: "n1", ReadOnly: true}).Unchanged)
	require.True(t, w.ok(fsm.SetVote{Meta: w.meta(), NodeID: "n1", ReadOnly: true}).Unchanged)
	after := *w.m.State().ClusterNode("n1")
	require.True(t, after.ReadOnly)
	after.ReadOnly, after.RequestID = false, before.RequestID
	require.Equal(t, *before, after, "its folder and address stay, so that it comes back as what it is")

	w.refused(fault.AlreadyExists, fsm.SetNode{Meta: w.meta(), NodeID: "n1", Address: "n1:7401"}, "use setVoter")
	w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n1", Remove: true, Reason: "gone"})
	w.refused(fault.Conflict, fsm.SetVote{Meta: w.meta(), NodeID: "n1"}, "never comes back")
}
