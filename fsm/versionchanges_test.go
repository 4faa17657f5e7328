package fsm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

const life = "/app/prod/pay/life"

func (w *world) label(number uint64, label string) fsm.SetVersionLabel {
	return fsm.SetVersionLabel{Meta: w.meta(), Path: life, Version: number, Label: label, Reason: "because"}
}

func (w *world) disable(number uint64, on bool) fsm.SetVersionState {
	return fsm.SetVersionState{Meta: w.meta(), Path: life, Version: number, Disable: on, Reason: "leaked"}
}

// story is what happened to a version, in short.
func (w *world) story(number uint64) (out []string) {
	for _, c := range w.v(number).Changes {
		out = append(out, strings.TrimSpace(c.What+" "+c.Label))
	}
	return out
}

func (w *world) labels() map[string]uint64 { return w.m.State().Secret(life).Labels }

func (w *world) v(number uint64) *fsm.Version { return w.m.State().Version(life, number) }

// TestAnOlderVersionIsActivated: the rollback. Previous follows, and nothing
// is made or lost by it.
func TestAnOlderVersionIsActivated(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 3)
	one := uint64(1)
	stale := w.label(1, "current")
	stale.Expected = &one
	w.refused(fault.Conflict, stale, "expectedVersion: is 1, but the current version is 3")
	three := uint64(3)
	good := w.label(1, "current")
	good.Expected = &three
	w.ok(good)
	require.Equal(t, map[string]uint64{"current": 1, "previous": 3}, w.labels())
	require.EqualValues(t, 1, w.m.State().Secret(life).Current)
	require.EqualValues(t, 3, w.m.State().Secret(life).Latest)
	w.ok(w.label(1, "current"))
	require.Equal(t, map[string]uint64{"current": 1, "previous": 3}, w.labels(), "again changes nothing")
	require.Equal(t, []string{"activated current", "replaced current", "activated current"}, w.story(1))
	require.Equal(t, []string{"activated current", "replaced current"}, w.story(3), "what happens to one version happens to the other")
	at := w.v(1).Changes[2].At
	require.Equal(t, good.Meta.Time, at)
	require.Equal(t, fsm.VersionChange{At: at, By: "admin", RequestID: good.Meta.RequestID, What: fsm.ChangeActivated, Label: "current", Reason: "because"}, w.v(1).Changes[2])
	require.Equal(t, fsm.VersionChange{At: at, By: "admin", RequestID: good.Meta.RequestID, What: fsm.ChangeReplaced, Label: "current", Reason: "because"}, w.v(3).Changes[1])
	w.refused(fault.Conflict, fsm.DestroyVersion{Meta: w.meta(), Path: life, Version: 1}, "current version")
	w.ok(fsm.DestroyVersion{Meta: w.meta(), Path: life, Version: 3})
	require.Equal(t, map[string]uint64{"current": 1}, w.labels(), "labels go with their version")
}

func TestLabelsOfPeople(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 2)
	w.ok(w.label(1, "blue"))
	w.ok(w.label(2, "blue"))
	require.Equal(t, map[string]uint64{"blue": 2, "current": 2, "previous": 1}, w.labels(), "a label is on one version at most")
	require.Equal(t, []string{"activated current", "replaced current", "labelled blue", "unlabelled blue"}, w.story(1))
	w.refused(fault.Conflict, w.label(1, "previous"), "label: previous is kept by the server")
	w.refused(fault.InvalidRequest, w.label(1, "no good"), "label: ")
	w.refused(fault.NotFound, w.label(9, "blue"), "version: ")
	for _, kept := range []string{"current", "previous"} {
		w.refused(fault.Conflict, fsm.RemoveVersionLabel{Meta: w.meta(), Path: life, Label: kept}, "kept by the server")
	}
	w.refused(fault.NotFound, fsm.RemoveVersionLabel{Meta: w.meta(), Path: life, Label: "green"}, "label: ")
	w.refused(fault.NotFound, fsm.RemoveVersionLabel{Meta: w.meta(), Path: "/app/none", Label: "green"}, "path: ")
	w.ok(fsm.RemoveVersionLabel{Meta: w.meta(), Path: life, Label: "blue"})
	require.Equal(t, map[string]uint64{"current": 2, "previous": 1}, w.labels())
	for i := range 30 {
		w.ok(w.label(1, fmt.Sprint("l", i)))
	}
	w.refused(fault.Conflict, w.label(1, "one-more"), "30 labels", "removeVersionLabel")
	w.ok(w.label(1, "current")) // the server's own have room beside them
	require.Len(t, w.v(1).Changes, 35)
	for i := range 40 {
		w.ok(w.label(1+uint64((i+1)%2), "l0"))
	}
	require.Len(t, w.v(1).Changes, 50, "the latest are kept")
	require.EqualValues(t, 25, w.v(1).Omitted, "and the others counted")
	require.Equal(t, "labelled l0", w.story(1)[49])
}

