package fsm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

func TestRotationKeepsOldVersionsAndSealsUnderTheNewest(t *testing.T) {
	w := newWorld(t)
	w.secret("/app/a", 1)
	rotate := func(n uint32) fsm.RotateKey {
		return fsm.RotateKey{Meta: w.meta(), KeyID: defaultKey, Version: keyVersion(defaultKey, n)}
	}
	require.EqualValues(t, 2, w.ok(rotate(2)).KeyVersion)
	require.True(t, w.refused(fault.Conflict, rotate(2)).Race, "two rotations at once make one version")
	require.True(t, w.refused(fault.Conflict, rotate(4)).Race)
	other := rotate(3)
	other.Version.Wrapped.ID = keyID(2)
	w.refused(fault.InvalidRequest, other, "wrapped for another key")

	k := w.m.State().Key(defaultKey)
	require.EqualValues(t, 2, k.Current)
	require.Len(t, k.Versions, 2)
	require.Equal(t, "admin", k.Versions[1].CreatedBy)
	// A value that was sealed under the old version just before is refused as
	// a race: the engine seals again under the new one.
	require.True(t, w.refused(fault.Conflict, w.put("/app/a")).Race)
	put := w.put("/app/a")
	put.Version.KeyVersion = 2
	w.ok(put)
	require.EqualValues(t, 1, w.version("/app/a", 1).KeyVersion)
}

func TestScheduledRotation(t *testing.T) {
	w := newWorld(t)
	set := func(period int64) fsm.SetKeyRotation {
		return fsm.SetKeyRotation{Meta: w.meta(), KeyID: defaultKey, Period: period}
	}
	due := func() (ids []string) {
		for k := range w.m.State().RotationsDue(w.now) {
			ids = append(ids, k.ID)
		}
		return ids
	}
	for _, bad := range []int64{-1, 1, day/24 - 1, 3661 * day} {
		w.refused(fault.InvalidRequest, set(bad), "period: ")
	}
	w.ok(set(20 * day))
	require.Equal(t, start+20*day, w.m.State().Key(defaultKey).NextRotationAt)
	require.Empty(t, due())
	w.now += 21 * day
	require.Equal(t, []string{defaultKey}, due())
	require.False(t, w.m.State().Due(w.now), "a rotation needs an HSM: it is no work of a Sweep")
	fsm.ForceKeyState(w.m, defaultKey, fsm.KeyDisabled)
	require.Empty(t, due(), "a key that cannot be rotated now does not hold up the others")
	fsm.ForceKeyState(w.m, defaultKey, fsm.KeyActive)
	w.ok(fsm.RotateKey{Meta: w.meta(), KeyID: defaultKey, Version: keyVersion(defaultKey, 2)})
	require.Empty(t, due())
	w.ok(set(day))
	w.ok(set(0))
	w.now += 300 * day
	require.Empty(t, due())
}

func TestDeletionWaitsAndThenErasesTheMaterial(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2), "alias/pay")})
	schedule := func(id string, window int64) fsm.ScheduleKeyDeletion {
		return fsm.ScheduleKeyDeletion{Meta: w.meta(), KeyID: id, DueAt: w.now + window, Reason: "left over"}
	}
	w.refused(fault.Conflict, schedule(defaultKey, 8*day), "alias/default")
	for _, bad := range []int64{0, -day, 7*day - 1, 90*day + 1} {
		w.refused(fault.InvalidRequest, schedule(keyID(2), bad), "waitingPeriod: ")
	}
	due := w.now + 8*day
	require.Equal(t, due, w.ok(schedule(keyID(2), 8*day)).DueAt)
	require.Equal(t, "admin", w.m.State().Key(keyID(2)).DeletedBy)
	w.refused(fault.KeyNotActive, fsm.CreateSecret{Meta: w.meta(), Path: "/a", SecretID: "s", KeyID: keyID(2)}, "pendingDeletion")

	w.ok(fsm.CancelKeyDeletion{Meta: w.meta(), KeyID: keyID(2)})
	require.Equal(t, fsm.KeyDisabled, w.m.State().Key(keyID(2)).State)
	w.now += 9 * day
	require.Zero(t, w.sweep().Done)

	w.ok(schedule(keyID(2), 7*day))
	w.now += 7*day + 10
	w.refused(fault.Conflict, fsm.CancelKeyDeletion{Meta: w.meta(), KeyID: keyID(2)}, "has passed")
	require.Equal(t, 1, w.sweep().Done)
	k := w.m.State().Key(keyID(2))
	require.Equal(t, fsm.KeyDestroyed, k.State)
	require.NotZero(t, k.DestroyedAt)
	require.Len(t, k.Versions, 1, "the story stays")
	require.Equal(t, wrapped.Key{}, k.Versions[0].Wrapped, "the material is gone")
	require.NotContains(t, string(snapshot(t, w.m)), "blob of "+keyID(2))
	require.Nil(t, w.m.State().KeyByRef("alias/pay"))
	w.ok(fsm.CreateAlias{Meta: w.meta(), Alias: "alias/pay", KeyID: defaultKey})
	w.refused(fault.AlreadyExists, fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))}, "keyId: ")
}

