package fsm

import "slices"

// ApprovalUse goes with the command that an approval is used for, and is
// decided in the same step: a command that is refused uses nothing up, and
// none is applied without the approval.
type ApprovalUse struct {
	ID        string `cbor:"1,keyasint,omitempty"`
	Operation string `cbor:"2,keyasint,omitempty"`
	Hash      []byte `cbor:"3,keyasint,omitempty"`
	// Needs are what the policies ask for now, which may be more than at first.
	Needs []ApprovalNeed `cbor:"4,keyasint,omitempty"`
	// Attempt names one request on its way through one engine, all of whose
	// commands are one use.
	Attempt string `cbor:"5,keyasint,omitempty"`
	// Repeat is what a repetition of the request shows that has another
	// Attempt; empty: it can have none. Of a write it is the client token, by
	// which the repetition changes nothing; without one it would be a second use.
	Repeat string `cbor:"6,keyasint,omitempty"`
}

// UseApproval uses the approval of its Meta for what is no command: a value
// that is read.
type UseApproval struct {
	Meta Meta `cbor:"1,keyasint,omitempty"`
}

func useApproval(_ *txn, c UseApproval) (Result, *Refusal) {
	if c.Meta.Approval == nil {
		return Result{}, invalid("approvalId", "is missing")
	}
	return Result{Name: c.Meta.Approval.ID, State: ApprovalUsed}, nil
}

// approve uses the approval that a command was allowed by.
func (t *txn) approve(u *ApprovalUse) *Refusal {
	a, r := t.approval(u.ID)
	if r != nil {
		return r
	}
	if u.Attempt == "" || len(u.Attempt) > maxMetaBytes || len(u.Repeat) > maxMetaBytes {
		return invalid("attempt", "must have 1 to %d bytes, and what a repetition shows no more", maxMetaBytes)
	}
	if r := checkNeeds(u.Needs); r != nil {
		return r
	}
	who := t.principals.value([]byte(t.by))
	if a.Principal != t.by || who == nil || who.CreatedAt > a.CreatedAt || a.Operation != u.Operation || !slices.Equal(a.Hash, u.Hash) {
		return notFound("approvalId: there is no such approval of this request")
	}
	state := a.StateAt(t.now)
	switch {
	case state == ApprovalPending, state == ApprovalUsed && a.Serves(u.Attempt, u.Repeat, t.now):
	case state == ApprovalUsed:
		return conflict("approvalId: the approval was used; requestApproval asks for another one").with("state", state)
	default:
		return conflict("approvalId: the request is %s; requestApproval asks anew", state).with("state", state)
	}
	for _, need := range u.Needs {
		if len(t.counted(a, &need.Approval)) < need.Approval.Count {
			return conflict("approvalId: the policy %s asks for more approvals", need.Policy)
		}
	}
	if state == ApprovalPending {
		next := *a
		next.end(ApprovalUsed, t.now, t.by, "")
		next.Attempt, next.Repeat = u.Attempt, u.Repeat
		t.putApproval(&next)
	}
	return nil
}

// Serves reports whether the use that was made of a serves once more at now:
// further commands of the same attempt, or a repetition of the request.
func (a *ApprovalRequest) Serves(attempt, repeat string, now int64) bool {
	return a.State == ApprovalUsed && now < a.EndedAt+ApprovalReplay && (attempt == a.Attempt || repeat != "" && repeat == a.Repeat)
}

// counted answers whose approvals count for need now: who is still there, was
// there before the request, and is still one of those who may.
func (t *txn) counted(a *ApprovalRequest, need *Approval) []string {
	return a.counted(need, func(name string) *Principal { return t.principals.value([]byte(name)) }, func(group, name string) bool {
		m := t.members.value(pair(group, name))
		return m != nil && m.Holds(t.now)
	})
}

func (a *ApprovalRequest) counted(need *Approval, principal func(string) *Principal, member func(group, name string) bool) []string {
	var out []string
	for _, g := range a.Given {
		p := principal(g.Principal)
		if p == nil || p.Quarantine != nil || checkApprover(a, p) != nil || slices.Contains(out, p.Name) {
			continue
		}
		anybody := len(need.Principals)+len(need.Groups) == 0
		if anybody || slices.Contains(need.Principals, p.Name) ||
			slices.ContainsFunc(need.Groups, func(group string) bool { return group == Everyone || member(group, p.Name) }) {
			out = append(out, p.Name)
		}
	}
	return out
}
