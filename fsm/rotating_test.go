package fsm_test

import (
	"bytes"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// rotationStory holds a full command of each kind of the rotation of secrets.
func rotationStory() []fsm.Command {
	meta := fsm.Meta{Time: start, Principal: "system:rotation", RequestID: "request-1"}
	version := newVersion(4, defaultKey)
	return []fsm.Command{
		fsm.StartRotation{Meta: meta, Path: life, SecretID: "s1", ID: "run-1", Scheduled: true, Reason: "leaked"},
		fsm.AdvanceRotation{Meta: meta, Path: life, SecretID: "s1", ID: "run-1", Step: fsm.RotationCreate, To: fsm.RotationSet, Version: &version, From: 3, Error: "e"},
		fsm.RetryRotation{Meta: meta, Path: life, SecretID: "s1", ID: "run-1", Step: fsm.RotationSet, Attempts: 2, NextAt: start + day, Error: "the server is away"},
		fsm.EndRotation{Meta: meta, Path: life, SecretID: "s1", ID: "run-1", Step: fsm.RotationRollBack, Keep: true, NextAt: start + day, RetryAt: start + 2*day, Tell: true, Error: "e"},
		fsm.CancelRotation{Meta: meta, Path: life, Force: true, Reason: "stuck", NextAt: start + day},
	}
}

// TestGoldenRotationSettings: the settings go with a kind that is older.
func TestGoldenRotationSettings(t *testing.T) {
	current := encoded(t, fsm.UpdateSecret{
		Meta: fsm.Meta{Time: start, Principal: "admin", RequestID: "request-1"}, Path: life, NextRotationAt: start + day,
		Rotation: &fsm.RotationSettings{Kind: "webhook", Interval: day, Cron: "0 3 * * *", Timezone: "Europe/Berlin", Spec: []byte("{}"), SetBy: "a", SetAt: start},
	})
	path := filepath.Join(commandFolder, "045-UpdateSecret-v1-rotation.hex")
	require.Equal(t, unhex(t, golden(t, path, []byte(wrapped64(hex.EncodeToString(current))))), current)
}

// rotated makes a secret with n versions that is rotated every day.
func (w *world) rotated(n int) {
	w.t.Helper()
	w.secret(life, n)
	w.ok(w.settings("generate", day))
}

func (w *world) settings(kind string, in int64) fsm.UpdateSecret {
	c := fsm.UpdateSecret{Meta: w.meta(), Path: life, Rotation: &fsm.RotationSettings{Kind: kind, Interval: day}}
	if in != 0 {
		c.NextRotationAt = w.now + in
	}
	return c
}

func (w *world) run() *fsm.RotationRun { return w.get(life).Rotation.Run }

func (w *world) startRun() fsm.StartRotation {
	return fsm.StartRotation{Meta: w.meta(), Path: life, SecretID: w.get(life).ID, ID: "run", Reason: "now"}
}

func (w *world) advance(from, to fsm.RotationStep) fsm.AdvanceRotation {
	s := w.get(life)
	c := fsm.AdvanceRotation{Meta: w.meta(), Path: life, SecretID: s.ID, ID: "run", Step: from, To: to, From: s.Current}
	if from == fsm.RotationCreate && to != fsm.RotationRollBack {
		v := newVersion(s.Latest+1, s.KeyID)
		c.Version = &v
	}
	return c
}

func (w *world) end(step fsm.RotationStep) fsm.EndRotation {
	return fsm.EndRotation{Meta: w.meta(), Path: life, SecretID: w.get(life).ID, ID: "run", Step: step, NextAt: w.now + day, RetryAt: w.now + 1000}
}

func (w *world) due() (out []string) {
	for s := range w.m.State().SecretRotationsDue(w.now) {
		out = append(out, string(s.Path))
	}
	return out
}

func TestARotationActivatesItsVersionAtTheEnd(t *testing.T) {
	w := newWorld(t)
	w.rotated(1)
	require.Empty(t, w.due())
	scheduled := w.startRun()
	scheduled.Scheduled = true
	w.refused(fault.Conflict, scheduled, "not due")
	w.now += day
	require.Equal(t, []string{life}, w.due())
	before := w.get(life).Changed
	scheduled.Meta = w.meta()
	w.ok(scheduled)
	require.Equal(t, before, w.get(life).Changed, "readers notice nothing of it")
	w.refused(fault.Conflict, scheduled, "one is on its way")

	w.ok(w.advance(fsm.RotationCreate, fsm.RotationSet))
	require.EqualValues(t, 2, w.run().Version)
	require.Equal(t, map[string]uint64{"current": 1, "pending": 2}, w.get(life).Labels)
	w.ok(w.advance(fsm.RotationSet, fsm.RotationTest))
	w.ok(w.advance(fsm.RotationTest, fsm.RotationFinish))
	w.ok(w.end(fsm.RotationFinish))
	s := w.get(life)
	require.Equal(t, map[string]uint64{"current": 2, "previous": 1}, s.Labels)
	require.Nil(t, s.Rotation.Run)
	require.Equal(t, fsm.RotationDone, s.Rotation.Outcome)
	require.Equal(t, w.m.State().Time(), s.Rotation.DoneAt)
	require.Empty(t, w.due())
	w.refused(fault.Conflict, w.startRun(), "less than a minute ago")
	w.now += fsm.RotationGap
	w.ok(w.startRun())
}

// TestTheTargetIsToldAfterTheActivation: who is told may take the old value
// out of force.
func TestTheTargetIsToldAfterTheActivation(t *testing.T) {
	for _, how := range []string{"told", "given up", "cancelled"} {
		w := newWorld(t)
		w.rotated(1)
		w.ok(w.startRun())
		w.ok(w.advance(fsm.RotationCreate, fsm.RotationFinish))
		end := w.end(fsm.RotationFinish)
		end.Tell = true
		w.ok(end)
		require.EqualValues(t, 2, w.get(life).Current)
		require.Equal(t, fsm.RotationTell, w.run().Step)
		require.Equal(t, []string{life}, w.due())
		w.refused(fault.Conflict, w.advance(fsm.RotationTell, fsm.RotationRollBack), "does not follow")
		end = w.end(fsm.RotationTell)
		switch how {
		case "told":
			w.ok(end)
		case "given up":
			end.Error = how
			w.ok(end)
		default:
			w.ok(fsm.CancelRotation{Meta: w.meta(), Path: life, Reason: how})
		}
		s := w.get(life)
		require.Equal(t, fsm.RotationDone, s.Rotation.Outcome)
		require.Equal(t, how != "told", s.Rotation.LastError != "")
		require.EqualValues(t, 2, s.Current)
		require.Empty(t, w.due())
	}
}

// TestALateStepChangesNothing: what a deposed leader still proposes finds
// another step, another attempt or another rotation.
func TestALateStepChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.rotated(1)
	w.ok(w.startRun())
	late := w.advance(fsm.RotationCreate, fsm.RotationSet)
	w.ok(late)
	require.True(t, w.refused(fault.Conflict, late, "not at the step").Race)
	retry := fsm.RetryRotation{Meta: w.meta(), Path: life, SecretID: w.get(life).ID, ID: "run", Step: fsm.RotationSet, NextAt: w.now + 5000, Error: "away"}
	w.ok(retry)
	require.True(t, w.refused(fault.Conflict, retry, "another attempt").Race)
	require.EqualValues(t, 1, w.run().Attempts)
	require.Empty(t, w.due(), "it waits")
	other := w.advance(fsm.RotationSet, fsm.RotationTest)
	other.ID = "another"
	w.refused(fault.Conflict, other, "not at the step")
	w.refused(fault.Conflict, w.advance(fsm.RotationSet, fsm.RotationFinish), "does not follow")
	w.refused(fault.Conflict, w.end(fsm.RotationSet), "does not end")
	w.refused(fault.Conflict, w.settings("webhook", 0), "one is on its way")
}

