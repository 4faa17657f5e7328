package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

func approvalOperations() []*Operation {
	return []*Operation{
		operation(row[wire.RequestApprovalRequest, wire.ApprovalResponse]{
			service: "iam", name: "requestApproval", event: "iam.request_approval", write: true, self: true,
			summary: "Ask other people to approve one exact request that a policy holds back.",
			scope: func(_ *call, r *wire.RequestApprovalRequest) (scope, error) {
				return scope{subject: r.Operation}, checkAsked(r)
			},
			run: requestApproval,
		}),
		operation(row[wire.ApproveRequest, wire.ApprovalResponse]{
			service: "iam", name: "approve", event: "iam.approve", write: true,
			summary: "Approve a request of somebody else.",
			scope:   func(c *call, r *wire.ApproveRequest) (scope, error) { return c.approvalScope(r.ApprovalID) },
			run: func(ctx context.Context, c *call, r *wire.ApproveRequest) (*wire.ApprovalResponse, error) {
				if err := checkText("comment", r.Comment); err != nil {
					return nil, err
				}
				return decideApproval(ctx, c, r, r.ClientToken, fsm.DecideApproval{ID: r.ApprovalID, Verdict: fsm.VerdictApprove, Text: r.Comment})
			},
		}),
		operation(row[wire.EndApprovalRequest, wire.ApprovalResponse]{
			service: "iam", name: "deny", event: "iam.deny", write: true,
			summary: "Deny a request of somebody else, for good.",
			scope:   func(c *call, r *wire.EndApprovalRequest) (scope, error) { return c.approvalScope(r.ApprovalID) },
			run: func(ctx context.Context, c *call, r *wire.EndApprovalRequest) (*wire.ApprovalResponse, error) {
				return endApproval(ctx, c, r, fsm.VerdictDeny)
			},
		}),
		operation(row[wire.EndApprovalRequest, wire.ApprovalResponse]{
			service: "iam", name: "withdrawApproval", event: "iam.withdraw_approval", write: true, self: true,
			summary: "Take a request for approval of one's own back.",
			scope:   func(c *call, r *wire.EndApprovalRequest) (scope, error) { return c.approvalScope(r.ApprovalID) },
			run: func(ctx context.Context, c *call, r *wire.EndApprovalRequest) (*wire.ApprovalResponse, error) {
				return endApproval(ctx, c, r, fsm.VerdictWithdraw)
			},
		}),
		operation(row[wire.DescribeApprovalRequest, wire.ApprovalResponse]{
			service: "iam", name: "describeApproval", event: "iam.describe_approval", self: true, more: []iam.Action{listApprovalsAction},
			summary: "Show a request for approval, to who made it and to who may decide it.",
			scope:   func(c *call, r *wire.DescribeApprovalRequest) (scope, error) { return c.approvalScope(r.ApprovalID) },
			run:     describeApproval,
		}),
		operation(row[wire.ListApprovalsRequest, wire.ListApprovalsResponse]{
			service: "iam", name: "listApprovals", event: "iam.list_approvals", self: true, more: []iam.Action{listApprovalsAction},
			summary: "List requests for approval: one's own, and for who may decide or audit them all.",
			scope:   func(*call, *wire.ListApprovalsRequest) (scope, error) { return scope{}, nil },
			run:     listApprovals,
		}),
	}
}

// listApprovalsAction is the right to see requests of others without a say in
// them, such as an auditor's.
const listApprovalsAction iam.Action = "iam:listApprovals"

func (c *call) approvalScope(id string) (scope, error) {
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return scope{}, fault.Invalid("approvalId", "must be a UUID, as requestApproval and listApprovals answer it")
	}
	c.event.ApprovalID = id
	s := scope{}
	if a := c.state.Approval(id); a != nil {
		s.subject = a.Principal + " " + a.Operation
	}
	return s, nil
}

