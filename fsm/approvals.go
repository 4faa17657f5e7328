package fsm

import (
	"encoding/hex"
	"errors"
	"slices"
	"unicode/utf8"
)

// States of a request for approval. One that is pending may be past its end:
// ask StateAt.
const (
	ApprovalPending   = "pending"
	ApprovalApproved  = "approved" // only answered by StateAt, never kept
	ApprovalDenied    = "denied"
	ApprovalUsed      = "used"
	ApprovalExpired   = "expired"
	ApprovalWithdrawn = "withdrawn"
)

// Verdicts on a request for approval.
const (
	VerdictApprove  = "approve"
	VerdictDeny     = "deny"
	VerdictWithdraw = "withdraw" // by who asked
)

// Bounds of requests for approval.
const (
	// ApprovalReplay is how long after its first use an approval serves a
	// repetition of the request, in milliseconds: its answer may have been lost.
	ApprovalReplay = 5 * 60 * 1000
	// MaxApprovalRequest bounds what approvers are shown of a request.
	MaxApprovalRequest = 32 << 10
	// MaxPendingApprovals is how many requests of one principal may be
	// pending.
	MaxPendingApprovals = 100

	keepApprovals    = 90 * 24 * 60 * 60 * 1000
	maxGiven         = 64 // verdicts on one request
	maxApprovalText  = 2048
	approvalHashSize = 32
)

// ApprovalRequest asks other people to approve one exact request. Hash is a
// keyed digest of it, which binds every field; Request is what approvers are
// shown, in which no value stands.
type ApprovalRequest struct {
	ID        string          `cbor:"1,keyasint,omitempty"`
	Principal string          `cbor:"2,keyasint,omitempty"` // who asks
	Operation string          `cbor:"3,keyasint,omitempty"` // secrets/destroyVersion
	Hash      []byte          `cbor:"4,keyasint,omitempty"`
	Action    string          `cbor:"5,keyasint,omitempty"`
	Path      string          `cbor:"6,keyasint,omitempty"`
	KeyID     string          `cbor:"7,keyasint,omitempty"`
	Version   uint64          `cbor:"8,keyasint,omitempty"`
	Subject   string          `cbor:"9,keyasint,omitempty"`
	Request   string          `cbor:"10,keyasint,omitempty"`
	Reason    string          `cbor:"11,keyasint,omitempty"`
	Needs     []ApprovalNeed  `cbor:"12,keyasint,omitempty"` // when it was made
	CreatedAt int64           `cbor:"13,keyasint,omitempty"`
	ExpiresAt int64           `cbor:"14,keyasint,omitempty"` // from then on it cannot be used first
	State     string          `cbor:"15,keyasint,omitempty"`
	Given     []GivenApproval `cbor:"16,keyasint,omitempty"` // in the order they came
	EndedAt   int64           `cbor:"17,keyasint,omitempty"` // denied, withdrawn, expired, or first used
	EndedBy   string          `cbor:"18,keyasint,omitempty"`
	EndReason string          `cbor:"19,keyasint,omitempty"`
	// Attempt and Repeat are those of the use that was made of it.
	Attempt string `cbor:"20,keyasint,omitempty"`
	Repeat  string `cbor:"21,keyasint,omitempty"`
}

// ApprovalNeed is what one statement asks for.
type ApprovalNeed struct {
	Policy   string   `cbor:"1,keyasint,omitempty"`
	Approval Approval `cbor:"2,keyasint,omitempty"`
	// Statement is the place in the policy, from 0.
	Statement int `cbor:"3,keyasint,omitempty"`
}

// GivenApproval is the approval of one person.
type GivenApproval struct {
	Principal string `cbor:"1,keyasint,omitempty"`
	At        int64  `cbor:"2,keyasint,omitempty"`
	Comment   string `cbor:"3,keyasint,omitempty"`
}

// RequestApproval stores a request for approval. Asked again while one for
// the same request is pending, it answers that one, Unchanged.
type RequestApproval struct {
	Meta    Meta            `cbor:"1,keyasint,omitempty"`
	Request ApprovalRequest `cbor:"2,keyasint,omitempty"`
}

// DecideApproval is a verdict of the principal of Meta.
type DecideApproval struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	ID      string `cbor:"2,keyasint,omitempty"`
	Verdict string `cbor:"3,keyasint,omitempty"`
	Text    string `cbor:"4,keyasint,omitempty"` // comment or reason
}

