package engine

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

func explainOperations() []*Operation {
	return []*Operation{
		operation(row[wire.ExplainRequest, wire.ExplainResponse]{
			service: "iam", name: "explain", event: "iam.explain",
			summary: "Show how something was decided, by the id of the decision, or would be: the rules that had a say, and why.",
			scope:   explainScope,
			run:     explain,
		}),
		operation(row[wire.WhoCanRequest, wire.WhoCanResponse]{
			service: "iam", name: "whoCan", event: "iam.who_can",
			summary: "List the principals that may do something, by which policies, and those that might under other circumstances.",
			scope: func(c *call, r *wire.WhoCanRequest) (scope, error) {
				t, err := c.parseTarget(targetFields{action: r.Action, path: r.Path, keyID: r.KeyID, prefix: r.Prefix})
				return scope{subject: t.String()}, err
			},
			run: whoCan,
		}),
		operation(row[wire.WhatCanRequest, wire.WhatCanResponse]{
			service: "iam", name: "whatCan", event: "iam.what_can",
			summary: "Show what a principal may do and on what, or list the secrets whose values it may read.",
			scope:   func(_ *call, r *wire.WhatCanRequest) (scope, error) { return nameScope("principal", r.Principal) },
			run:     whatCan,
		}),
	}
}

func explainScope(c *call, r *wire.ExplainRequest) (scope, error) {
	if r.DecisionID != "" {
		if id, err := uuid.Parse(r.DecisionID); err != nil || id.String() != r.DecisionID {
			return scope{}, fault.Invalid("decisionId", "must be the id of a decision (a UUID), as a denial says it")
		}
		if r.Principal+r.Action+r.Path+r.KeyID+r.Prefix != "" {
			return scope{}, fault.Invalid("decisionId", "goes alone: the trail knows who asked for what")
		}
		return scope{subject: "decision " + r.DecisionID}, nil
	}
	if r.Principal == "" {
		return scope{}, fault.Invalid("principal", "is missing; give who asks, or the decisionId of a decision")
	}
	if err := checkName("principal", r.Principal); err != nil {
		return scope{}, err
	}
	t, err := c.parseTarget(explainTarget(r))
	return scope{subject: r.Principal + " " + t.String()}, err
}

func explainTarget(r *wire.ExplainRequest) targetFields {
	return targetFields{action: r.Action, path: r.Path, keyID: r.KeyID, prefix: r.Prefix, tags: r.Tags}
}

func explain(ctx context.Context, c *call, r *wire.ExplainRequest) (*wire.ExplainResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	if r.DecisionID != "" {
		return c.explainRecorded(ctx, r.DecisionID)
	}
	principal, err := c.asPrincipal("principal", r.Principal)
	if err != nil {
		return nil, err
	}
	t, err := c.parseTarget(explainTarget(r))
	if err != nil {
		return nil, err
	}
	a, err := c.askerFor(principal, circumstances{r.SourceAddress, r.At, r.AuthMethod, r.Groups})
	if err != nil {
		return nil, err
	}
	if a.approvedBy, err = c.approvers(r.ApprovedBy, a.at.UnixMilli()); err != nil {
		return nil, err
	}
	return &wire.ExplainResponse{Explanation: explained(&a, &t), Question: wireQuestion(&a, &t)}, nil
}

func errNoPrincipal(field, name string) error {
	return fault.New(fault.NotFound, "%s: there is no principal %s; listPrincipals shows them", field, name)
}

// approvers looks up who is said to have approved.
func (c *call) approvers(list []string, at int64) ([]iam.Approver, error) {
	if len(list) > maxClaims {
		return nil, fault.Invalid("approvedBy", "has %d entries; at most %d are allowed", len(list), maxClaims)
	}
	var out []iam.Approver
	for _, name := range list {
		if err := checkName("approvedBy", name); err != nil {
			return nil, err
		}
		p := c.state.Principal(name)
		if p == nil {
			return nil, errNoPrincipal("approvedBy", name)
		}
		r, err := c.engine.rightsAt(c.state, p, nil, at)
		if err != nil {
			return nil, err
		}
		out = append(out, iam.Approver{Principal: name, Groups: append(slices.Clone(r.groups), fsm.Everyone)})
	}
	return out, nil
}