func TestARollBackErasesThePendingVersionOrKeepsItDisabled(t *testing.T) {
	for _, keep := range []bool{false, true} {
		w := newWorld(t)
		w.rotated(1)
		w.ok(w.startRun())
		w.ok(w.advance(fsm.RotationCreate, fsm.RotationSet))
		back := w.advance(fsm.RotationSet, fsm.RotationRollBack)
		back.Error = "the server refused it"
		w.ok(back)
		w.ok(fsm.RetryRotation{Meta: w.meta(), Path: life, SecretID: w.get(life).ID, ID: "run", Step: fsm.RotationRollBack, NextAt: w.now, Error: "away"})
		require.Equal(t, "the server refused it", w.run().Cause, "what goes wrong on the way back does not hide why")
		end := w.end(fsm.RotationRollBack)
		end.Keep = keep
		w.ok(end)
		s := w.get(life)
		require.Equal(t, map[string]uint64{"current": 1}, s.Labels)
		require.Equal(t, fsm.RotationFailed, s.Rotation.Outcome)
		require.Equal(t, "the server refused it", s.Rotation.LastError)
		require.EqualValues(t, 1, s.Rotation.Failures)
		want := fsm.VersionDestroyed
		if keep {
			want = fsm.VersionDisabled
		}
		require.Equal(t, want, w.version(life, 2).State)
		w.now += 1000
		require.Equal(t, []string{life}, w.due(), "it is tried again")
	}
}