// TestABoundKeyIsNeverDestroyed: no log of this build leads there; if one
// does, what is bound wins.
func TestABoundKeyIsNeverDestroyed(t *testing.T) {
	w := newWorld(t)
	w.secret("/app/a", 1)
	fsm.ForceDeletionAt(w.m, defaultKey, w.now)
	fsm.ForceKeyState(w.m, defaultKey, fsm.KeyPendingDeletion)
	w.now += day
	w.sweep()
	k := w.m.State().Key(defaultKey)
	require.Equal(t, fsm.KeyDisabled, k.State)
	require.NotEmpty(t, k.Versions[0].Wrapped.Blob)
	require.Zero(t, k.DeletionAt)
}

func TestAliases(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	create := func(alias, id string) fsm.CreateAlias {
		return fsm.CreateAlias{Meta: w.meta(), Alias: alias, KeyID: id}
	}
	w.ok(create("alias/a", keyID(2)))
	w.refused(fault.AlreadyExists, create("alias/a", defaultKey), "updateAlias")
	w.refused(fault.InvalidRequest, create("a", defaultKey), "alias: ")
	w.refused(fault.InvalidRequest, create("alias/", defaultKey), "alias: ")
	w.refused(fault.NotFound, create("alias/b", keyID(9)), "keyId: ")

	w.ok(fsm.UpdateAlias{Meta: w.meta(), Alias: "alias/a", KeyID: defaultKey})
	require.Equal(t, defaultKey, w.m.State().KeyByRef("alias/a").ID)
	require.Empty(t, w.m.State().Key(keyID(2)).Aliases)
	w.refused(fault.NotFound, fsm.UpdateAlias{Meta: w.meta(), Alias: "alias/b", KeyID: defaultKey}, "createAlias")
	w.ok(fsm.DeleteAlias{Meta: w.meta(), Alias: "alias/a"})
	w.refused(fault.NotFound, fsm.DeleteAlias{Meta: w.meta(), Alias: "alias/a"})
	w.refused(fault.Conflict, fsm.DeleteAlias{Meta: w.meta(), Alias: names.DefaultAlias}, "updateAlias")

	signing := key(keyID(3))
	signing.Usage, signing.Versions[0].Wrapped.Usage = "sign", "sign"
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: signing})
	w.refused(fault.InvalidRequest, fsm.UpdateAlias{Meta: w.meta(), Alias: names.DefaultAlias, KeyID: keyID(3)}, "alias/default")
	w.refused(fault.InvalidRequest, fsm.CreateSecret{Meta: w.meta(), Path: "/a", SecretID: "s", KeyID: keyID(3)}, "secrets are bound to keys")

	for i := range 64 {
		w.ok(create(fmt.Sprint("alias/n", i), keyID(2)))
	}
	w.refused(fault.Conflict, create("alias/n64", keyID(2)), "64 aliases")
	for _, state := range []fsm.KeyState{fsm.KeyPendingDeletion, fsm.KeyDestroyed} {
		fsm.ForceKeyState(w.m, keyID(3), state)
		w.refused(fault.Conflict, create("alias/z", keyID(3)), "gets no alias")
	}
}

