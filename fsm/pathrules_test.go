package fsm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func (w *world) rule(rule fsm.PathRule) fsm.Result {
	w.t.Helper()
	return w.ok(fsm.PutPathRule{Meta: w.meta(), Rule: rule})
}

// sweepUntilDone sweeps in small steps until nothing is due, and answers what
// rules had destroyed.
func (w *world) sweepUntilDone(limit int) []fsm.Kept {
	w.t.Helper()
	var out []fsm.Kept
	for steps := 0; w.m.State().Due(w.now); steps++ {
		require.Less(w.t, steps, 1000, "it must come to an end")
		result := w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: limit})
		require.LessOrEqual(w.t, len(result.Kept), limit)
		out = append(out, result.Kept...)
	}
	return out
}

// live answers the numbers of the versions that are stored, oldest first.
func (w *world) live(path string) []uint64 {
	var out []uint64
	for v := range w.m.State().Versions(w.get(path).Path) {
		if v.State != fsm.VersionDestroyed {
			out = append([]uint64{v.Number}, out...)
		}
	}
	return out
}

func TestTheNearestRuleSetsAndAllRulesRestrict(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, fsm.EffectiveRule{}, w.m.State().RuleFor("/app/prod/db"))
	w.rule(fsm.PathRule{Prefix: "/", Owner: "all", MinRetention: 9000, KeepVersions: 9, ConsumerHorizon: 1000, RequiredTags: []fsm.RequiredTag{{Name: "owner"}}})
	w.rule(fsm.PathRule{Prefix: "/app/", KeyRef: "alias/default", MinRetention: 5000, KeepVersions: 3, Segments: []string{"prod", "{rest...}"}})
	w.rule(fsm.PathRule{Prefix: "/app/prod/", RotationPeriod: 7000, RequiredTags: []fsm.RequiredTag{{Name: "owner", Values: []string{"pay"}}}})
	w.rule(fsm.PathRule{Prefix: "/app/dev/", Owner: "dev"})
	got := w.m.State().RuleFor("/app/prod/db")
	require.Equal(t, []int64{9000, 1000, 7000, 3}, []int64{got.MinRetention, got.ConsumerHorizon, got.RotationPeriod, int64(got.KeepVersions)})
	require.Equal(t, []string{"all", "alias/default", defaultKey}, []string{got.Owner, got.KeyRef, got.KeyID})
	require.Equal(t, fsm.RuleSources{Owner: "/", MinRetention: "/", ConsumerHorizon: "/", KeepVersions: "/app/", Key: "/app/", RotationPeriod: "/app/prod/"}, got.From)
	require.Len(t, got.Rules, 3)
	require.Len(t, got.RequiredTags, 2)
	require.Len(t, got.TagBreaches(map[string]string{"owner": "web"}), 1)
	require.Empty(t, got.TagBreaches(map[string]string{"owner": "pay"}))
	require.Equal(t, "all", w.m.State().RuleFor("/app").Owner, "a prefix binds what is below it alone")
	require.Equal(t, "all", w.m.State().RuleFor("/apple/x").Owner)
}

func TestPathRulesThatApplyRefuses(t *testing.T) {
	w := newWorld(t)
	put := func(rule fsm.PathRule) fsm.PutPathRule { return fsm.PutPathRule{Meta: w.meta(), Rule: rule} }
	w.refused(fault.InvalidRequest, put(fsm.PathRule{Prefix: "/app", Owner: "x"}), "prefix: must end in /; write /app/")
	w.refused(fault.InvalidRequest, put(fsm.PathRule{Prefix: "app/", Owner: "x"}), "prefix: ")
	w.refused(fault.InvalidRequest, put(fsm.PathRule{Prefix: "/app/"}), "the rule says nothing")
	w.refused(fault.InvalidRequest, put(fsm.PathRule{Prefix: "/a/b/", Segments: []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"}}), "make paths of 17 segments")
	w.refused(fault.InvalidRequest, put(fsm.PathRule{Prefix: "/app/", MinRetention: -5}), "minRetention: must be 1s to 3660d")
	w.refused(fault.NotFound, put(fsm.PathRule{Prefix: "/app/", KeyRef: keyID(9)}), "kmsKeyId: there is no key")
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2), "alias/off")})
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyDisabled})
	w.refused(fault.KeyNotActive, put(fsm.PathRule{Prefix: "/app/", KeyRef: "alias/off"}), "kmsKeyId: ")
	five := uint64(5)
	w.refused(fault.Conflict, fsm.PutPathRule{Meta: w.meta(), Rule: fsm.PathRule{Prefix: "/app/", Owner: "x"}, Expected: &five}, "expectedRevision: is 5, but the rule is at revision 0")
	w.refused(fault.NotFound, fsm.DeletePathRule{Meta: w.meta(), Prefix: "/app/"}, "prefix: there is no path rule of /app/")
}

