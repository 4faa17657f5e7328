package engine_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
)

// A recovery is decided while no server runs. The first leader that can write
// to its trail tells of it, once, and status shows it for ever.
func TestARecoveryIsToldOnceAndShown(t *testing.T) {
	w := newWorld(t)
	require.NotContains(t, w.ok("cluster/status", `{}`), "recoveries")
	at := w.now().UnixMilli()
	last := w.log.Local().Index()
	command, err := fsm.Encode(fsm.RecoverCluster{
		Meta: fsm.Meta{Time: at, Principal: "recover", RequestID: "recover-7"}, Survivor: fsm.NodeAddress{ID: "n1", Address: "n1:7401"}, Folder: make([]byte, 16),
		CutOff: []fsm.NodeAddress{{ID: "n2", Address: "n2:7401"}, {ID: "n3", Address: "n3:7401"}}, Operator: "root by sudo of eve", Reason: "two machines burnt",
		LastIndex: last, LastTerm: 7, LastAt: at, Committed: last, Missing: last + 3,
	})
	require.NoError(t, err)
	result, err := w.log.Propose(context.Background(), command)
	require.NoError(t, err)
	require.Nil(t, result.Refused)

	told := func() []audit.Event { return w.events(audit.Filter{Events: []string{"cluster.recover"}}) }
	w.engine.TellRecoveries(context.Background())
	w.engine.TellRecoveries(context.Background())
	events := told()
	require.Len(t, events, 1)
	require.Equal(t, audit.OK, events[0].Outcome)
	require.Equal(t, result.Index, events[0].Index)
	for _, says := range []string{"on n1 by root by sudo of eve", "of term 7", "cut off: n2, n3", "reason: two machines burnt", "damaged there"} {
		require.Contains(t, events[0].Reason, says)
	}
	var status wire.StatusResponse
	require.NoError(t, json.Unmarshal([]byte(w.ok("cluster/status", `{}`)), &status))
	require.Len(t, status.Recoveries, 1)
	r := status.Recoveries[0]
	require.Equal(t, []string{"n2", "n3"}, r.CutOff)
	require.Equal(t, last, r.LastIndex)
	require.Equal(t, last+3, r.MissingUpTo)
	require.Equal(t, "two machines burnt", r.Reason)
}
