package fsm

import (
	"errors"
	"slices"
	"strings"
)

// Modes of an attachment.
const (
	// ModeGrant: the statements of the policy hold for the holder.
	ModeGrant = ""
	// ModeBoundary: the policy caps what the holder can ever get.
	ModeBoundary = "boundary"
	// ModeBreakGlass: the policy holds while a break-glass session of the
	// principal is open.
	ModeBreakGlass = "breakGlass"
)

// Attachment says how a policy is attached to a principal or a group. What is
// attached to a principal as a grant without end is in its Policies instead.
type Attachment struct {
	Policy     string `cbor:"1,keyasint,omitempty"`
	Mode       string `cbor:"2,keyasint,omitempty"`
	ExpiresAt  int64  `cbor:"3,keyasint,omitempty"` // 0: never; from then on it does not hold
	AttachedAt int64  `cbor:"4,keyasint,omitempty"`
	AttachedBy string `cbor:"5,keyasint,omitempty"`
	Reason     string `cbor:"6,keyasint,omitempty"`
}

// Holds reports whether the attachment still holds at now, in milliseconds
// since the Unix epoch. An expired one is removed by the next Sweep; nobody
// needs to wait for that.
func (a Attachment) Holds(now int64) bool { return a.ExpiresAt == 0 || now < a.ExpiresAt }

// Attachments answers all that is attached to p, in order of policies.
func (p *Principal) Attachments() []Attachment {
	out := make([]Attachment, 0, len(p.Policies)+len(p.Attached))
	for _, policy := range p.Policies {
		out = append(out, Attachment{Policy: policy})
	}
	out = append(out, p.Attached...)
	slices.SortStableFunc(out, compareAttached)
	return out
}

func compareAttached(a, b Attachment) int {
	if c := strings.Compare(a.Policy, b.Policy); c != 0 {
		return c
	}
	return strings.Compare(a.Mode, b.Mode)
}

// Prefixes that tell holders apart. No name has a colon.
const (
	principalHolder = "p:"
	groupHolder     = "g:"
)

func checkMode(mode string) *Refusal {
	if mode != ModeGrant && mode != ModeBoundary && mode != ModeBreakGlass {
		return invalid("mode", "must be grant, boundary or breakGlass")
	}
	return nil
}

func attachPolicy(t *txn, c AttachPolicy) (Result, *Refusal) {
	if r := t.checkAttachment(c); r != nil {
		return Result{}, r
	}
	a := Attachment{Policy: c.Policy, Mode: c.Mode, ExpiresAt: c.ExpiresAt, AttachedAt: t.now, AttachedBy: t.by, Reason: c.Reason}
	if c.Group != "" {
		return t.attachToGroup(c.Group, a)
	}
	p, r := t.principal("principal", c.Principal)
	if r != nil {
		return Result{}, r
	}
	if t.policies.value([]byte(c.Policy)) == nil {
		return Result{}, noPolicy("policy", c.Policy)
	}
	result := Result{Name: p.Name, DueAt: c.ExpiresAt}
	if c.Mode == ModeGrant && slices.Contains(p.Policies, c.Policy) {
		return result, keepsLasting(c)
	}
	next := *p
	next.Attached = withoutAttached(p.Attached, c.Policy, c.Mode)
	if len(next.Policies)+len(next.Attached) >= maxAttached {
		return Result{}, invalid("principal", "has %d policies, which is the most allowed; detach one first", maxAttached)
	}
	if c.Mode == ModeGrant && c.ExpiresAt == 0 {
		next.Policies = slices.Sorted(slices.Values(append(slices.Clone(p.Policies), c.Policy)))
	} else {
		next.Attached = withAttached(next.Attached, a)
	}
	t.putPrincipal(&next)
	return result, nil
}

func (t *txn) checkAttachment(c AttachPolicy) *Refusal {
	if c.Principal != "" && c.Group != "" {
		return invalid("principal", "or group must be given, not both")
	}
	if r := checkMode(c.Mode); r != nil {
		return r
	}
	return t.checkGrantTime(c.ExpiresAt, c.Reason)
}

// keepsLasting refuses to give for some time what the holder has for good: it
// would seem to end, and would not.
func keepsLasting(c AttachPolicy) *Refusal {
	if c.ExpiresAt == 0 {
		return nil
	}
	return conflict("expiresAt: the policy is attached without end already; detach it first")
}

func (t *txn) attachToGroup(name string, a Attachment) (Result, *Refusal) {
	g, r := t.group("group", name)
	if r != nil {
		return Result{}, r
	}
	if t.policies.value([]byte(a.Policy)) == nil {
		return Result{}, noPolicy("policy", a.Policy)
	}
	next := *g
	next.Attached = withoutAttached(g.Attached, a.Policy, a.Mode)
	if len(next.Attached) >= maxAttached {
		return Result{}, invalid("group", "has %d policies, which is the most allowed; detach one first", maxAttached)
	}
	next.Attached = withAttached(next.Attached, a)
	t.putGroup(&next)
	return Result{Name: name, DueAt: a.ExpiresAt}, nil
}

