package fsm

import (
	"errors"
	"iter"
)

// Quarantine says that a principal may do nothing until it is released. It is
// part of the principal's record, so it is in force in every state that holds
// the command, and whoever keeps rights by the principals notices.
type Quarantine struct {
	At        int64  `cbor:"1,keyasint,omitempty"`
	By        string `cbor:"2,keyasint,omitempty"`
	Reason    string `cbor:"3,keyasint,omitempty"`
	RequestID string `cbor:"4,keyasint,omitempty"`
}

// QuarantinePrincipal takes everything from a principal at once: its tokens are
// revoked for good, its break-glass session ends, what it asked others to
// approve is withdrawn, and until it is released no other credential of it is
// good and no question about it is answered with yes.
type QuarantinePrincipal struct {
	Meta      Meta   `cbor:"1,keyasint,omitempty"`
	Principal string `cbor:"2,keyasint,omitempty"`
	Reason    string `cbor:"3,keyasint,omitempty"`
}

// ReleasePrincipal ends a quarantine. Tokens that it revoked stay revoked.
type ReleasePrincipal struct {
	Meta      Meta   `cbor:"1,keyasint,omitempty"`
	Principal string `cbor:"2,keyasint,omitempty"`
	Reason    string `cbor:"3,keyasint,omitempty"`
}

// Quarantined answers the principals in quarantine, in order of their names.
func (s *State) Quarantined() iter.Seq[*Principal] {
	return func(yield func(*Principal) bool) {
		for p := range s.Principals("") {
			if p.Quarantine != nil && !yield(p) {
				return
			}
		}
	}
}

// quarantinePrincipal keeps the first quarantine of a principal that is in one
// already, so that since when it holds stays true.
func quarantinePrincipal(t *txn, c QuarantinePrincipal) (Result, *Refusal) {
	p, r := t.principal("principal", c.Principal)
	switch {
	case r != nil:
		return Result{}, r
	case c.Reason == "" || len(c.Reason) > maxWhy:
		return Result{}, invalid("reason", "must have 1 to %d bytes: whoever releases the principal reads it first", maxWhy)
	case p.Quarantine != nil:
		return Result{Name: p.Name, State: "quarantined", Unchanged: true}, nil
	}
	if r := t.checkNotLast(p); r != nil {
		return Result{}, r
	}
	revoked := 0
	for _, k := range t.tokenOwners.collect(pair(p.Name, ""), 0) {
		if k.RevokedAt == 0 {
			next := *k
			next.RevokedAt = t.now
			t.putToken(&next)
			revoked++
		}
	}
	t.withdrawApprovals(p.Name)
	t.closeGlassOf(p.Name)
	next := *p
	next.Quarantine = &Quarantine{At: t.now, By: t.by, Reason: c.Reason, RequestID: c.Meta.RequestID}
	t.putPrincipal(&next)
	return Result{Name: p.Name, State: "quarantined", Done: revoked}, nil
}

func releasePrincipal(t *txn, c ReleasePrincipal) (Result, *Refusal) {
	p, r := t.principal("principal", c.Principal)
	switch {
	case r != nil:
		return Result{}, r
	case c.Reason == "" || len(c.Reason) > maxWhy:
		return Result{}, invalid("reason", "must have 1 to %d bytes: it is what says why the principal can be trusted again", maxWhy)
	case p.Quarantine == nil:
		return Result{}, conflict("principal: %s is in no quarantine", p.Name)
	case p.Name == t.by:
		return Result{}, conflict("principal: nobody releases themselves")
	}
	next := *p
	next.Quarantine = nil
	t.putPrincipal(&next)
	return Result{Name: p.Name, State: "released"}, nil
}

// trusted is principal for what gives it something to come in by: nobody in
// quarantine gets a credential.
func (t *txn) trusted(field, name string) (*Principal, *Refusal) {
	p, r := t.principal(field, name)
	if r != nil {
		return nil, r
	}
	if p.Quarantine != nil {
		return nil, conflict("%s: %s is in quarantine; releasePrincipal first", field, p.Name)
	}
	return p, nil
}

// sound checks what a snapshot says of a quarantine.
func (q *Quarantine) sound() error {
	if q != nil && (q.At <= 0 || q.At > maxTime || q.Reason == "" || len(q.Reason) > maxWhy) {
		return errors.New("a quarantine is of no time, or for no reason")
	}
	return nil
}
