package engine

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Bounds of an answer of simulatePolicy.
const (
	maxAnswered      = 500    // of each list that are shown
	maxTallied       = 20_000 // different questions that are counted
	maxSimulated     = 10_000 // holders of a policy whose removal is tried
	defaultSimulated = 7 * 24 * time.Hour
)

func simulateOperations() []*Operation {
	return []*Operation{
		operation(row[wire.SimulatePolicyRequest, wire.SimulatePolicyResponse]{
			service: "iam", name: "simulatePolicy", event: "iam.simulate_policy",
			summary: "Ask the requests of the last days again under a proposed policy: who would lose what, and who would gain what.",
			scope:   simulateScope,
			run:     simulatePolicy,
		}),
		operation(row[wire.LintPoliciesRequest, wire.LintPoliciesResponse]{
			service: "iam", name: "lintPolicies", event: "iam.lint_policies", action: "iam:simulatePolicy",
			summary: "Report statements that are too wide, give values to people, are used by nobody, add nothing, or name what is gone.",
			scope: func(_ *call, r *wire.LintPoliciesRequest) (scope, error) {
				if r.Policy == "" {
					return scope{}, nil
				}
				return nameScope("policy", r.Policy)
			},
			run: lintPolicies,
		}),
	}
}

func simulateScope(_ *call, r *wire.SimulatePolicyRequest) (scope, error) {
	var subject []string
	switch {
	case r.Name == "" && r.AccessPolicy == nil:
		return scope{}, fault.Invalid("name", "is missing; give the policy, or an accessPolicy, that is proposed")
	case r.Name == "" && (r.Statements != nil || r.AttachTo != nil):
		return scope{}, fault.Invalid("name", "is missing; statements and attachTo are of a policy")
	}
	if r.Name != "" {
		if err := checkName("name", r.Name); err != nil {
			return scope{}, err
		}
		subject = append(subject, r.Name)
	}
	if r.AccessPolicy != nil {
		if err := checkName("accessPolicy.name", r.AccessPolicy.Name); err != nil {
			return scope{}, err
		}
		subject = append(subject, r.AccessPolicy.Name)
	}
	return scope{subject: strings.Join(subject, " ")}, nil
}