func checkAsked(r *wire.RequestApprovalRequest) error {
	switch {
	case len(r.Operation) > 64 || strings.ContainsFunc(r.Operation, func(c rune) bool { return c < 'A' && c != '/' || c > 'z' }):
		return fault.Invalid("operation", "must be an operation of the API, such as secrets/destroyVersion")
	case r.Request == nil:
		return fault.Invalid("request", "is missing; it is the body of the request that is to be approved")
	case r.Reason == "":
		return fault.Invalid("reason", "is missing; it is what those who decide go by")
	}
	return checkText("reason", r.Reason)
}

func endApproval(ctx context.Context, c *call, r *wire.EndApprovalRequest, verdict string) (*wire.ApprovalResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	return decideApproval(ctx, c, r, r.ClientToken, fsm.DecideApproval{ID: r.ApprovalID, Verdict: verdict, Text: r.Reason})
}

// decideApproval is a verdict of the caller. To approve or to deny, it must
// also be one of those whom a statement names; that nobody decides about a
// request of their own is left to Apply, which says so.
func decideApproval(ctx context.Context, c *call, r any, token string, d fsm.DecideApproval) (*wire.ApprovalResponse, error) {
	a := c.state.Approval(d.ID)
	if a != nil && d.Verdict != fsm.VerdictWithdraw && a.Principal != c.who.name && !c.entitled(a) {
		return nil, c.deny(c.op.Action, iam.Decision{Reason: iam.ReasonApproval})
	}
	var err error
	if d.Meta, err = c.meta(ctx, token, r); err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, d); err != nil {
		return nil, err
	}
	return c.approvalAnswer(ctx, d.Meta, d.ID)
}

// entitled reports whether some statement names the caller as an approver of
// a.
func (c *call) entitled(a *fsm.ApprovalRequest) bool {
	who := iam.Approver{Principal: c.who.name, Groups: c.groupsInState(c.who.name)}
	return slices.ContainsFunc(a.Needs, func(n fsm.ApprovalNeed) bool { return iamApproval(&n.Approval).Entitles(who) })
}

// groupsInState are those that the state puts principal in. What an identity
// provider claimed once does not show who has left since.
func (c *call) groupsInState(principal string) []string {
	out := []string{fsm.Everyone}
	for m := range c.state.Memberships(principal) {
		if m.Holds(c.now.UnixMilli()) {
			out = append(out, m.Group)
		}
	}
	return out
}

func describeApproval(_ context.Context, c *call, r *wire.DescribeApprovalRequest) (*wire.ApprovalResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	a := c.state.Approval(r.ApprovalID)
	if a == nil || a.Principal != c.who.name && !c.seesApprovals() {
		return nil, fault.New(fault.NotFound, "approvalId: there is no such request for approval; listApprovals shows those that you may see")
	}
	out := c.wireApproval(a)
	return &out, nil
}

// seesApprovals reports whether the caller may see requests of others.
func (c *call) seesApprovals() bool {
	any := iam.Resource{Any: true}
	return c.may("iam:approve", any) || c.may("iam:deny", any) || c.may(listApprovalsAction, any)
}

var approvalStates = []string{
	fsm.ApprovalPending, fsm.ApprovalApproved, fsm.ApprovalDenied, fsm.ApprovalUsed, fsm.ApprovalExpired, fsm.ApprovalWithdrawn,
}

func listApprovals(ctx context.Context, c *call, r *wire.ListApprovalsRequest) (*wire.ListApprovalsResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	p, err := c.listPage(ctx, r.Page)
	if err != nil {
		return nil, err
	}
	if r.State != "" && !slices.Contains(approvalStates, r.State) {
		return nil, fault.Invalid("state", "must be one of %s", strings.Join(approvalStates, ", "))
	}
	out := &wire.ListApprovalsResponse{Approvals: []wire.ApprovalResponse{}}
	all := c.seesApprovals()
	for a := range c.state.Approvals(p.after) {
		mine := a.Principal == c.who.name
		switch {
		case !mine && (!all || r.Mine), r.ForMe && !c.waitsForMe(a):
			continue
		case r.State != "" && r.State != c.state.ApprovalState(a, c.now.UnixMilli()):
			continue
		}
		if n := len(out.Approvals); n == p.limit {
			out.NextCursor, err = c.sealCursor(ctx, out.Approvals[n-1].ApprovalID)
			return out, err
		}
		out.Approvals = append(out.Approvals, c.wireApproval(a))
	}
	return out, nil
}

