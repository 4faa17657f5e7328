package fsm

import "iter"

// Group answers the group of this name, nil if there is none. Everyone is
// always there.
func (s *State) Group(name string) *Group {
	g := at(s.groups, []byte(name))
	if g == nil && name == Everyone {
		return &Group{Name: Everyone}
	}
	return g
}

// Groups answers the groups with names greater than after, in order; that of
// everyone only once a policy was attached to it.
func (s *State) Groups(after string) iter.Seq[*Group] {
	return values(scan(s.groups.Root(), nil, following(after)))
}

// Members answers the memberships of a group with principals greater than
// after, in order, also those that have expired and were not removed yet.
func (s *State) Members(group, after string) iter.Seq[*Membership] {
	return values(scan(s.members.Root(), pair(group, ""), followingPair(group, after)))
}

// Memberships answers the memberships of a principal, in order of groups,
// also those that have expired and were not removed yet.
func (s *State) Memberships(principal string) iter.Seq[*Membership] {
	return values(scan(s.memberships.Root(), pair(principal, ""), nil))
}

// Holds reports whether the membership still holds at now, in milliseconds
// since the Unix epoch.
func (m *Membership) Holds(now int64) bool { return m.ExpiresAt == 0 || now < m.ExpiresAt }

// PolicyRevision answers one revision of a policy, the current one included;
// nil if there is none, or none any more.
func (s *State) PolicyRevision(name string, revision uint64) *Policy {
	if p := s.Policy(name); p != nil && p.Revision == revision {
		return p
	}
	return at(s.revisions, revisionKey(&Policy{Name: name, Revision: revision}))
}

// PolicyRevisions answers the past revisions of a policy, the latest first.
func (s *State) PolicyRevisions(name string) iter.Seq[*Policy] {
	return func(yield func(*Policy) bool) {
		it := s.revisions.Root().ReverseIterator()
		it.SeekPrefix(pair(name, ""))
		for _, p, ok := it.Previous(); ok; _, p, ok = it.Previous() {
			if !yield(p) {
				return
			}
		}
	}
}

// Holder is who a policy is attached to: a principal or a group.
type Holder struct {
	Principal, Group, Mode string
}

// Holders answers who a policy is attached to: principals that have it for
// good first, then all others.
func (s *State) Holders(policy string) iter.Seq[Holder] {
	return func(yield func(Holder) bool) {
		for key := range scan(s.attached.Root(), pair(policy, ""), nil) {
			if !yield(Holder{Principal: string(key[len(policy)+1:])}) {
				return
			}
		}
		for key := range scan(s.holders.Root(), pair(policy, ""), nil) {
			holder, mode := splitPair(string(key[len(policy)+1:]))
			h := Holder{Mode: mode}
			if name := holder[len(principalHolder):]; holder[:len(principalHolder)] == groupHolder {
				h.Group = name
			} else {
				h.Principal = name
			}
			if !yield(h) {
				return
			}
		}
	}
}

// Rights names all that decides who may do what, other than tokens: two states
// with equal Rights decide alike, at the same time. It is comparable.
type Rights struct{ principals, groups, members, policies, access, glass any }

// Rights answers those of s.
func (s *State) Rights() Rights {
	return Rights{s.principals, s.groups, s.members, s.policies, s.access, s.glassOpen}
}

// AccessPoliciesAsWhole stands for all access policies: two states for which
// it is equal have the same. It is comparable.
func (s *State) AccessPoliciesAsWhole() any { return s.access }

// followingPair is following for the second part of a key.
func followingPair(first, after string) []byte {
	if after == "" {
		return nil
	}
	return append(pair(first, after), 0)
}
