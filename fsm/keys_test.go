package fsm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestCreateKey(t *testing.T) {
	w := newWorld(t)
	result := w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2), "alias/z", "alias/a")})
	require.Equal(t, keyID(2), result.KeyID)
	k := w.m.State().Key(keyID(2))
	require.Equal(t, []string{"alias/a", "alias/z"}, k.Aliases)
	require.Equal(t, "admin", k.CreatedBy)
	for _, ref := range []string{keyID(2), "alias/a", "alias/z"} {
		require.Same(t, k, w.m.State().KeyByRef(ref))
	}
	require.Nil(t, w.m.State().KeyByRef("a"))
	require.Nil(t, w.m.State().KeyByRef(""))
	require.Equal(t, defaultKey, w.m.State().KeyByRef("alias/default").ID)
	var ids []string
	for k := range w.m.State().Keys("") {
		ids = append(ids, k.ID)
	}
	require.Equal(t, []string{defaultKey, keyID(2)}, ids)
	for k := range w.m.State().Keys(defaultKey) {
		require.Equal(t, keyID(2), k.ID)
	}
}

func TestCreateKeyRefusals(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		code   fault.Kind
		field  string
		change func(*fsm.Key)
	}{
		"id taken":        {fault.AlreadyExists, "keyId: ", func(k *fsm.Key) { *k = key(defaultKey) }},
		"id no uuid":      {fault.InvalidRequest, "keyId: ", func(k *fsm.Key) { k.ID = "x" }},
		"id an alias":     {fault.InvalidRequest, "keyId: ", func(k *fsm.Key) { k.ID = "alias/x" }},
		"alias taken":     {fault.AlreadyExists, "alias: ", func(k *fsm.Key) { k.Aliases = []string{"alias/default"} }},
		"alias twice":     {fault.AlreadyExists, "alias: ", func(k *fsm.Key) { k.Aliases = []string{"alias/x", "alias/x"} }},
		"alias malformed": {fault.InvalidRequest, "alias: ", func(k *fsm.Key) { k.Aliases = []string{"x"} }},
		"alias an id":     {fault.InvalidRequest, "alias: ", func(k *fsm.Key) { k.Aliases = []string{keyID(7)} }},
		"born disabled":   {fault.InvalidRequest, "state: ", func(k *fsm.Key) { k.State = fsm.KeyDisabled }},
		"born destroyed":  {fault.InvalidRequest, "state: ", func(k *fsm.Key) { k.State = fsm.KeyDestroyed }},
		"no usage":        {fault.InvalidRequest, "usage: ", func(k *fsm.Key) { k.Usage = "" }},
		"no material":     {fault.InvalidRequest, "key: ", func(k *fsm.Key) { k.Versions, k.Current = nil, 0 }},
		"current off":     {fault.InvalidRequest, "key: ", func(k *fsm.Key) { k.Current = 2 }},
		"other's blob":    {fault.InvalidRequest, "key: ", func(k *fsm.Key) { k.Versions[0].Wrapped.ID = defaultKey }},
		"other's version": {fault.InvalidRequest, "key: ", func(k *fsm.Key) { k.Versions[0].Wrapped.Version = 2 }},
		"other's usage":   {fault.InvalidRequest, "key: ", func(k *fsm.Key) { k.Versions[0].Wrapped.Usage = "mac" }},
		"no blob":         {fault.InvalidRequest, "key: ", func(k *fsm.Key) { k.Versions[0].Wrapped.Blob = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			k := key(keyID(2))
			test.change(&k)
			w.refused(test.code, fsm.CreateKey{Meta: w.meta(), Key: k}, test.field)
		})
	}
}

func TestKeyInUseNamesWhatIsBound(t *testing.T) {
	w := newWorld(t)
	for i := range 25 {
		w.secret(fmt.Sprintf("/app/s%02d", i), 2)
	}
	disable := func() fsm.SetKeyState {
		return fsm.SetKeyState{Meta: w.meta(), KeyID: defaultKey, State: fsm.KeyDisabled}
	}
	r := w.refused(fault.KeyInUse, disable(), "25 secrets", "listBoundSecrets")
	require.Equal(t, uint64(25), r.Count)
	require.Len(t, r.Paths, 20)
	require.Equal(t, "/app/s00", r.Paths[0])
	require.Equal(t, "/app/s19", r.Paths[19])

	for i := range 25 {
		w.refused(fault.KeyInUse, disable())
		after := w.now
		w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: fmt.Sprintf("/app/s%02d", i), PurgeAt: after + 7*day})
	}
	w.refused(fault.KeyInUse, disable()) // deleted, but not purged: still restorable, so still live
	w.now += 8 * day
	w.sweep()
	w.ok(disable())
}

// The cluster's own key is there once, and nobody can take it away: who could
// would end the proof of what the trail says.
func TestTheKeyOfTheAuditTrailStays(t *testing.T) {
	w := newWorld(t)
	own := auditKey(keyID(9))
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: own})
	require.Equal(t, fsm.PurposeAudit, w.m.State().Key(own.ID).Purpose)
	require.Equal(t, own.ID, w.m.State().KeyFor(fsm.PurposeAudit).ID)
	for name, c := range map[string]fsm.Command{
		"a second one":  fsm.CreateKey{Meta: w.meta(), Key: auditKey(keyID(8))},
		"disable":       fsm.SetKeyState{Meta: w.meta(), KeyID: own.ID, State: fsm.KeyDisabled},
		"deletion":      fsm.ScheduleKeyDeletion{Meta: w.meta(), KeyID: own.ID, DueAt: w.now + 30*day},
		"retire":        fsm.RetireKey{Meta: w.meta(), KeyID: own.ID, Job: fsm.Job{ID: "j", To: keyID(1)}},
		"a new binding": fsm.CreateSecret{Meta: w.meta(), Path: "/a", SecretID: "s", KeyID: own.ID},
	} {
		require.NotNil(t, w.do(c).Refused, name)
	}
	second := keyVersion(own.ID, 2)
	second.Wrapped.Spec, second.Wrapped.Usage = own.Spec, own.Usage
	w.ok(fsm.RotateKey{Meta: w.meta(), KeyID: own.ID, Version: second})
	for _, change := range []func(*fsm.Key){
		func(k *fsm.Key) { k.Purpose = "other" },
		func(k *fsm.Key) { k.Aliases = []string{"alias/audit"} },
		func(k *fsm.Key) { *k = key(keyID(7)); k.Purpose = fsm.PurposeAudit },
	} {
		k := auditKey(keyID(7))
		change(&k)
		w := newWorld(t)
		require.NotNil(t, w.do(fsm.CreateKey{Meta: w.meta(), Key: k}).Refused)
		require.Nil(t, w.m.State().KeyFor(fsm.PurposeAudit))
	}
}