func TestAVersionThatBecameCurrentMeanwhileIsNotReplaced(t *testing.T) {
	w := newWorld(t)
	w.rotated(1)
	w.ok(w.startRun())
	w.ok(w.advance(fsm.RotationCreate, fsm.RotationFinish))
	w.ok(w.put(life))
	w.refused(fault.Conflict, w.end(fsm.RotationFinish), "version 3 became current")
	w.ok(w.advance(fsm.RotationFinish, fsm.RotationRollBack))
	w.ok(w.end(fsm.RotationRollBack))
	require.EqualValues(t, 3, w.get(life).Current)
}

func TestPeopleCancelRotations(t *testing.T) {
	w := newWorld(t)
	w.rotated(1)
	cancel := func(force bool) fsm.CancelRotation {
		return fsm.CancelRotation{Meta: w.meta(), Path: life, Force: force, Reason: "stuck", NextAt: w.now + day}
	}
	w.refused(fault.Conflict, cancel(false), "nothing to cancel")
	w.ok(w.startRun())
	w.ok(w.advance(fsm.RotationCreate, fsm.RotationSet))
	w.ok(cancel(false))
	require.Equal(t, fsm.RotationRollBack, w.run().Step)
	w.refused(fault.Conflict, cancel(false), "cancelled already")
	w.refused(fault.Conflict, w.advance(fsm.RotationRollBack, fsm.RotationFinish), "it was cancelled")
	w.ok(cancel(true))
	s := w.get(life)
	require.Equal(t, fsm.RotationCancelled, s.Rotation.Outcome)
	require.Equal(t, "cancelled by admin: stuck", s.Rotation.LastError)
	require.Equal(t, fsm.VersionDisabled, w.version(life, 2).State)
	require.Empty(t, w.due())
}

// TestThePendingLabelIsPeoplesAtOtherTimes: it was theirs before there were
// rotations, and old logs must be decided alike.
func TestThePendingLabelIsPeoplesAtOtherTimes(t *testing.T) {
	w := newWorld(t)
	w.rotated(2)
	label := func(n uint64) fsm.SetVersionLabel {
		return fsm.SetVersionLabel{Meta: w.meta(), Path: life, Version: n, Label: "pending"}
	}
	w.ok(label(1))
	w.ok(w.startRun())
	w.refused(fault.Conflict, label(2), "kept by the server")
	w.refused(fault.Conflict, fsm.RemoveVersionLabel{Meta: w.meta(), Path: life, Label: "pending"}, "kept by the server")
	w.ok(w.advance(fsm.RotationCreate, fsm.RotationSet))
	require.EqualValues(t, 3, w.get(life).Labels["pending"])
}

