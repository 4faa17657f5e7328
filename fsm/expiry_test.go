package fsm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// expires adds a version that expires after d, which is told before that.
func (w *world) expires(d, before int64) uint64 {
	w.t.Helper()
	c := w.put(life)
	c.Version.ExpiresAt, c.Version.NotifyBefore = w.now+d, before
	return w.ok(c).Version
}

// untold answers what is due to be told now.
func (w *world) untold() (out []uint64) {
	for secret, v := range w.m.State().ExpiriesDue(w.now) {
		require.Equal(w.t, life, string(secret.Path))
		out = append(out, v.Number)
	}
	return out
}

func (w *world) noted(number uint64) fsm.NoteExpiry {
	return fsm.NoteExpiry{Meta: w.meta(), Path: life, SecretID: w.get(life).ID, Version: number}
}

func TestAnExpiryIsToldOnce(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 1)
	updated := w.expires(10*day, day)
	w.expires(9*day, 2*day)
	w.expires(90*day, 0) // nobody asked
	before := w.get(life)
	w.refused(fault.Conflict, w.noted(2), "nothing to tell")
	require.Empty(t, w.untold())
	require.Zero(t, w.m.State().ExpiringSoon(w.now))

	w.now += 9 * day
	require.Equal(t, []uint64{3, 2}, w.untold(), "the longest due first")
	require.Equal(t, 1, w.m.State().ExpiringSoon(w.now), "version 3 has expired by now")
	require.False(t, w.m.State().Due(w.now), "a Sweep has nothing to do with it")
	w.ok(w.noted(updated))
	require.Equal(t, w.m.State().Time(), w.version(life, 2).NotifiedAt)
	w.refused(fault.Conflict, w.noted(2), "told already")
	require.Equal(t, 1, w.m.State().ExpiringSoon(w.now), "also once it was told")
	require.Same(t, before, w.get(life), "the secret is as it was")
	w.ok(w.noted(3))
	require.Empty(t, w.untold())
	w.refused(fault.Conflict, w.noted(4), "nothing to tell")
	w.refused(fault.Conflict, fsm.NoteExpiry{Meta: w.meta(), Path: life, SecretID: "another", Version: 2}, "nothing to tell")
	w.now += 2 * day
	require.Zero(t, w.m.State().ExpiringSoon(w.now))
}

// TestWhatNobodyCanReadIsNotTold, until it can be read again.
func TestWhatNobodyCanReadIsNotTold(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 0)
	for range 3 {
		w.expires(10*day, 9*day)
	}
	w.ok(w.disable(1, true))
	later := w.destroy(life, 2)
	later.DueAt = w.now + 5*day
	w.ok(later)
	w.now += 2 * day
	require.Equal(t, []uint64{3}, w.untold())
	w.ok(w.noted(3))
	w.refused(fault.Conflict, w.noted(1), "nothing to tell")
	w.ok(w.disable(1, false))
	w.ok(fsm.CancelDestroy{Meta: w.meta(), Path: life, Version: 2})
	require.Equal(t, []uint64{1, 2}, w.untold())
	w.ok(w.disable(3, true))
	w.ok(w.disable(3, false))
	require.Equal(t, []uint64{1, 2}, w.untold(), "told is told")

	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: life, PurgeAt: w.now + 7*day})
	require.Empty(t, w.untold())
	require.Zero(t, w.m.State().ExpiringSoon(w.now))
	w.refused(fault.Conflict, w.noted(1), "restoreSecret")
	w.ok(fsm.RestoreSecret{Meta: w.meta(), Path: life})
	require.Equal(t, []uint64{1, 2}, w.untold())
	require.Equal(t, 3, w.m.State().ExpiringSoon(w.now))
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: life})
	require.Empty(t, w.untold())
}

func TestAnExpiryIsToldWithinBounds(t *testing.T) {
	w := newWorld(t)
	w.secret(life, 1)
	for _, one := range []struct {
		expires, before int64
		text            string
	}{
		{0, day, "notifyBefore: goes with expiresAt"},
		{day, -1, "notifyBefore: must be"},
		{day, 366*day + 1, "notifyBefore: must be"},
	} {
		c := w.put(life)
		c.Version.NotifyBefore = one.before
		if one.expires != 0 {
			c.Version.ExpiresAt = w.now + one.expires
		}
		w.refused(fault.InvalidRequest, c, one.text)
	}
	w.expires(day, 366*day)
	require.Equal(t, []uint64{2}, w.untold(), "at once, if that was asked for")
}

// TestASnapshotWithAnImpossibleVersionIsRefused: what the indexes of labels
// and expiries rest on is checked before anything is served from it.
func TestASnapshotWithAnImpossibleVersionIsRefused(t *testing.T) {
	for text, change := range map[string]func(s *fsm.Secret, v *fsm.Version){
		"expires at a time out of range":   func(_ *fsm.Secret, v *fsm.Version) { v.ExpiresAt = -1 },
		"a version expires at a time":      func(_ *fsm.Secret, v *fsm.Version) { v.NotifyBefore = day },
		"more changes than it may have":    func(_ *fsm.Secret, v *fsm.Version) { v.Changes = make([]fsm.VersionChange, 51) },
		"a label is on no version":         func(s *fsm.Secret, _ *fsm.Version) { s.Labels = map[string]uint64{"current": 2, "blue": 9} },
		"a label is on a destroyed":        func(_ *fsm.Secret, v *fsm.Version) { v.State = fsm.VersionDestroyed },
		"does not know which version is c": func(s *fsm.Secret, _ *fsm.Version) { s.Current = 1 },
	} {
		w := newWorld(t)
		w.secret(life, 2)
		s, v := *w.get(life), *w.v(1)
		change(&s, &v)
		fsm.ForceVersion(w.m, &s, &v)
		require.ErrorContains(t, fsm.New().Restore(w.reader()), text)
	}
}
