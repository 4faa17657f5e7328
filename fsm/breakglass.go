package fsm

import (
	"errors"
	"slices"

	"github.com/strongroom/strongroom/internal/names"
)

// Bounds of break-glass sessions, times in milliseconds.
const (
	MinGlassTime = 60 * 1000
	MaxGlassTime = 12 * 60 * 60 * 1000
	// MaxGlassReads is how many different versions may be read in one session:
	// each is kept until its secret was rotated.
	MaxGlassReads = 10_000
	// MaxGlassDuties is how many sessions of one principal may have duties.
	MaxGlassDuties = 100

	keepGlass    = 90 * 24 * 60 * 60 * 1000
	maxGlassText = 2048
)

// BreakGlassSession is a time in which policies hold for a principal that are
// attached to it for emergencies. What it read, and what is left to do about
// that, is in the GlassReads of the session.
type BreakGlassSession struct {
	ID        string   `cbor:"1,keyasint,omitempty"`
	Principal string   `cbor:"2,keyasint,omitempty"` // who opened it
	Policies  []string `cbor:"3,keyasint,omitempty"` // sorted; each holds while it is attached, too
	Reason    string   `cbor:"4,keyasint,omitempty"`
	OpenedAt  int64    `cbor:"5,keyasint,omitempty"`
	ExpiresAt int64    `cbor:"6,keyasint,omitempty"` // from then on it is not open
	// ClosedAt is when it ended, 0 for one that is open, or past its end with
	// no Sweep since: ask EndedAt.
	ClosedAt    int64  `cbor:"7,keyasint,omitempty"`
	ClosedBy    string `cbor:"8,keyasint,omitempty"` // "": it expired
	CloseReason string `cbor:"9,keyasint,omitempty"`
	ReviewedAt  int64  `cbor:"10,keyasint,omitempty"`
	ReviewedBy  string `cbor:"11,keyasint,omitempty"`
	Notes       string `cbor:"12,keyasint,omitempty"`
	// SettledAt is when the last of its duties was done.
	SettledAt int64 `cbor:"13,keyasint,omitempty"`
}

// OpenBreakGlass begins a session of the principal of Meta, Duration
// milliseconds long.
type OpenBreakGlass struct {
	Meta     Meta     `cbor:"1,keyasint,omitempty"`
	ID       string   `cbor:"2,keyasint,omitempty"`
	Policies []string `cbor:"3,keyasint,omitempty"`
	Reason   string   `cbor:"4,keyasint,omitempty"`
	Duration int64    `cbor:"5,keyasint,omitempty"`
}

// CloseBreakGlass ends a session. Its duties stay.
type CloseBreakGlass struct {
	Meta   Meta   `cbor:"1,keyasint,omitempty"`
	ID     string `cbor:"2,keyasint,omitempty"`
	Reason string `cbor:"3,keyasint,omitempty"`
}

// ReviewBreakGlass says that the principal of Meta has looked at what was done
// in a session.
type ReviewBreakGlass struct {
	Meta  Meta   `cbor:"1,keyasint,omitempty"`
	ID    string `cbor:"2,keyasint,omitempty"`
	Notes string `cbor:"3,keyasint,omitempty"`
}

func openBreakGlass(t *txn, c OpenBreakGlass) (Result, *Refusal) {
	p, r := t.principal("principal", t.by)
	if r != nil {
		return Result{}, r
	}
	if r := checkName("breakGlassId", c.ID); r != nil {
		return Result{}, r
	}
	switch {
	case t.glass.value([]byte(c.ID)) != nil:
		return Result{}, alreadyExists("breakGlassId: is taken")
	case c.Reason == "" || len(c.Reason) > maxGlassText:
		return Result{}, invalid("reason", "must have 1 to %d bytes: it is what the reviewer reads first", maxGlassText)
	case c.Duration < MinGlassTime || c.Duration > MaxGlassTime:
		return Result{}, invalid("duration", "must be 1m to 12h; another session can be opened afterwards")
	}
	if r := t.checkGlassPolicies(p, c.Policies); r != nil {
		return Result{}, r
	}
	if r := t.checkOneGlass(p.Name); r != nil {
		return Result{}, r
	}
	s := &BreakGlassSession{
		ID: c.ID, Principal: p.Name, Policies: slices.Compact(slices.Sorted(slices.Values(c.Policies))), Reason: c.Reason,
		OpenedAt: t.now, ExpiresAt: t.now + c.Duration,
	}
	t.putGlass(s)
	return Result{Name: s.ID, DueAt: s.ExpiresAt}, nil
}