func detachPolicy(t *txn, c DetachPolicy) (Result, *Refusal) {
	if c.Principal != "" && c.Group != "" {
		return Result{}, invalid("principal", "or group must be given, not both")
	}
	if r := checkMode(c.Mode); r != nil {
		return Result{}, r
	}
	if c.Group != "" {
		return t.detachFromGroup(c)
	}
	p, r := t.principal("principal", c.Principal)
	if r != nil {
		return Result{}, r
	}
	if r := checkName("policy", c.Policy); r != nil {
		return Result{}, r
	}
	next := *p
	next.Attached = withoutAttached(p.Attached, c.Policy, c.Mode)
	switch {
	case c.Mode == ModeGrant && slices.Contains(p.Policies, c.Policy):
		if c.Policy == FullAccess {
			if r := t.checkNotLast(p); r != nil {
				return Result{}, r
			}
		}
		next.Policies = without(p.Policies, c.Policy)
	case len(next.Attached) == len(p.Attached):
		return Result{Name: p.Name}, nil
	}
	t.putPrincipal(&next)
	return Result{Name: p.Name}, nil
}

func (t *txn) detachFromGroup(c DetachPolicy) (Result, *Refusal) {
	g, r := t.group("group", c.Group)
	if r != nil {
		return Result{}, r
	}
	if r := checkName("policy", c.Policy); r != nil {
		return Result{}, r
	}
	next := *g
	next.Attached = withoutAttached(g.Attached, c.Policy, c.Mode)
	if len(next.Attached) != len(g.Attached) {
		t.putGroup(&next)
	}
	return Result{Name: c.Group}, nil
}

// withAttached answers list with a, in order; the list is not changed.
func withAttached(list []Attachment, a Attachment) []Attachment {
	out := append(slices.Clone(list), a)
	slices.SortFunc(out, compareAttached)
	return out
}

// withoutAttached answers list less one attachment; nil rather than empty, as
// it would come back from a snapshot.
func withoutAttached(list []Attachment, policy, mode string) []Attachment {
	var out []Attachment
	for _, a := range list {
		if a.Policy != policy || a.Mode != mode {
			out = append(out, a)
		}
	}
	return out
}

// indexAttached keeps in step who holds which policy, and when an attachment
// ends.
func (t *txn) indexAttached(holder string, old, now []Attachment) {
	for _, a := range old {
		t.holders.remove(holderKey(holder, a))
		if a.ExpiresAt != 0 {
			t.unschedule(dueItem{at: a.ExpiresAt, kind: dueAttachment, id: holder})
		}
	}
	for _, a := range now {
		t.holders.put(holderKey(holder, a), struct{}{})
		if a.ExpiresAt != 0 {
			t.schedule(dueItem{at: a.ExpiresAt, kind: dueAttachment, id: holder})
		}
	}
}

// holderKey is policy 0 holder 0 mode.
func holderKey(holder string, a Attachment) []byte {
	return append(append(pair(a.Policy, holder), 0), a.Mode...)
}

// endAttachments removes what has expired of the attachments of a holder.
func (t *txn) endAttachments(holder string) {
	name := holder[len(principalHolder):]
	lasting := func(list []Attachment) []Attachment {
		var out []Attachment
		for _, a := range list {
			if a.Holds(t.now) {
				out = append(out, a)
			}
		}
		return out
	}
	if strings.HasPrefix(holder, groupHolder) {
		next := *t.groups.value([]byte(name))
		next.Attached = lasting(next.Attached)
		t.putGroup(&next)
		return
	}
	next := *t.principals.value([]byte(name))
	next.Attached = lasting(next.Attached)
	t.putPrincipal(&next)
}

var (
	errBadAttachment = errors.New("a policy is attached that is not there, or in no order, or until no time")
	errBadRateLimit  = errors.New("a rate limit says nothing that one could say")
	errBadMembership = errors.New("a membership is of a group or a principal that is not there, or ends at no time")
)

func (t *txn) checkRestoredAttached(holder string, list []Attachment) error {
	if !validNames([]string{holder}) || !slices.IsSortedFunc(list, compareAttached) {
		return errBadAttachment
	}
	for _, a := range list {
		if t.policies.value([]byte(a.Policy)) == nil || a.ExpiresAt < 0 || a.ExpiresAt > maxTime || checkMode(a.Mode) != nil {
			return errBadAttachment
		}
	}
	return nil
}
