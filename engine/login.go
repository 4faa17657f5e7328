package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// maxJWT bounds a JWT. Those of issuers that list every group have some
// kilobytes.
const maxJWT = 16 << 10

// Assertion is what the issuer of a trust says about a caller.
type Assertion struct {
	Claims    map[string]any
	ExpiresAt time.Time // zero: it does not say
}

// TrustVerifier knows issuers, their keys and their Kubernetes.
// *trust.Verifier satisfies it.
type TrustVerifier interface {
	// Check refuses a trust with URLs, keys or certificates that it could not
	// use, and says which field. It asks nobody.
	Check(trust *fsm.Trust) error
	// Verify answers what a JWT says, once its signature, issuer, audience and
	// times are good at now. Its error is a NotLetIn, or says why nobody could
	// be asked; it holds nothing of the JWT.
	Verify(ctx context.Context, trust *fsm.Trust, jwt []byte, now time.Time) (Assertion, error)
}

// NotLetIn is why somebody was not let in, in a few fixed words. The trail
// has it, for administrators; the caller is not told, who may be an attacker.
type NotLetIn string

func (n NotLetIn) Error() string { return string(n) }

func loginOperations() []*Operation {
	return []*Operation{
		operation(row[wire.LoginRequest, wire.LoginResponse]{
			service: "iam", name: "login", event: "iam.login", write: true, self: true, open: true,
			summary: "Give a JWT of a trusted issuer for a token. Needs no other credential.",
			scope:   func(_ *call, r *wire.LoginRequest) (scope, error) { return nameScope("trust", r.Trust) },
			run:     login,
		}),
		operation(row[wire.DescribeLoginRequest, wire.DescribeLoginResponse]{
			service: "iam", name: "describeLogin", event: "iam.describe_login", self: true, open: true,
			summary: "Show where a trust's issuer is. Needs no credential.",
			scope:   func(_ *call, r *wire.DescribeLoginRequest) (scope, error) { return nameScope("trust", r.Trust) },
			run:     describeLogin,
		}),
	}
}

// runOpen serves an operation that needs no credential, because its request
// is one. Whoever sends a good one all the same is named in the event. Every
// failure counts against its source, as failed authentications do.
func (c *call) runOpen(ctx context.Context, body []byte) (any, error) {
	if c.from.Signed != nil {
		// Nobody is asked to find out whose it is: that could cost a call to the HSM.
	} else if who, err := c.identify(ctx, body); err == nil && c.state.Principal(who.name) != nil {
		c.who = who
	}
	resp, err := c.op.do(ctx, c, body)
	switch fault.KindOf(err) {
	case fault.Unauthenticated, fault.InvalidRequest, fault.NotFound:
		return nil, c.failedAuthentication(err)
	}
	return resp, err
}

func errLogin() error {
	return fault.New(fault.Unauthenticated, "jwt: nobody is let in by this trust with it; an administrator finds the reason in the audit trail")
}

// login makes a token for who the trust lets in. The JWT may be used again
// until it expires: it is the caller's proof, not a ticket, and who holds it
// holds what it is good for.
func login(ctx context.Context, c *call, r *wire.LoginRequest) (*wire.LoginResponse, error) {
	switch {
	case r.JWT == nil || r.JWT.Len() == 0:
		return nil, fault.Invalid("jwt", "is missing")
	case r.JWT.Len() > maxJWT:
		return nil, fault.Invalid("jwt", "has %d bytes; at most %d are allowed", r.JWT.Len(), maxJWT)
	}
	token, err := c.admit(ctx, c.state.Trust(r.Trust), r.JWT.Expose())
	if err != nil {
		c.event.Reason += ": " + notLetIn(err)
		return nil, errLogin()
	}
	c.who = identity{name: token.Principal, method: token.Method, groups: token.Groups, credential: token.ID, expiresAt: token.ExpiresAt}
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
	text = c.reveal(text)
	token.Hash = hash[:]
	result, err := c.commit(ctx, fsm.Login{Meta: meta, Token: token})
	if err != nil {
		return nil, err
	}
	if result.Replayed {
		return nil, errShownOnce(result.TokenID)
	}
	return &wire.LoginResponse{Token: wire.NewText(text), TokenID: token.ID, ExpiresAt: wire.Millis(token.ExpiresAt)}, nil
}

// notLetIn answers the reason for the trail. Of all else that Verify answers,
// which is about the way to the issuer, the verifier itself keeps a log.
func notLetIn(err error) string {
	var why NotLetIn
	if errors.As(err, &why) {
		return string(why)
	}
	return "the issuer could not be asked"
}

// admit decides who somebody is whom nobody knows yet, and answers the token
// to be made for it, still without its hash.
func (c *call) admit(ctx context.Context, trust *fsm.Trust, jwt []byte) (fsm.Token, error) {
	switch {
	case trust == nil:
		return fsm.Token{}, NotLetIn("there is no such trust")
	case trust.Kind == fsm.TrustCertificate:
		return fsm.Token{}, NotLetIn("the trust is for certificates")
	case c.engine.Trusts == nil:
		return fsm.Token{}, NotLetIn("this server knows no issuers")
	}
	said, err := c.engine.Trusts.Verify(ctx, trust, jwt, c.now)
	if err != nil {
		return fsm.Token{}, err
	}
	if !letsIn(trust, said.Claims) {
		return fsm.Token{}, NotLetIn("its claims do not match")
	}
	principal, ok := principalOf(trust, said.Claims)
	if !ok || c.state.Principal(principal) == nil {
		return fsm.Token{}, NotLetIn("it names no principal")
	}
	if c.state.Principal(principal).Quarantine != nil {
		return fsm.Token{}, NotLetIn("the principal " + principal + " is in quarantine")
	}
	groups, ok := groupsOf(trust, said.Claims)
	if !ok {
		return fsm.Token{}, NotLetIn("it names too many groups")
	}
	expires := c.now.Add(time.Duration(trust.TTL) * time.Millisecond)
	if !said.ExpiresAt.IsZero() && said.ExpiresAt.Before(expires) {
		expires = said.ExpiresAt
	}
	if !expires.After(c.now) {
		return fsm.Token{}, NotLetIn("it has expired")
	}
	return fsm.Token{
		ID: uuid.NewString(), Principal: principal, Description: "login by trust " + trust.Name,
		CreatedAt: c.now.UnixMilli(), CreatedBy: principal, ExpiresAt: expires.UnixMilli(),
		Method: trust.Kind, Groups: groups, Trust: trust.Name, TrustEpoch: trust.Epoch,
	}, nil
}

// describeLogin tells what anybody may know who wants to log in. It counts as
// a failure does, since nobody is known who could be held to a limit.
func describeLogin(_ context.Context, c *call, r *wire.DescribeLoginRequest) (*wire.DescribeLoginResponse, error) {
	trust := c.state.Trust(r.Trust)
	if trust == nil {
		return nil, fault.New(fault.NotFound, "trust: there is no trust %s", r.Trust)
	}
	if err := c.engine.limiter.failed(c.from.Source, c.now, nil); err != nil {
		return nil, err
	}
	out := &wire.DescribeLoginResponse{Trust: trust.Name, Kind: trust.Kind}
	if trust.Kind != fsm.TrustCertificate {
		out.Issuer, out.ClientID, out.Scopes, out.CAPEM = trust.Issuer, trust.ClientID, trust.Scopes, trust.CAPEM
	}
	return out, nil
}
