package fsm_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

const hour = int64(3_600_000)

// glassWorld has ann, to whom emergency is attached, bob and eve, and a secret
// with three versions.
type glassWorld struct{ *world }

func newGlassWorld(t tester) glassWorld {
	w := glassWorld{newWorld(t)}
	for _, name := range []string{"ann", "bob", "eve"} {
		w.ok(fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: name, Kind: "user"}})
	}
	w.ok(fsm.PutPolicy{Meta: w.meta(), Name: "emergency", Statements: []fsm.Statement{{Effect: "allow", Actions: []string{"secrets:getSecretValue"}, Paths: []string{"/**"}}}})
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "emergency", Principal: "ann", Mode: fsm.ModeBreakGlass})
	w.secret("/a", 3)
	return w
}

func (w glassWorld) by(name string) fsm.Meta {
	m := w.meta()
	m.Principal = name
	return m
}

func (w glassWorld) open(n int) fsm.OpenBreakGlass {
	return fsm.OpenBreakGlass{Meta: w.by("ann"), ID: glassID(n), Policies: []string{"emergency"}, Reason: "incident", Duration: hour}
}

func (w glassWorld) read(path string, version uint64) fsm.NoteGlassRead {
	return fsm.NoteGlassRead{Meta: w.by("ann"), ID: glassID(1), Path: path, SecretID: w.get(path).ID, Version: version}
}

func (w glassWorld) review(who string) fsm.ReviewBreakGlass {
	return fsm.ReviewBreakGlass{Meta: w.by(who), ID: glassID(1), Notes: "seen"}
}

func (w glassWorld) totals() fsm.GlassTotals { return w.m.State().GlassTotals(w.now) }

func (w glassWorld) isOpen() bool { return w.m.State().OpenGlass("ann", w.now) != nil }

func TestASessionLivesToItsMillisecond(t *testing.T) {
	w := newGlassWorld(t)
	result := w.ok(w.open(1))
	opened := w.m.State().BreakGlass(glassID(1)).OpenedAt
	require.Equal(t, opened+hour, result.DueAt)
	w.now = result.DueAt - 1
	require.True(t, w.isOpen())
	w.ok(w.read("/a", 3)) // which is decided at that millisecond
	require.Equal(t, result.DueAt, w.now)
	require.False(t, w.isOpen())
	w.refused(fault.Conflict, w.read("/a", 2), "has ended")
	require.Equal(t, fsm.GlassTotals{Rotate: 1, Review: 1}, w.totals(), "no Sweep is needed")
	w.now += hour
	require.Equal(t, 1, w.sweep().Done)
	require.Equal(t, result.DueAt, w.m.State().BreakGlass(glassID(1)).ClosedAt, "it ended when it ended")
}

func TestWhoHasNothingBehindGlassOpensNothing(t *testing.T) {
	w := newGlassWorld(t)
	for message, change := range map[string]func(*fsm.OpenBreakGlass){
		"breakGlassId: must not be empty": func(c *fsm.OpenBreakGlass) { c.ID = "" },
		"reason: must have":               func(c *fsm.OpenBreakGlass) { c.Reason = "" },
		"reason: must":                    func(c *fsm.OpenBreakGlass) { c.Reason = strings.Repeat("x", 2049) },
		"duration: must be 1m to 12h":     func(c *fsm.OpenBreakGlass) { c.Duration = fsm.MinGlassTime - 1 },
		"duration: must be 1m to 12h; ":   func(c *fsm.OpenBreakGlass) { c.Duration = fsm.MaxGlassTime + 1 },
		"policies: must have":             func(c *fsm.OpenBreakGlass) { c.Policies = nil },
		"policies: full-access is not":    func(c *fsm.OpenBreakGlass) { c.Policies = []string{"emergency", fsm.FullAccess} },
		"policies: emergency is not":      func(c *fsm.OpenBreakGlass) { c.Meta.Principal = "bob" },
		"policies: ":                      func(c *fsm.OpenBreakGlass) { c.Policies = []string{"no name"} },
	} {
		c := w.open(1)
		change(&c)
		w.refused(fault.InvalidRequest, c, message)
	}
	nobody := w.open(1)
	nobody.Meta.Principal = "nobody"
	w.refused(fault.NotFound, nobody, "principal")
	w.ok(w.open(1))
	again := w.open(2)
	require.Equal(t, glassID(1), w.refused(fault.Conflict, again, "session "+glassID(1)+" of ann is open").Details["breakGlassId"])
	w.now += hour
	taken := w.open(1)
	w.refused(fault.AlreadyExists, taken, "is taken")
	w.ok(w.open(2)) // no Sweep has come by
	require.NotZero(t, w.m.State().BreakGlass(glassID(1)).ClosedAt)
}

