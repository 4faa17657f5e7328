package engine

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

const (
	defaultJoinTTL = time.Hour
	maxJoinTTL     = 30 * 24 * time.Hour
)

func joinTokenOperations() []*Operation {
	return []*Operation{
		operation(row[wire.CreateJoinTokenRequest, wire.CreateJoinTokenResponse]{
			service: "cluster", name: "createJoinToken", event: "cluster.create_join_token", write: true,
			summary: "Make a token that lets one node become a member, once. It is shown once, and only its hash is kept.",
			scope: func(_ *call, r *wire.CreateJoinTokenRequest) (scope, error) {
				if r.NodeID == "" {
					return scope{}, nil
				}
				return nodeScope("nodeId", r.NodeID)
			},
			run: createJoinToken,
		}),
		operation(row[wire.ListJoinTokensRequest, wire.ListJoinTokensResponse]{
			service: "cluster", name: "listJoinTokens", event: "cluster.list_join_tokens",
			summary: "List join tokens, never their text.",
			scope:   func(*call, *wire.ListJoinTokensRequest) (scope, error) { return scope{}, nil },
			run:     listJoinTokens,
		}),
		operation(row[wire.RevokeJoinTokenRequest, wire.RevokeJoinTokenResponse]{
			service: "cluster", name: "revokeJoinToken", event: "cluster.revoke_join_token", write: true,
			summary: "Revoke a join token that nobody has used.",
			scope:   func(_ *call, r *wire.RevokeJoinTokenRequest) (scope, error) { return nameScope("tokenId", r.TokenID) },
			run:     revokeJoinToken,
		}),
	}
}

func createJoinToken(ctx context.Context, c *call, r *wire.CreateJoinTokenRequest) (*wire.CreateJoinTokenResponse, error) {
	ttl := defaultJoinTTL
	if r.TTL != nil {
		ttl = time.Duration(*r.TTL)
	}
	if ttl < minTTL || ttl > maxJoinTTL {
		return nil, fault.Invalid("ttl", "must be 1s to 30d")
	}
	if len(r.BoundCIDRs) > maxCIDRs {
		return nil, fault.Invalid("boundCidrs", "has %d entries; at most %d are allowed", len(r.BoundCIDRs), maxCIDRs)
	}
	if _, err := parseCIDRs("boundCidrs", r.BoundCIDRs); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		return nil, errShownOnce(done.TokenID)
	}
	text, hash, err := iam.NewToken(rand.Reader)
	if err != nil {
		return nil, err
	}
	token := fsm.JoinToken{
		ID: uuid.NewString(), Hash: hash[:], NodeID: r.NodeID, ReadOnly: r.Voter != nil && !*r.Voter, CIDRs: r.BoundCIDRs, ExpiresAt: c.now.Add(ttl).UnixMilli(),
	}
	text = c.reveal(text)
	result, err := c.commit(ctx, fsm.SetJoinToken{Meta: meta, Token: token})
	if err != nil {
		return nil, err
	}
	if result.Replayed {
		return nil, errShownOnce(result.TokenID)
	}
	if r.NodeID == "" { // else the event names the node
		c.event.Reason = "join token " + token.ID
	}
	return &wire.CreateJoinTokenResponse{Token: wire.NewText(text), TokenID: token.ID, ExpiresAt: wire.Millis(token.ExpiresAt)}, nil
}

func listJoinTokens(_ context.Context, c *call, r *wire.ListJoinTokensRequest) (*wire.ListJoinTokensResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListJoinTokensResponse{Tokens: []wire.JoinToken{}}
	for k := range c.state.JoinTokens(p.after) {
		if n := len(out.Tokens); n == p.limit {
			out.NextCursor = cursor(out.Tokens[n-1].TokenID)
			break
		}
		state := k.Spent(c.now.UnixMilli())
		if state == "" {
			state = "good"
		}
		out.Tokens = append(out.Tokens, wire.JoinToken{
			TokenID: k.ID, State: state, NodeID: k.NodeID, Voter: !k.ReadOnly, BoundCIDRs: k.CIDRs, ExpiresAt: wire.Millis(k.ExpiresAt),
			CreatedAt: wire.Millis(k.CreatedAt), CreatedBy: k.CreatedBy, UsedAt: wire.Millis(k.UsedAt), UsedBy: k.UsedBy, RevokedAt: wire.Millis(k.RevokedAt),
		})
	}
	return out, c.checkConsistency(r.Consistency)
}

func revokeJoinToken(ctx context.Context, c *call, r *wire.RevokeJoinTokenRequest) (*wire.RevokeJoinTokenResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.SetJoinToken{Meta: meta, Token: fsm.JoinToken{ID: r.TokenID}, Revoke: true}); err != nil {
		return nil, err
	}
	return &wire.RevokeJoinTokenResponse{TokenID: r.TokenID}, nil
}
