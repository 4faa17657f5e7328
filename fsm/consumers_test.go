package fsm_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

const (
	minute = int64(60_000)
	ledger = "/app/dev/web/db"
)

// ledgerWorld has a secret with two versions, and node n1 hands values out.
func ledgerWorld(t tester) (*world, uint64) {
	w := newWorld(t)
	w.secret(ledger, 2)
	return w, w.open("n1")
}

func (w *world) open(node string) uint64 {
	w.t.Helper()
	return w.ok(fsm.OpenLedger{Meta: w.meta(), Node: node, Sequence: 7}).Session
}

// gave is what a node notes when it hands out a version for five minutes.
func (w *world) gave(version uint64, instance string, session uint64) fsm.Observation {
	return fsm.Observation{
		Path: ledger, Version: version, Principal: "svc", Instance: instance, Session: session,
		First: w.now, Last: w.now, Stamp: w.now * 1000, Until: w.now + 5*minute,
	}
}

// heard is what it notes when an instance says which version it uses.
func (w *world) heard(version uint64, instance string, session uint64) fsm.Observation {
	return fsm.Observation{
		Path: ledger, Version: version, Principal: "svc", Instance: instance, Session: session,
		First: w.now, Said: w.now * 1000, SaidAt: w.now, Until: w.now + 5*minute,
	}
}

func (w *world) observe(all ...fsm.Observation) int {
	w.t.Helper()
	return w.ok(fsm.Observe{Meta: w.meta(), Observations: all}).Done
}

// destroyIn is a destruction that the node of a session decided.
func (w *world) destroyIn(session uint64, observed ...fsm.Observation) fsm.DestroyVersion {
	c := w.destroy(ledger, 1)
	c.Session, c.Observed = session, observed
	return c
}

func (w *world) consumers() map[string]*fsm.Consumer {
	out := map[string]*fsm.Consumer{}
	for c := range w.m.State().Consumers(ledger) {
		out[c.Principal+"/"+c.Instance] = c
	}
	return out
}

func TestAVersionThatIsHeldIsNotDestroyed(t *testing.T) {
	w, session := ledgerWorld(t)
	require.Equal(t, 2, w.observe(w.gave(1, "a", session), w.gave(1, "b", session)))
	refusal := w.refused(fault.VersionInUse, w.destroyIn(session), "version: 1", "2 consumers")
	require.Equal(t, uint64(2), refusal.Count)

	w.observe(w.heard(2, "a", session))
	require.Equal(t, uint64(1), w.refused(fault.VersionInUse, w.destroyIn(session)).Count)
	w.observe(w.gave(2, "b", session))
	w.refused(fault.VersionInUse, w.destroyIn(session)) // to be given another one is not to let go
	w.now += 5*minute - 20
	w.refused(fault.VersionInUse, w.destroyIn(session))
	w.now += 40
	w.ok(w.destroyIn(session))
	require.Equal(t, fsm.VersionDestroyed, w.version(ledger, 1).State)
}

func TestWhatTheNodeHasNotCommittedYetCounts(t *testing.T) {
	w, session := ledgerWorld(t)
	w.refused(fault.VersionInUse, w.destroyIn(session, w.gave(1, "a", session)), "1 consumers")
	require.Empty(t, w.consumers(), "a refused command leaves nothing behind")
	w.ok(w.destroyIn(session, w.gave(1, "a", session), w.heard(2, "a", session+1)))
	require.Len(t, w.consumers()["svc/a"].Holds, 2)
}

func TestOnlyTheNodeThatHandsOutDestroys(t *testing.T) {
	w, first := ledgerWorld(t)
	require.True(t, w.refused(fault.Conflict, w.destroyIn(0), "leadership").Race)
	second := w.open("n2")
	require.True(t, w.refused(fault.Conflict, w.destroyIn(first), "leadership").Race)

	// What n1 handed out last is not known: it is waited for, or out.
	refusal := w.refused(fault.VersionInUse, w.destroyIn(second))
	require.Equal(t, uint64(1), refusal.Count)
	require.Equal(t, []string{"n1"}, w.m.State().Unknown(ledger, w.version(ledger, 1), w.now).Nodes)
	w.refused(fault.Conflict, fsm.SettleLedger{Meta: w.meta(), Session: second}, "goes on")
	w.ok(fsm.SettleLedger{Meta: w.meta(), Session: first})
	require.True(t, w.ok(fsm.SettleLedger{Meta: w.meta(), Session: first}).Unchanged, "again")
	w.ok(w.destroyIn(second))
}

