package fsm_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func create(w *world, path, id string) fsm.CreateSecret {
	return fsm.CreateSecret{Meta: w.meta(), Path: path, SecretID: id, KeyID: defaultKey, Description: "d", Tags: map[string]string{"a": "b"}}
}

func TestCreateSecret(t *testing.T) {
	w := newWorld(t)
	first := newVersion(1, defaultKey)
	c := create(w, "/app/a", "s1")
	c.First = &first
	result := w.ok(c)
	require.Equal(t, fsm.Result{
		Index: w.index, Path: "/app/a", SecretID: "s1", Version: 1, VersionID: "version-1", State: "active", KeyID: defaultKey,
	}, result)
	s := w.get("/app/a")
	require.Equal(t, uint64(1), s.Current)
	require.Equal(t, map[string]uint64{"current": 1}, s.Labels)
	require.Equal(t, "admin", s.CreatedBy)
	require.Equal(t, w.m.State().Time(), s.CreatedAt)
	require.Equal(t, []byte("sealed value"), w.version("/app/a", 1).Sealed)

	w.ok(create(w, "/app/b", "s2"))
	require.Zero(t, w.get("/app/b").Current)
	require.Nil(t, w.get("/app/b").Labels)
	require.Equal(t, uint64(1), w.m.State().BoundCount(defaultKey), "a secret without a version binds nothing")
}

func TestCreateSecretRefusals(t *testing.T) {
	w := newWorld(t)
	w.ok(create(w, "/app/a", "s1"))
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyDisabled})
	mac := key(keyID(3))
	mac.Usage, mac.Versions[0].Wrapped.Usage = "mac", "mac"
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: mac})
	with := func(change func(*fsm.CreateSecret)) fsm.CreateSecret {
		c := create(w, "/app/new", "s9")
		v := newVersion(1, defaultKey)
		c.First = &v
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		code    fault.Kind
		message string
		race    bool
		change  func(*fsm.CreateSecret)
	}{
		"taken":               {fault.AlreadyExists, "putSecretValue", false, func(c *fsm.CreateSecret) { c.Path = "/app/a" }},
		"bad path":            {fault.InvalidRequest, "path: ", false, func(c *fsm.CreateSecret) { c.Path = "/app/../a" }},
		"bad id":              {fault.InvalidRequest, "secretId: ", false, func(c *fsm.CreateSecret) { c.SecretID = "a\x00b" }},
		"no key":              {fault.NotFound, "kmsKeyId: ", false, func(c *fsm.CreateSecret) { c.KeyID = keyID(9) }},
		"disabled key":        {fault.KeyNotActive, "disabled", false, func(c *fsm.CreateSecret) { c.KeyID = keyID(2) }},
		"mac key":             {fault.InvalidRequest, "mac", false, func(c *fsm.CreateSecret) { c.KeyID = keyID(3) }},
		"first is not 1":      {fault.Conflict, "retry", true, func(c *fsm.CreateSecret) { c.First.Number = 2 }},
		"sealed for other":    {fault.Conflict, "retry", true, func(c *fsm.CreateSecret) { c.First.KeyID = keyID(2) }},
		"sealed for version":  {fault.Conflict, "retry", true, func(c *fsm.CreateSecret) { c.First.KeyVersion = 2 }},
		"no sealed value":     {fault.InvalidRequest, "value: ", false, func(c *fsm.CreateSecret) { c.First.Sealed = nil }},
		"no data key":         {fault.InvalidRequest, "value: ", false, func(c *fsm.CreateSecret) { c.First.DataKey = nil }},
		"no version id":       {fault.InvalidRequest, "versionId: ", false, func(c *fsm.CreateSecret) { c.First.VersionID = "" }},
		"expires in the past": {fault.InvalidRequest, "expiresAt: ", false, func(c *fsm.CreateSecret) { c.First.ExpiresAt = start - 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			r := w.refused(test.code, with(test.change), test.message)
			require.Equal(t, test.race, r.Race)
			if test.code == fault.KeyNotActive {
				require.Equal(t, map[string]string{"keyId": keyID(2), "state": "disabled"}, r.Details)
			}
		})
	}
	w.t = t
	w.ok(with(func(*fsm.CreateSecret) {}))
}