func TestUpdateKeyChangesOnlyWhatIsGiven(t *testing.T) {
	w := newWorld(t)
	text := "new"
	w.ok(fsm.UpdateKey{Meta: w.meta(), KeyID: defaultKey, Description: &text})
	k := w.m.State().Key(defaultKey)
	require.Equal(t, "new", k.Description)
	require.Equal(t, map[string]string{"team": "payments"}, k.Tags)
	w.ok(fsm.UpdateKey{Meta: w.meta(), KeyID: defaultKey, SetTags: true})
	require.Empty(t, w.m.State().Key(defaultKey).Tags)
	require.Equal(t, "new", w.m.State().Key(defaultKey).Description)
	w.refused(fault.NotFound, fsm.UpdateKey{Meta: w.meta(), KeyID: keyID(9)})
}

// TestSealsAreBookedAndBounded: 2^32 seals under one version, whoever leads.
func TestSealsAreBookedAndBounded(t *testing.T) {
	w := newWorld(t)
	book := func(version uint32, n uint64) fsm.ReserveSeals {
		return fsm.ReserveSeals{Meta: w.meta(), KeyID: defaultKey, Version: version, Count: n}
	}
	w.ok(book(1, fsm.MaxSeals-10))
	w.ok(book(1, 10))
	w.refused(fault.Conflict, book(1, 1), "rotateKey")
	w.refused(fault.InvalidRequest, book(2, 1))
	w.refused(fault.InvalidRequest, book(0, 1))
	w.refused(fault.InvalidRequest, book(1, 0))
	w.refused(fault.InvalidRequest, book(1, ^uint64(0)))
	w.ok(fsm.RotateKey{Meta: w.meta(), KeyID: defaultKey, Version: keyVersion(defaultKey, 2)})
	w.ok(book(2, 10))
	require.Equal(t, fsm.MaxSeals, w.m.State().Key(defaultKey).Versions[0].Reserved)
}

func TestLastUseIsMerged(t *testing.T) {
	w := newWorld(t)
	record := func(at ...int64) {
		c := fsm.RecordKeyUse{Meta: w.meta()}
		for _, a := range at {
			c.Uses = append(c.Uses, fsm.KeyUse{KeyID: defaultKey, At: a}, fsm.KeyUse{KeyID: keyID(9), At: a})
		}
		w.ok(c)
	}
	w.now += day
	record(start+5, start+3)
	require.Equal(t, start+5, w.m.State().Key(defaultKey).LastUsedAt)
	record(start + 4)
	require.Equal(t, start+5, w.m.State().Key(defaultKey).LastUsedAt)
	record(w.now + day)
	require.Equal(t, start+5, w.m.State().Key(defaultKey).LastUsedAt, "nobody has used it in the future")
}

func TestImport(t *testing.T) {
	w := newWorld(t)
	waiting := key(keyID(2))
	waiting.State, waiting.Origin, waiting.Versions, waiting.Current = fsm.KeyPendingImport, fsm.OriginImported, nil, 0
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: waiting})
	bring := func() fsm.ImportMaterial {
		return fsm.ImportMaterial{Meta: w.meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 1)}
	}
	w.refused(fault.InvalidRequest, fsm.SetImportKey{Meta: w.meta(), KeyID: keyID(2)}, "importKey: ")
	one := wrapped.Key{ID: keyID(2), Version: 1, Spec: "rsa-3072", Usage: "import", Root: 1, Blob: []byte("b"), MAC: []byte("m"), Public: []byte("p")}
	w.ok(fsm.SetImportKey{Meta: w.meta(), KeyID: keyID(2), ImportKey: one})
	require.Equal(t, one, *w.m.State().Key(keyID(2)).ImportKey)
	// Disabled before it had material, it goes back to waiting for it.
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyDisabled})
	w.refused(fault.Conflict, bring())
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyActive})
	require.Equal(t, fsm.KeyPendingImport, w.m.State().Key(keyID(2)).State)

	other := bring()
	other.Version.Wrapped.Version = 2
	w.refused(fault.InvalidRequest, other, "another key")
	w.ok(bring())
	k := w.m.State().Key(keyID(2))
	require.Equal(t, fsm.KeyActive, k.State)
	require.Nil(t, k.ImportKey, "the one-time key is used up")
	w.refused(fault.Conflict, bring())
	w.refused(fault.Conflict, fsm.RotateKey{Meta: w.meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 2)}, "imported")
	w.refused(fault.Conflict, fsm.SetKeyRotation{Meta: w.meta(), KeyID: keyID(2), Period: day}, "imported")
}
