//go:build levelnext

package engine

import (
	"context"

	"github.com/strongroom/strongroom/fsm"
)

// This build stands for the next release in tests of upgrades (fsm/level_next.go).
// Its one operation proposes what older builds cannot read, so that a test can
// ask for that from outside, at any moment of an upgrade.

// RehearseRequest asks for a command of the next feature level.
type RehearseRequest struct {
	ClientToken string `json:"clientToken,omitempty" doc:"makes the request safe to repeat"`
}

// RehearseResponse says where the command is in the log.
type RehearseResponse struct {
	Index uint64 `json:"index"`
}

func rehearsalOperations() []*Operation {
	return []*Operation{
		operation(row[RehearseRequest, RehearseResponse]{
			service: "cluster", name: "rehearse", event: "cluster.rehearse", write: true,
			summary: "Commit a command of the next feature level, which changes nothing.",
			scope:   func(*call, *RehearseRequest) (scope, error) { return scope{}, nil },
			run: func(ctx context.Context, c *call, r *RehearseRequest) (*RehearseResponse, error) {
				meta, err := c.meta(ctx, r.ClientToken, r)
				if err != nil {
					return nil, err
				}
				result, err := c.commit(ctx, fsm.Rehearse{Meta: meta})
				if err != nil {
					return nil, err
				}
				return &RehearseResponse{Index: result.Index}, nil
			},
		}),
	}
}
