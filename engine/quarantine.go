package engine

import (
	"context"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/notice"
)

func quarantineOperations() []*Operation {
	return []*Operation{
		operation(row[wire.QuarantineRequest, wire.QuarantineResponse]{
			service: "iam", name: "quarantinePrincipal", event: "iam.quarantine_principal", write: true,
			summary: "Take everything from a principal at once, on every node: its tokens are revoked, and until it is released it may do nothing.",
			scope:   quarantineScope,
			run: func(ctx context.Context, c *call, r *wire.QuarantineRequest) (*wire.QuarantineResponse, error) {
				return c.quarantine(ctx, r, func(m fsm.Meta) fsm.Command {
					return fsm.QuarantinePrincipal{Meta: m, Principal: r.Principal, Reason: r.Reason}
				})
			},
		}),
		operation(row[wire.QuarantineRequest, wire.QuarantineResponse]{
			service: "iam", name: "releasePrincipal", event: "iam.release_principal", write: true,
			summary: "End the quarantine of a principal. Its tokens stay revoked.",
			scope:   quarantineScope,
			run: func(ctx context.Context, c *call, r *wire.QuarantineRequest) (*wire.QuarantineResponse, error) {
				return c.quarantine(ctx, r, func(m fsm.Meta) fsm.Command {
					return fsm.ReleasePrincipal{Meta: m, Principal: r.Principal, Reason: r.Reason}
				})
			},
		}),
	}
}

func quarantineScope(_ *call, r *wire.QuarantineRequest) (scope, error) {
	if err := checkName("principal", r.Principal); err != nil {
		return scope{}, err
	}
	if r.Reason == "" {
		return scope{}, fault.Invalid("reason", "is missing; say why, for those who look at it later")
	}
	return scope{subject: r.Principal}, checkText("reason", r.Reason)
}

func (c *call) quarantine(ctx context.Context, r *wire.QuarantineRequest, command func(fsm.Meta) fsm.Command) (*wire.QuarantineResponse, error) {
	if err := c.withinBoundaries(c.op.Action, r.Principal); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, command(meta))
	if err != nil {
		return nil, err
	}
	return &wire.QuarantineResponse{
		Principal: r.Principal, Quarantined: result.State == "quarantined", RevokedTokens: result.Done, Unchanged: result.Unchanged,
	}, nil
}

// quarantineFor does what the settings of a detector ask for. It is in force
// once it is committed; what the last one with full access did is for people to
// decide.
func (e *Engine) quarantineFor(ctx context.Context, a notice.Alert) {
	reason := "alert " + string(a.Detector) + ": " + a.Text
	meta := fsm.Meta{Time: e.Now().UnixMilli(), Principal: ownName, RequestID: uuid.NewString()}
	result, err := e.proposeOwn(ctx, fsm.QuarantinePrincipal{Meta: meta, Principal: a.Principal, Reason: reason})
	if err == nil && result.Unchanged {
		return
	}
	if err != nil {
		e.Logger.Error("a principal could not be quarantined", "principal", a.Principal, "detector", a.Detector, "error", err)
	}
	e.record(ctx, meta, audit.Event{Event: "iam.quarantine_principal", Reason: a.Principal + ", " + reason, Index: result.Index}, err)
}