func requestApproval(t *txn, c RequestApproval) (Result, *Refusal) {
	a := c.Request
	if r := t.checkApprovalRequest(&a); r != nil {
		return Result{}, r
	}
	pending := 0
	for _, other := range t.approvalsOf.collect(pair(t.by, ""), 0) {
		if other.State != ApprovalPending || t.now >= other.ExpiresAt {
			continue
		}
		if other.Operation == a.Operation && slices.Equal(other.Hash, a.Hash) {
			return Result{Name: other.ID, State: ApprovalPending, DueAt: other.ExpiresAt, Unchanged: true}, nil
		}
		pending++
	}
	if pending >= MaxPendingApprovals {
		return Result{}, conflict("request: %d requests of yours wait for approval, which is the most allowed; withdraw one first", pending)
	}
	a.Principal, a.CreatedAt, a.State = t.by, t.now, ApprovalPending
	a.Given, a.EndedAt, a.EndedBy, a.EndReason, a.Attempt, a.Repeat = nil, 0, "", "", "", ""
	t.putApproval(&a)
	return Result{Name: a.ID, State: a.State, DueAt: a.ExpiresAt}, nil
}

func (t *txn) checkApprovalRequest(a *ApprovalRequest) *Refusal {
	if _, r := t.principal("principal", t.by); r != nil {
		return r
	}
	if r := checkName("approvalId", a.ID); r != nil {
		return r
	}
	if t.approvals.value([]byte(a.ID)) != nil {
		return alreadyExists("approvalId: is taken")
	}
	switch {
	case a.Operation == "":
		return invalid("operation", "is missing")
	case len(a.Hash) != approvalHashSize:
		return invalid("request", "has no hash")
	case len(a.Request) > MaxApprovalRequest || !utf8.ValidString(a.Request):
		return invalid("request", "is longer than approvers can be shown: %d bytes, at most %d", len(a.Request), MaxApprovalRequest)
	case a.Reason == "" || len(a.Reason) > maxApprovalText:
		return invalid("reason", "must have 1 to %d bytes: approvers decide by it", maxApprovalText)
	}
	if r := checkNeeds(a.Needs); r != nil {
		return r
	}
	if a.ExpiresAt <= t.now || a.ExpiresAt > t.now+maxApprovalTime {
		return invalid("expiresAt", "must be within seven days from now")
	}
	return nil
}

// checkNeeds holds thresholds to at least one person, whatever a build of the
// engine may think.
func checkNeeds(needs []ApprovalNeed) *Refusal {
	if len(needs) == 0 {
		return invalid("needs", "are missing: nothing asks for an approval")
	}
	for _, n := range needs {
		if n.Approval.Count < 1 || n.Approval.Count > maxApprovals {
			return invalid("needs", "a count must be 1 to %d", maxApprovals)
		}
	}
	return nil
}

func decideApproval(t *txn, c DecideApproval) (Result, *Refusal) {
	a, r := t.approval(c.ID)
	if r != nil {
		return Result{}, r
	}
	who, r := t.principal("principal", t.by)
	if r != nil {
		return Result{}, r
	}
	if len(c.Text) > maxApprovalText {
		return Result{}, invalid("reason", "has %d bytes; at most %d are allowed", len(c.Text), maxApprovalText)
	}
	if state := a.StateAt(t.now); state != ApprovalPending {
		return Result{}, conflict("approvalId: the request is %s already, which is final; it can be made anew", state).with("state", state)
	}
	next := *a
	switch c.Verdict {
	case VerdictApprove:
		if r := checkApprover(a, who); r != nil {
			return Result{}, r
		}
		if slices.ContainsFunc(a.Given, func(g GivenApproval) bool { return g.Principal == t.by }) {
			return Result{Name: a.ID, State: a.State, DueAt: a.ExpiresAt, Unchanged: true}, nil
		}
		if len(a.Given) >= maxGiven {
			return Result{}, conflict("approvalId: %d people have approved it, which is the most allowed", len(a.Given))
		}
		next.Given = append(slices.Clone(a.Given), GivenApproval{Principal: t.by, At: t.now, Comment: c.Text})
	case VerdictDeny:
		if r := checkApprover(a, who); r != nil {
			return Result{}, r
		}
		next.end(ApprovalDenied, t.now, t.by, c.Text)
	case VerdictWithdraw:
		if a.Principal != t.by {
			return Result{}, notFound("approvalId: there is no such request of yours")
		}
		next.end(ApprovalWithdrawn, t.now, t.by, c.Text)
	default:
		return Result{}, invalid("verdict", "must be %s, %s or %s", VerdictApprove, VerdictDeny, VerdictWithdraw)
	}
	t.putApproval(&next)
	return Result{Name: a.ID, State: next.State, DueAt: a.ExpiresAt}, nil
}

