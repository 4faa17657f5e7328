package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// Defaults of a trust.
const (
	defaultLoginTTL = time.Hour
	defaultSkew     = 30 * time.Second
)

func defaultAlgorithms() []string { return []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"} }

func trustOperations() []*Operation {
	return []*Operation{
		operation(row[wire.PutTrustRequest, wire.PutTrustResponse]{
			service: "iam", name: "putTrust", event: "iam.put_trust", write: true,
			summary: "Make or replace a trust: whose JWTs or certificates are taken for who somebody is.",
			scope:   func(_ *call, r *wire.PutTrustRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     putTrust,
		}),
		operation(row[wire.NameRequest, wire.TrustResponse]{
			service: "iam", name: "getTrust", event: "iam.get_trust", action: "iam:listTrusts",
			summary: "Show a trust.",
			scope:   func(_ *call, r *wire.NameRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     getTrust,
		}),
		operation(row[wire.ListRequest, wire.ListTrustsResponse]{
			service: "iam", name: "listTrusts", event: "iam.list_trusts",
			summary: "List trusts.",
			scope:   func(*call, *wire.ListRequest) (scope, error) { return scope{}, nil },
			run:     listTrusts,
		}),
		operation(row[wire.NameChangeRequest, wire.NameResponse]{
			service: "iam", name: "deleteTrust", event: "iam.delete_trust", write: true,
			summary: "Delete a trust; every token that was made by it ends at once.",
			scope:   func(_ *call, r *wire.NameChangeRequest) (scope, error) { return nameScope("name", r.Name) },
			run: func(ctx context.Context, c *call, r *wire.NameChangeRequest) (*wire.NameResponse, error) {
				return named(ctx, c, r, func(m fsm.Meta) fsm.Command { return fsm.DeleteTrust{Meta: m, Name: r.Name} })
			},
		}),
	}
}

func putTrust(ctx context.Context, c *call, r *wire.PutTrustRequest) (*wire.PutTrustResponse, error) {
	if err := c.unbounded("iam:putTrust"); err != nil {
		return nil, err // it could let itself in as somebody without boundaries
	}
	trust, err := trustOf(r)
	if err != nil {
		return nil, err
	}
	if c.engine.Trusts == nil {
		return nil, fault.New(fault.Internal, "no verifier of trusts")
	}
	if err := c.engine.Trusts.Check(&trust); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutTrust{Meta: meta, Trust: trust})
	if err != nil {
		return nil, err
	}
	return &wire.PutTrustResponse{Name: r.Name, Revision: result.Revision}, nil
}

// trustOf fills in the defaults, so that a later release with others changes
// no trust that is there.
func trustOf(r *wire.PutTrustRequest) (fsm.Trust, error) {
	out := fsm.Trust{
		Name: r.Name, Kind: r.Kind, Issuer: r.Issuer, JWKSURL: r.JWKSURL, CAPEM: r.CAPEM, Audiences: r.Audiences, Algorithms: r.Algorithms,
		Claims: r.Claims, Principal: r.Principal, PrincipalClaim: r.PrincipalClaim, PrincipalPrefix: r.PrincipalPrefix,
		Groups: r.Groups, GroupsClaim: r.GroupsClaim, GroupsPrefix: r.GroupsPrefix, AllowedGroups: r.AllowedGroups,
		ClientID: r.ClientID, Scopes: r.Scopes, TokenReviewURL: r.TokenReviewURL, TokenReviewer: r.TokenReviewer,
		ServiceAccounts: r.ServiceAccounts, SANs: r.SANs, Reason: r.Reason,
	}
	if err := checkText("reason", r.Reason); err != nil {
		return out, err
	}
	if r.JWKS != nil {
		// A text that holds the set is as good as the set.
		if out.JWKS = string(r.JWKS); r.JWKS.Kind() == '"' {
			plain, err := jsontext.AppendUnquote(nil, r.JWKS)
			if err != nil {
				return out, fault.Invalid("jwks", "must be a JSON Web Key Set")
			}
			out.JWKS = string(plain)
		}
	}
	for i, serial := range r.RevokedSerials {
		plain := strings.TrimLeft(strings.ToLower(strings.ReplaceAll(serial, ":", "")), "0")
		if plain == "" || len(plain) > 64 || strings.Trim(plain, "0123456789abcdef") != "" {
			return out, fault.Invalid(fmt.Sprintf("revokedSerials[%d]", i), "must be the serial number of a certificate, hexadecimal")
		}
		out.RevokedSerials = append(out.RevokedSerials, plain)
	}
	if r.Kind == fsm.TrustCertificate {
		if r.TTL != nil || r.ClockSkew != nil {
			return out, fault.Invalid("ttl", "and clockSkew are not for kind certificate: a certificate is good for as long as it says")
		}
		return out, nil
	}
	ttl, skew := defaultLoginTTL, defaultSkew
	if r.TTL != nil {
		ttl = time.Duration(*r.TTL)
	}
	if r.ClockSkew != nil {
		skew = time.Duration(*r.ClockSkew)
	}
	out.TTL, out.ClockSkew = ttl.Milliseconds(), skew.Milliseconds()
	if len(out.Algorithms) == 0 && out.TokenReviewURL == "" {
		out.Algorithms = defaultAlgorithms()
	}
	return out, nil
}

func getTrust(_ context.Context, c *call, r *wire.NameRequest) (*wire.TrustResponse, error) {
	trust := c.state.Trust(r.Name)
	if trust == nil {
		return nil, fault.New(fault.NotFound, "name: there is no trust %s", r.Name)
	}
	out := trustResponse(trust)
	return &out, c.checkConsistency(r.Consistency)
}

func trustResponse(k *fsm.Trust) wire.TrustResponse {
	out := wire.TrustResponse{
		Name: k.Name, Revision: k.Revision, Kind: k.Kind, Issuer: k.Issuer, JWKSURL: k.JWKSURL, CAPEM: k.CAPEM, Audiences: k.Audiences,
		Algorithms: k.Algorithms, Claims: k.Claims, Principal: k.Principal, PrincipalClaim: k.PrincipalClaim, PrincipalPrefix: k.PrincipalPrefix,
		Groups: k.Groups, GroupsClaim: k.GroupsClaim, GroupsPrefix: k.GroupsPrefix, AllowedGroups: k.AllowedGroups,
		ClientID: k.ClientID, Scopes: k.Scopes, TokenReviewURL: k.TokenReviewURL, TokenReviewer: k.TokenReviewer,
		ServiceAccounts: k.ServiceAccounts, SANs: k.SANs, RevokedSerials: k.RevokedSerials, Reason: k.Reason,
		UpdatedAt: wire.Millis(k.UpdatedAt), UpdatedBy: k.UpdatedBy,
	}
	if k.JWKS != "" {
		out.JWKS = jsontext.Value(k.JWKS)
	}
	if k.Kind != fsm.TrustCertificate {
		ttl := wire.Duration(time.Duration(k.TTL) * time.Millisecond)
		skew := wire.Duration(time.Duration(k.ClockSkew) * time.Millisecond)
		out.TTL, out.ClockSkew = &ttl, &skew
	}
	return out
}

func listTrusts(_ context.Context, c *call, r *wire.ListRequest) (*wire.ListTrustsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListTrustsResponse{Trusts: []wire.TrustResponse{}}
	for trust := range c.state.Trusts(p.after) {
		if len(out.Trusts) == p.limit {
			out.NextCursor = cursor(out.Trusts[p.limit-1].Name)
			break
		}
		out.Trusts = append(out.Trusts, trustResponse(trust))
	}
	return out, c.checkConsistency(r.Consistency)
}