func TestALostSessionIsWaitedOut(t *testing.T) {
	w, first := ledgerWorld(t)
	second := w.open("n2")
	w.ok(fsm.SettleLedger{Meta: w.meta(), Session: first, Lost: true})
	w.ok(w.put(ledger))
	w.ok(w.put(ledger))
	w.refused(fault.VersionInUse, w.destroyIn(second))
	young := w.destroyIn(second)
	young.Version = 3
	w.ok(young) // it was made when n1 handed out nothing any more
	w.now += fsm.DefaultMaxAge + fsm.ClockSlack
	w.ok(w.destroyIn(second))
	w.now += 367 * day
	w.open("n1")
	require.Nil(t, w.m.State().Session(first), "forgotten once nobody can hold anything of it")
}

func TestForceTakesAReason(t *testing.T) {
	w, session := ledgerWorld(t)
	w.observe(w.gave(1, "a", session))
	c := w.destroyIn(session)
	c.Force, c.Reason = true, ""
	w.refused(fault.InvalidRequest, c, "reason:")
	c.Reason = "leaked"
	w.ok(c)
}

func TestADelayIsHeldAgainstTheLedgerWhenItEnds(t *testing.T) {
	w, session := ledgerWorld(t)
	w.observe(w.gave(1, "a", session))
	c := w.destroyIn(session)
	c.DueAt = w.now + minute
	w.refused(fault.VersionInUse, c) // it will still be held then
	c.DueAt = w.now + 10*minute
	w.ok(c)
	w.now += 9 * minute
	w.observe(w.gave(1, "b", session))
	w.now += 2 * minute
	sweep := func() int {
		return w.ok(fsm.Sweep{
			Meta: fsm.Meta{Time: w.now}, Limit: 10, Session: session, Closed: w.m.State().DueDestructions(w.now, 10),
		}).Done
	}
	require.Zero(t, w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 10, Session: session}).Done, "the node goes on handing it out")
	require.Equal(t, 1, sweep())
	v := w.version(ledger, 1)
	require.Equal(t, fsm.VersionPendingDestroy, v.State)
	require.Equal(t, fsm.ChangeHeldUp, v.Changes[len(v.Changes)-1].What)
	require.NotZero(t, v.HeldUpAt)
	require.Zero(t, sweep(), "put off")
	w.now += minute
	changes := len(v.Changes)
	require.Equal(t, 1, sweep())
	require.Len(t, w.version(ledger, 1).Changes, changes, "said once")
	w.observe(w.heard(2, "b", session))
	w.now += minute
	require.Equal(t, 1, sweep())
	require.Equal(t, fsm.VersionDestroyed, w.version(ledger, 1).State)
}

func TestAForcedDelayAsksNobodyAgain(t *testing.T) {
	w, session := ledgerWorld(t)
	c := w.destroyIn(session, w.gave(1, "a", session))
	c.DueAt, c.Force = w.now+1000, true
	w.ok(c)
	w.now += 2000
	w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 10, Session: session, Closed: w.m.State().DueDestructions(w.now, 10)})
	require.Equal(t, fsm.VersionDestroyed, w.version(ledger, 1).State)
}

func TestObservationsOfNothingAreLeftOut(t *testing.T) {
	w, session := ledgerWorld(t)
	good := w.gave(1, "a", session)
	bad := make([]fsm.Observation, 8)
	for i := range bad {
		bad[i] = good
	}
	bad[0].Path = "/none"
	bad[1].SecretID = "another"
	bad[2].Version = 3
	bad[3].Principal = "a\x00b"
	bad[4].Instance = "a b"
	bad[5].Until = -1
	bad[6].Last = 0
	bad[7].Principal = ""
	require.Equal(t, 1, w.observe(append(bad, good)...))
	require.Len(t, w.consumers(), 1)
	require.Equal(t, good.Last, w.m.State().LastRead(ledger, 1))
}

