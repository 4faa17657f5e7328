package iam

import (
	"maps"
	"slices"
)

// Reach is one statement of some rules, told without a question.
type Reach struct {
	Step
	// Actions are as the statement names them: actions, "secrets:*", "*",
	// "role secrets-read-access"; sorted, each once.
	Actions []string
	// On are its patterns of paths and references of keys, "everything" if it
	// has neither.
	On []string
	// If are the kinds of its conditions.
	If []string

	statement *statement
}

// Reaches answers all statements of r: first those of policies, then those of
// boundaries, in the order of chains.
func Reaches(r Rules) []Reach {
	out := r.Policies.reaches(false)
	for _, b := range r.Boundaries {
		out = append(out, b.reaches(true)...)
	}
	return out
}

// Caps answers the names of the boundaries of r that have a say.
func Caps(r Rules) []string {
	var out []string
	for _, b := range r.Boundaries {
		if !b.report && len(b.entries) > 0 && !slices.Contains(out, b.entries[0].policy.name) {
			out = append(out, b.entries[0].policy.name)
		}
	}
	return out
}

func (s *PolicySet) reaches(boundary bool) []Reach {
	if s == nil {
		return nil
	}
	out := make([]Reach, len(s.entries))
	for i := range s.entries {
		e := &s.entries[i]
		step := e.step("", boundary)
		step.Action = ""
		out[i] = Reach{Step: step, Actions: e.actions.texts(), On: e.on(), If: e.kinds(), statement: e.statement}
	}
	return out
}

// Names reports whether the statement is about a in any way.
func (r *Reach) Names(a Action) bool { return r.statement.actions.covers(a) != "" }

// OnFor answers what the statement is about for a: paths for actions of
// secrets, keys for those of kms.
func (r *Reach) OnFor(a Action) []string {
	if r.statement.everywhere {
		return r.On
	}
	var out []string
	switch a.service() {
	case secretsService:
		for i := range r.statement.paths {
			out = append(out, r.statement.paths[i].pattern.String())
		}
	case kmsService:
		for i := range r.statement.keys {
			out = append(out, r.statement.keys[i].ref)
		}
	}
	return out
}

// ConditionsOf answers the kinds of conditions of a statement that a chain of
// r names; none if it has none, or is not there.
func ConditionsOf(r Rules, step Step) []string {
	sets := []*PolicySet{r.Policies}
	if step.Boundary {
		sets = r.Boundaries
	}
	for _, s := range sets {
		if s == nil {
			continue
		}
		for i := range s.entries {
			if e := &s.entries[i]; e.index == step.Statement && e.policy.name == step.Policy && e.breakGlass == step.BreakGlass {
				return e.kinds()
			}
		}
	}
	return nil
}

// ConditionBreakGlass stands among kinds of conditions for a statement that
// holds by a break-glass session.
const ConditionBreakGlass = "breakGlass"

func (e *entry) kinds() []string {
	out := e.conditions.kinds()
	if e.breakGlass != "" {
		out = append(out, ConditionBreakGlass)
	}
	return out
}

func (s *statement) on() []string {
	if s.everywhere {
		return []string{"everything"}
	}
	var out []string
	for i := range s.paths {
		out = append(out, s.paths[i].pattern.String())
	}
	for i := range s.keys {
		out = append(out, s.keys[i].ref)
	}
	return out
}

// texts answers by which texts actions got into the set.
func (s *actionSet) texts() []string {
	set := map[string]bool{}
	if s.all != "" {
		set[s.all] = true
	}
	for _, why := range s.services {
		set[why] = true
	}
	for _, why := range s.exact {
		set[why] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// kinds answers which kinds of conditions there are, in one order.
func (c *conditions) kinds() []string {
	if c == nil {
		return nil
	}
	var out []string
	for _, one := range []struct {
		there bool
		kind  string
	}{
		{len(c.cidrs) > 0, conditionSource}, {!c.notBefore.IsZero(), conditionBefore}, {!c.notAfter.IsZero(), conditionAfter},
		{len(c.methods) > 0, conditionMethod}, {len(c.groups) > 0, conditionGroups}, {len(c.windows) > 0, conditionWindows},
		{len(c.tags) > 0, conditionTags},
	} {
		if one.there {
			out = append(out, one.kind)
		}
	}
	return out
}
