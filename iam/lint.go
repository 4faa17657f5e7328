package iam

import (
	"strings"

	"github.com/strongroom/strongroom/internal/names"
)

// Covers reports whether r holds for every question that o holds for: it names
// all of its actions and is about all that it is about, without conditions. It
// may answer false where it does, and never true where it does not.
func (r *Reach) Covers(o *Reach) bool {
	a, b := r.statement, o.statement
	return a.conditions == nil && !r.Step.Report && a.actions.includes(&b.actions) && a.includes(b)
}

// Values reports whether the statement is about reading values.
func (r *Reach) Values() bool { return r.Names("secrets:getSecretValue") }

// Exact answers the paths, and the references of keys, that the statement
// names without a star; heads are what its other patterns begin with.
func (r *Reach) Exact() (paths, heads, keys []string) {
	for i := range r.statement.paths {
		head, exact := r.statement.paths[i].pattern.Head()
		if exact {
			paths = append(paths, head)
		} else {
			heads = append(heads, head)
		}
	}
	for i := range r.statement.keys {
		if ref := r.statement.keys[i].ref; ref != "*" {
			keys = append(keys, ref)
		}
	}
	return paths, heads, keys
}

// Mentions answers the groups and the principals that conditions and approvals
// of the statement name.
func (r *Reach) Mentions() (groups, principals []string) {
	if c := r.statement.conditions; c != nil {
		groups = append(groups, c.groups...)
	}
	if a := r.statement.approval; a != nil {
		groups, principals = append(groups, a.Groups...), a.Principals
	}
	return groups, principals
}

func (s *actionSet) includes(o *actionSet) bool {
	if s.all != "" {
		return true
	}
	if o.all != "" {
		return false
	}
	for service := range o.services {
		if s.services[service] == "" {
			return false
		}
	}
	for a := range o.exact {
		if s.covers(a) == "" {
			return false
		}
	}
	return true
}

func (s *statement) includes(o *statement) bool {
	if s.everywhere || o.everywhere {
		return s.everywhere
	}
	for i := range o.paths {
		if !anyPath(s.paths, func(p names.Pattern) bool { return includesPattern(p.String(), o.paths[i].pattern.String()) }) {
			return false
		}
	}
	for i := range o.keys {
		if matchKey(s.keys, &Resource{KeyID: o.keys[i].ref}) == "" {
			return false
		}
	}
	return true
}

func anyPath(rules []pathRule, is func(names.Pattern) bool) bool {
	for i := range rules {
		if is(rules[i].pattern) {
			return true
		}
	}
	return false
}

// includesPattern reports whether p matches every path that q matches. A star
// of q is taken as a letter that only a star of p stands for: whatever text is
// in its place, that star of p stands for the text as well.
func includesPattern(p, q string) bool {
	ps, qs := strings.Split(p[1:], "/"), strings.Split(q[1:], "/")
	pRest, qRest := ps[len(ps)-1] == "**", qs[len(qs)-1] == "**"
	if pRest {
		ps = ps[:len(ps)-1]
	}
	if qRest {
		qs = qs[:len(qs)-1]
	}
	switch {
	case !pRest && (qRest || len(ps) != len(qs)):
		return false
	case pRest && len(qs) < len(ps):
		return false
	case pRest && !qRest && len(qs) == len(ps): // "/**" wants one segment more
		return false
	}
	for i := range ps {
		if !names.Glob(ps[i], qs[i]) {
			return false
		}
	}
	return true
}
