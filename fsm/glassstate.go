package fsm

import (
	"iter"

	"github.com/strongroom/strongroom/internal/names"
)

// BreakGlass answers the break-glass session of this id, nil if there is none.
// Sessions are forgotten 90 days after their last duty was done.
func (s *State) BreakGlass(id string) *BreakGlassSession { return at(s.glass, []byte(id)) }

// BreakGlassSessions answers the sessions with ids greater than after, in
// order; those of one principal if principal is not empty.
func (s *State) BreakGlassSessions(principal, after string) iter.Seq[*BreakGlassSession] {
	if principal == "" {
		return values(scan(s.glass.Root(), nil, following(after)))
	}
	return values(scan(s.glassOf.Root(), pair(principal, ""), followingPair(principal, after)))
}

// OpenGlass answers the session of principal that is open at now, in
// milliseconds since the Unix epoch; nil if none is.
func (s *State) OpenGlass(principal string, now int64) *BreakGlassSession {
	open := at(s.glassOpen, []byte(principal))
	if open == nil || open.EndedAt(now) != 0 {
		return nil
	}
	return open
}

// BehindGlass answers the policies that p may open a session for at now, in no
// order.
func (s *State) BehindGlass(p *Principal, now int64) []string {
	out := glassPolicies(nil, p.Attached, now)
	for m := range s.Memberships(p.Name) {
		if g := s.Group(m.Group); g != nil && m.Holds(now) {
			out = glassPolicies(out, g.Attached, now)
		}
	}
	return glassPolicies(out, s.Group(Everyone).Attached, now)
}

// GlassReads answers what was read in a session, in order of paths.
func (s *State) GlassReads(id string) iter.Seq[*GlassRead] {
	return values(scan(s.glassReads.Root(), pair(id, ""), nil))
}

// GlassRead answers what was read of one secret in a session, nil: nothing.
func (s *State) GlassRead(id string, path names.Path) *GlassRead {
	return at(s.glassReads, pair(id, string(path)))
}

// GlassCount answers how much there is of a session.
func (s *State) GlassCount(id string) GlassCount { return at(s.glassCounts, []byte(id)) }

// GlassTotals is how many sessions are open at one time, and how many duties
// there are of all sessions.
type GlassTotals struct{ Open, Rotate, Review int }

// GlassTotals answers those at now. A review is a duty once its session has
// ended.
func (s *State) GlassTotals(now int64) GlassTotals {
	out := GlassTotals{Rotate: s.glassDuties.Len()}
	for one := range s.BreakGlassSessions("", "") {
		switch {
		case one.EndedAt(now) == 0:
			out.Open++
		case one.ReviewedAt == 0:
			out.Review++
		}
	}
	return out
}