// checkGlassPolicies refuses what is not attached to p for emergencies now.
func (t *txn) checkGlassPolicies(p *Principal, policies []string) *Refusal {
	behind := t.behindGlass(p)
	if len(policies) == 0 || len(policies) > maxAttached {
		return invalid("policies", "must have 1 to %d entries; %d are attached to %s, or to a group that it is in, with the mode breakGlass", maxAttached, len(behind), p.Name)
	}
	for _, policy := range policies {
		if r := checkName("policies", policy); r != nil {
			return r
		}
		if !slices.Contains(behind, policy) {
			return invalid("policies", "%s is not attached to %s, or to a group that it is in, with the mode breakGlass", policy, p.Name)
		}
	}
	return nil
}

// behindGlass answers the policies that are attached to p for emergencies, to
// itself or to a group that it is in by the state. Groups of claims do not
// count: who may break glass is for this cluster to say, and a session
// outlives the credential that brought the claims.
func (t *txn) behindGlass(p *Principal) []string {
	out := glassPolicies(nil, p.Attached, t.now)
	for _, m := range t.memberships.collect(pair(p.Name, ""), 0) {
		if g := t.groups.value([]byte(m.Group)); g != nil && m.Holds(t.now) {
			out = glassPolicies(out, g.Attached, t.now)
		}
	}
	if g := t.groups.value([]byte(Everyone)); g != nil {
		out = glassPolicies(out, g.Attached, t.now)
	}
	return out
}

func glassPolicies(out []string, attached []Attachment, now int64) []string {
	for _, a := range attached {
		if a.Mode == ModeBreakGlass && a.Holds(now) && !slices.Contains(out, a.Policy) {
			out = append(out, a.Policy)
		}
	}
	return out
}

// checkOneGlass refuses a second session beside one that is open, and one more
// of somebody whose duties are never done.
func (t *txn) checkOneGlass(principal string) *Refusal {
	duties := 0
	for _, s := range t.glassOf.collect(pair(principal, ""), 0) {
		switch {
		case s.EndedAt(t.now) == 0:
			return conflict("breakGlassId: the session %s of %s is open; closeBreakGlass ends it", s.ID, principal).with("breakGlassId", s.ID)
		case s.ClosedAt == 0:
			t.endGlass(s, s.ExpiresAt, "", "")
			duties++
		case s.SettledAt == 0:
			duties++
		}
	}
	if duties >= MaxGlassDuties {
		return conflict("breakGlassId: %d sessions of %s have duties, which is the most allowed; rotate what was read and have them reviewed", duties, principal)
	}
	return nil
}

func closeBreakGlass(t *txn, c CloseBreakGlass) (Result, *Refusal) {
	s, r := t.glassSession(c.ID)
	if r != nil {
		return Result{}, r
	}
	if len(c.Reason) > maxGlassText {
		return Result{}, invalid("reason", "has %d bytes; at most %d are allowed", len(c.Reason), maxGlassText)
	}
	if ended := s.EndedAt(t.now); ended != 0 {
		return Result{Name: s.ID, DueAt: ended, Unchanged: true}, nil
	}
	t.endGlass(s, t.now, t.by, c.Reason)
	return Result{Name: s.ID, DueAt: t.now}, nil
}