func TestADeletedSecretIsNotRotated(t *testing.T) {
	w := newWorld(t)
	w.rotated(1)
	w.ok(w.startRun())
	require.Equal(t, []string{life}, w.due())
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: life, PurgeAt: w.now + 8*day})
	require.Empty(t, w.due())
	w.refused(fault.Conflict, w.advance(fsm.RotationCreate, fsm.RotationSet), "recovery window")
	w.ok(fsm.RestoreSecret{Meta: w.meta(), Path: life})
	require.Equal(t, []string{life}, w.due())
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: life})
	require.Nil(t, w.get(life).Rotation)
}

func TestRotationSettingsHaveBounds(t *testing.T) {
	w := newWorld(t)
	w.rotated(1)
	big := w.settings("generate", 0)
	big.Rotation.Spec = make([]byte, 40<<10)
	w.refused(fault.InvalidRequest, big, "bytes of settings")
	both := w.settings("generate", 0)
	both.Rotation.Cron = "0 3 * * *"
	w.refused(fault.InvalidRequest, both, "not both")
	long := w.settings(strings.Repeat("x", 200), 0)
	w.refused(fault.InvalidRequest, long, "more than 128 bytes")
	w.ok(w.settings("", 0))
	require.Nil(t, w.get(life).Rotation)
	w.refused(fault.Conflict, w.startRun(), "has no settings")
}

const rotationSnapshotGolden = "testdata/snapshots/v1/rotations.snapshot"

// TestGoldenRotationSnapshot: what this build writes of a rotation that is on
// its way is read by later ones.
func TestGoldenRotationSnapshot(t *testing.T) {
	w := newWorld(t)
	w.rotated(1)
	w.ok(w.startRun())
	w.ok(w.advance(fsm.RotationCreate, fsm.RotationSet))
	w.ok(fsm.RetryRotation{Meta: w.meta(), Path: life, SecretID: w.get(life).ID, ID: "run", Step: fsm.RotationSet, NextAt: w.now + day, Error: "away"})
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(golden(t, rotationSnapshotGolden, snapshot(t, w.m)))))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
}

// TestASnapshotWithAnImpossibleRotationIsRefused: the order of what is due
// stands on it.
func TestASnapshotWithAnImpossibleRotationIsRefused(t *testing.T) {
	for says, r := range map[string]fsm.Rotation{
		"in no way":         {},
		"out of range":      {Settings: fsm.RotationSettings{Kind: "generate"}, NextAt: -1},
		"at no step":        {Settings: fsm.RotationSettings{Kind: "generate"}, Run: &fsm.RotationRun{Step: "nowhere"}},
		"or of no version":  {Settings: fsm.RotationSettings{Kind: "generate"}, Run: &fsm.RotationRun{Step: fsm.RotationSet, Version: 9}},
		"or at a time out ": {Settings: fsm.RotationSettings{Kind: "generate"}, RetryAt: 1 << 60},
	} {
		w := newWorld(t)
		w.rotated(1)
		bad := *w.get(life)
		bad.Rotation = &r
		fsm.ForceVersion(w.m, &bad, w.version(life, 1))
		require.ErrorContains(t, fsm.New().Restore(bytes.NewReader(snapshot(t, w.m))), says)
	}
}

// TestARotationOnItsWayIsInTheSnapshot, with all that the next leader needs.
func TestARotationOnItsWayIsInTheSnapshot(t *testing.T) {
	w := newWorld(t)
	w.rotated(1)
	w.ok(w.startRun())
	w.ok(w.advance(fsm.RotationCreate, fsm.RotationSet))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(snapshot(t, w.m))))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
}