// waitsForMe reports whether the approval of the caller would count for a,
// which lacks some.
func (c *call) waitsForMe(a *fsm.ApprovalRequest) bool {
	given := slices.ContainsFunc(a.Given, func(g fsm.GivenApproval) bool { return g.Principal == c.who.name })
	return !given && a.Principal != c.who.name && c.state.ApprovalState(a, c.now.UnixMilli()) == fsm.ApprovalPending &&
		c.entitled(a) && c.may("iam:approve", iam.Resource{Any: true})
}

// approvalAnswer shows a as it is kept now.
func (c *call) approvalAnswer(ctx context.Context, meta fsm.Meta, id string) (*wire.ApprovalResponse, error) {
	c.event.ApprovalID = id
	if err := c.refresh(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	a := c.state.Approval(id)
	if a == nil {
		return nil, fault.New(fault.NotFound, "approvalId: the request ended 90 days ago and was forgotten")
	}
	out := c.wireApproval(a)
	return &out, nil
}

func (c *call) wireApproval(a *fsm.ApprovalRequest) wire.ApprovalResponse {
	now := max(c.now.UnixMilli(), c.state.Time())
	out := wire.ApprovalResponse{
		ApprovalID: a.ID, State: c.state.ApprovalState(a, now), ExpiresAt: wire.Millis(a.ExpiresAt), Principal: a.Principal,
		Operation: a.Operation, Action: a.Action, Path: a.Path, KeyID: a.KeyID, Version: a.Version, Subject: a.Subject,
		Request: a.Request, Reason: a.Reason, Needs: []wire.ApprovalNeed{}, Approvals: []wire.ApprovalGiven{},
		CreatedAt: wire.Millis(a.CreatedAt), EndedAt: wire.Millis(a.EndedAt), EndedBy: a.EndedBy, EndReason: a.EndReason,
	}
	for _, n := range a.Needs {
		valid := millis(n.Approval.ValidFor)
		out.Needs = append(out.Needs, wire.ApprovalNeed{
			Policy: n.Policy, Statement: n.Statement, Count: n.Approval.Count, Given: len(c.state.Counted(a, &n.Approval, now)),
			Principals: n.Approval.Principals, Groups: n.Approval.Groups, ValidFor: &valid,
		})
	}
	for _, g := range a.Given {
		out.Approvals = append(out.Approvals, wire.ApprovalGiven{Principal: g.Principal, At: wire.Millis(g.At), Comment: g.Comment})
	}
	return out
}

// tooFew warns of demands that nobody can meet as things are: fewer people may
// approve than the statement asks for.
func (c *call) tooFew(statements []fsm.Statement) []iam.Warning {
	var out []iam.Warning
	for i, s := range statements {
		if s.Effect != iam.RequireApproval || s.Approval == nil {
			continue
		}
		if n, anybody := c.entitledNow(s.Approval); !anybody && n < s.Approval.Count {
			out = append(out, iam.Warning{
				Field:   fmt.Sprintf("statements[%d].approval", i),
				Message: fmt.Sprintf("asks for %d approvals, and of those it names only %d are there now: what the statement is about is denied until there are more", s.Approval.Count, n),
			})
		}
	}
	return out
}

// entitledNow counts the principals that a names.
func (c *call) entitledNow(a *fsm.Approval) (n int, anybody bool) {
	people := map[string]bool{}
	for _, name := range a.Principals {
		if c.state.Principal(name) != nil {
			people[name] = true
		}
	}
	for _, group := range a.Groups {
		for m := range c.state.Members(group, "") {
			if m.Holds(c.now.UnixMilli()) {
				people[m.Principal] = true
			}
		}
	}
	return len(people), slices.Contains(a.Groups, fsm.Everyone) || len(a.Principals)+len(a.Groups) == 0
}
