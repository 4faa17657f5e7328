package iam

import (
	"cmp"
	"slices"
	"strings"
)

// Span is a stretch of paths in the order of their bytes: those that start
// with Prefix, or, if Exact, that one path.
type Span struct {
	Prefix string
	Exact  bool
}

// Holds reports whether path is in s.
func (s Span) Holds(path string) bool {
	if s.Exact {
		return path == s.Prefix
	}
	return strings.HasPrefix(path, s.Prefix)
}

// Before reports whether all of s is at or before place, so that whoever goes
// on after place is done with s.
func (s Span) Before(place string) bool {
	if s.Exact {
		return s.Prefix <= place
	}
	return s.Prefix <= place && !strings.HasPrefix(place, s.Prefix)
}

// Spans answers where, below prefix, r can allow a, an action of secrets: in
// order, none inside another. Outside of them every decision is a denial,
// because nothing allows; inside them each path still wants its own Decide. So
// a list may leave out what is outside without asking, and costs what the
// caller may see, not what there is.
func Spans(r Rules, a Action, prefix string) []Span {
	var all []Span
	for _, e := range r.Policies.about(a) {
		if e.restricts() || e.policy.report {
			continue
		}
		if e.everywhere {
			return []Span{{Prefix: prefix}}
		}
		for j := range e.paths {
			head, exact := e.paths[j].pattern.Head()
			all = append(all, Span{Prefix: head, Exact: exact})
		}
	}
	return disjoint(within(all, prefix))
}

// within answers the parts of the spans below prefix.
func within(spans []Span, prefix string) []Span {
	var out []Span
	for _, s := range spans {
		switch {
		case strings.HasPrefix(s.Prefix, prefix):
			out = append(out, s)
		case !s.Exact && strings.HasPrefix(prefix, s.Prefix):
			out = append(out, Span{Prefix: prefix})
		}
	}
	return out
}

// disjoint sorts spans and leaves out those that lie in another. Two stretches
// of paths with common starts are one inside the other or have nothing in
// common.
func disjoint(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int {
		if c := strings.Compare(a.Prefix, b.Prefix); c != 0 {
			return c
		}
		return cmp.Compare(rank(a), rank(b)) // the wider one first
	})
	var out []Span
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].Holds(s.Prefix) {
			continue
		}
		out = append(out, s)
	}
	return out
}

func rank(s Span) int {
	if s.Exact {
		return 1
	}
	return 0
}

// Weight is about what one Decide under r costs at worst: how many statements
// and patterns it may have to look at.
func (r Rules) Weight() int {
	n := r.Policies.weigh()
	for _, b := range r.Boundaries {
		n += b.weigh()
	}
	if r.Access != nil {
		n += len(r.Access.policies)
	}
	return n
}

func (s *PolicySet) weigh() int {
	if s == nil {
		return 0
	}
	return s.weight
}