func TestDeleteRestorePurge(t *testing.T) {
	const path = "/app/a"
	w := newWorld(t)
	w.secret(path, 2)
	del := func(after int64) fsm.DeleteSecret {
		return fsm.DeleteSecret{Meta: w.meta(), Path: path, Reason: "gone", PurgeAt: w.now + after}
	}
	w.refused(fault.InvalidRequest, del(7*day-1), "7 to 90 days")
	w.refused(fault.InvalidRequest, del(90*day+1), "7 to 90 days")
	w.refused(fault.InvalidRequest, fsm.DeleteSecret{Meta: w.meta(), Path: path, PurgeAt: -1})
	w.refused(fault.NotFound, fsm.DeleteSecret{Meta: w.meta(), Path: "/none"}, "createSecret")
	w.refused(fault.Conflict, fsm.RestoreSecret{Meta: w.meta(), Path: path}, "nothing to restore")

	due := w.now + 7*day
	result := w.ok(del(7 * day))
	require.Equal(t, "pendingDeletion", result.State)
	require.Equal(t, due, result.DueAt)
	require.Equal(t, uint64(1), w.m.State().BoundCount(defaultKey), "versions are live during the window")
	for _, c := range []fsm.Command{w.put(path), w.destroy(path, 1), fsm.CancelDestroy{Meta: w.meta(), Path: path, Version: 1}, del(8 * day)} {
		r := w.refused(fault.Conflict, c, "restoreSecret")
		require.Equal(t, "pendingDeletion", r.Details["state"])
	}
	w.refused(fault.AlreadyExists, create(w, path, "s9"), "restoreSecret")
	reuse := create(w, path, "s9")
	reuse.ReuseRetired = true
	w.refused(fault.AlreadyExists, reuse, "restoreSecret")

	w.now = due - 2
	w.ok(fsm.RestoreSecret{Meta: w.meta(), Path: path})
	s := w.get(path)
	require.Equal(t, fsm.SecretActive, s.State)
	require.Equal(t, uint64(2), s.Current)
	require.Zero(t, s.DeletedAt+s.PurgeAt)
	require.Empty(t, s.DeletedBy+s.DeleteReason)
	w.now = due + 100*day
	require.False(t, w.m.State().Due(w.now-90*day), "a restored secret is not due any more")

	due = w.now + 90*day
	w.ok(del(90 * day))
	w.now = due - 2
	w.sweep() // forgets the administrator's token, too
	require.Equal(t, fsm.SecretPendingDeletion, w.get(path).State, "not a millisecond early")
	require.False(t, w.m.State().Due(due-1))
	w.now = due
	w.refused(fault.Conflict, fsm.RestoreSecret{Meta: w.meta(), Path: path}, "window")
	require.True(t, w.m.State().Due(w.now))
	w.sweep()
	requirePurged(w, path, "gone")
}

func TestPurgeAtOnce(t *testing.T) {
	const path = "/app/a"
	for _, pending := range []bool{false, true} {
		t.Run(fmt.Sprint(pending), func(t *testing.T) {
			w := newWorld(t)
			w.secret(path, 4)
			later := w.destroy(path, 1)
			later.DueAt = w.now + day
			w.ok(later)
			w.ok(w.destroy(path, 3))
			destroyed := w.version(path, 3)
			if pending {
				w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: path, Reason: "gone", PurgeAt: w.now + 7*day})
			}
			result := w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: path, Reason: "gone"})
			require.Equal(t, "purged", result.State)
			require.Zero(t, result.DueAt)
			requirePurged(w, path, "gone")
			require.Equal(t, "no longer used", w.version(path, 1).Reason, "who asked first is not overwritten")
			require.Equal(t, "gone", w.version(path, 2).Reason)
			require.Same(t, destroyed, w.version(path, 3), "what was destroyed before stays as it was")
			w.now += 20 * day
			require.False(t, w.m.State().Due(w.now), "nothing is left to do for a purged secret")
		})
	}
}