// TestLabelsAreTakenFromWhereOneSawThem: who decides by what they saw says so,
// and learns that it is otherwise now.
func TestLabelsAreTakenFromWhereOneSawThem(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 2)
	w.ok(w.label(1, "blue"))
	remove := func() fsm.RemoveVersionLabel {
		return fsm.RemoveVersionLabel{Meta: w.meta(), Path: life, Label: "blue", Reason: "done"}
	}
	stale, one, two := remove(), uint64(1), uint64(2)
	stale.Expected = &one
	w.refused(fault.Conflict, stale, "expectedVersion: is 1, but the current version is 2")
	elsewhere := remove()
	elsewhere.Version = 2
	w.refused(fault.Conflict, elsewhere, "version: the label is on version 1")
	good := remove()
	good.Version, good.Expected = 1, &two
	w.ok(good)
	require.Equal(t, "unlabelled blue", w.story(1)[3])
}

// TestReasonsAreBounded, because a version keeps many.
func TestReasonsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 2)
	long := strings.Repeat("x", 1025)
	put, label, off, destroy := w.put(life), w.label(1, "blue"), w.disable(1, true), w.destroy(life, 1)
	put.Version.Reason, label.Reason, off.Reason, destroy.Reason = long, long, long, long
	w.ok(w.label(1, "green"))
	for _, c := range []fsm.Command{
		put, label, off, destroy, fsm.RemoveVersionLabel{Meta: w.meta(), Path: life, Label: "green", Reason: long},
		fsm.DeleteSecret{Meta: w.meta(), Path: life, Reason: long},
	} {
		w.refused(fault.InvalidRequest, c, "reason: has 1025 bytes")
	}
	later := w.destroy(life, 1)
	later.DueAt = w.now + day
	w.ok(later)
	w.refused(fault.InvalidRequest, fsm.CancelDestroy{Meta: w.meta(), Path: life, Version: 1, Reason: long}, "reason: ")
}

// TestTheHistorySaysWhoWantedADestruction, not who came by to carry it out.
func TestTheHistorySaysWhoWantedADestruction(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 3)
	last := func(n uint64) fsm.VersionChange {
		changes := w.v(n).Changes
		return changes[len(changes)-1]
	}
	by := func(name string) fsm.Meta {
		m := w.meta()
		m.Principal = name
		return m
	}
	now := w.ok(fsm.DestroyVersion{Meta: by("ann"), Path: life, Version: 1, Reason: "leaked"})
	require.Equal(t, fsm.VersionChange{At: w.m.State().Time(), By: "ann", RequestID: fmt.Sprint("request-", now.Index), What: fsm.ChangeDestroyed, Reason: "leaked"}, last(1))

	later := w.ok(fsm.DestroyVersion{Meta: by("ben"), Path: life, Version: 2, Reason: "old", DueAt: w.now + day})
	require.Equal(t, fsm.ChangeScheduled, last(2).What)
	w.now += 2 * day
	w.sweep()
	require.Equal(t, fsm.VersionChange{At: w.m.State().Time(), By: "ben", RequestID: fmt.Sprint("request-", later.Index), What: fsm.ChangeDestroyed, Reason: "old"}, last(2))

	deleted := w.ok(fsm.DeleteSecret{Meta: by("cem"), Path: life, Reason: "moved", PurgeAt: w.now + 7*day})
	w.now += 8 * day
	w.sweep()
	require.Equal(t, fsm.VersionChange{At: w.m.State().Time(), By: "cem", RequestID: fmt.Sprint("request-", deleted.Index), What: fsm.ChangeDestroyed, Reason: "moved"}, last(3))
	require.Equal(t, "cem", w.v(3).DestroyedBy)

	// Who does not wait for the end of the window is who destroys.
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: life, SecretID: "again", KeyID: defaultKey, ReuseRetired: true})
	w.ok(w.put(life))
	w.ok(fsm.DeleteSecret{Meta: by("ann"), Path: life, PurgeAt: w.now + 8*day})
	w.ok(fsm.DeleteSecret{Meta: by("ben"), Path: life})
	require.Equal(t, "ben", last(1).By)
	require.Equal(t, "ben", w.v(1).DestroyedBy)
}

