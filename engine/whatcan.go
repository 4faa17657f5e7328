package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

const readAction = iam.Action("secrets:getSecretValue")

// maxAccessNames bounds the access policies that an answer names.
const maxAccessNames = 1000

func whatCan(ctx context.Context, c *call, r *wire.WhatCanRequest) (*wire.WhatCanResponse, error) {
	p, err := c.listPage(ctx, r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	if _, err := prefixScope(&r.Prefix); err != nil {
		return nil, err
	}
	principal, err := c.asPrincipal("principal", r.Principal)
	if err != nil {
		return nil, err
	}
	a, err := c.askerFor(principal, circumstances{r.SourceAddress, r.At, r.AuthMethod, r.Groups})
	if err != nil {
		return nil, err
	}
	out := &wire.WhatCanResponse{Principal: principal.Name, Kind: principal.Kind, Groups: a.groups}
	if r.Values {
		return out, c.readableBy(ctx, &a, r.Prefix, p, out)
	}
	if p.after != "" || r.Limit != nil {
		return nil, fault.Invalid("limit", "and cursor go with values; the rights of a principal are one answer")
	}
	c.describeRights(&a, out)
	return out, nil
}

// describeRights tells what the statements that reach a say together.
func (c *call) describeRights(a *asker, out *wire.WhatCanResponse) {
	reaches := iam.Reaches(a.rules)
	out.Actions = []wire.ActionReach{}
	for _, action := range c.engine.known {
		if !iam.MayAnywhere(a.rules, action) {
			continue
		}
		if one := reachOf(reaches, action); len(one.On) > 0 {
			out.Actions = append(out.Actions, one)
		}
	}
	for i := range reaches {
		e := &reaches[i]
		if e.Report {
			continue
		}
		one := wire.RestrictedReach{Policy: e.Policy, Statement: e.Statement, Via: e.Via, Effect: e.Effect, Actions: e.Actions, On: e.On, If: e.If}
		switch {
		case e.Boundary:
			out.Boundaries = append(out.Boundaries, one)
		case e.Effect == iam.Deny:
			out.Denies = append(out.Denies, one)
		case e.Effect == iam.RequireApproval:
			out.Approvals = append(out.Approvals, one)
		}
	}
	for p := range c.state.AccessPolicies("") {
		if len(p.Principals)+len(p.Groups) == 0 || slices.Contains(p.Principals, a.principal) ||
			slices.ContainsFunc(p.Groups, func(g string) bool { return g == fsm.Everyone || slices.Contains(a.groups, g) }) {
			out.AccessPolicies = append(out.AccessPolicies, p.Name)
		}
		if len(out.AccessPolicies) == maxAccessNames {
			break
		}
	}
}

// reachOf collects what the statements that allow an action allow it on.
func reachOf(reaches []iam.Reach, action iam.Action) wire.ActionReach {
	out := wire.ActionReach{Action: string(action), On: []string{}, By: []string{}}
	var on, by, kinds kindSet
	free := false
	for i := range reaches {
		e := &reaches[i]
		if e.Effect != iam.Allow || e.Boundary || e.Report || !e.Names(action) {
			continue
		}
		places := e.OnFor(action)
		if len(places) == 0 {
			continue
		}
		free = free || len(e.If) == 0
		on.add(places...)
		kinds.add(e.If...)
		by.add(strings.TrimSuffix(e.Policy+" through "+e.Via, " through "))
	}
	if !free {
		out.If = kinds
	}
	out.On, out.By = on, by
	return out
}

// readableBy fills a page with the secrets whose values a may read now, as far
// as the caller may list them.
func (c *call) readableBy(ctx context.Context, a *asker, prefix string, p page, out *wire.WhatCanResponse) error {
	out.Values = []wire.ReadableSecret{}
	place, shown, work := p.after, true, pageWork
	cost := lookWork + 2*decisionWork + a.rules.Weight() + c.rules.Weight()
	next := func() (err error) {
		if shown {
			out.NextCursor = cursor(place)
		} else { // the caller may not see the place
			out.NextCursor, err = c.sealCursor(ctx, place)
		}
		return err
	}
	for _, span := range iam.Spans(a.rules, readAction, prefix) {
		if span.Before(place) {
			continue
		}
		for s := range c.state.SecretsFrom(span.Prefix, place) {
			if !span.Holds(string(s.Path)) {
				break // an exact one, and this is longer
			}
			if work <= 0 {
				return next()
			}
			work -= cost
			good := s.State == fsm.SecretActive && c.may(listAction, iam.Resource{Path: s.Path}) &&
				a.decide(readAction, iam.Resource{Path: s.Path}).Allowed
			if good && len(out.Values) == p.limit {
				place, shown = out.Values[p.limit-1].Path, true
				return next()
			}
			if good {
				out.Values = append(out.Values, wire.ReadableSecret{Path: string(s.Path), CurrentVersion: s.Current})
			}
			place, shown = string(s.Path), good
		}
	}
	return nil
}
