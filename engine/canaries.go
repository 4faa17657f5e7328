package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

// manageCanaries is the only right by which anybody learns which secrets are
// canaries: no answer about the secret itself tells it.
const manageCanaries = iam.Action("secrets:manageCanaries")

func canaryOperations() []*Operation {
	return []*Operation{
		operation(row[wire.SetCanaryRequest, wire.SetCanaryResponse]{
			service: "secrets", name: "setCanary", event: "secrets.set_canary", write: true, action: manageCanaries,
			summary: "Mark a secret that nobody has a reason to read: any read of it, and any denial, alerts at once.",
			scope: func(_ *call, r *wire.SetCanaryRequest) (scope, error) {
				if err := checkText("reason", r.Reason); err != nil {
					return scope{}, err
				}
				return pathScope(r.Path)
			},
			run: func(ctx context.Context, c *call, r *wire.SetCanaryRequest) (*wire.SetCanaryResponse, error) {
				meta, err := c.meta(ctx, r.ClientToken, r)
				if err != nil {
					return nil, err
				}
				if _, err := c.commit(ctx, fsm.SetCanary{Meta: meta, Path: r.Path, Canary: r.Canary, Reason: r.Reason}); err != nil {
					return nil, err
				}
				return &wire.SetCanaryResponse{Path: r.Path, Canary: r.Canary}, nil
			},
		}),
		operation(row[wire.ListRequest, wire.ListCanariesResponse]{
			service: "secrets", name: "listCanaries", event: "secrets.list_canaries", action: manageCanaries,
			summary: "List the canaries that the caller may manage.",
			scope:   func(*call, *wire.ListRequest) (scope, error) { return scope{list: true}, nil },
			run:     listCanaries,
		}),
	}
}

func listCanaries(_ context.Context, c *call, r *wire.ListRequest) (*wire.ListCanariesResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListCanariesResponse{Canaries: []wire.CanaryMark{}}
	for path, mark := range c.state.Canaries(p.after) {
		if !c.may(manageCanaries, iam.Resource{Path: names.Path(path)}) {
			continue
		}
		if len(out.Canaries) == p.limit {
			out.NextCursor = cursor(out.Canaries[p.limit-1].Path)
			break
		}
		out.Canaries = append(out.Canaries, wire.CanaryMark{Path: string(path), At: wire.Millis(mark.At), By: mark.By, Reason: mark.Reason})
	}
	return out, c.checkConsistency(r.Consistency)
}
