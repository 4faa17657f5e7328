package fsm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// copyOf is the command that copies from to another path.
func (w *world) copyOf(from, to string) fsm.CopySecret {
	w.t.Helper()
	return fsm.CopySecret{
		Meta: w.meta(), Path: to, SecretID: "copy-of-" + from[1:], KeyID: defaultKey, From: from, FromID: w.get(from).ID, Versions: w.copies(from),
	}
}

func TestACopyHasTheLiveVersionsInOrder(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 3)
	expiring := w.put("/a")
	expiring.Version.ExpiresAt, expiring.Version.ContentType, expiring.Activate = w.now+day, "text/x", false
	expiring.Version.NotifyBefore = day / 2
	w.ok(expiring)
	w.ok(w.destroy("/a", 1))
	doomed := w.put("/a")
	doomed.Activate = false
	w.ok(doomed)
	pending := w.destroy("/a", 5)
	pending.DueAt = w.now + 3*day
	w.ok(pending)
	w.now += 2 * day // version 4 has expired

	result := w.ok(w.copyOf("/a", "/b"))
	require.Equal(t, "/b", result.Path)
	require.Equal(t, 4, result.Done)
	require.EqualValues(t, 2, result.Version)
	s := w.get("/b")
	require.EqualValues(t, 4, s.Latest)
	require.EqualValues(t, 2, s.Current)
	require.Equal(t, map[string]uint64{"current": 2, "previous": 1}, s.Labels)
	require.Equal(t, "copy-of-a", s.ID)
	require.Equal(t, w.m.State().Time(), s.CreatedAt)
	for to, from := range map[uint64]uint64{1: 2, 2: 3, 3: 4, 4: 5} {
		old, v := w.version("/a", from), w.version("/b", to)
		require.Equal(t, []any{old.State, old.Size, old.ContentType, old.ExpiresAt, old.DestroyAt, old.NotifyBefore, old.DestroyRequest},
			[]any{v.State, v.Size, v.ContentType, v.ExpiresAt, v.DestroyAt, v.NotifyBefore, v.DestroyRequest})
		require.Equal(t, []byte("sealed anew"), v.Sealed)
		require.NotEqual(t, old.ID, v.ID)
	}
	require.EqualValues(t, 2, w.m.State().BoundCount(defaultKey))

	w.now += 2 * day
	w.sweep()
	require.Equal(t, fsm.VersionDestroyed, w.version("/b", 4).State, "what was to be destroyed is destroyed, copies too")
}

func TestACopyOfASecretWithoutVersions(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/a", SecretID: "id", KeyID: defaultKey, Description: "d", Tags: map[string]string{"a": "b"}})
	w.ok(w.copyOf("/a", "/b"))
	s := w.get("/b")
	require.Equal(t, "d", s.Description)
	require.Equal(t, map[string]string{"a": "b"}, s.Tags)
	require.Zero(t, s.Latest)
}

func TestCopiesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 3)
	w.secret("/taken", 1)
	w.secret("/gone", 1)
	w.secret("/purged", 1)
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/gone", PurgeAt: w.now + 8*day})
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/purged"})
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyDisabled})
	refused := func(code fault.Kind, says string, change func(c *fsm.CopySecret)) *fsm.Refusal {
		c := w.copyOf("/a", "/b")
		change(&c)
		return w.refused(code, c, says)
	}
	races := 0
	for _, change := range []func(c *fsm.CopySecret){
		func(c *fsm.CopySecret) { c.FromID = "another" },
		func(c *fsm.CopySecret) { c.Versions = c.Versions[:2] },
		func(c *fsm.CopySecret) { c.Versions = nil },
		func(c *fsm.CopySecret) { c.Versions = append(c.Versions, c.Versions[2]) },
		func(c *fsm.CopySecret) { c.Versions[0], c.Versions[1] = c.Versions[1], c.Versions[0] },
		func(c *fsm.CopySecret) { c.Versions[1].Old = hashOf("another data key") },
		func(c *fsm.CopySecret) { c.Versions[1].KeyVersion = 2 },
	} {
		require.True(t, refused(fault.Conflict, "retry", change).Race)
		races++
	}
	require.Positive(t, races)
	refused(fault.InvalidRequest, "path:", func(c *fsm.CopySecret) { c.Path = "b" })
	refused(fault.InvalidRequest, "secretId:", func(c *fsm.CopySecret) { c.SecretID = "" })
	refused(fault.InvalidRequest, "value:", func(c *fsm.CopySecret) { c.Versions[0].Sealed = nil })
	refused(fault.InvalidRequest, "value:", func(c *fsm.CopySecret) { c.Versions[2].DataKey = nil })
	refused(fault.InvalidRequest, "versionId:", func(c *fsm.CopySecret) { c.Versions[2].VersionID = "" })
	refused(fault.NotFound, "/none", func(c *fsm.CopySecret) { c.From = "/none" })
	refused(fault.NotFound, "/purged", func(c *fsm.CopySecret) { c.From = "/purged" })
	refused(fault.Conflict, "recovery window", func(c *fsm.CopySecret) { c.From = "/gone" })
	refused(fault.AlreadyExists, "/taken is taken", func(c *fsm.CopySecret) { c.Path = "/taken" })
	refused(fault.AlreadyExists, "/a is taken", func(c *fsm.CopySecret) { c.Path = "/a" })
	refused(fault.AlreadyExists, "/gone is deleted", func(c *fsm.CopySecret) { c.Path = "/gone" })
	refused(fault.AlreadyExists, "retired", func(c *fsm.CopySecret) { c.Path = "/purged" })
	refused(fault.NotFound, "kmsKeyId", func(c *fsm.CopySecret) { c.KeyID = keyID(7) })
	refused(fault.KeyNotActive, "", func(c *fsm.CopySecret) { c.KeyID = keyID(2) })

	c := w.copyOf("/a", "/purged")
	c.ReuseRetired = true
	w.ok(c)
	require.EqualValues(t, 3, w.get("/purged").Latest)
}