// requirePurged: a tombstone, with a history and nothing in it to open.
func requirePurged(w *world, path, reason string) {
	w.t.Helper()
	s := w.get(path)
	require.Equal(w.t, fsm.SecretPurged, s.State)
	require.Equal(w.t, reason, s.DeleteReason)
	require.Zero(w.t, s.Current)
	require.Nil(w.t, s.Labels)
	require.Nil(w.t, s.Tags)
	require.Zero(w.t, w.m.State().BoundCount(defaultKey))
	versions := slices.Collect(w.m.State().Versions(s.Path))
	require.Len(w.t, versions, int(s.Latest))
	for _, v := range versions {
		require.Equal(w.t, fsm.VersionDestroyed, v.State)
		require.Nil(w.t, v.Sealed)
		require.Nil(w.t, v.DataKey)
		require.Nil(w.t, v.Fingerprint)
		require.NotZero(w.t, v.DestroyedAt)
	}
	require.NotContains(w.t, string(records(w.t, w.m)), "sealed value", "no snapshot holds the material any more")
	w.refused(fault.NotFound, fsm.RestoreSecret{Meta: w.meta(), Path: path})
	w.refused(fault.NotFound, fsm.DeleteSecret{Meta: w.meta(), Path: path})
	w.refused(fault.NotFound, w.destroy(path, 1))
}

func TestReuseOfARetiredPath(t *testing.T) {
	const path = "/app/a"
	w := newWorld(t)
	w.secret(path, 3)
	old := w.get(path).ID
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: path})
	w.refused(fault.AlreadyExists, create(w, path, "new"), "reuseRetiredPath")

	c := create(w, path, old)
	c.ReuseRetired = true
	w.refused(fault.InvalidRequest, c, "secretId")
	c.SecretID = "new"
	w.ok(c)
	s := w.get(path)
	require.Equal(t, "new", s.ID)
	require.Zero(t, s.Latest)
	require.Empty(t, slices.Collect(w.m.State().Versions(s.Path)), "numbers start anew, so the old history cannot stay beside")

	stale := w.put(path)
	stale.SecretID = old
	require.True(t, w.refused(fault.Conflict, stale).Race)
	w.ok(w.put(path))
	require.Equal(t, uint64(1), w.get(path).Current)
	require.Equal(t, uint64(1), w.m.State().BoundCount(defaultKey))
}

func TestWindowsKeepTheirLengthWhenTheLeadersClockWasBehind(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 2)
	w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now + day}, Limit: 1})
	now := w.m.State().Time()
	result := w.ok(fsm.DeleteSecret{Meta: fsm.Meta{Time: start}, Path: "/a", PurgeAt: start + 7*day})
	require.Equal(t, now+7*day, result.DueAt)
	require.Equal(t, now, w.m.State().Time(), "time does not run backwards")
	w.ok(fsm.RestoreSecret{Meta: fsm.Meta{Time: start}, Path: "/a"})
	result = w.ok(fsm.DestroyVersion{Meta: fsm.Meta{Time: start}, Path: "/a", Version: 1, DueAt: start + 5})
	require.Equal(t, now+5, result.DueAt)
}

func TestBrowsing(t *testing.T) {
	w := newWorld(t)
	for i, path := range []string{"/app/b", "/app/a/x", "/app-2/c", "/app/a", "/app/a-1", "/zoo"} {
		w.ok(create(w, path, fmt.Sprint("s", i)))
	}
	state := w.m.State()
	paths := func(prefix, after string) (out []string) {
		for s := range state.SecretsFrom(prefix, after) {
			out = append(out, string(s.Path))
		}
		return out
	}
	require.Equal(t, []string{"/app-2/c", "/app/a", "/app/a-1", "/app/a/x", "/app/b", "/zoo"}, paths("/", ""))
	require.Equal(t, []string{"/app/a", "/app/a-1", "/app/a/x", "/app/b"}, paths("/app/", ""))
	require.Equal(t, []string{"/app/a-1", "/app/a/x", "/app/b"}, paths("/app/", "/app/a"))
	require.Equal(t, []string{"/app/b"}, paths("/app/", "/app/a/\xff"))
	require.Equal(t, []string{"/app/a", "/app/a-1", "/app/a/x", "/app/b"}, paths("/app/", "/aaa"))
	require.Empty(t, paths("/app/", "/app/b"))
	require.Empty(t, paths("/none/", ""))
	for s := range state.Secrets("/") {
		require.Equal(t, "/app-2/c", string(s.Path))
		break // leaving early must be possible
	}
}