// checkApprover refuses who can have no say: the one who asks, with whatever
// credential, and who was made after the request. Otherwise somebody who may
// make principals could make one to approve with.
func checkApprover(a *ApprovalRequest, who *Principal) *Refusal {
	switch {
	case who.Name == a.Principal:
		return conflict("approvalId: nobody approves or denies a request of their own; withdrawApproval takes it back")
	case who.CreatedAt >= a.CreatedAt:
		return conflict("approvalId: only principals that were there before the request may approve it")
	}
	return nil
}

// end makes the state of a final.
func (a *ApprovalRequest) end(state string, at int64, by, reason string) {
	a.State, a.EndedAt, a.EndedBy, a.EndReason = state, at, by, reason
}

// StateAt answers the state of a at now, in milliseconds since the Unix
// epoch: what is past its end has expired, also before a Sweep says so.
func (a *ApprovalRequest) StateAt(now int64) string {
	if a.State == ApprovalPending && now >= a.ExpiresAt {
		return ApprovalExpired
	}
	return a.State
}

func (t *txn) approval(id string) (*ApprovalRequest, *Refusal) {
	a := t.approvals.value([]byte(id))
	if a == nil {
		return nil, notFound("approvalId: there is no such request for approval; listApprovals shows them")
	}
	return a, nil
}

// due is when a Sweep next has to do with a: it expires, or is forgotten.
func (a *ApprovalRequest) due() dueItem {
	if a.State == ApprovalPending {
		return dueItem{at: a.ExpiresAt, kind: dueApproval, id: a.ID}
	}
	return dueItem{at: min(a.EndedAt+keepApprovals, maxTime), kind: dueApproval, id: a.ID}
}

func (t *txn) putApproval(a *ApprovalRequest) {
	if old := t.approvals.value([]byte(a.ID)); old != nil {
		t.unschedule(old.due())
	}
	t.approvals.put([]byte(a.ID), a)
	t.approvalsOf.put(pair(a.Principal, a.ID), a)
	t.approvalHashes.put(approvalKey(a.Principal, a.Operation, a.Hash, a.ID), a)
	t.schedule(a.due())
}

// approvalKey is principal 0 operation 0 hash in hex 0 id.
func approvalKey(principal, operation string, hash []byte, id string) []byte {
	key := append(append(pair(principal, operation), 0), hex.EncodeToString(hash)...)
	return append(append(key, 0), id...)
}

// approvalDue expires a request that is pending, and forgets one that has
// been final for 90 days.
func (t *txn) approvalDue(id string) {
	a := t.approvals.value([]byte(id))
	if a.State == ApprovalPending {
		next := *a
		next.end(ApprovalExpired, a.ExpiresAt, "", "")
		t.putApproval(&next)
		return
	}
	t.approvals.remove([]byte(id))
	t.approvalsOf.remove(pair(a.Principal, id))
	t.approvalHashes.remove(approvalKey(a.Principal, a.Operation, a.Hash, id))
}

// withdrawApprovals ends what a principal that goes away had asked for:
// somebody of the same name must not find it.
func (t *txn) withdrawApprovals(principal string) {
	for _, a := range t.approvalsOf.collect(pair(principal, ""), 0) {
		if a.State == ApprovalPending || a.State == ApprovalUsed {
			next := *a
			if a.State == ApprovalPending {
				next.end(ApprovalWithdrawn, t.now, t.by, "the principal was deleted")
			} else {
				// Nor may the last use be repeated.
				next.State = ApprovalWithdrawn
			}
			t.putApproval(&next)
		}
	}
}

var errBadApproval = errors.New("a request for approval is of no state, of no time, or approved by who asked")

func (t *txn) restoreApproval(a *ApprovalRequest) (string, error) {
	states := []string{ApprovalPending, ApprovalDenied, ApprovalUsed, ApprovalExpired, ApprovalWithdrawn}
	switch {
	case !slices.Contains(states, a.State), (a.State == ApprovalPending) != (a.EndedAt == 0), len(a.Hash) != approvalHashSize,
		a.CreatedAt <= 0, a.ExpiresAt <= a.CreatedAt, a.ExpiresAt > maxTime, a.EndedAt < 0, a.EndedAt > maxTime,
		a.State == ApprovalUsed && a.Attempt == "", a.Operation == "", !validNames([]string{a.Principal}), checkNeeds(a.Needs) != nil:
		return "", errBadApproval
	}
	for i, g := range a.Given {
		twice := slices.ContainsFunc(a.Given[:i], func(o GivenApproval) bool { return o.Principal == g.Principal })
		if twice || g.Principal == a.Principal || !validNames([]string{g.Principal}) {
			return "", errBadApproval
		}
	}
	t.putApproval(a)
	return a.ID, nil
}
