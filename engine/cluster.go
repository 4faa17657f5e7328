package engine

import (
	"context"
	"fmt"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

func clusterOperations() []*Operation {
	return []*Operation{
		operation(row[wire.EmptyRequest, wire.StatusResponse]{
			service: "cluster", name: "status", event: "cluster.status",
			summary: "Show the members, who leads, whose HSM works and whose clock is off.",
			scope:   func(*call, *wire.EmptyRequest) (scope, error) { return scope{}, nil },
			run: func(_ context.Context, c *call, _ *wire.EmptyRequest) (*wire.StatusResponse, error) {
				return c.status(), nil
			},
		}),
		operation(row[wire.TransferLeadershipRequest, wire.TransferLeadershipResponse]{
			service: "cluster", name: "transferLeadership", event: "cluster.transfer_leadership",
			summary: "Hand leadership to another member.",
			scope: func(c *call, r *wire.TransferLeadershipRequest) (scope, error) {
				if r.To == "" {
					return scope{}, nil
				}
				return nameScope("to", r.To)
			},
			run: transferLeadership,
		}),
	}
}

func (c *call) status() *wire.StatusResponse {
	out := &wire.StatusResponse{ClusterID: c.engine.ClusterID, Index: c.state.Index(), Level: c.state.Level(), Recoveries: recoveries(c.state), Nodes: []wire.NodeStatus{}}
	if c.engine.Cluster.Members == nil {
		return out
	}
	out.Nodes = c.engine.Cluster.Members()
	for _, n := range out.Nodes {
		if n.Role == "leader" {
			out.Leader = &wire.Leader{NodeID: n.NodeID, APIAddress: n.APIAddress}
		}
	}
	c.clockStatus(out)
	out.AuditTrouble = c.engine.chainTrouble()
	out.HeldBack = heldBack(out.Level, out.Nodes)
	return out
}

// heldBack answers which members keep the feature level from what the newest
// of them knows.
func heldBack(level uint32, nodes []wire.NodeStatus) []string {
	newest := level
	for _, n := range nodes {
		newest = max(newest, n.Level)
	}
	var out []string
	for _, n := range nodes {
		switch {
		case newest == level || n.Level >= newest:
		case n.Level == 0:
			out = append(out, n.NodeID+" does not say which level it knows")
		default:
			out = append(out, fmt.Sprintf("%s knows level %d", n.NodeID, n.Level))
		}
	}
	return out
}

func transferLeadership(ctx context.Context, c *call, r *wire.TransferLeadershipRequest) (*wire.TransferLeadershipResponse, error) {
	known := r.To == ""
	for _, n := range c.status().Nodes {
		known = known || n.NodeID == r.To
	}
	if !known {
		return nil, fault.Invalid("to", "is not a member; cluster status shows the members")
	}
	if c.engine.Cluster.Transfer == nil {
		return nil, fault.New(fault.Internal, "this node cannot hand over leadership")
	}
	if err := c.engine.Cluster.Transfer(ctx, r.To); err != nil {
		return nil, err
	}
	return &wire.TransferLeadershipResponse{Leader: c.status().Leader}, nil
}