// simulatePolicy tries the change on a state of its own, and asks what the
// trails hold in both. Nothing is proposed to the cluster.
func simulatePolicy(ctx context.Context, c *call, r *wire.SimulatePolicyRequest) (*wire.SimulatePolicyResponse, error) {
	since, err := c.sinceTime(r.Since, defaultSimulated)
	if err != nil {
		return nil, err
	}
	p := &proposal{c: c, state: c.state}
	if err := p.apply(r); err != nil {
		return nil, err
	}
	out := &wire.SimulatePolicyResponse{Warnings: []string{}}
	for _, w := range p.warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	loses, gains := newTally(), newTally()
	replayer := c.newReplayer(since)
	err = replayer.run(ctx, func(q *replay) error {
		before, _, err := replayer.ask(c.state, q)
		if err != nil {
			return err
		}
		after, _, err := replayer.ask(p.state, q)
		if err != nil {
			return err
		}
		switch {
		case before.Allowed && !after.Allowed:
			loses.add(q, after.Reason)
		case !before.Allowed && after.Allowed:
			gains.add(q, "")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Replayed = replayer.out
	out.Loses, out.MoreLoses = loses.answer(c)
	out.Gains, out.MoreGains = gains.answer(c)
	return out, nil
}

// proposal tries commands one after the other, as Apply would decide them.
type proposal struct {
	c        *call
	state    *fsm.State
	warnings []iam.Warning
}

func (p *proposal) try(command fsm.Command) error {
	next, result, err := p.state.Try(command)
	if err != nil {
		return err
	}
	if result.Refused != nil {
		return p.c.refused(result.Refused)
	}
	p.state = next
	return nil
}

func (p *proposal) meta() fsm.Meta {
	return fsm.Meta{Time: p.c.now.UnixMilli(), Principal: p.c.who.name, RequestID: p.c.from.RequestID}
}

func (p *proposal) apply(r *wire.SimulatePolicyRequest) error {
	switch {
	case r.Name == "":
	case r.Statements != nil && len(r.Statements) == 0:
		if r.AttachTo != nil {
			return fault.Invalid("attachTo", "does not go with an empty list of statements, which removes the policy")
		}
		if err := p.remove(r.Name); err != nil {
			return err
		}
	case r.Statements != nil:
		if err := p.put(r.Name, r.Statements); err != nil {
			return err
		}
	case p.state.Policy(r.Name) == nil:
		return errNoPolicy(r.Name)
	case r.AttachTo == nil && r.AccessPolicy == nil:
		return fault.Invalid("statements", "are missing; give what the policy is to say (an empty list removes it), or attachTo")
	}
	if err := p.attach(r.Name, r.AttachTo); err != nil {
		return err
	}
	if r.AccessPolicy == nil {
		return nil
	}
	record, err := p.c.proposedAccess(r.AccessPolicy)
	if err != nil {
		return err
	}
	return p.try(fsm.PutAccessPolicy{Meta: p.meta(), Policy: record})
}

func (p *proposal) put(name string, in []wire.Statement) error {
	statements, err := fsmStatements(in)
	if err != nil {
		return err
	}
	if _, p.warnings, err = iam.CompilePolicy(p.c.engine.catalogue, name, 0, iamStatements(statements)); err != nil {
		return err
	}
	return p.try(fsm.PutPolicy{Meta: p.meta(), Name: name, Statements: statements})
}

// remove takes the policy from all its holders, and then away.
func (p *proposal) remove(name string) error {
	if p.state.Policy(name) == nil {
		return errNoPolicy(name)
	}
	holders := 0
	for h := range p.c.state.Holders(name) {
		if holders++; holders > maxSimulated {
			return fault.Invalid("statements", "would take the policy from more than %d holders; try it with a statement that allows nothing that is used", maxSimulated)
		}
		if err := p.try(fsm.DetachPolicy{Meta: p.meta(), Policy: name, Principal: h.Principal, Group: h.Group, Mode: h.Mode}); err != nil {
			return err
		}
	}
	return p.try(fsm.DeletePolicy{Meta: p.meta(), Name: name})
}

func (p *proposal) attach(name string, to *wire.ProposedHolder) error {
	if to == nil {
		return nil
	}
	mode, err := modeOf(to.Mode)
	if err != nil {
		return err
	}
	if n := len(to.Principals) + len(to.Groups); n == 0 || n > maxLimit {
		return fault.Invalid("attachTo", "must name 1 to %d principals and groups", maxLimit)
	}
	for _, principal := range to.Principals {
		if err := p.try(fsm.AttachPolicy{Meta: p.meta(), Policy: name, Principal: principal, Mode: mode}); err != nil {
			return err
		}
	}
	for _, group := range to.Groups {
		if err := p.try(fsm.AttachPolicy{Meta: p.meta(), Policy: name, Group: group, Mode: mode}); err != nil {
			return err
		}
	}
	return nil
}

// proposedAccess checks an access policy as putAccessPolicy does.
func (c *call) proposedAccess(in *wire.ProposedAccess) (fsm.AccessPolicy, error) {
	return c.accessRecord(&wire.PutAccessPolicyRequest{
		Name: in.Name, Paths: in.Paths, Actions: in.Actions, Principals: in.Principals, SourceCIDRs: in.SourceCIDRs,
		Groups: in.Groups, TimeWindows: in.TimeWindows, NotBefore: in.NotBefore, NotAfter: in.NotAfter,
	})
}

// tally counts different questions.
type tally struct {
	entries map[tallyKey]*tallied
	more    int // questions that there was no room for
}

type tallyKey struct {
	principal string
	target    string
}

type tallied struct {
	replay
	count  int
	reason string
}

func newTally() *tally { return &tally{entries: map[tallyKey]*tallied{}} }

func (t *tally) add(q *replay, reason string) {
	key := tallyKey{q.principal, q.target.String()}
	e := t.entries[key]
	if e == nil {
		if len(t.entries) == maxTallied {
			t.more++
			return
		}
		e = &tallied{}
		t.entries[key] = e
	}
	e.count++
	if e.count == 1 || !q.at.Before(e.at) {
		e.replay, e.reason = *q, reason
	}
}

// answer lists the most frequent ones, and how many more there are.
func (t *tally) answer(c *call) ([]wire.ChangedAnswer, int) {
	all := make([]*tallied, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *tallied) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.principal, b.principal), cmp.Compare(a.target.String(), b.target.String()))
	})
	shown := all[:min(maxAnswered, len(all))]
	out := make([]wire.ChangedAnswer, len(shown))
	reader := c.may("audit:queryEvents", iam.Resource{Any: true})
	for i, e := range shown {
		out[i] = wire.ChangedAnswer{
			Principal: e.principal, Action: string(e.action), KeyID: e.resource.KeyID, Count: e.count,
			LastAt: wire.Millis(e.at.UnixMilli()), Reason: e.reason,
		}
		if path := e.resource.Path; path != "" && (reader || c.may(describe, iam.Resource{Path: names.Path(path)})) {
			out[i].Path = string(path)
		} else if reader {
			out[i].Path = e.resource.Below
		}
	}
	return out, len(all) - len(shown) + t.more
}
