package iam

import (
	"slices"
	"time"
)

// AccessSet is all access policies, prepared so that a decision looks only at
// those that can be about its question: by action, by path, and by whom they
// restrict. It is immutable and safe for concurrent use.
type AccessSet struct {
	policies   []*AccessPolicy
	everybody  index            // of those that restrict all
	principals map[string]index // of those that name the principal
	groups     map[string]index
	report     bool // some of them only report
}

// Accesses makes an AccessSet. The order is that of the chains of decisions,
// and of nothing else.
func Accesses(policies ...*AccessPolicy) *AccessSet {
	s := &AccessSet{policies: policies, everybody: newIndex(), principals: map[string]index{}, groups: map[string]index{}}
	for i, p := range policies {
		s.report = s.report || p.report
		if len(p.principals)+len(p.groups) == 0 {
			s.everybody.add(int32(i), &p.rule.actions, &p.rule)
		}
		for _, name := range p.principals {
			addUnder(s.principals, name, int32(i), p)
		}
		for _, name := range p.groups {
			addUnder(s.groups, name, int32(i), p)
		}
	}
	return s
}

func addUnder(by map[string]index, name string, place int32, p *AccessPolicy) {
	x, there := by[name]
	if !there {
		x = newIndex()
	}
	x.add(place, &p.rule.actions, &p.rule)
	by[name] = x
}

// candidates answers, in order and each once, the places of the policies that
// can be about q.
func (s *AccessSet) candidates(q *Question, buf []int32) []int32 {
	if s == nil || q.Action.service() != secretsService {
		return nil // they are about paths
	}
	buf = s.everybody.collect(q, buf)
	if x, there := s.principals[q.Principal]; there {
		buf = x.collect(q, buf)
	}
	for _, g := range q.Groups {
		if x, there := s.groups[g]; there {
			buf = x.collect(q, buf)
		}
	}
	slices.Sort(buf)
	return slices.Compact(buf)
}

// Waived is the effect of an access policy whose times do not allow what a
// break-glass session does.
const Waived = "waived"

// restrict holds an allowed question against the access policies. The source
// address comes before the time: who asks from a wrong place need not be told
// when to come back. Times are waived for what glass, a break-glass session,
// allows; then it is needed. Source addresses never are: who breaks glass does
// so from where they should be.
func (s *AccessSet) restrict(d *Decision, q *Question, strict bool, glass string) {
	var timed []*AccessPolicy
	var room [16]int32
	for _, place := range s.candidates(q, room[:0]) {
		p := s.policies[place]
		matched := p.applies(q)
		if matched == "" {
			continue
		}
		step := Step{
			Policy: p.name, Revision: p.revision, Access: true, Effect: Allow, Action: p.rule.actions.covers(q.Action), Matched: matched,
			Report: p.report,
		}
		away := len(p.cidrs) > 0 && !SourceAllowed(p.cidrs, q.Source)
		shut := !p.open(q.At)
		switch {
		case away:
			step.Effect, step.Unmet = Deny, conditionSource
		case shut && glass != "":
			step.Effect, step.Unmet, step.BreakGlass = Waived, p.shutBy(q.At), glass
		case shut:
			step.Effect, step.Unmet = Deny, p.shutBy(q.At)
		}
		d.Chain = append(d.Chain, step)
		if p.report && !strict {
			continue
		}
		if p.timed() {
			timed = append(timed, p)
		}
		switch {
		case away:
			d.Allowed, d.Reason = false, ReasonSource
		case shut && glass != "":
			d.BreakGlass = glass
		case shut:
			d.Allowed = false
			if d.Reason == "" {
				d.Reason = ReasonWindow
			}
		}
	}
	if d.Reason == ReasonWindow {
		d.OpensAt = opensAll(timed, q.At)
	}
	switch {
	case glass == "":
		d.Timed = d.Timed || len(timed) > 0
	case d.BreakGlass == "" && len(timed) > 0:
		d.Covered = glass
	}
	if !d.Allowed {
		d.BreakGlass, d.Covered = "", ""
	}
}

// shutBy answers which part of p's times does not allow at.
func (p *AccessPolicy) shutBy(at time.Time) string {
	switch {
	case p.early(at):
		return conditionBefore
	case p.late(at):
		return conditionAfter
	}
	return conditionWindows
}

// opensAll answers the first instant, at or after at, at which all of policies
// are open; zero if there is none soon. Each round goes to the latest of the
// next openings, before which not all can be open.
func opensAll(policies []*AccessPolicy, at time.Time) time.Time {
	for end := at.Add(horizon); ; {
		latest := at
		for _, p := range policies {
			opens := p.opens(at)
			if opens.IsZero() {
				return time.Time{}
			}
			if opens.After(latest) {
				latest = opens
			}
		}
		if latest.Equal(at) {
			return at
		}
		// A bound may lie further ahead than the windows are looked for.
		if at = latest; at.After(end) && !slices.ContainsFunc(policies, func(p *AccessPolicy) bool { return p.notBefore.Equal(at) }) {
			return time.Time{}
		}
	}
}

// ClosesAt answers when, at the latest, a question that r allows at q.At has
// to be asked again, because access policies that apply to it will not be
// satisfied by their times any more. Zero: they say nothing about that soon,
// or a break-glass session waives it for as long as it is open.
func (r Rules) ClosesAt(q Question) time.Time {
	var end time.Time
	if r.Policies.behindGlass() && r.Policies.match(&q, false, false, new([]Step)).breakGlass != "" {
		return end
	}
	for _, place := range r.Access.candidates(&q, nil) {
		p := r.Access.policies[place]
		if p.report || !p.timed() || !p.open(q.At) || p.applies(&q) == "" {
			continue
		}
		if closes := p.closes(q.At); !closes.IsZero() && (end.IsZero() || closes.Before(end)) {
			end = closes
		}
	}
	return end
}

// Timed reports whether access policies of r say something about when q may
// be asked.
func (r Rules) Timed(q Question) bool {
	return slices.ContainsFunc(r.Access.candidates(&q, nil), func(place int32) bool {
		p := r.Access.policies[place]
		return p.timed() && !p.report && p.applies(&q) != ""
	})
}