// However many instances there are: nobody who may hold a version is
// forgotten.
func TestTheLedgerOfASecretIsBounded(t *testing.T) {
	w, session := ledgerWorld(t)
	flood := func(n int) {
		var all []fsm.Observation
		for i := range n {
			all = append(all, w.gave(1, fmt.Sprint("i", w.index, "-", i), session))
		}
		w.observe(all...)
	}
	flood(1200)
	require.Len(t, w.consumers(), 1001)
	others := w.consumers()[fsm.Others+"/"]
	require.NotNil(t, others)
	for c := range w.consumers() {
		if c != fsm.Others+"/" {
			w.observe(w.heard(2, c[len("svc/"):], session))
		}
	}
	require.Equal(t, uint64(1), w.refused(fault.VersionInUse, w.destroyIn(session)).Count, "one of the others may hold it")
	flood(500)
	require.Len(t, w.consumers(), 1001, "those that moved made room")
	w.now += 6 * minute
	w.ok(w.destroyIn(session))
}

func TestAnInstanceThatReadsVeryManyVersionsHoldsThem(t *testing.T) {
	w, session := ledgerWorld(t)
	for n := uint64(3); n <= 60; n++ {
		w.ok(w.put(ledger))
	}
	for n := uint64(1); n <= 60; n++ {
		w.observe(w.gave(n, "a", session))
	}
	require.Len(t, w.consumers()["svc/a"].Holds, 32)
	for n := uint64(1); n < 60; n++ {
		c := w.destroyIn(session)
		c.Version = n
		w.refused(fault.VersionInUse, c)
	}
}

func TestAPurgeTakesTheLedgerAlong(t *testing.T) {
	w, session := ledgerWorld(t)
	w.observe(w.gave(1, "a", session))
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: ledger})
	require.Empty(t, w.consumers())
	require.Zero(t, w.observe(w.gave(1, "a", session)))
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: ledger, SecretID: "anew", KeyID: defaultKey, ReuseRetired: true})
	require.Zero(t, w.m.State().LastRead(ledger, 1))
}

// Merging commutes, and to merge again changes nothing: batches may come
// late, twice and in any order.
func TestMergingIsASemilattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []fsm.Observation
		for range rapid.IntRange(1, 8).Draw(t, "n") {
			small := func(name string) int64 { return rapid.Int64Range(0, 3).Draw(t, name) }
			o := fsm.Observation{
				Path: "/a", Principal: "p", Version: uint64(1 + small("version")), Session: uint64(small("session")), First: small("first"),
				Last: small("last"), Stamp: small("stamp"), Until: small("until"), Said: small("said"),
			}
			o.SaidAt = o.Said
			all = append(all, o)
		}
		merge := func(all []fsm.Observation) *fsm.Consumer {
			var c *fsm.Consumer
			for _, o := range all {
				c = c.With(o)
			}
			return c
		}
		want := merge(all)
		again := slices.Concat(rapid.Permutation(all).Draw(t, "order"), rapid.Permutation(all).Draw(t, "again"))
		require.Equal(t, want, merge(again))
		// What a node merged before it sent it is the same as one by one.
		first := all[0]
		for i := 1; i < len(all); i++ {
			if all[i].Version == first.Version && all[i].Session == first.Session {
				require.Equal(t, merge([]fsm.Observation{first, all[i]}), merge([]fsm.Observation{first.Merge(all[i])}))
			}
		}
	})
}

// What another node noted was noted by another clock.
func TestClocksOfNodesMayDiffer(t *testing.T) {
	w, first := ledgerWorld(t)
	given := w.gave(1, "a", first)
	w.observe(given)
	second := w.open("n2")
	w.ok(fsm.SettleLedger{Meta: w.meta(), Session: first})
	w.now = given.Until + fsm.ClockSlack - 10
	w.refused(fault.VersionInUse, w.destroyIn(second))
	w.now = given.Until + fsm.ClockSlack
	w.ok(w.destroyIn(second))
}

