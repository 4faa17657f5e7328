package engine

import (
	"context"
	"slices"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
)

// What one page of whoCan may cost, in units of about a tenth of a
// microsecond, as for pages of secrets.
const (
	whoCanWork    = 200_000
	principalWork = 50 // to collect the rights of one
)

// Words for what a principal lacks, besides the kinds of conditions.
const (
	lacksBreakGlass = iam.ConditionBreakGlass
	lacksAccess     = "accessPolicy"
	conditional     = "conditional"
)

// whoCan goes over the principals in order, and asks for each what enforcement
// would. A page ends where its work is used up, perhaps empty.
func whoCan(ctx context.Context, c *call, r *wire.WhoCanRequest) (*wire.WhoCanResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	t, err := c.parseTarget(targetFields{action: r.Action, path: r.Path, keyID: r.KeyID, prefix: r.Prefix})
	if err != nil {
		return nil, err
	}
	at := r.At
	if at == nil {
		// A time that is given is one whose rights are not kept: all principals
		// at once would push out those who ask all the time.
		at = &wire.Time{Time: c.now}
	}
	out := &wire.WhoCanResponse{Principals: []wire.WhoCan{}}
	last, work := "", whoCanWork
	for principal := range c.state.Principals(p.after) {
		if work <= 0 && last != "" {
			out.NextCursor = cursor(last)
			return out, nil
		}
		a, err := c.askerFor(principal, circumstances{source: r.SourceAddress, at: at, authMethod: r.AuthMethod})
		if err != nil {
			return nil, err
		}
		work -= principalWork + decisionWork + 2*a.rules.Weight()
		found, err := c.whether(principal, &a, &t)
		if err != nil {
			return nil, err
		}
		if found != nil && len(out.Principals) == p.limit {
			out.NextCursor = cursor(out.Principals[p.limit-1].Principal)
			return out, nil
		}
		if found != nil {
			out.Principals = append(out.Principals, *found)
		}
		last = principal.Name
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return out, nil
}

// whether answers how a principal may do t; nil: under no circumstances.
func (c *call) whether(principal *fsm.Principal, a *asker, t *target) (*wire.WhoCan, error) {
	d := t.decide(a)
	out := &wire.WhoCan{Principal: principal.Name, Kind: principal.Kind, Decision: iam.Allow, By: grantedBy(d.Chain)}
	if d.Allowed {
		out.Conditions, out.BreakGlass = dependsOn(a.rules, d.Chain), d.BreakGlass != ""
		return out, nil
	}
	out.Decision = conditional
	if out.Lacks = lacks(a.rules, d); len(out.Lacks) > 0 {
		return out, nil
	}
	if denies(a.rules, d.Chain) {
		return nil, nil
	}
	opened, err := c.behindGlass(principal, a)
	if err != nil || opened == nil {
		return nil, err
	}
	if d = t.decide(opened); !d.Allowed && len(lacks(opened.rules, d)) == 0 {
		return nil, nil
	}
	out.By, out.BreakGlass = grantedBy(d.Chain), true
	out.Lacks = append(lacks(opened.rules, d), lacksBreakGlass)
	return out, nil
}

// behindGlass answers a as it would be in a break-glass session for all that is
// attached so, nil if nothing is.
func (c *call) behindGlass(principal *fsm.Principal, a *asker) (*asker, error) {
	at := a.at.UnixMilli()
	policies := c.state.BehindGlass(principal, at)
	if len(policies) == 0 {
		return nil, nil
	}
	r, err := c.engine.rightsIn(c.state, principal, nil, at, &fsm.BreakGlassSession{ID: "none yet", Policies: policies})
	if err != nil {
		return nil, err
	}
	opened := *a
	opened.rules = r.rules
	return &opened, nil
}

func grantedBy(chain []iam.Step) []wire.GrantedBy {
	out := []wire.GrantedBy{}
	for _, s := range chain {
		if s.Effect == iam.Allow && !s.Access && !s.Boundary && !s.Report {
			out = append(out, wire.GrantedBy{Policy: s.Policy, Statement: s.Statement, Matched: s.Matched, Via: s.Via})
		}
	}
	return out
}

// kindSet collects words, each once, in the order in which they came.
type kindSet []string

func (k *kindSet) add(kinds ...string) {
	for _, kind := range kinds {
		if !slices.Contains(*k, kind) {
			*k = append(*k, kind)
		}
	}
}

// dependsOn answers the kinds of conditions that what is allowed depends on.
func dependsOn(r iam.Rules, chain []iam.Step) []string {
	var own, other kindSet
	free := false // allowed by a statement without conditions
	for _, s := range chain {
		switch {
		case s.Report:
		case s.Access:
			other.add(lacksAccess)
		case s.Effect == iam.Allow && !s.Boundary && s.Unmet == "":
			kinds := iam.ConditionsOf(r, s)
			free = free || len(kinds) == 0
			own.add(kinds...)
		case s.Effect == iam.Deny && s.Unmet != "", s.Boundary:
			other.add(iam.ConditionsOf(r, s)...)
		}
	}
	if free {
		own = nil
	}
	own.add(other...)
	return own
}

// lacks answers what is in the way of what is denied, nil if nothing that can
// change by itself: no statement that would allow it, or one that denies it
// always.
func lacks(r iam.Rules, d iam.Decision) []string {
	switch d.Reason {
	case iam.ReasonSource, iam.ReasonWindow, iam.ReasonApproval:
		return []string{d.Reason}
	}
	if denies(r, d.Chain) || capped(r, d.Chain) {
		return nil
	}
	var out kindSet
	granted := false
	for _, s := range d.Chain {
		switch {
		case s.Report || s.Access:
		case s.Effect == iam.Deny && s.Unmet == "":
			out.add(iam.ConditionsOf(r, s)...)
		case s.Effect == iam.Allow && s.Unmet != "":
			out.add(s.Unmet)
			granted = granted || !s.Boundary
		case s.Effect == iam.Allow && !s.Boundary:
			granted = true
		}
	}
	if !granted {
		return nil
	}
	return out
}

// capped reports whether some boundary has no statement that could let it
// pass.
func capped(r iam.Rules, chain []iam.Step) bool {
	for _, name := range iam.Caps(r) {
		if !slices.ContainsFunc(chain, func(s iam.Step) bool { return s.Boundary && s.Policy == name && s.Effect == iam.Allow }) {
			return true
		}
	}
	return false
}

// denies reports whether some statement denies whatever the circumstances.
func denies(r iam.Rules, chain []iam.Step) bool {
	for _, s := range chain {
		if s.Effect == iam.Deny && !s.Access && !s.Report && s.Unmet == "" && len(iam.ConditionsOf(r, s)) == 0 {
			return true
		}
	}
	return false
}