// reviewBreakGlass takes the word of somebody else, who was there before: one
// who may make principals could make one to review with.
func reviewBreakGlass(t *txn, c ReviewBreakGlass) (Result, *Refusal) {
	s, r := t.glassSession(c.ID)
	if r != nil {
		return Result{}, r
	}
	who, r := t.principal("principal", t.by)
	if r != nil {
		return Result{}, r
	}
	switch {
	case who.Name == s.Principal:
		return Result{}, conflict("breakGlassId: nobody reviews a session of their own; somebody else has to")
	case who.CreatedAt >= s.OpenedAt:
		return Result{}, conflict("breakGlassId: only principals that were there before the session may review it")
	case s.EndedAt(t.now) == 0:
		return Result{}, conflict("breakGlassId: the session is open; it is reviewed when it has ended, which closeBreakGlass does")
	case s.ReviewedAt != 0:
		return Result{}, conflict("breakGlassId: %s has reviewed the session already", s.ReviewedBy)
	case c.Notes == "" || len(c.Notes) > maxGlassText:
		return Result{}, invalid("notes", "must have 1 to %d bytes: they say what was looked at and found", maxGlassText)
	}
	if s.ClosedAt == 0 {
		s = t.endGlass(s, s.ExpiresAt, "", "")
	}
	next := *s
	next.ReviewedAt, next.ReviewedBy, next.Notes = t.now, who.Name, c.Notes
	t.putGlass(&next)
	t.settleGlass(s.ID)
	return Result{Name: s.ID}, nil
}

// EndedAt answers when s ended, 0 if it is open at now, in milliseconds since
// the Unix epoch. Nobody needs to wait for a Sweep.
func (s *BreakGlassSession) EndedAt(now int64) int64 {
	if s.ClosedAt == 0 && now >= s.ExpiresAt {
		return s.ExpiresAt
	}
	return s.ClosedAt
}

func (t *txn) glassSession(id string) (*BreakGlassSession, *Refusal) {
	s := t.glass.value([]byte(id))
	if s == nil {
		return nil, notFound("breakGlassId: there is no such session; listBreakGlass shows them")
	}
	return s, nil
}

func (t *txn) endGlass(s *BreakGlassSession, at int64, by, reason string) *BreakGlassSession {
	next := *s
	next.ClosedAt, next.ClosedBy, next.CloseReason = at, by, reason
	t.putGlass(&next)
	return &next
}

// closeGlassOf ends the session of a principal that goes away. The duties
// stay: what was read was read.
func (t *txn) closeGlassOf(principal string) {
	for _, s := range t.glassOf.collect(pair(principal, ""), 0) {
		switch {
		case s.ClosedAt != 0:
		case s.EndedAt(t.now) != 0:
			t.endGlass(s, s.ExpiresAt, "", "")
		default:
			t.endGlass(s, t.now, t.by, "the principal was deleted")
		}
	}
}

// settleGlass notes when the last duty of a session is done.
func (t *txn) settleGlass(id string) {
	s := t.glass.value([]byte(id))
	if s.ReviewedAt == 0 || s.SettledAt != 0 || t.glassCounts.value([]byte(id)).Duties > 0 {
		return
	}
	next := *s
	next.SettledAt = t.now
	t.putGlass(&next)
}

// due is when a Sweep next has to do with s, nothing while it has duties.
func (s *BreakGlassSession) due() (dueItem, bool) {
	switch {
	case s.ClosedAt == 0:
		return dueItem{at: s.ExpiresAt, kind: dueGlassEnd, id: s.ID}, true
	case s.SettledAt != 0:
		return dueItem{at: min(s.SettledAt+keepGlass, maxTime), kind: dueGlassForget, id: s.ID}, true
	}
	return dueItem{}, false
}

func (t *txn) putGlass(s *BreakGlassSession) {
	if old := t.glass.value([]byte(s.ID)); old != nil {
		if d, ok := old.due(); ok {
			t.unschedule(d)
		}
		// Rights depend on what is open, and on nothing else of a session.
		if old.ClosedAt == 0 && s.ClosedAt != 0 {
			t.glassOpen.remove([]byte(s.Principal))
		}
	} else if s.ClosedAt == 0 {
		t.glassOpen.put([]byte(s.Principal), s)
	}
	t.glass.put([]byte(s.ID), s)
	t.glassOf.put(pair(s.Principal, s.ID), s)
	if d, ok := s.due(); ok {
		t.schedule(d)
	}
}