// An earlier leader's clock was fast, so the time of the state is ahead of
// the clock by which the present one notes and decides.
func TestAFastClockOfAnEarlierLeaderEndsNothingEarly(t *testing.T) {
	w, first := ledgerWorld(t)
	ahead := w.meta()
	ahead.Time += 4000
	w.ok(fsm.OpenLedger{Meta: ahead, Node: "n2"})
	w.ok(fsm.SettleLedger{Meta: w.meta(), Session: first})
	var session uint64
	for s := range w.m.State().Sessions() {
		session = s.Number
	}
	given := w.gave(1, "a", session)
	w.observe(given)
	early := w.destroyIn(session)
	early.Meta.Time = given.Until - 1
	w.refused(fault.VersionInUse, early)
	late := w.destroyIn(session)
	late.Meta.Time = given.Until
	w.ok(late)
}

func (w *world) horizon(prefix string, millis int64) {
	w.t.Helper()
	rule := fsm.PathRule{Prefix: prefix, ConsumerHorizon: millis, Owner: "somebody"}
	w.ok(fsm.PutPathRule{Meta: w.meta(), Rule: rule})
}

func TestARuleSaysForHowLongAValueIsHeld(t *testing.T) {
	w, _ := ledgerWorld(t)
	for _, c := range []struct{ rule, maxAge, horizon int64 }{
		{10 * day, 5 * minute, 10 * day}, {2000, 2000, 2000},
	} {
		w.horizon("/app/", c.rule)
		maxAge, horizon := w.m.State().Horizon(ledger)
		require.Equal(t, []int64{c.maxAge, c.horizon}, []int64{maxAge, horizon})
	}
	maxAge, horizon := w.m.State().Horizon("/other")
	require.Equal(t, []int64{5 * minute, 5 * minute}, []int64{maxAge, horizon})
}

// A rule that makes the horizon shorter takes nothing back of what readers
// were promised before it, by a node that cannot be asked.
func TestAShorterHorizonIsWaitedOutAsLongAsTheOneBefore(t *testing.T) {
	for name, shorten := range map[string]func(w *world){
		"a shorter rule":         func(w *world) { w.horizon("/app/dev/", minute) },
		"a nested rule":          func(w *world) { w.horizon("/app/dev/web/", minute) },
		"the rule is taken away": func(w *world) { w.ok(fsm.DeletePathRule{Meta: w.meta(), Prefix: "/app/dev/"}) },
		"shorter, twice": func(w *world) {
			w.horizon("/app/dev/", 2*minute)
			w.horizon("/app/dev/", minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, first := ledgerWorld(t)
			w.horizon("/app/dev/", 10*day)
			second := w.open("n2")
			w.ok(fsm.SettleLedger{Meta: w.meta(), Session: first, Lost: true})
			shorten(w)
			w.now += 9 * day
			w.refused(fault.VersionInUse, w.destroyIn(second))
			restored := fsm.New()
			require.NoError(t, restored.Restore(bytes.NewReader(snapshot(t, w.m))))
			require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(restored.State()))
			w.now += 2 * day
			w.ok(w.destroyIn(second))
		})
	}
}

// Holds is what a node that follows may hand out by: it must be the ledger of
// the state, and nothing less, that makes a destruction wait.
func TestTheLedgerSaysWhomItHolds(t *testing.T) {
	w, session := ledgerWorld(t)
	seen := w.gave(1, "i1", session)
	require.False(t, w.m.State().Holds(seen), "nobody was given anything")
	w.observe(seen)
	require.True(t, w.m.State().Holds(seen))
	longer := seen
	longer.Until++
	require.False(t, w.m.State().Holds(longer), "it is held for less")
	other := seen
	other.Instance = "i2"
	require.False(t, w.m.State().Holds(other))
	other = seen
	other.Version = 2
	require.False(t, w.m.State().Holds(other))
	w.now++
	w.observe(w.heard(2, "i1", session))
	require.False(t, w.m.State().Holds(seen), "it has moved")
}
