package fsm_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

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
