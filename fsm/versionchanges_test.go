package fsm_test

import (
	"fmt"
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
	require.Len(t, w.v(1).Changes, 1)
	require.Equal(t, fsm.VersionChange{At: w.v(1).Changes[0].At, By: "admin", RequestID: good.Meta.RequestID, What: fsm.ChangeActivated, Label: "current", Reason: "because"}, w.v(1).Changes[0])
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
	w.refused(fault.Conflict, w.label(1, "one-more"), "32 labels", "removeVersionLabel")
	require.Len(t, w.v(1).Changes, 31)
	for i := range 40 {
		w.ok(w.label(1+uint64(i%2), "l0"))
	}
	require.Len(t, w.v(1).Changes, 50, "the latest are kept")
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
	require.Len(t, w.v(1).Changes, 1)

	// A destruction that is taken back leaves it disabled.
	w.ok(fsm.DestroyVersion{Meta: w.meta(), Path: life, Version: 1, DueAt: w.now + day})
	w.refused(fault.Conflict, w.disable(1, false), "cancelDestroyVersion first")
	w.refused(fault.VersionNotActive, w.label(1, "blue"), "cancelDestroyVersion first")
	w.ok(fsm.CancelDestroy{Meta: w.meta(), Path: life, Version: 1})
	require.Equal(t, fsm.VersionDisabled, w.v(1).State)
	w.ok(w.disable(1, false))
	require.Equal(t, fsm.VersionActive, w.v(1).State)
	var what []string
	for _, c := range w.v(1).Changes {
		what = append(what, c.What)
	}
	require.Equal(t, []string{fsm.ChangeDisabled, fsm.ChangeScheduled, fsm.ChangeCancelled, fsm.ChangeEnabled}, what)

	w.ok(w.disable(2, true))
	require.EqualValues(t, 2, w.m.State().Secret(life).Current, "the brake does not move labels")
	w.ok(w.disable(2, false))
	w.ok(fsm.DestroyVersion{Meta: w.meta(), Path: life, Version: 1})
	w.refused(fault.VersionNotActive, w.disable(1, true), "destroyed")
	w.refused(fault.VersionNotActive, w.label(1, "blue"), "destroyed")
	require.Equal(t, fsm.ChangeDestroyed, w.v(1).Changes[4].What)
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
	}
}