// TestADisabledVersion keeps what it has, and no reader is sent to it.
func TestADisabledVersion(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 2)
	w.ok(w.disable(1, true))
	require.Equal(t, fsm.VersionDisabled, w.v(1).State)
	require.NotEmpty(t, w.v(1).Sealed)
	require.EqualValues(t, 1, w.m.State().BoundCount(defaultKey), "it still counts for its key")
	w.refused(fault.VersionNotActive, w.label(1, "current"), "disabled; enableVersion first")
	w.ok(w.disable(1, true))
	require.Len(t, w.v(1).Changes, 3, "again is no change")

	// A destruction that is taken back leaves it disabled.
	w.ok(fsm.DestroyVersion{Meta: w.meta(), Path: life, Version: 1, DueAt: w.now + day})
	w.refused(fault.Conflict, w.disable(1, false), "cancelDestroyVersion first")
	w.refused(fault.VersionNotActive, w.label(1, "blue"), "cancelDestroyVersion first")
	w.ok(fsm.CancelDestroy{Meta: w.meta(), Path: life, Version: 1})
	require.Equal(t, fsm.VersionDisabled, w.v(1).State)
	w.ok(w.disable(1, false))
	require.Equal(t, fsm.VersionActive, w.v(1).State)
	require.Equal(t, []string{fsm.ChangeDisabled, fsm.ChangeScheduled, fsm.ChangeCancelled, fsm.ChangeEnabled}, w.story(1)[2:])

	w.ok(w.disable(2, true))
	require.EqualValues(t, 2, w.m.State().Secret(life).Current, "the brake does not move labels")
	w.ok(w.disable(2, false))
	w.ok(fsm.DestroyVersion{Meta: w.meta(), Path: life, Version: 1})
	w.refused(fault.VersionNotActive, w.disable(1, true), "destroyed")
	w.refused(fault.VersionNotActive, w.label(1, "blue"), "destroyed")
	require.Equal(t, fsm.ChangeDestroyed, w.story(1)[6])
}

func TestAnExpiredVersionIsNotActivated(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 1)
	c := w.put(life)
	c.Version.ExpiresAt, c.Activate = w.now+day, false
	w.ok(c)
	require.EqualValues(t, 1, w.m.State().Secret(life).Current)
	w.now += 2 * day
	w.refused(fault.VersionNotActive, w.label(2, "current"), "expired")
	w.refused(fault.VersionNotActive, w.label(2, "blue"), "expired")
	w.ok(w.disable(2, true))
	r := w.refused(fault.VersionNotActive, w.disable(2, false), "expired")
	require.Equal(t, "expired", r.Details["state"], "enabled it would not be read either")
}

func TestASecretIsUpdated(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 1)
	text := "for people"
	w.ok(fsm.UpdateSecret{Meta: w.meta(), Path: life, Description: &text})
	w.ok(fsm.UpdateSecret{Meta: w.meta(), Path: life, SetTags: true, Tags: map[string]string{"a": "b"}})
	s := w.m.State().Secret(life)
	require.Equal(t, text, s.Description)
	require.Equal(t, map[string]string{"a": "b"}, s.Tags)
	require.Equal(t, "admin", s.UpdatedBy)
	w.refused(fault.NotFound, fsm.UpdateSecret{Meta: w.meta(), Path: "/app/none", SetTags: true})
}

// versionStory holds every kind of people's changes: a promise to logs.
func versionStory() []fsm.Command {
	meta := fsm.Meta{Time: start, Principal: "admin", RequestID: "request-1"}
	text, current := "for people", uint64(2)
	return []fsm.Command{
		fsm.SetVersionLabel{Meta: meta, Path: life, Version: 1, Label: "current", Expected: &current, Reason: "rollback"},
		fsm.RemoveVersionLabel{Meta: meta, Path: life, Label: "blue", Reason: "done"},
		fsm.SetVersionState{Meta: meta, Path: life, Version: 1, Disable: true, Reason: "leaked"},
		fsm.UpdateSecret{Meta: meta, Path: life, Description: &text, SetTags: true, Tags: map[string]string{"a": "b"}},
		fsm.NoteExpiry{Meta: meta, Path: life, SecretID: "s1", Version: 3},
	}
}
