package fsm_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

func TestLabelsFollowActivation(t *testing.T) {
	const path = "/app/a"
	w := newWorld(t)
	w.secret(path, 0)
	steps := []struct {
		activate bool
		current  uint64
		labels   map[string]uint64
	}{
		{false, 0, nil},
		{true, 2, map[string]uint64{"current": 2}},
		{false, 2, map[string]uint64{"current": 2}},
		{true, 4, map[string]uint64{"current": 4, "previous": 2}},
		{true, 5, map[string]uint64{"current": 5, "previous": 4}},
	}
	for i, step := range steps {
		c := w.put(path)
		c.Activate = step.activate
		result := w.ok(c)
		require.Equal(t, uint64(i+1), result.Version)
		s := w.get(path)
		require.Equal(t, step.current, s.Current)
		require.Equal(t, uint64(i+1), s.Latest)
		require.Equal(t, step.labels, s.Labels)
	}
	var numbers []uint64
	for v := range w.m.State().Versions(names.Path(path)) {
		numbers = append(numbers, v.Number)
	}
	require.Equal(t, []uint64{5, 4, 3, 2, 1}, numbers)
	require.Nil(t, w.m.State().Version(names.Path(path), 6))

	w.ok(w.destroy(path, 4))
	require.Equal(t, map[string]uint64{"current": 5}, w.get(path).Labels, "no label on a destroyed version")
}

func TestVersionsOfOnePathOnly(t *testing.T) {
	w := newWorld(t)
	w.secret("/app/a", 2)
	w.secret("/app/a/b", 3)
	w.secret("/app/ab", 1)
	require.Len(t, slices.Collect(w.m.State().Versions("/app/a")), 2)
	for range 300 { // past one byte of the number
		w.ok(w.put("/app/a"))
	}
	next := uint64(302)
	for v := range w.m.State().Versions("/app/a") {
		require.Equal(t, next, v.Number)
		next--
	}
	require.Zero(t, next)
}

func TestPutVersionRefusals(t *testing.T) {
	const path = "/app/a"
	w := newWorld(t)
	w.secret(path, 2)
	expect := func(n uint64) fsm.PutVersion {
		c := w.put(path)
		c.Expected = &n
		return c
	}
	for _, n := range []uint64{0, 1, 3} {
		r := w.refused(fault.Conflict, expect(n), "expectedVersion: is", "current version is 2")
		require.False(t, r.Race, "sealing again would not help")
		require.Equal(t, "2", r.Details["currentVersion"])
	}
	w.ok(expect(2))

	for _, number := range []uint64{0, 3, 5} {
		c := w.put(path)
		c.Version.Number = number
		require.True(t, w.refused(fault.Conflict, c).Race)
	}
	c := w.put(path)
	c.Version.KeyVersion = 2
	require.True(t, w.refused(fault.Conflict, c).Race)
	c = w.put(path)
	c.Version.KeyID = keyID(9)
	require.True(t, w.refused(fault.Conflict, c).Race)
	c = w.put(path)
	c.Version.ExpiresAt = w.now - 1
	w.refused(fault.InvalidRequest, c, "expiresAt: ")
	c = w.put(path)
	c.Path = "/app/none"
	w.refused(fault.NotFound, c, "createSecret")

	w.secret("/app/empty", 0)
	zero := uint64(0)
	c = w.put("/app/empty")
	c.Expected = &zero
	w.ok(c) // an expected version of 0 means: none yet
}

func TestPutVersionNeedsAnActiveKey(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/a", SecretID: "s", KeyID: keyID(2)})
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyDisabled})
	r := w.refused(fault.KeyNotActive, w.put("/a"), "disabled")
	require.Equal(t, keyID(2), r.Details["keyId"])
	require.Equal(t, "disabled", r.Details["state"])
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyActive})
	w.ok(w.put("/a"))
}

