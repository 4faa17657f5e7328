package fsm_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// threeNodes is a cluster of n1, n2, n3, of which the state knows two, and n4,
// which is announced.
func threeNodes(t tester) *world {
	w := newWorld(t)
	for _, n := range []string{"n1", "n2"} {
		w.ok(fsm.AdmitNode{Meta: w.meta(), NodeID: n, Address: n + ":7401", Folder: dataFolder(n[1]), Member: true})
	}
	w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n4", Address: "n4:7401"})
	return w
}

func recovery(w *world) fsm.RecoverCluster {
	last := w.m.State().Index()
	return fsm.RecoverCluster{
		Meta: w.meta(), Survivor: fsm.NodeAddress{ID: "n1", Address: "n1:7401"}, Folder: dataFolder('1'),
		CutOff:   []fsm.NodeAddress{{ID: "n3", Address: "n3:7401"}},
		Operator: "root", Reason: "two machines burnt", LastIndex: last, LastTerm: 3, LastAt: w.now, Committed: last - 1,
	}
}

func TestARecoveryLeavesOneNode(t *testing.T) {
	w := threeNodes(t)
	w.ok(fsm.SetJoinToken{Meta: w.meta(), Token: fsm.JoinToken{ID: "j1", Hash: hashOf("j1"), ExpiresAt: start + day}})
	w.ok(recovery(w))
	s := w.m.State()
	require.False(t, s.ClusterNode("n1").Removed())
	require.True(t, s.ClusterNode("n2").Removed(), "the state knew of it, whatever the configuration says")
	require.True(t, s.ClusterNode("n3").Removed(), "the configuration knew of it, though the state did not")
	require.False(t, s.ClusterNode("n4").Removed(), "it never took part, so it holds nothing")
	require.Contains(t, s.ClusterNode("n2").Reason, "cut off")
	require.Equal(t, "revoked", s.JoinToken("j1").Spent(start), "it may have been used in what is lost")
	w.refused(fault.Conflict, fsm.AdmitNode{Meta: w.meta(), NodeID: "n2", Address: "n2:7401", Folder: dataFolder('2'), Member: true}, "never comes back")
	w.refused(fault.Conflict, fsm.AdmitNode{Meta: w.meta(), NodeID: "n3", Address: "n3:7401", Folder: dataFolder('3')}, "never comes back")
	w.ok(fsm.AdmitNode{Meta: w.meta(), NodeID: "n4", Address: "n4:7401", Folder: dataFolder('4')})

	var all []*fsm.Recovery
	for r := range s.Recoveries() {
		all = append(all, r)
	}
	require.Len(t, all, 1)
	require.Equal(t, "root", all[0].Operator)
	require.Equal(t, []fsm.NodeAddress{{ID: "n2", Address: "n2:7401"}, {ID: "n3", Address: "n3:7401"}}, all[0].CutOff)
	require.Zero(t, all[0].ToldAt)

	told := fsm.TellRecovery{Meta: w.meta(), Index: all[0].Index}
	require.Equal(t, 1, w.ok(told).Done)
	require.True(t, w.ok(told).Unchanged)
	require.True(t, w.ok(fsm.TellRecovery{Meta: w.meta(), Index: 1}).Unchanged)
	m := fsm.New()
	require.NoError(t, m.Restore(w.reader()))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
}

// A node that was cut off may have handed out values in a session that the
// survivor never heard of: nothing that was there is destroyed without force
// until nobody can hold it.
func TestAfterARecoveryAnybodyMayHoldWhatWasThere(t *testing.T) {
	w := threeNodes(t)
	w.secret("/app/db", 2)
	w.ok(fsm.OpenLedger{Meta: w.meta(), Node: "n1", Trail: "chain", Boot: "boot"})
	w.ok(recovery(w))
	session := w.ok(fsm.OpenLedger{Meta: w.meta(), Node: "n1", Trail: "chain", Boot: "boot"}).Session
	for s := range w.m.State().Sessions() { // the survivor settles its own
		if s.Node == "n1" && s.EndedAt != 0 {
			w.ok(fsm.SettleLedger{Meta: w.meta(), Session: s.Number})
		}
	}
	destroy := fsm.DestroyVersion{Meta: w.meta(), Path: "/app/db", Version: 1, Reason: "old", Session: session}
	require.Contains(t, w.refused(fault.VersionInUse, destroy).Details, "mayHoldUntil")
	w.now += fsm.DefaultMaxAge + fsm.ClockSlack + 1
	destroy.Meta = w.meta()
	w.ok(destroy)
}

func TestARecoveryThatCannotBeMeantIsRefused(t *testing.T) {
	w := threeNodes(t)
	w.ok(fsm.SetNode{Meta: w.meta(), NodeID: "n5", Remove: true, Reason: "its disk"})
	bad := func(change func(*fsm.RecoverCluster)) fsm.RecoverCluster {
		c := recovery(w)
		change(&c)
		return c
	}
	w.refused(fault.Conflict, bad(func(c *fsm.RecoverCluster) { c.Survivor = fsm.NodeAddress{ID: "n5", Address: "n5:7401"} }), "never comes back")
	w.refused(fault.InvalidRequest, bad(func(c *fsm.RecoverCluster) { c.Survivor.Address = "" }), "address")
	w.refused(fault.InvalidRequest, bad(func(c *fsm.RecoverCluster) { c.Folder = nil }), "folder")
	w.refused(fault.InvalidRequest, bad(func(c *fsm.RecoverCluster) { c.Reason = "" }), "reason")
	w.refused(fault.InvalidRequest, bad(func(c *fsm.RecoverCluster) { c.Operator = "" }), "operator")
	w.refused(fault.InvalidRequest, bad(func(c *fsm.RecoverCluster) { c.CutOff[0].ID = "n1" }), "goes on")
	w.refused(fault.InvalidRequest, bad(func(c *fsm.RecoverCluster) { c.LastIndex += 2 }), "lastIndex")
	w.refused(fault.InvalidRequest, bad(func(c *fsm.RecoverCluster) { c.Committed = c.LastIndex + 1 }), "lastIndex")
}

func TestRecoveriesAreBounded(t *testing.T) {
	w := threeNodes(t)
	for range 105 {
		w.ok(recovery(w))
	}
	n := 0
	for range w.m.State().Recoveries() {
		n++
	}
	require.Equal(t, 100, n)
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(snapshot(t, w.m))))
}

// The machine may have moved: then whoever was announced for its new address
// makes room.
func TestARecoveryTakesTheAddressOfTheNodeThatGoesOn(t *testing.T) {
	w := threeNodes(t)
	c := recovery(w)
	c.Survivor.Address = "n4:7401"
	w.ok(c)
	s := w.m.State()
	require.Equal(t, "n4:7401", s.ClusterNode("n1").Address)
	require.True(t, s.ClusterNode("n4").Removed())
	m := fsm.New()
	require.NoError(t, m.Restore(w.reader()))
	require.Equal(t, fsm.Dump(s), fsm.Dump(m.State()))
}
