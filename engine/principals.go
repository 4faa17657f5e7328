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

// Life of a token.
const (
	defaultTTL = 24 * time.Hour
	minTTL     = time.Second
	maxTTL     = 366 * 24 * time.Hour
	maxCIDRs   = 64
)

func principalOperations() []*Operation {
	return []*Operation{
		operation(row[wire.CreatePrincipalRequest, wire.PrincipalResponse]{
			service: "iam", name: "createPrincipal", event: "iam.create_principal", write: true,
			summary: "Make a user or a service.",
			scope:   func(_ *call, r *wire.CreatePrincipalRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     createPrincipal,
		}),
		operation(row[wire.ListRequest, wire.ListPrincipalsResponse]{
			service: "iam", name: "listPrincipals", event: "iam.list_principals",
			summary: "List users and services.",
			scope:   func(*call, *wire.ListRequest) (scope, error) { return scope{}, nil },
			run:     listPrincipals,
		}),
		operation(row[wire.NameRequest, wire.PrincipalResponse]{
			service: "iam", name: "describePrincipal", event: "iam.describe_principal",
			summary: "Show a principal and what is attached to it.",
			scope:   func(_ *call, r *wire.NameRequest) (scope, error) { return nameScope("name", r.Name) },
			run: func(_ context.Context, c *call, r *wire.NameRequest) (*wire.PrincipalResponse, error) {
				if err := c.checkConsistency(r.Consistency); err != nil {
					return nil, err
				}
				return c.principalAnswer(r.Name)
			},
		}),
		operation(row[wire.NameChangeRequest, wire.NameResponse]{
			service: "iam", name: "deletePrincipal", event: "iam.delete_principal", write: true,
			summary: "Delete a principal, its tokens and its access keys.",
			scope:   func(_ *call, r *wire.NameChangeRequest) (scope, error) { return nameScope("name", r.Name) },
			run: func(ctx context.Context, c *call, r *wire.NameChangeRequest) (*wire.NameResponse, error) {
				return named(ctx, c, r, func(m fsm.Meta) fsm.Command { return fsm.DeletePrincipal{Meta: m, Name: r.Name} })
			},
		}),
		operation(row[wire.CreateTokenRequest, wire.CreateTokenResponse]{
			service: "iam", name: "createToken", event: "iam.create_token", write: true,
			summary: "Make a token; its text is shown once.",
			scope:   func(_ *call, r *wire.CreateTokenRequest) (scope, error) { return nameScope("principal", r.Principal) },
			run:     createToken,
		}),
		operation(row[wire.ListTokensRequest, wire.ListTokensResponse]{
			service: "iam", name: "listTokens", event: "iam.list_tokens",
			summary: "List tokens, never their texts.",
			scope: func(_ *call, r *wire.ListTokensRequest) (scope, error) {
				if r.Principal == "" {
					return scope{}, nil
				}
				return nameScope("principal", r.Principal)
			},
			run: listTokens,
		}),
		operation(row[wire.RevokeTokenRequest, wire.RevokeTokenResponse]{
			service: "iam", name: "revokeToken", event: "iam.revoke_token", write: true,
			summary: "Revoke a token: it is refused on every node once this is answered.",
			scope: func(_ *call, r *wire.RevokeTokenRequest) (scope, error) {
				if _, err := uuid.Parse(r.TokenID); err != nil || len(r.TokenID) != 36 {
					return scope{}, fault.Invalid("tokenId", "must be the id of a token (a UUID), not its text; listTokens shows it")
				}
				return scope{subject: r.TokenID}, nil
			},
			run: revokeToken,
		}),
		operation(row[wire.EmptyRequest, wire.WhoAmIResponse]{
			service: "iam", name: "whoAmI", event: "iam.who_am_i", self: true,
			summary: "Show the caller how the server sees it.",
			scope:   func(*call, *wire.EmptyRequest) (scope, error) { return scope{}, nil },
			run:     whoAmI,
		}),
	}
}

func nameScope(field, name string) (scope, error) {
	return scope{subject: name}, checkName(field, name)
}

// named commits a command about one name and answers the name.
func named(ctx context.Context, c *call, r *wire.NameChangeRequest, command func(fsm.Meta) fsm.Command) (*wire.NameResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, command(meta)); err != nil {
		return nil, err
	}
	return &wire.NameResponse{Name: r.Name}, nil
}