// glassEnd marks the end of a session that has expired.
func (t *txn) glassEnd(id string) int {
	s := t.glass.value([]byte(id))
	t.endGlass(s, s.ExpiresAt, "", "")
	return 1
}

// glassForget removes a session whose duties were done 90 days ago, and
// answers what that cost.
func (t *txn) glassForget(id string) int {
	s := t.glass.value([]byte(id))
	reads := t.glassReads.collect(pair(id, ""), 0)
	for _, read := range reads {
		t.glassReads.remove(pair(id, string(read.Path)))
	}
	t.glassCounts.remove([]byte(id))
	t.glassOf.remove(pair(s.Principal, id))
	t.glass.remove([]byte(id))
	return 1 + len(reads)
}

// glassRecord is a session, or one of its reads, as a snapshot has them: each
// session, and after it its reads in order of paths.
type glassRecord struct {
	Session *BreakGlassSession `cbor:"1,keyasint,omitempty"`
	Read    *GlassRead         `cbor:"2,keyasint,omitempty"`
}

var (
	errBadGlass = errors.New("a break-glass session is of no time, of nobody, or reviewed by who opened it")
	errBadReads = errors.New("a break-glass session has read what could not be read, or too much")
)

func (t *txn) restoreGlass(r *glassRecord) (string, error) {
	switch {
	case r.Session != nil && r.Read == nil:
		return t.restoreGlassSession(r.Session)
	case r.Read != nil && r.Session == nil:
		return t.restoreGlassRead(r.Read)
	}
	return "", errBadGlass
}

func (t *txn) restoreGlassSession(s *BreakGlassSession) (string, error) {
	closed, reviewed, settled := s.ClosedAt != 0, s.ReviewedAt != 0, s.SettledAt != 0
	sorted := slices.IsSorted(s.Policies) && len(slices.Compact(slices.Clone(s.Policies))) == len(s.Policies)
	switch {
	case !validNames([]string{s.ID, s.Principal}), !validNames(s.Policies), len(s.Policies) == 0, !sorted, s.Reason == "",
		s.OpenedAt <= 0, s.ExpiresAt > maxTime, s.ExpiresAt-s.OpenedAt < MinGlassTime, s.ExpiresAt-s.OpenedAt > MaxGlassTime,
		closed && (s.ClosedAt < s.OpenedAt || s.ClosedAt > s.ExpiresAt),
		reviewed && (!closed || s.ReviewedAt < s.ClosedAt || s.ReviewedAt > maxTime || s.ReviewedBy == s.Principal || !validNames([]string{s.ReviewedBy}) || s.Notes == ""),
		settled && (!reviewed || s.SettledAt < s.ReviewedAt || s.SettledAt > maxTime),
		t.glass.value([]byte(s.ID)) != nil,
		!closed && (t.glassOpen.value([]byte(s.Principal)) != nil || t.principals.value([]byte(s.Principal)) == nil):
		return "", errBadGlass
	}
	t.putGlass(s)
	return s.ID, nil
}

func (t *txn) restoreGlassRead(r *GlassRead) (string, error) {
	s := t.glass.value([]byte(r.Session))
	_, err := names.ParsePath(string(r.Path))
	if s == nil || err != nil || len(r.Versions) == 0 || r.SecretID == "" || r.DoneAt < 0 || r.DoneAt > maxTime || s.SettledAt != 0 && r.DoneAt == 0 {
		return "", errBadReads
	}
	for i, v := range r.Versions {
		if v.Version == 0 || v.At < s.OpenedAt || v.At >= s.ExpiresAt || i > 0 && v.Version <= r.Versions[i-1].Version {
			return "", errBadReads
		}
	}
	t.putGlassRead(nil, r)
	if t.glassCounts.value([]byte(s.ID)).Reads > MaxGlassReads {
		return "", errBadReads
	}
	return string(pair(r.Session, string(r.Path))), nil
}