func TestDestroyVersion(t *testing.T) {
	const path = "/app/a"
	w := newWorld(t)
	w.secret(path, 3)
	w.refused(fault.Conflict, w.destroy(path, 3), "current", "delete the secret")
	w.refused(fault.NotFound, w.destroy(path, 4), "listSecretVersions")
	w.refused(fault.NotFound, w.destroy(path, 0))

	result := w.ok(w.destroy(path, 1))
	require.Equal(t, "destroyed", result.State)
	v := w.version(path, 1)
	require.Nil(t, v.Sealed)
	require.Nil(t, v.DataKey)
	require.Nil(t, v.Fingerprint)
	require.Equal(t, "admin", v.DestroyedBy)
	require.Equal(t, "no longer used", v.Reason)
	require.Equal(t, w.m.State().Time(), v.DestroyedAt)
	require.Equal(t, uint32(9), v.Size, "history stays")

	r := w.refused(fault.VersionNotActive, w.destroy(path, 1), "already")
	require.Equal(t, "destroyed", r.Details["state"])
	r = w.refused(fault.VersionNotActive, fsm.CancelDestroy{Meta: w.meta(), Path: path, Version: 1})
	require.Equal(t, "destroyed", r.Details["state"])
}

func TestDestroyVersionLater(t *testing.T) {
	const path = "/app/a"
	w := newWorld(t)
	w.secret(path, 3)
	later := func(after int64) fsm.DestroyVersion {
		c := w.destroy(path, 1)
		c.DueAt = w.now + after
		return c
	}
	cancel := func() fsm.CancelDestroy { return fsm.CancelDestroy{Meta: w.meta(), Path: path, Version: 1} }
	w.refused(fault.Conflict, cancel(), "nothing to cancel")
	due := w.now + day
	result := w.ok(later(day))
	require.Equal(t, "pendingDestroy", result.State)
	require.Equal(t, due, result.DueAt)
	require.NotNil(t, w.version(path, 1).Sealed)

	w.ok(cancel())
	v := w.version(path, 1)
	require.Equal(t, fsm.VersionActive, v.State)
	require.Empty(t, v.Reason+v.DestroyedBy)
	require.Zero(t, v.DestroyAt)

	w.ok(later(2 * day))
	w.ok(later(day / 2)) // the later command decides
	due = w.version(path, 1).DestroyAt
	require.False(t, w.m.State().Due(due-1))
	require.True(t, w.m.State().Due(due))
	w.now = due
	w.refused(fault.Conflict, cancel(), "delay")
	require.Equal(t, 1, w.sweep().Done)
	v = w.version(path, 1)
	require.Equal(t, fsm.VersionDestroyed, v.State)
	require.Nil(t, v.Sealed)
	require.Equal(t, "admin", v.DestroyedBy, "who asked, not who swept")
	require.Equal(t, 0, w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now + day/4}, Limit: 10}).Done, "the first delay is gone")

	w.ok(fsm.DestroyVersion{Meta: w.meta(), Path: path, Version: 2, DueAt: w.now - 1})
	require.Equal(t, fsm.VersionDestroyed, w.version(path, 2).State, "a delay that has passed is none")
	w.ok(w.put(path))
	w.refused(fault.InvalidRequest, fsm.DestroyVersion{Meta: w.meta(), Path: path, Version: 3, DueAt: -1}, "delay")
}

func TestBindingsFollowVersions(t *testing.T) {
	w := newWorld(t)
	bound := func() (out []string) {
		for path, live := range w.m.State().BoundPaths(defaultKey, "") {
			for range live {
				out = append(out, string(path))
			}
		}
		return out
	}
	require.Empty(t, bound())
	w.secret("/b", 2)
	w.secret("/a", 1)
	w.secret("/c", 0)
	require.Equal(t, []string{"/a", "/b", "/b"}, bound())
	require.Equal(t, uint64(2), w.m.State().BoundCount(defaultKey))
	w.ok(w.destroy("/b", 1))
	require.Equal(t, []string{"/a", "/b"}, bound())
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a"})
	require.Equal(t, []string{"/b"}, bound())
	for path := range w.m.State().BoundPaths(defaultKey, "/b") {
		t.Fatalf("%s is not after /b", path)
	}
	for path := range w.m.State().BoundPaths(defaultKey, "/a") {
		require.Equal(t, names.Path("/b"), path)
	}
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/b"})
	require.Empty(t, bound())
	require.Zero(t, w.m.State().BoundCount(defaultKey))
}