// What is attached to a group opens to its members, while they are members.
func TestGroupsOpenGlassByTheState(t *testing.T) {
	w := newGlassWorld(t)
	w.ok(fsm.CreateGroup{Meta: w.meta(), Group: fsm.Group{Name: "oncall"}})
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "emergency", Group: "oncall", Mode: fsm.ModeBreakGlass, ExpiresAt: w.now + 2*hour})
	c := w.open(1)
	c.Meta.Principal = "bob"
	w.refused(fault.InvalidRequest, c, "not attached to bob")
	w.ok(fsm.AddToGroup{Meta: w.meta(), Group: "oncall", Principal: "bob", ExpiresAt: w.now + hour})
	member := w.now + hour - 1
	w.ok(c)
	w.now = member + 1 // the membership has ended, the attachment not
	c.ID, c.Meta.Time = glassID(2), w.now
	w.ok(fsm.CloseBreakGlass{Meta: w.meta(), ID: glassID(1)})
	w.refused(fault.InvalidRequest, c, "not attached to bob")
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "emergency", Group: fsm.Everyone, Mode: fsm.ModeBreakGlass, ExpiresAt: w.now + hour})
	w.ok(c)
	w.now += hour
	w.ok(fsm.CloseBreakGlass{Meta: w.meta(), ID: glassID(2)})
	c.ID, c.Meta.Time = glassID(3), w.now
	w.refused(fault.InvalidRequest, c, "not attached to bob")
}

// A mode that grants is no way to open glass, nor is one that caps.
func TestOnlyTheModeBreakGlassIsBehindGlass(t *testing.T) {
	w := newGlassWorld(t)
	w.ok(fsm.DetachPolicy{Meta: w.meta(), Policy: "emergency", Principal: "ann", Mode: fsm.ModeBreakGlass})
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "emergency", Principal: "ann"})
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "emergency", Principal: "ann", Mode: fsm.ModeBoundary})
	w.refused(fault.InvalidRequest, w.open(1), "with the mode breakGlass")
}

func TestReadsAreOfOneSessionAndOnePrincipal(t *testing.T) {
	w := newGlassWorld(t)
	w.refused(fault.NotFound, w.read("/a", 3), "no such session")
	w.ok(w.open(1))
	other := w.read("/a", 3)
	other.Meta.Principal = "bob"
	w.refused(fault.NotFound, other, "of yours")
	wrong := w.read("/a", 3)
	wrong.SecretID = "other"
	require.True(t, w.refused(fault.Conflict, wrong, "another secret").Race)
	w.refused(fault.NotFound, w.read("/a", 9), "no version 9")
	w.ok(w.destroy("/a", 1))
	w.refused(fault.VersionNotActive, w.read("/a", 1), "destroyed")
	require.False(t, w.ok(w.read("/a", 3)).Unchanged)
	require.True(t, w.ok(w.read("/a", 3)).Unchanged)
	require.Equal(t, fsm.GlassCount{Reads: 1, Duties: 1}, w.m.State().GlassCount(glassID(1)))
	require.True(t, w.m.State().GlassRead(glassID(1), "/a").Has(3))
	require.False(t, w.m.State().GlassRead(glassID(1), "/a").Has(2))
	require.False(t, w.m.State().GlassRead(glassID(1), "/none").Has(1))
	w.ok(fsm.CloseBreakGlass{Meta: w.meta(), ID: glassID(1)})
	w.refused(fault.Conflict, w.read("/a", 2), "has ended; openBreakGlass opens another one")
}

