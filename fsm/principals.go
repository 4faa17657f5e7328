package fsm

import (
	"crypto/sha256"
	"slices"
)

// FullAccess is the policy that genesis makes for the administrator. At
// least one principal holds it at all times.
const FullAccess = "full-access"

// maxAttached bounds the policies of one principal: its record grows by one
// command each, and must stay within what a snapshot can read back.
const maxAttached = 256

// maxCIDRs bounds the networks that a token is bound to.
const maxCIDRs = 256

// tokenKept is how long after its expiry a token stays on record, so that
// one who looks into an old audit event still finds whose it was.
const tokenKept = int64(30 * 24 * 60 * 60 * 1000)

func createPrincipal(t *txn, c CreatePrincipal) (Result, *Refusal) {
	p := c.Principal
	if r := checkPrincipal(p); r != nil {
		return Result{}, r
	}
	if t.principals.value([]byte(p.Name)) != nil {
		return Result{}, alreadyExists("name: there is a principal %s already", p.Name)
	}
	for _, policy := range p.Policies {
		if t.policies.value([]byte(policy)) == nil {
			return Result{}, noPolicy("policies", policy)
		}
	}
	for i, a := range p.Attached {
		if a.Mode != ModeBoundary || a.ExpiresAt != 0 || i > 0 && compareAttached(p.Attached[i-1], a) >= 0 {
			return Result{}, invalid("attached", "a principal is made with lasting boundaries, each once and in order, and with nothing else")
		}
		if t.policies.value([]byte(a.Policy)) == nil {
			return Result{}, noPolicy("attached", a.Policy)
		}
	}
	t.addPrincipal(p)
	return Result{Name: p.Name}, nil
}

func (t *txn) addPrincipal(p Principal) {
	p.Policies = slices.Compact(slices.Sorted(slices.Values(p.Policies)))
	p.CreatedAt, p.CreatedBy = t.now, t.by
	slices.SortFunc(p.Attached, compareAttached)
	for i := range p.Attached {
		p.Attached[i].AttachedAt, p.Attached[i].AttachedBy = t.now, t.by
	}
	t.putPrincipal(&p)
}

func checkPrincipal(p Principal) *Refusal {
	if r := checkName("name", p.Name); r != nil {
		return r
	}
	if p.Kind != "user" && p.Kind != "service" {
		return invalid("kind", "must be user or service")
	}
	if n := len(p.Policies) + len(p.Attached); n > maxAttached {
		return invalid("policies", "has %d entries; at most %d are allowed", n, maxAttached)
	}
	for _, policy := range p.Policies {
		if r := checkName("policies", policy); r != nil {
			return r
		}
	}
	return nil
}

func deletePrincipal(t *txn, c DeletePrincipal) (Result, *Refusal) {
	p, r := t.principal("name", c.Name)
	if r != nil {
		return Result{}, r
	}
	if r := t.checkNotLast(p); r != nil {
		return Result{}, r
	}
	for _, k := range t.tokenOwners.collect(pair(p.Name, ""), 0) {
		t.removeToken(k)
	}
	for _, m := range t.memberships.collect(pair(p.Name, ""), 0) {
		t.removeMembership(m)
	}
	t.removeAccessKeys(p.Name)
	t.withdrawApprovals(p.Name)
	t.closeGlassOf(p.Name)
	bare := *p
	bare.Policies, bare.Attached = nil, nil
	t.putPrincipal(&bare) // takes p out of every index
	t.principals.remove([]byte(p.Name))
	return Result{Name: p.Name}, nil
}

func (t *txn) principal(field, name string) (*Principal, *Refusal) {
	if r := checkName(field, name); r != nil {
		return nil, r
	}
	p := t.principals.value([]byte(name))
	if p == nil {
		return nil, notFound("%s: there is no principal %s", field, name)
	}
	return p, nil
}

// checkNotLast refuses to take full access from p while nobody else has it:
// then nobody could ever give it again.
func (t *txn) checkNotLast(p *Principal) *Refusal {
	if !slices.Contains(p.Policies, FullAccess) || t.administered(p.Name) {
		return nil
	}
	return conflict("principal: removing the last principal with %s is refused; attach %s to another principal first", FullAccess, FullAccess)
}

// administered reports whether somebody else than the principal named holds
// full access, and is in no quarantine.
func (t *txn) administered(but string) bool {
	for key := range scan(t.attached.root(), pair(FullAccess, ""), nil) {
		name := string(key[len(FullAccess)+1:])
		if name != but && t.principals.value([]byte(name)).Quarantine == nil {
			return true
		}
	}
	return false
}

func createToken(t *txn, c CreateToken) (Result, *Refusal) {
	if r := t.checkToken(c.Token); r != nil {
		return Result{}, r
	}
	if _, r := t.trusted("principal", c.Token.Principal); r != nil {
		return Result{}, r
	}
	t.addToken(c.Token)
	return Result{TokenID: c.Token.ID, Name: c.Token.Principal, DueAt: c.Token.ExpiresAt}, nil
}

func (t *txn) addToken(k Token) {
	k.CreatedAt, k.CreatedBy, k.RevokedAt = t.now, t.by, 0
	t.putToken(&k)
}

func (t *txn) checkToken(k Token) *Refusal {
	if r := checkName("tokenId", k.ID); r != nil {
		return r
	}
	switch {
	case len(k.Hash) != sha256.Size:
		return invalid("hash", "must be a SHA-256")
	case len(k.BoundCIDRs) > maxCIDRs:
		return invalid("boundCidrs", "has %d entries; at most %d are allowed", len(k.BoundCIDRs), maxCIDRs)
	case t.tokens.value([]byte(k.ID)) != nil:
		return alreadyExists("tokenId: %s is taken", k.ID)
	case t.tokenHashes.value(k.Hash) != nil:
		return alreadyExists("token: this token exists already; make a new one")
	}
	return t.checkLater("ttl", k.ExpiresAt)
}

// revokeToken is final: no command brings a revoked token back. Revoking it
// again changes nothing, so that its RevokedAt stays the first.
func revokeToken(t *txn, c RevokeToken) (Result, *Refusal) {
	k := t.tokens.value([]byte(c.TokenID))
	if k == nil {
		return Result{}, notFound("tokenId: there is no token %.64s", c.TokenID)
	}
	if k.RevokedAt == 0 {
		next := *k
		next.RevokedAt = t.now
		t.putToken(&next)
	}
	return Result{TokenID: k.ID, Name: k.Principal, State: "revoked"}, nil
}

// without answers list less item; nil rather than empty, as it would come
// back from a snapshot.
func without(list []string, item string) []string {
	var out []string
	for _, s := range list {
		if s != item {
			out = append(out, s)
		}
	}
	return out
}