func TestVersionsBeyondKeepVersionsGoOldestFirst(t *testing.T) {
	w := newWorld(t)
	w.rule(fsm.PathRule{Prefix: "/app/", KeepVersions: 3})
	w.secret("/app/db", 3)
	require.Empty(t, w.sweepUntilDone(10))
	w.ok(w.put("/app/db"))
	require.Equal(t, []uint64{1, 2, 3, 4}, w.live("/app/db"), "not before a Sweep")
	require.Equal(t, []fsm.Kept{{Path: "/app/db", Version: 1, KeyID: defaultKey, Reason: "keepVersions 3 of the rule /app/"}}, w.sweepUntilDone(10))
	gone := w.version("/app/db", 1)
	require.Equal(t, []string{"strongroom:leader", "keepVersions 3 of the rule /app/"}, []string{gone.DestroyedBy, gone.Reason})
	require.Empty(t, gone.Sealed)
	for range 50 {
		w.ok(w.put("/app/db"))
	}
	require.Len(t, w.sweepUntilDone(7), 50, "in bounded steps")
	require.Equal(t, []uint64{52, 53, 54}, w.live("/app/db"))
	require.EqualValues(t, 52, w.get("/app/db").KeptFrom)
}

func TestWhatPeopleHoldOnToIsKept(t *testing.T) {
	w := newWorld(t)
	w.secret("/app/db", 8)
	w.ok(fsm.SetVersionLabel{Meta: w.meta(), Path: "/app/db", Version: 1, Label: "blue"})
	w.ok(fsm.SetVersionState{Meta: w.meta(), Path: "/app/db", Version: 2, Disable: true})
	pending := w.destroy("/app/db", 3)
	pending.DueAt = w.now + 50*day
	w.ok(pending)
	w.rule(fsm.PathRule{Prefix: "/app/", KeepVersions: 1})
	require.Len(t, w.sweepUntilDone(10), 3)
	require.Equal(t, []uint64{1, 2, 3, 7, 8}, w.live("/app/db"), "a label, a disabled one, a pending one, the previous one")
	// Each goes once the person lets go of it.
	w.ok(fsm.RemoveVersionLabel{Meta: w.meta(), Path: "/app/db", Label: "blue"})
	w.ok(fsm.SetVersionState{Meta: w.meta(), Path: "/app/db", Version: 2})
	w.ok(fsm.CancelDestroy{Meta: w.meta(), Path: "/app/db", Version: 3})
	require.Len(t, w.sweepUntilDone(10), 3)
	require.Equal(t, []uint64{7, 8}, w.live("/app/db"))
}

func TestARollbackCostsNoNewerVersion(t *testing.T) {
	w := newWorld(t)
	w.secret("/app/db", 6)
	staged := w.put("/app/db")
	staged.Activate = false
	w.ok(staged)
	w.ok(fsm.SetVersionLabel{Meta: w.meta(), Path: "/app/db", Version: 4, Label: "current"})
	w.rule(fsm.PathRule{Prefix: "/app/", KeepVersions: 2})
	w.sweepUntilDone(10)
	require.Equal(t, []uint64{3, 4, 5, 6, 7}, w.live("/app/db"))
	w.ok(fsm.SetVersionLabel{Meta: w.meta(), Path: "/app/db", Version: 7, Label: "current"})
	w.sweepUntilDone(10)
	require.Equal(t, []uint64{4, 6, 7}, w.live("/app/db"), "4 is the previous one")
}