// The duty to rotate ends with a version newer than all that were read, or
// with what was read.
func TestTheDutyToRotateEnds(t *testing.T) {
	for name, c := range map[string]struct {
		reads []uint64
		do    func(w glassWorld)
		done  bool
	}{
		"nothing":         {[]uint64{3}, func(glassWorld) {}, false},
		"a newer version": {[]uint64{2, 3}, func(w glassWorld) { w.ok(w.put("/a")) }, true},
		"one that waits":  {[]uint64{3}, func(w glassWorld) { c := w.put("/a"); c.Activate = false; w.ok(c) }, false},
		"one that waited": {[]uint64{3}, func(w glassWorld) {
			c := w.put("/a")
			c.Activate = false
			w.ok(c)
			w.ok(fsm.SetVersionLabel{Meta: w.meta(), Path: "/a", Version: 4, Label: "current"})
		}, true},
		"a rollback": {[]uint64{3}, func(w glassWorld) {
			w.ok(fsm.SetVersionLabel{Meta: w.meta(), Path: "/a", Version: 1, Label: "current"})
		}, false},
		"old ones only":            {[]uint64{1, 2}, func(glassWorld) {}, true},
		"the destruction":          {[]uint64{3}, func(w glassWorld) { w.rollback(1); w.ok(w.destroy("/a", 3)) }, true},
		"the destruction of one":   {[]uint64{2, 3}, func(w glassWorld) { w.rollback(1); w.ok(w.destroy("/a", 3)) }, false},
		"the destruction of both":  {[]uint64{2, 3}, func(w glassWorld) { w.rollback(1); w.ok(w.destroy("/a", 3)); w.ok(w.destroy("/a", 2)) }, true},
		"a deletion to come":       {[]uint64{3}, func(w glassWorld) { w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a", PurgeAt: w.now + 7*day}) }, false},
		"a purge":                  {[]uint64{3}, func(w glassWorld) { w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a"}) }, true},
		"another secret's version": {[]uint64{3}, func(w glassWorld) { w.secret("/ab", 9) }, false},
	} {
		w := newGlassWorld(t)
		w.ok(w.open(1))
		for _, v := range c.reads {
			w.ok(w.read("/a", v))
		}
		c.do(w)
		require.Equal(t, c.done, w.totals().Rotate == 0, name)
		require.Equal(t, c.done, w.m.State().GlassRead(glassID(1), "/a").DoneAt != 0, name)
	}
}

func (w glassWorld) rollback(version uint64) {
	w.ok(fsm.SetVersionLabel{Meta: w.meta(), Path: "/a", Version: version, Label: "current"})
}

// Once a secret was rotated it may be read again, which is a duty again.
func TestAReadAfterTheRotationIsANewDuty(t *testing.T) {
	w := newGlassWorld(t)
	w.ok(w.open(1))
	w.ok(w.read("/a", 3))
	w.ok(w.put("/a"))
	require.Zero(t, w.totals().Rotate)
	w.ok(w.read("/a", 4))
	require.Equal(t, 1, w.totals().Rotate)
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a"})
	require.Zero(t, w.totals().Rotate)
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/a", SecretID: "new", KeyID: defaultKey, ReuseRetired: true})
	w.ok(w.put("/a"))
	w.ok(w.read("/a", 1))
	require.Equal(t, []fsm.GlassVersion{{Version: 1, At: w.now - 1}}, w.m.State().GlassRead(glassID(1), "/a").Versions, "it is another secret")
	require.Equal(t, fsm.GlassCount{Reads: 1, Duties: 1}, w.m.State().GlassCount(glassID(1)))
}

func TestReadsOfASessionAreBounded(t *testing.T) {
	w := newGlassWorld(t)
	w.ok(w.open(1))
	w.secret("/b", 1)
	fsm.FillGlass(w.m, glassID(1), fsm.MaxGlassReads-1)
	w.ok(w.read("/a", 3))
	w.refused(fault.Conflict, w.read("/b", 1), "10000 versions were read", "close it and open another one")
	require.True(t, w.ok(w.read("/a", 3)).Unchanged, "what was read may be read again")
	restored := fsm.New()
	require.NoError(t, restored.Restore(bytes.NewReader(snapshot(t, w.m))))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(restored.State()))
}

func TestSomebodyElseReviewsWhatHasEnded(t *testing.T) {
	w := newGlassWorld(t)
	w.refused(fault.NotFound, w.review("bob"), "no such session")
	w.ok(w.open(1))
	w.refused(fault.Conflict, w.review("bob"), "the session is open")
	w.ok(fsm.CloseBreakGlass{Meta: w.by("ann"), ID: glassID(1)})
	w.refused(fault.Conflict, w.review("ann"), "nobody reviews a session of their own")
	w.ok(fsm.CreatePrincipal{Meta: w.by("ann"), Principal: fsm.Principal{Name: "puppet", Kind: "user"}})
	w.refused(fault.Conflict, w.review("puppet"), "were there before the session")
	silent := w.review("bob")
	silent.Notes = ""
	w.refused(fault.InvalidRequest, silent, "notes: ")
	nobody := w.review("nobody")
	w.refused(fault.NotFound, nobody, "principal")
	w.ok(w.review("bob"))
	w.refused(fault.Conflict, w.review("eve"), "bob has reviewed")
	require.Zero(t, w.totals())
	require.Equal(t, "seen", w.m.State().BreakGlass(glassID(1)).Notes)
}

// A session that has expired can be reviewed before a Sweep says so.
func TestAnExpiredSessionIsReviewed(t *testing.T) {
	w := newGlassWorld(t)
	end := w.ok(w.open(1)).DueAt
	w.now = end
	w.ok(w.review("bob"))
	require.Equal(t, end, w.m.State().BreakGlass(glassID(1)).ClosedAt)
	require.Equal(t, w.now-1, w.m.State().BreakGlass(glassID(1)).SettledAt)
	require.Zero(t, w.sweep().Done)
}

func TestASessionEndsOnce(t *testing.T) {
	w := newGlassWorld(t)
	w.refused(fault.NotFound, fsm.CloseBreakGlass{Meta: w.meta(), ID: glassID(1)}, "no such session")
	w.ok(w.open(1))
	w.refused(fault.InvalidRequest, fsm.CloseBreakGlass{Meta: w.meta(), ID: glassID(1), Reason: strings.Repeat("x", 2049)}, "reason: ")
	before := w.m.State()
	first := w.ok(fsm.CloseBreakGlass{Meta: w.by("bob"), ID: glassID(1), Reason: "enough"})
	require.False(t, w.m.State().SameRights(before), "who waits is asked again")
	require.NotEqual(t, before.Rights(), w.m.State().Rights())
	again := w.ok(fsm.CloseBreakGlass{Meta: w.by("eve"), ID: glassID(1), Reason: "me too"})
	require.True(t, again.Unchanged)
	require.Equal(t, first.DueAt, again.DueAt)
	require.Equal(t, "bob", w.m.State().BreakGlass(glassID(1)).ClosedBy)
	expired := w.ok(w.open(2)).DueAt
	w.now = expired + 5
	again = w.ok(fsm.CloseBreakGlass{Meta: w.by("eve"), ID: glassID(2)})
	require.True(t, again.Unchanged)
	require.Equal(t, expired, again.DueAt)
}

// What is read changes no rights: all that is compiled from them stays.
func TestAReadLeavesRightsAlone(t *testing.T) {
	w := newGlassWorld(t)
	before := w.m.State()
	w.ok(w.open(1))
	require.NotEqual(t, before.Rights(), w.m.State().Rights())
	before = w.m.State()
	w.ok(w.read("/a", 3))
	require.Equal(t, before.Rights(), w.m.State().Rights())
	require.True(t, w.m.State().SameRights(before))
}

func TestDutiesOutliveThePrincipal(t *testing.T) {
	w := newGlassWorld(t)
	w.ok(w.open(1))
	w.ok(w.read("/a", 3))
	w.ok(fsm.DeletePrincipal{Meta: w.meta(), Name: "ann"})
	require.False(t, w.isOpen())
	require.Equal(t, "admin", w.m.State().BreakGlass(glassID(1)).ClosedBy)
	require.Equal(t, fsm.GlassTotals{Rotate: 1, Review: 1}, w.totals())
	w.ok(fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: "ann", Kind: "user"}})
	require.False(t, w.isOpen(), "somebody else of that name")
	w.refused(fault.Conflict, w.read("/a", 2), "has ended")
	w.refused(fault.Conflict, w.review("ann"), "of their own")
}

func TestASettledSessionIsForgottenAfterNinetyDays(t *testing.T) {
	w := newGlassWorld(t)
	w.ok(w.open(1))
	w.ok(w.read("/a", 3))
	w.ok(fsm.CloseBreakGlass{Meta: w.by("ann"), ID: glassID(1)})
	w.ok(w.review("bob"))
	w.now += 200 * day
	w.sweep()
	require.NotNil(t, w.m.State().BreakGlass(glassID(1)), "it has a duty")
	w.ok(w.put("/a"))
	settled := w.m.State().BreakGlass(glassID(1)).SettledAt
	require.Equal(t, w.now-1, settled)
	w.now = settled + 90*day - 1
	w.sweep()
	require.NotNil(t, w.m.State().BreakGlass(glassID(1)))
	w.now = settled + 90*day
	require.Equal(t, 2, w.sweep().Done)
	require.Nil(t, w.m.State().BreakGlass(glassID(1)))
	require.Empty(t, slices.Collect(w.m.State().GlassReads(glassID(1))))
	require.Empty(t, slices.Collect(w.m.State().BreakGlassSessions("ann", "")))
}

// Who never has sessions reviewed cannot go on for ever.
func TestSessionsWithDutiesAreBounded(t *testing.T) {
	w := newGlassWorld(t)
	for n := range fsm.MaxGlassDuties {
		w.ok(w.open(n + 1))
		w.ok(fsm.CloseBreakGlass{Meta: w.by("ann"), ID: glassID(n + 1)})
	}
	w.refused(fault.Conflict, w.open(1000), "100 sessions of ann have duties")
	w.ok(w.review("bob"))
	w.ok(w.open(1000))
}

func TestDamagedSessionsAreNotRestored(t *testing.T) {
	w := newGlassWorld(t)
	w.ok(w.open(1))
	w.ok(w.read("/a", 3))
	for name, change := range map[string]func(*fsm.BreakGlassSession, *fsm.GlassRead){
		"no reason":           func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) { s.Reason = "" },
		"too long":            func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) { s.ExpiresAt = s.OpenedAt + fsm.MaxGlassTime + 1 },
		"no policies":         func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) { s.Policies = nil },
		"no id":               func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) { s.ID = "a/b" },
		"ended after its end": func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) { s.ClosedAt = s.ExpiresAt + 1 },
		"reviewed while open": func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) {
			s.ReviewedAt, s.ReviewedBy, s.Notes = s.OpenedAt, "bob", "x"
		},
		"reviewed by its own": func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) {
			s.ClosedAt, s.ReviewedAt, s.ReviewedBy, s.Notes = s.OpenedAt, s.OpenedAt, "ann", "x"
		},
		"settled, not reviewed": func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) { s.ClosedAt, s.SettledAt = s.OpenedAt, s.ExpiresAt },
		"of nobody":             func(s *fsm.BreakGlassSession, _ *fsm.GlassRead) { s.Principal = "nobody" },
		"read of no session":    func(_ *fsm.BreakGlassSession, r *fsm.GlassRead) { r.Session = glassID(2) },
		"read of nothing":       func(_ *fsm.BreakGlassSession, r *fsm.GlassRead) { r.Versions = nil },
		"read before it":        func(s *fsm.BreakGlassSession, r *fsm.GlassRead) { r.Versions[0].At = s.OpenedAt - 1 },
		"read twice":            func(_ *fsm.BreakGlassSession, r *fsm.GlassRead) { r.Versions = append(r.Versions, r.Versions[0]) },
		"read nowhere":          func(_ *fsm.BreakGlassSession, r *fsm.GlassRead) { r.Path = "a" },
	} {
		err := fsm.New().Restore(bytes.NewReader(fsm.SnapshotOfGlass(w.m, glassID(1), change)))
		require.ErrorContains(t, err, "a break-glass session", name)
	}
	require.NoError(t, fsm.New().Restore(bytes.NewReader(fsm.SnapshotOfGlass(w.m, glassID(1), func(*fsm.BreakGlassSession, *fsm.GlassRead) {}))))
}