// explained decides, and says why.
func explained(a *asker, t *target) wire.Explanation {
	d := t.decide(a)
	out := wire.Explanation{
		Decision: allowOrDeny(d.Allowed), Reason: d.Reason, At: wire.Millis(a.at.UnixMilli()), Chain: wireChain(d.Chain), BreakGlass: d.BreakGlass,
		Text: decisionText(a, t, d),
	}
	if !d.OpensAt.IsZero() {
		out.OpensAt = &wire.Time{Time: d.OpensAt.UTC()}
	}
	if d.Report != nil {
		out.Report = &wire.PolicyReport{Allowed: d.Report.Allowed, Reason: d.Report.Reason}
	}
	out.Needs = wireNeeds(d.Needs)
	return out
}

func allowOrDeny(allowed bool) string {
	if allowed {
		return iam.Allow
	}
	return iam.Deny
}

func wireQuestion(a *asker, t *target) wire.AskedQuestion {
	out := wire.AskedQuestion{
		Principal: a.principal, Action: string(t.action), Path: string(t.resource.Path), KeyID: t.resource.KeyID, Prefix: t.resource.Below,
		AuthMethod: a.method, Groups: a.groups,
	}
	if a.source.IsValid() {
		out.SourceAddress = a.source.String()
	}
	return out
}

// explainRecorded answers a decision of the trail as it was made, and what the
// same question gets today.
func (c *call) explainRecorded(ctx context.Context, id string) (*wire.ExplainResponse, error) {
	e, err := c.findDecision(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &wire.ExplainResponse{
		DecisionID: id, Event: e.Event, RequestID: e.RequestID, Node: e.Node, Sequence: e.Sequence,
		Explanation: recordedExplanation(e),
	}
	q, asked, known := c.engine.replayOf(c.state, e)
	if !asked {
		return out, nil
	}
	then := asker{principal: q.principal, method: q.method, groups: q.claims, source: q.source}
	out.Question = wireQuestion(&then, &q.target)
	principal := c.state.Principal(q.principal)
	if !known || principal == nil {
		return out, nil
	}
	rights, err := c.engine.rightsOf(c.state, principal, slices.Compact(slices.Sorted(slices.Values(q.claims))), c.now.UnixMilli())
	if err != nil {
		return nil, err
	}
	today := asker{
		state: c.state, rules: rights.rules, principal: q.principal, method: q.method, groups: rights.groups, source: q.source, at: c.now,
	}
	now := explained(&today, &q.target)
	out.Now = &now
	return out, nil
}

// recordedExplanation reads a decision as the trail has it.
func recordedExplanation(e *wire.AuditEvent) wire.Explanation {
	out := wire.Explanation{Decision: iam.Deny, At: e.Time, Chain: []wire.DecisionStep{}}
	d := e.Decision
	if d == nil { // of an earlier release
		out.Reason = firstWord(e.Reason)
		out.Text = "denied: " + reasonText(out.Reason) + "; the trail of that release did not keep the rules"
		return out
	}
	out.Decision, out.Reason, out.OpensAt, out.More, out.Report = allowOrDeny(d.Allowed), d.Reason, d.OpensAt, d.More, d.Report
	if d.Allowed {
		out.BreakGlass = e.BreakGlassID
	}
	if d.Chain != nil {
		out.Chain = d.Chain
	}
	out.Text = recordedText(e, d)
	return out
}

// findDecision looks for the event of a decision in the trails of all members.
func (c *call) findDecision(ctx context.Context, id string) (*wire.AuditEvent, error) {
	q := TrailQuery{DecisionID: id, Limit: 1}
	if at := decisionTime(id); !at.IsZero() {
		// The id says when its request began, and so does its event.
		q.From, q.To = at.UnixMilli(), at.UnixMilli()+1
	}
	pages, unreachable, _ := c.engine.askAll(ctx, q, nil)
	for _, page := range pages {
		for i := range page.Events {
			return &page.Events[i], nil
		}
	}
	if len(unreachable) > 0 {
		return nil, fault.New(fault.NotFound, "decisionId: no trail that could be asked has this decision; %v did not answer, ask again when they do", unreachable).
			With("unreachable", unreachable)
	}
	return nil, fault.New(fault.NotFound, "decisionId: no trail has this decision; a denial says its id, and trails that were deleted are gone")
}

// asPrincipal finds the principal of a request.
func (c *call) asPrincipal(field, name string) (*fsm.Principal, error) {
	if p := c.state.Principal(name); p != nil {
		return p, nil
	}
	return nil, errNoPrincipal(field, name)
}
