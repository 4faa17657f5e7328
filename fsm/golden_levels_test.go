package fsm_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

const recoverySnapshotGolden = "testdata/snapshots/v1/recovery.snapshot"

// recoveryStory is a cluster of which one node is left. It is a promise to
// logs like story.
func recoveryStory() []fsm.Command {
	meta := fsm.Meta{Time: start + 3*day, Principal: "recover", RequestID: "recover"}
	out := append(nodeStory(), fsm.OpenLedger{Meta: fsm.Meta{Time: start + 2*day, Principal: "strongroom"}, Node: "n3", Trail: "chain", Boot: "boot"})
	at := uint64(len(out))
	return append(out,
		fsm.RecoverCluster{
			Meta: meta, Survivor: fsm.NodeAddress{ID: "n2", Address: "n2:7401"}, Folder: dataFolder(2),
			CutOff:   []fsm.NodeAddress{{ID: "n3", Address: "n3:7401"}, {ID: "n6", Address: "n6:7401"}},
			Operator: "root", Reason: "the building burnt", LastIndex: at, LastTerm: 7, LastAt: start + 2*day, Committed: at - 1, Missing: at + 2,
		},
		fsm.TellRecovery{Meta: fsm.Meta{Time: start + 4*day, Principal: "strongroom"}, Index: at + 1},
	)
}

func TestGoldenRecoverySnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range recoveryStory() {
		w.do(c)
	}
	old := golden(t, recoverySnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	for r := range m.State().Recoveries() {
		require.Equal(t, "the building burnt", r.Reason)
		require.EqualValues(t, start+4*day, r.ToldAt)
	}
}

// levelSnapshotGolden is of a cluster whose level was raised by a build that
// knows more than this one.
const levelSnapshotGolden = "testdata/snapshots/v1/level.snapshot"

func TestGoldenLevelSnapshot(t *testing.T) {
	old := golden(t, levelSnapshotGolden, snapshot(t, raised(t, 9).m))
	require.EqualValues(t, 9, fsm.SnapshotLevel(old))
	m := fsm.NewAt(9)
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.EqualValues(t, 9, m.State().Level())
	require.Equal(t, "n1", m.State().FeatureLevel().RaisedBy)
}
