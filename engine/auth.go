package engine

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// authenticate finds out who asks, in the state that this request is served
// at, so a revocation that was acknowledged before is in force. Every failure
// is answered with the same words: which part was wrong is in the log of
// nobody but the caller.
func (c *call) authenticate(ctx context.Context, body []byte) error {
	who, err := c.identify(ctx, body)
	if err != nil && !fault.Is(err, fault.Unauthenticated) {
		return err // it is not known who asks, and no fault of theirs
	}
	if err != nil {
		return c.failedAuthentication(err)
	}
	principal := c.state.Principal(who.name)
	if principal == nil {
		return c.failedAuthentication(errUnauthenticated())
	}
	if principal.Quarantine != nil {
		// The trail names it; whoever holds the credential learns nothing.
		c.who, c.event.Reason = identity{name: who.name, credential: who.credential}, iam.ReasonQuarantined
		return c.failedAuthentication(errUnauthenticated())
	}
	who.kind, who.policies = principal.Kind, principal.Policies
	rights, err := c.engine.rightsOf(c.state, principal, who.groups, c.now.UnixMilli())
	if err != nil {
		return err
	}
	who.claims = who.groups
	who.groups, who.rightsUntil, who.boundaries, who.glass = rights.groups, rights.until, rights.boundaries, rights.glass
	c.who, c.rules = who, rights.rules
	c.engine.credentials.note(who.credential, c.from.Source, c.now)
	return c.withinRequests()
}

func (c *call) token() (*fsm.Token, error) {
	if c.from.Token == "" {
		return nil, fault.New(fault.Unauthenticated, "Authorization: is missing; send \"Authorization: Bearer TOKEN\"")
	}
	hash, err := iam.ParseToken(c.from.Token)
	if err != nil {
		return nil, errUnauthenticated()
	}
	token := c.state.TokenByHash(hash[:])
	if token == nil || subtle.ConstantTimeCompare(token.Hash, hash[:]) != 1 {
		return nil, errUnauthenticated()
	}
	if token.RevokedAt != 0 || c.now.UnixMilli() >= token.ExpiresAt {
		return nil, errUnauthenticated()
	}
	if !c.state.Stands(token) {
		return nil, errUnauthenticated()
	}
	prefixes, err := parseCIDRs("boundCidrs", token.BoundCIDRs)
	if err != nil {
		return nil, err
	}
	if len(prefixes) > 0 && !iam.SourceAllowed(prefixes, c.from.Source) {
		return nil, errUnauthenticated()
	}
	return token, nil
}

func errUnauthenticated() error {
	return fault.New(fault.Unauthenticated, "Authorization: the token is not valid here: unknown, expired, revoked, or bound to other source addresses")
}

func parseCIDRs(field string, texts []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(texts))
	for i, text := range texts {
		p, err := iam.ParseCIDR(text)
		if err != nil {
			return nil, fault.Invalid(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// accessCache keeps the access policies of the newest state seen, compiled.
type accessCache struct {
	mu  sync.Mutex
	of  any // see fsm.State.AccessPoliciesAsWhole
	set *iam.AccessSet
}

func (a *accessCache) compiled(catalogue *iam.Catalogue, state *fsm.State) (*iam.AccessSet, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set != nil && a.of == state.AccessPoliciesAsWhole() {
		return a.set, nil
	}
	var policies []*iam.AccessPolicy
	for record := range state.AccessPolicies("") {
		policy, err := iam.CompileAccessPolicy(catalogue, accessDocument(record))
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "access policy %s cannot be read by this release", record.Name)
		}
		policies = append(policies, policy)
	}
	a.of, a.set = state.AccessPoliciesAsWhole(), iam.Accesses(policies...)
	return a.set, nil
}

func accessDocument(r *fsm.AccessPolicy) iam.AccessDocument {
	return iam.AccessDocument{
		Name: r.Name, Revision: r.Revision, Paths: r.Paths, Actions: r.Actions, Principals: r.Principals, Groups: r.Groups,
		SourceCIDRs: r.SourceCIDRs, TimeWindows: iamWindows(r.TimeWindows), NotBefore: instant(r.NotBefore), NotAfter: instant(r.NotAfter),
		ReportOnly: r.ReportOnly,
	}
}

// authLimiter slows down who fails to authenticate, by source address. It is
// asked only after a failure: whoever shares an address with an attacker and
// has a valid token is never locked out.
type authLimiter struct {
	mu      sync.Mutex
	sources *lru.Cache[netip.Addr, *rate.Limiter]
}

// Failures of one source address: so many at once, then so many a second.
const (
	failureBurst = 200
	failureRate  = 20
)

func newAuthLimiter() *authLimiter {
	sources, err := lru.New[netip.Addr, *rate.Limiter](10_000)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &authLimiter{sources: sources}
}

// failed answers err, or RateLimited if its source fails too often.
func (l *authLimiter) failed(source netip.Addr, now time.Time, err error) error {
	source = limited(source)
	l.mu.Lock()
	limiter, ok := l.sources.Get(source)
	if !ok {
		limiter = rate.NewLimiter(failureRate, failureBurst)
		l.sources.Add(source, limiter)
	}
	l.mu.Unlock()
	if limiter.AllowN(now, 1) {
		return err
	}
	return fault.New(fault.RateLimited, "too many failed authentications from this address; wait a second and send a valid token")
}

// limited answers what shares one limit: an IPv4 address, or the 64 bits of
// an IPv6 address that a network gives to one host, which may take any of the
// 2^64 addresses below them.
func limited(source netip.Addr) netip.Addr {
	source = source.Unmap()
	if prefix, err := source.Prefix(64); err == nil && source.Is6() {
		return prefix.Addr()
	}
	return source
}
