package iam

import (
	"slices"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
)

// Approval is what a statement with the effect RequireApproval asks for. It
// grants nothing: what some statement allows is held back until other people
// have approved the exact request.
type Approval struct {
	// Principals and Groups are who may approve; neither: anybody who may
	// iam:approve. Nobody ever approves a request of their own.
	Principals []string
	Groups     []string
	Count      int           // how many different people, at least 1
	ValidFor   time.Duration // how long a request for approval lives, at least a minute
}

// Bounds of an Approval.
const (
	MaxApprovals     = 10
	MinApprovalTime  = time.Minute
	MaxApprovalTime  = 7 * 24 * time.Hour
	DefaultApproval  = 24 * time.Hour
	maxApproverNames = 64
)

// Approver is somebody who approved the exact request that is asked about,
// with the groups that they are in.
type Approver struct {
	Principal string
	Groups    []string
}

// Need is an approval that a question still lacks.
type Need struct {
	Policy    string
	Statement int
	Approval
	Given int // approvals that count so far
}

// neverHeldBack are the actions to which no statement that asks for approvals
// applies, "*" and "iam:*" included: an approval that waits for an approval
// could never be given.
var neverHeldBack = []Action{"iam:approve", "iam:deny"}

func compileApproval(field string, effect string, actions []string, in *Approval) (*Approval, error) {
	if effect != RequireApproval {
		if in != nil {
			return nil, fault.Invalid(field, "goes only with the effect %s", RequireApproval)
		}
		return nil, nil
	}
	if in == nil {
		return nil, fault.Invalid(field, "is missing; say who approves, such as {\"groups\": [\"security\"], \"count\": 1}")
	}
	for _, action := range neverHeldBack {
		if slices.Contains(actions, string(action)) {
			return nil, fault.Invalid(field, "cannot hold back %s: who approves would need an approval", action)
		}
	}
	out := *in
	if out.ValidFor == 0 {
		out.ValidFor = DefaultApproval
	}
	switch {
	case out.Count < 1 || out.Count > MaxApprovals:
		return nil, fault.Invalid(field+".count", "must be 1 to %d", MaxApprovals)
	case out.ValidFor < MinApprovalTime || out.ValidFor > MaxApprovalTime:
		return nil, fault.Invalid(field+".validFor", "must be %s to %s", MinApprovalTime, MaxApprovalTime)
	case len(out.Principals) > maxApproverNames:
		return nil, tooMany(field+".principals", len(out.Principals))
	case len(out.Groups) > maxApproverNames:
		return nil, tooMany(field+".groups", len(out.Groups))
	case len(out.Groups) == 0 && len(out.Principals) != 0 && len(distinct(out.Principals)) < out.Count:
		return nil, fault.Invalid(field+".count", "is %d, but only %d principals may approve: nobody could ever get it", out.Count, len(distinct(out.Principals)))
	}
	var err error
	if out.Principals, err = compileNames(field+".principals", out.Principals); err != nil {
		return nil, err
	}
	if out.Groups, err = compileNames(field+".groups", out.Groups); err != nil {
		return nil, err
	}
	return &out, nil
}

func distinct(texts []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(texts)))
}

// Entitles reports whether who may approve for a, as far as the statement
// says.
func (a *Approval) Entitles(who Approver) bool {
	if len(a.Principals)+len(a.Groups) == 0 || slices.Contains(a.Principals, who.Principal) {
		return true
	}
	return slices.ContainsFunc(a.Groups, func(g string) bool { return slices.Contains(who.Groups, g) })
}

// given counts the different people whose approvals count for q: never the
// one who asks.
func (a *Approval) given(q *Question) int {
	var who []string
	for _, approver := range q.ApprovedBy {
		if approver.Principal != q.Principal && a.Entitles(approver) {
			who = append(who, approver.Principal)
		}
	}
	return len(distinct(who))
}
