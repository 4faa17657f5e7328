package main

import (
	"slices"

	"github.com/strongroom/strongroom/api/wire"
)

// worthSaying is the status for a person: clocks are in it where one is off by
// more than half of what it may be, or refuses. JSON has them always.
func worthSaying(status *wire.StatusResponse) any {
	out := &struct {
		ClusterID      string            `json:"clusterId"`
		Index          uint64            `json:"index"`
		Leader         *wire.Leader      `json:"leader,omitzero"`
		Level          uint32            `json:"level"`
		HeldBack       []string          `json:"heldBack,omitzero"`
		MaxClockOffset wire.Duration     `json:"maxClockOffset,omitzero"`
		AuditTrouble   []string          `json:"auditTrouble,omitzero"`
		Recoveries     []wire.Recovery   `json:"recoveries,omitzero"`
		Nodes          []wire.NodeStatus `json:"nodes"`
	}{status.ClusterID, status.Index, status.Leader, status.Level, status.HeldBack, 0, status.AuditTrouble, status.Recoveries, slices.Clone(status.Nodes)}
	for i := range out.Nodes {
		n := &out.Nodes[i]
		if n.ClockOffset != nil && !n.RefusesTimed && max(*n.ClockOffset, -*n.ClockOffset) <= wire.Offset(status.MaxClockOffset/2) {
			n.ClockOffset = nil
		}
		if n.ClockOffset != nil {
			out.MaxClockOffset = status.MaxClockOffset
		}
	}
	return out
}
