package iam

import (
	"cmp"
	"slices"
	"strings"
)

// About answers every statement that names a, in any way, as the steps of a
// chain whose Matched says what the statement is about. It is for questions
// without a resource, and decides nothing.
func About(r Rules, a Action) []Step {
	out := r.Policies.stepsAbout(a, false)
	for _, b := range r.Boundaries {
		out = append(out, b.stepsAbout(a, true)...)
	}
	return out
}

func (s *PolicySet) stepsAbout(a Action, boundary bool) []Step {
	var out []Step
	for _, e := range s.about(a) {
		out = append(out, e.step(a, boundary))
	}
	return out
}

// step tells of an entry without a question.
func (e *entry) step(a Action, boundary bool) Step {
	return Step{
		Policy: e.policy.name, Revision: e.policy.revision, Boundary: boundary, Statement: e.index, Effect: e.effect,
		Action: e.actions.covers(a), Matched: e.about(), Via: e.via, Report: e.policy.report, BreakGlass: e.breakGlass,
	}
}

// about says what a statement is about, the first few of many.
func (s *statement) about() string {
	if s.everywhere {
		return "everything"
	}
	const few = 3
	var all []string
	for i := range s.paths {
		all = append(all, s.paths[i].why)
	}
	for i := range s.keys {
		all = append(all, s.keys[i].why)
	}
	if len(all) > few {
		all = append(all[:few:few], "…")
	}
	return strings.Join(all, ", ")
}

// Near is a statement that allows almost what was asked for.
type Near struct {
	Step
	// OtherAction: it reaches the resource, and not for the action. Else it is
	// about the action, and Matched is the pattern that comes nearest.
	OtherAction bool
}

// Nearest answers up to limit statements that miss q by one thing, the
// nearest first: for people who look for the typing error. It decides
// nothing.
func Nearest(r Rules, q Question, limit int) []Near {
	if r.Policies == nil {
		return nil
	}
	type scored struct {
		Near
		score, place int
	}
	var all []scored
	for i := range r.Policies.entries {
		e := &r.Policies.entries[i]
		if e.effect != Allow || e.policy.report {
			continue
		}
		action, reached := e.actions.covers(q.Action), e.reaches(&q)
		step := e.step(q.Action, false)
		switch {
		case action != "" && reached == "":
			why, score := e.closest(&q)
			step.Matched = why
			all = append(all, scored{Near{Step: step}, 1000 + score, i})
		case action == "" && reached != "" && e.actions.about(q.Action.service()):
			step.Matched = reached
			all = append(all, scored{Near{step, true}, 500, i})
		}
	}
	slices.SortFunc(all, func(a, b scored) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.place, b.place)) })
	var out []Near
	for _, n := range all[:min(limit, len(all))] {
		out = append(out, n.Near)
	}
	return out
}

// closest answers the rule of s that has the most in common with what is asked
// about, and how many bytes that is.
func (s *statement) closest(q *Question) (string, int) {
	text := string(q.Resource.Path) + q.Resource.Below
	best, most := s.about(), 0
	for i := range s.paths {
		head, _ := s.paths[i].pattern.Head()
		if n := common(head, text); n > most {
			best, most = s.paths[i].why, n
		}
	}
	return best, most
}

func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
