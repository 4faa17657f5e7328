package engine

import (
	"context"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func autopilotOperations() []*Operation {
	return []*Operation{
		operation(row[wire.AutopilotRequest, wire.AutopilotResponse]{
			service: "cluster", name: "getAutopilot", event: "cluster.get_autopilot",
			summary: "Show when members get their vote, and when dead ones are removed.",
			scope:   func(*call, *wire.AutopilotRequest) (scope, error) { return scope{}, nil },
			run: func(_ context.Context, c *call, r *wire.AutopilotRequest) (*wire.AutopilotResponse, error) {
				a := c.state.Autopilot()
				return &wire.AutopilotResponse{
					Revision: a.Revision, Stabilization: asDuration(a.Stabilization), MaxTrailing: a.MaxTrailing, RemoveDeadAfter: asDuration(a.RemoveDeadAfter),
					MinVoters: a.MinVoters, UpdatedAt: wire.Millis(a.UpdatedAt), UpdatedBy: a.UpdatedBy, RequestID: a.RequestID,
				}, c.checkConsistency(r.Consistency)
			},
		}),
		operation(row[wire.SetAutopilotRequest, wire.SetAutopilotResponse]{
			service: "cluster", name: "setAutopilot", event: "cluster.set_autopilot", write: true,
			summary: "Say when members get their vote, and when dead ones are removed. Replaces all settings.",
			scope:   func(*call, *wire.SetAutopilotRequest) (scope, error) { return scope{}, nil },
			run:     setAutopilot,
		}),
	}
}

func asDuration(ms int64) wire.Duration { return wire.Duration(time.Duration(ms) * time.Millisecond) }

func setAutopilot(ctx context.Context, c *call, r *wire.SetAutopilotRequest) (*wire.SetAutopilotResponse, error) {
	var a fsm.Autopilot
	if r.Stabilization != nil {
		if a.Stabilization = time.Duration(*r.Stabilization).Milliseconds(); a.Stabilization == 0 {
			return nil, fault.Invalid("stabilization", "must be 1s to 1h")
		}
	}
	if r.MaxTrailing != nil {
		if a.MaxTrailing = *r.MaxTrailing; a.MaxTrailing == 0 {
			return nil, fault.Invalid("maxTrailing", "must be 1 to 100000: a member is behind by what is on its way")
		}
	}
	if r.RemoveDeadAfter != nil {
		a.RemoveDeadAfter = time.Duration(*r.RemoveDeadAfter).Milliseconds()
	}
	if r.MinVoters != nil {
		if a.MinVoters = *r.MinVoters; a.MinVoters == 0 {
			return nil, fault.Invalid("minVoters", "must be 1 to 99")
		}
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutAutopilot{Meta: meta, Autopilot: a, Expected: r.ExpectedRevision})
	if err != nil {
		return nil, err
	}
	return &wire.SetAutopilotResponse{Revision: result.Revision}, nil
}