func createPrincipal(ctx context.Context, c *call, r *wire.CreatePrincipalRequest) (*wire.PrincipalResponse, error) {
	if r.Kind != "user" && r.Kind != "service" {
		return nil, fault.Invalid("kind", "must be user or service")
	}
	if err := checkText("description", r.Description); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	p := fsm.Principal{Name: r.Name, Kind: r.Kind, Description: r.Description, Attached: c.inherited(), CreatedAt: c.now.UnixMilli(), CreatedBy: c.who.name}
	if _, err := c.commit(ctx, fsm.CreatePrincipal{Meta: meta, Principal: p}); err != nil {
		return nil, err
	}
	// The record as it is kept: a retry must answer when it was made first.
	if err := c.afterCommit(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	kept := c.state.Principal(r.Name)
	if kept == nil {
		kept = &p // deleted a moment later
	}
	out := c.wholePrincipal(kept)
	return &out, nil
}

func (c *call) principalAnswer(name string) (*wire.PrincipalResponse, error) {
	p := c.state.Principal(name)
	if p == nil {
		return nil, fault.New(fault.NotFound, "name: there is no principal %s", name)
	}
	out := c.wholePrincipal(p)
	return &out, nil
}

// wholePrincipal is principalResponse with all that gives p its rights.
func (c *call) wholePrincipal(p *fsm.Principal) wire.PrincipalResponse {
	out := principalResponse(p)
	if attached := c.wireAttached(p.Attachments()); len(attached) > 0 {
		out.Attached = attached
	}
	for m := range c.state.Memberships(p.Name) {
		if m.Holds(c.now.UnixMilli()) {
			out.Groups = append(out.Groups, wire.GroupOf{
				Group: m.Group, ExpiresAt: wire.Millis(m.ExpiresAt), AddedAt: wire.Millis(m.AddedAt), AddedBy: m.AddedBy, Reason: m.Reason,
			})
		}
	}
	return out
}

func principalResponse(p *fsm.Principal) wire.PrincipalResponse {
	return wire.PrincipalResponse{
		Name: p.Name, Kind: p.Kind, Description: p.Description, Policies: p.Policies,
		CreatedAt: wire.Millis(p.CreatedAt), CreatedBy: p.CreatedBy, Quarantined: wireQuarantine(p.Quarantine),
	}
}

func listPrincipals(_ context.Context, c *call, r *wire.ListRequest) (*wire.ListPrincipalsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListPrincipalsResponse{Principals: []wire.PrincipalResponse{}}
	for principal := range c.state.Principals(p.after) {
		if len(out.Principals) == p.limit {
			out.NextCursor = cursor(out.Principals[p.limit-1].Name)
			break
		}
		out.Principals = append(out.Principals, principalResponse(principal))
	}
	return out, c.checkConsistency(r.Consistency)
}

func createToken(ctx context.Context, c *call, r *wire.CreateTokenRequest) (*wire.CreateTokenResponse, error) {
	ttl := defaultTTL
	if r.TTL != nil {
		ttl = time.Duration(*r.TTL)
	}
	if ttl < minTTL || ttl > maxTTL {
		return nil, fault.Invalid("ttl", "must be 1s to 366d")
	}
	if len(r.BoundCIDRs) > maxCIDRs {
		return nil, fault.Invalid("boundCidrs", "has %d entries; at most %d are allowed", len(r.BoundCIDRs), maxCIDRs)
	}
	if _, err := parseCIDRs("boundCidrs", r.BoundCIDRs); err != nil {
		return nil, err
	}
	if err := checkText("description", r.Description); err != nil {
		return nil, err
	}
	if err := c.withinBoundaries("iam:createToken", r.Principal); err != nil {
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
	token := fsm.Token{
		ID: uuid.NewString(), Hash: hash[:], Principal: r.Principal, Description: r.Description, BoundCIDRs: r.BoundCIDRs,
		CreatedAt: c.now.UnixMilli(), CreatedBy: c.who.name, ExpiresAt: c.now.Add(ttl).UnixMilli(),
	}
	text = c.reveal(text)
	result, err := c.commit(ctx, fsm.CreateToken{Meta: meta, Token: token})
	if err != nil {
		return nil, err
	}
	if result.Replayed {
		return nil, errShownOnce(result.TokenID)
	}
	return &wire.CreateTokenResponse{Token: wire.NewText(text), TokenID: token.ID, ExpiresAt: wire.Millis(token.ExpiresAt)}, nil
}

// errShownOnce answers a retry of createToken: the text was never stored.
func errShownOnce(id string) error {
	return fault.New(fault.Conflict, "clientToken: this token was made already and its text is shown only once; if it was lost, revoke %s and make another", id).
		With("tokenId", id)
}

func listTokens(_ context.Context, c *call, r *wire.ListTokensRequest) (*wire.ListTokensResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	switch r.State {
	case "", tokenActive, tokenExpired, tokenRevoked:
	default:
		return nil, fault.Invalid("state", "must be active, expired or revoked; leave it out for all")
	}
	out := &wire.ListTokensResponse{Tokens: []wire.TokenSummary{}}
	for t := range c.state.Tokens(r.Principal, p.after) {
		if r.State != "" && c.tokenState(t) != r.State {
			continue
		}
		if len(out.Tokens) == p.limit {
			out.NextCursor = cursor(out.Tokens[p.limit-1].TokenID)
			break
		}
		used := c.engine.credentials.of(c.state, t.ID)
		out.Tokens = append(out.Tokens, wire.TokenSummary{
			TokenID: t.ID, Principal: t.Principal, Description: t.Description, BoundCIDRs: t.BoundCIDRs,
			CreatedAt: wire.Millis(t.CreatedAt), CreatedBy: t.CreatedBy, ExpiresAt: wire.Millis(t.ExpiresAt),
			RevokedAt: wire.Millis(t.RevokedAt), State: c.tokenState(t),
			LastUsedAt: wire.Millis(used.At), LastUsedFrom: used.Source,
		})
	}
	return out, c.checkConsistency(r.Consistency)
}

// The states of a token, as listTokens tells them.
const (
	tokenActive  = "active"
	tokenExpired = "expired"
	tokenRevoked = "revoked"
)

func (c *call) tokenState(t *fsm.Token) string {
	switch {
	case t.RevokedAt != 0, !c.state.Stands(t):
		return tokenRevoked
	case c.now.UnixMilli() >= t.ExpiresAt:
		return tokenExpired
	}
	return tokenActive
}

func revokeToken(ctx context.Context, c *call, r *wire.RevokeTokenRequest) (*wire.RevokeTokenResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.RevokeToken{Meta: meta, TokenID: r.TokenID}); err != nil {
		return nil, err
	}
	return &wire.RevokeTokenResponse{TokenID: r.TokenID, State: "revoked"}, nil
}

func whoAmI(_ context.Context, c *call, _ *wire.EmptyRequest) (*wire.WhoAmIResponse, error) {
	groups := c.who.groups
	if groups == nil {
		groups = []string{}
	}
	return &wire.WhoAmIResponse{
		Principal: c.who.name, Kind: c.who.kind, Groups: groups, Policies: c.who.policies, AuthMethod: c.who.method, Boundaries: c.who.boundaries,
		SourceAddress: c.source(), PeerAddress: shownAddress(c.from.Peer), Via: c.from.Via, CredentialID: c.who.credential, ExpiresAt: wire.Millis(c.who.expiresAt),
	}, nil
}
