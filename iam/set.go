package iam

import (
	"slices"

	"github.com/strongroom/strongroom/internal/names"
)

// Grant is a policy as it reaches a principal.
type Grant struct {
	Policy *Policy
	// Via says how, for people: "" attached to the principal itself, else
	// "group ops".
	Via string
	// BreakGlass is the id of the open break-glass session by which the policy
	// holds, "" if it needs none.
	BreakGlass string
}

// PolicySet is all policies that reach a principal, prepared so that a
// decision looks only at statements that can be about its question: a thousand
// others cost it nothing. It is immutable and safe for concurrent use.
//
// The index may only name too many statements, never too few: whatever it
// names is asked again, by reaches and by its conditions.
type PolicySet struct {
	index
	entries []entry
	report  bool // some of it only reports
	glass   bool // some of it holds by a break-glass session
	tags    bool // some of it looks at tags
	weight  int
}

// index finds statements by the action that they name and what they reach.
type index struct {
	all      *bucket            // of statements that name every action
	services map[string]*bucket // "secrets:" → of those that name secrets:*
	exact    map[Action]*bucket
}

func newIndex() index {
	return index{services: map[string]*bucket{}, exact: map[Action]*bucket{}}
}

// entry is one statement, with where it stands.
type entry struct {
	*statement
	policy     *Policy
	index      int // in the policy
	via        string
	breakGlass string
}

// bucket holds the statements about one action, by what they reach. The
// numbers are places in the entries of the set.
type bucket struct {
	every      []int32 // all of the bucket
	everywhere []int32
	paths      map[string][]int32 // whole paths, of patterns without a star
	heads      map[string][]int32 // what every path starts with that a pattern matches
	lengths    []int              // of the keys of heads, rising
	keys       map[string][]int32 // references of keys; "*": every key
}

// NewPolicySet indexes grants. The order of the grants is that of the chains
// of decisions, and of nothing else.
func NewPolicySet(grants []Grant) *PolicySet {
	s := &PolicySet{index: newIndex()}
	for _, g := range grants {
		s.report = s.report || g.Policy.report
		s.tags = s.tags || g.Policy.UsesTags()
		s.glass = s.glass || g.BreakGlass != ""
		for i := range g.Policy.statements {
			st := &g.Policy.statements[i]
			s.add(int32(len(s.entries)), &st.actions, st)
			s.entries = append(s.entries, entry{statement: st, policy: g.Policy, index: i, via: g.Via, breakGlass: g.BreakGlass})
			s.weight += 1 + len(st.paths)
		}
	}
	return s
}

// Set is NewPolicySet of policies that are attached to the principal itself.
func Set(policies ...*Policy) *PolicySet {
	grants := make([]Grant, len(policies))
	for i, p := range policies {
		grants[i].Policy = p
	}
	return NewPolicySet(grants)
}

func (x *index) add(place int32, actions *actionSet, st *statement) {
	if actions.all != "" {
		if x.all == nil {
			x.all = newBucket()
		}
		x.all.add(place, st)
	}
	for service := range actions.services {
		if x.services[service] == nil {
			x.services[service] = newBucket()
		}
		x.services[service].add(place, st)
	}
	for action := range actions.exact {
		if x.exact[action] == nil {
			x.exact[action] = newBucket()
		}
		x.exact[action].add(place, st)
	}
}

func newBucket() *bucket {
	return &bucket{paths: map[string][]int32{}, heads: map[string][]int32{}, keys: map[string][]int32{}}
}

func (b *bucket) add(place int32, st *statement) {
	b.every = append(b.every, place)
	if st.everywhere {
		b.everywhere = append(b.everywhere, place)
	}
	for i := range st.paths {
		head, exact := st.paths[i].pattern.Head()
		if exact {
			b.paths[head] = append(b.paths[head], place)
			continue
		}
		b.heads[head] = append(b.heads[head], place)
		if at, there := slices.BinarySearch(b.lengths, len(head)); !there {
			b.lengths = slices.Insert(b.lengths, at, len(head))
		}
	}
	for i := range st.keys {
		b.keys[st.keys[i].ref] = append(b.keys[st.keys[i].ref], place)
	}
}

// candidates answers, in order and each once, the places of the statements
// that can be about q. buf is room that the answer may use.
func (s *PolicySet) candidates(q *Question, buf []int32) []int32 {
	if s == nil {
		return nil
	}
	buf = s.collect(q, buf)
	slices.Sort(buf)
	return slices.Compact(buf)
}

// collect is candidates in no order, some of them more than once.
func (x *index) collect(q *Question, buf []int32) []int32 {
	service := q.Action.service()
	for _, b := range [...]*bucket{x.exact[q.Action], x.services[service], x.all} {
		if b != nil {
			buf = b.candidates(service, &q.Resource, buf)
		}
	}
	return buf
}

func (b *bucket) candidates(service string, r *Resource, buf []int32) []int32 {
	switch {
	case service == secretsService && r.Path != "":
		buf = append(buf, b.everywhere...)
		return b.matching(r.Path, buf)
	case service == secretsService:
		return append(buf, b.every...) // many paths at once
	case service == kmsService:
		buf = append(buf, b.everywhere...)
		buf = append(buf, b.keys["*"]...)
		if r.KeyID != "" {
			buf = append(buf, b.keys[r.KeyID]...)
		}
		for _, alias := range r.KeyAliases {
			buf = append(buf, b.keys[alias]...)
		}
		return buf
	}
	return append(buf, b.everywhere...)
}

// matching looks up what path is and what it starts with: as many looks as
// there are lengths of heads, not as there are patterns.
func (b *bucket) matching(path names.Path, buf []int32) []int32 {
	buf = append(buf, b.paths[string(path)]...)
	for _, n := range b.lengths {
		if n > len(path) {
			break
		}
		buf = append(buf, b.heads[string(path[:n])]...)
	}
	return buf
}

// about answers the entries whose statements name a, in any way.
func (s *PolicySet) about(a Action) []entry {
	if s == nil {
		return nil
	}
	var places []int32
	for _, b := range [...]*bucket{s.exact[a], s.services[a.service()], s.all} {
		if b != nil {
			places = append(places, b.every...)
		}
	}
	slices.Sort(places)
	places = slices.Compact(places)
	out := make([]entry, len(places))
	for i, place := range places {
		out[i] = s.entries[place]
	}
	return out
}