func TestKeepVersionsWaitsForMinRetentionAndForARestore(t *testing.T) {
	w := newWorld(t)
	w.rule(fsm.PathRule{Prefix: "/app/", KeepVersions: 1, MinRetention: 2 * day})
	w.secret("/app/db", 2)
	w.now += day
	w.ok(w.put("/app/db"))
	require.Empty(t, w.sweepUntilDone(10))
	require.False(t, w.m.State().Due(w.now), "an idle cluster writes nothing")
	w.now += day + 1000
	require.Len(t, w.sweepUntilDone(10), 1)
	require.Equal(t, []uint64{2, 3}, w.live("/app/db"), "2 is the previous one")

	w.ok(w.put("/app/db"))
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/app/db", PurgeAt: w.now + 30*day})
	w.now += 5 * day
	require.Empty(t, w.sweepUntilDone(10), "what can be restored is whole")
	w.ok(fsm.RestoreSecret{Meta: w.meta(), Path: "/app/db"})
	require.Len(t, w.sweepUntilDone(10), 1)
	require.Equal(t, []uint64{3, 4}, w.live("/app/db"))
}

// TestARuleThatChangesIsWalkedInBoundedSteps: the secrets below it are more
// than one step, and a snapshot in the middle carries the place.
func TestARuleThatChangesIsWalkedInBoundedSteps(t *testing.T) {
	w := newWorld(t)
	const n = 2500
	for i := range n {
		first, path := newVersion(1, defaultKey), fmt.Sprintf("/app/%d", i)
		w.ok(fsm.CreateSecret{Meta: w.meta(), Path: path, SecretID: fmt.Sprint("s", i), KeyID: defaultKey, First: &first})
		if i%500 == 0 {
			w.ok(w.put(path))
			w.ok(w.put(path))
		}
	}
	w.rule(fsm.PathRule{Prefix: "/", KeepVersions: 5})
	require.Empty(t, w.sweepUntilDone(1000))
	w.rule(fsm.PathRule{Prefix: "/app/", KeepVersions: 1})
	w.ok(fsm.Sweep{Meta: w.meta(), Limit: 1})
	middle := w.m.State().PathRule("/app/")
	require.NotZero(t, middle.WalkAt)
	require.NotEmpty(t, middle.WalkAfter)
	restored := fsm.New()
	require.NoError(t, restored.Restore(w.reader()))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(restored.State()))
	require.Len(t, w.sweepUntilDone(10), 5)
	require.Zero(t, w.m.State().PathRule("/app/").WalkAt)
	require.EqualValues(t, 1, w.m.State().PathRule("/app/").Revision, "a walk is no change of the rule")

	// Without the nearer rule the other one holds, and is walked for it.
	w.ok(w.put("/app/0"))
	w.ok(fsm.DeletePathRule{Meta: w.meta(), Prefix: "/app/"})
	require.NotZero(t, w.m.State().PathRule("/").WalkAt)
	require.Empty(t, w.sweepUntilDone(1000))
	require.Equal(t, []uint64{2, 3, 4}, w.live("/app/0"))
}

// TestWhatAConsumerMayHoldIsKeptUntilItCannot: also what the node has not
// committed yet, and what it goes on handing out.
func TestWhatAConsumerMayHoldIsKeptUntilItCannot(t *testing.T) {
	w, session := ledgerWorld(t)
	w.ok(w.put(ledger))
	w.ok(w.put(ledger))
	w.rule(fsm.PathRule{Prefix: "/app/", KeepVersions: 1})
	sweep := func(closed []fsm.ClosedVersion, observed ...fsm.Observation) []fsm.Kept {
		return w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 10, Session: session, Closed: closed, Observed: observed}).Kept
	}
	w.observe(w.gave(1, "a", session))
	require.Empty(t, sweep(nil), "the walk")
	due := w.m.State().DueDestructions(w.now, 10)
	require.Equal(t, []fsm.ClosedVersion{{Path: ledger, Version: 2}}, due, "1 is held")
	require.Empty(t, sweep(nil), "the node goes on handing it out")
	require.Empty(t, sweep(due, w.gave(2, "b", session)), "it was handed out just before")
	require.False(t, w.m.State().Due(w.now), "both are held: nobody need look before one is not")
	w.now += 6 * minute
	require.Len(t, sweep(w.m.State().DueDestructions(w.now, 10)), 2)
	require.Equal(t, []uint64{3, 4}, w.live(ledger))

	// A consumer may let go before its time: an hour later at most it is seen.
	w.ok(w.put(ledger))
	long := w.gave(3, "a", session)
	long.Until = w.now + 30*day
	w.observe(long)
	require.Empty(t, sweep(w.m.State().DueDestructions(w.now, 10)))
	w.now++
	w.observe(w.heard(5, "a", session))
	w.now += 61 * minute
	require.Len(t, sweep(w.m.State().DueDestructions(w.now, 10)), 1)
}

// TestHeldVersionsDoNotHoldUpOthers: more than fit into one Sweep are held,
// and the one that is free is found all the same.
func TestHeldVersionsDoNotHoldUpOthers(t *testing.T) {
	w, session := ledgerWorld(t)
	for range 10 {
		w.ok(w.put(ledger))
	}
	w.rule(fsm.PathRule{Prefix: "/app/", KeepVersions: 1})
	for n := uint64(1); n < 10; n++ {
		w.observe(w.gave(n, fmt.Sprint("i", n), session))
	}
	gone := 0
	for steps := 0; w.m.State().Due(w.now); steps++ {
		require.Less(t, steps, 10, "Sweeps get on")
		gone += len(w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 2, Session: session, Closed: w.m.State().DueDestructions(w.now, 2)}).Kept)
	}
	require.Equal(t, 1, gone)
	require.Equal(t, fsm.VersionDestroyed, w.version(ledger, 10).State)
}

func TestARetiredPathStartsItsKeepingAnew(t *testing.T) {
	w := newWorld(t)
	w.rule(fsm.PathRule{Prefix: "/app/", KeepVersions: 1})
	w.secret("/app/db", 5)
	w.sweepUntilDone(10)
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/app/db"})
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/app/db", SecretID: "new", KeyID: defaultKey, ReuseRetired: true})
	for range 3 {
		w.ok(w.put("/app/db"))
	}
	w.sweepUntilDone(10)
	require.Equal(t, []uint64{2, 3}, w.live("/app/db"))
}

// TestARuleThatComesLaterTakesNothingBack: what was accepted before is done
// when it is due.
func TestARuleThatComesLaterTakesNothingBack(t *testing.T) {
	w := newWorld(t)
	w.secret("/app/db", 2)
	pending := w.destroy("/app/db", 1)
	pending.DueAt = w.now + day
	w.ok(pending)
	w.rule(fsm.PathRule{Prefix: "/app/", MinRetention: 90 * day, Segments: []string{"{env:prod}", "{name}"}, RequiredTags: []fsm.RequiredTag{{Name: "owner"}}})
	w.now += 2 * day
	w.sweep()
	require.Equal(t, fsm.VersionDestroyed, w.version("/app/db", 1).State)
	w.ok(w.put("/app/db"))
	r := w.refused(fault.Conflict, w.destroy("/app/db", 2), "version: 2 may be destroyed from", "minRetention of the rule /app/")
	require.Equal(t, map[string]string{"rule": "/app/", "ruleField": "minRetention", "until": fsm.UTC(w.version("/app/db", 2).CreatedAt + 90*day)}, r.Details)
	require.NotContains(t, w.refused(fault.Conflict, fsm.DeleteSecret{Meta: w.meta(), Path: "/app/db"}).Message, "when no more than", "89 days are a window")
	w.ok(w.put("/app/db"))
	w.rule(fsm.PathRule{Prefix: "/app/", MinRetention: 400 * day})
	w.refused(fault.Conflict, fsm.DeleteSecret{Meta: w.meta(), Path: "/app/db", PurgeAt: w.now + 90*day}, "delete it when no more than 90d are left")
}

func TestTimesInRefusalsAreThoseOfTheCalendar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Int64Range(0, 253402300799000).Draw(t, "at")
		rounded := (at + 999) / 1000
		require.Equal(t, time.Unix(rounded, 0).UTC().Format(time.RFC3339), fsm.UTC(at))
	})
}
