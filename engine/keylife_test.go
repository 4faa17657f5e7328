package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestRotationIsSeenByNewVersionsOnly(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	rotated := into[wire.KeyResponse](t, w.ok("kms/rotateKey", `{"keyId":"alias/default","clientToken":"r-1"}`))
	require.EqualValues(t, 2, rotated.CurrentVersion)
	again := into[wire.KeyResponse](t, w.ok("kms/rotateKey", `{"keyId":"alias/default","clientToken":"r-1"}`))
	require.EqualValues(t, 2, again.CurrentVersion, "a retry makes no second version")
	w.put("/a/b", "two")
	require.Equal(t, "two", w.value("/a/b"))
	require.Contains(t, w.ok("secrets/getSecretValue", `{"path":"/a/b","version":1}`), b64("one"))
	history := into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":"/a/b"}`)).Versions
	require.EqualValues(t, 2, history[0].KMSKeyVersion)
	require.EqualValues(t, 1, history[1].KMSKeyVersion)

	versions := into[wire.ListKeyVersionsResponse](t, w.ok("kms/listKeyVersions", `{"keyId":"alias/default","limit":1}`))
	require.EqualValues(t, 2, versions.Versions[0].Version)
	require.True(t, versions.Versions[0].Current)
	rest := into[wire.ListKeyVersionsResponse](t, w.ok("kms/listKeyVersions", `{"keyId":"alias/default","cursor":%q}`, versions.NextCursor))
	require.Len(t, rest.Versions, 1)
	require.EqualValues(t, 1, rest.Versions[0].Version)
	require.NotZero(t, rest.Versions[0].SealsReserved)
}

func TestScheduledRotationIsDoneByTheLeader(t *testing.T) {
	w := newWorld(t)
	w.longLived()
	got := into[wire.KeyResponse](t, w.ok("kms/setKeyRotation", `{"keyId":"alias/default","period":"30d"}`))
	require.Equal(t, wire.Duration(30*24*time.Hour), *got.Rotation.Period)
	for _, bad := range []string{`"1m"`, `"4000d"`} {
		_, err := w.as(w.admin, "kms/setKeyRotation", `{"keyId":"alias/default","period":`+bad+`}`)
		w.refused(fault.InvalidRequest, "period", err)
	}
	_, err := w.as(w.admin, "kms/setKeyRotation", `{"keyId":"alias/default"}`)
	w.refused(fault.InvalidRequest, "period", err)
	w.engine.RotateDue(t.Context())
	require.EqualValues(t, 1, w.key("alias/default").Current)

	w.setNow(w.now().Add(31 * 24 * time.Hour))
	w.token.Down.Store(true)
	w.engine.RotateDue(t.Context())
	require.EqualValues(t, 1, w.key("alias/default").Current, "not without the HSM")
	w.token.Down.Store(false)
	w.engine.RotateDue(t.Context())
	w.engine.RotateDue(t.Context())
	require.EqualValues(t, 2, w.key("alias/default").Current)
	var outcomes []string
	for _, e := range w.named("kms.rotate_key") {
		require.Equal(t, "strongroom:leader", e.Principal)
		outcomes = append(outcomes, e.Outcome)
	}
	require.Equal(t, []string{"failed", "ok"}, outcomes)
	w.ok("kms/setKeyRotation", `{"keyId":"alias/default","period":"0s"}`)
	require.NotContains(t, w.ok("kms/describeKey", `{"keyId":"alias/default"}`), `"rotation"`)
}

// longLived gives the administrator a token for tests that leap in time.
func (w *world) longLived() {
	w.t.Helper()
	made := into[wire.CreateTokenResponse](w.t, w.ok("iam/createToken", `{"principal":"admin","ttl":"300d"}`))
	w.admin = string(made.Token.Expose())
}

// named answers the events of one name.
func (w *world) named(event string) []audit.Event {
	return w.events(audit.Filter{Events: []string{event}})
}

// propose commits a command as no operation would.
func (w *world) propose(c fsm.Command) {
	w.t.Helper()
	b, err := fsm.Encode(c)
	require.NoError(w.t, err)
	result, err := w.log.Propose(w.t.Context(), b)
	require.NoError(w.t, err)
	require.Nil(w.t, result.Refused)
}

// key answers the record of a key.
func (w *world) key(ref string) *fsm.Key { return w.log.machine.State().KeyByRef(ref) }

func TestAWornVersionIsReplacedBeforeItsBound(t *testing.T) {
	w := newWorld(t)
	id := w.key("alias/default").ID
	w.propose(fsm.ReserveSeals{Meta: fsm.Meta{Time: w.now().UnixMilli()}, KeyID: id, Version: 1, Count: fsm.MaxSeals / 2})
	w.engine.RotateDue(t.Context())
	require.EqualValues(t, 1, w.key(id).Current)
	w.propose(fsm.ReserveSeals{Meta: fsm.Meta{Time: w.now().UnixMilli()}, KeyID: id, Version: 1, Count: 1})
	w.engine.RotateDue(t.Context())
	require.EqualValues(t, 2, w.key(id).Current)
}

func TestASealThatIsNotBookedIsNotMade(t *testing.T) {
	w := newWorld(t)
	id := w.key("alias/default").ID
	w.propose(fsm.ReserveSeals{Meta: fsm.Meta{Time: w.now().UnixMilli()}, KeyID: id, Version: 1, Count: fsm.MaxSeals})
	seals := w.token.Seals.Load()
	for _, request := range []string{
		`kms/encrypt {"keyId":"alias/default","plaintext":"aGk="}`, `kms/generateDataKey {"keyId":"alias/default"}`,
		`secrets/createSecret {"path":"/a/b","value":"aGk="}`,
	} {
		var operation string
		_, err := fmt.Sscan(request, &operation)
		require.NoError(t, err)
		_, err = w.as(w.admin, operation, request[len(operation)+1:])
		w.refused(fault.Conflict, "rotateKey", err)
	}
	require.Equal(t, seals, w.token.Seals.Load())
	w.ok("kms/rotateKey", `{"keyId":"alias/default"}`)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("v"))
}

func TestDeletionIsSeenComingAndCanBeTakenBack(t *testing.T) {
	w := newWorld(t)
	w.longLived()
	w.ok("kms/createKey", `{"alias":"alias/old"}`)
	sealed := into[wire.EncryptResponse](t, w.ok("kms/encrypt", `{"keyId":"alias/old","plaintext":"aGk="}`))
	for _, bad := range []string{"6d", "91d"} {
		_, err := w.as(w.admin, "kms/scheduleKeyDeletion", fmt.Sprintf(`{"keyId":"alias/old","waitingPeriod":%q}`, bad))
		w.refused(fault.InvalidRequest, "waitingPeriod", err)
	}
	_, err := w.as(w.admin, "kms/scheduleKeyDeletion", `{"keyId":"alias/default"}`)
	w.refused(fault.Conflict, "alias/default", err)
	got := into[wire.KeyResponse](t, w.ok("kms/scheduleKeyDeletion", `{"keyId":"alias/old","waitingPeriod":"7d","reason":"service is gone"}`))
	require.Equal(t, "pendingDeletion", got.State)
	require.Equal(t, w.now().Add(7*24*time.Hour).UnixMilli(), got.DeletionAt.Milli())

	// Somebody still needs it: refused, and an event of its own.
	_, err = w.as(w.admin, "kms/decrypt", fmt.Sprintf(`{"ciphertext":%q}`, raw64(sealed.Ciphertext)))
	w.refused(fault.KeyNotActive, "cancelKeyDeletion", err)
	attempts := w.named("kms.use_of_key_pending_deletion")
	require.Len(t, attempts, 1)
	require.Equal(t, got.KeyID, attempts[0].KeyID)
	require.Equal(t, w.named("kms.decrypt")[0].RequestID, attempts[0].RequestID)

	require.Equal(t, "disabled", into[wire.KeyResponse](t, w.ok("kms/cancelKeyDeletion", `{"keyId":"alias/old"}`)).State)
	w.ok("kms/enableKey", `{"keyId":"alias/old"}`)
	w.ok("kms/decrypt", `{"ciphertext":%q}`, raw64(sealed.Ciphertext))

	w.ok("kms/scheduleKeyDeletion", `{"keyId":"alias/old","waitingPeriod":"7d"}`)
	w.setNow(w.now().Add(8 * 24 * time.Hour))
	w.engine.Reap(t.Context())
	gone := into[wire.KeyResponse](t, w.ok("kms/describeKey", `{"keyId":%q}`, got.KeyID))
	require.Equal(t, "destroyed", gone.State)
	require.NotNil(t, gone.DestroyedAt)
	_, err = w.as(w.admin, "kms/decrypt", fmt.Sprintf(`{"ciphertext":%q}`, raw64(sealed.Ciphertext)))
	w.refused(fault.NotFound, "destroyed", err)
	_, err = w.as(w.admin, "kms/describeKey", `{"keyId":"alias/old"}`)
	w.refused(fault.NotFound, "", err)
}

func TestABoundKeyCannotBeTakenAwayByAnyWay(t *testing.T) {
	w := newWorld(t)
	w.ok("kms/createKey", `{"alias":"alias/pay"}`)
	w.ok("secrets/createSecret", `{"path":"/a/b","kmsKeyId":"alias/pay","value":"aGk="}`)
	for _, request := range []string{`kms/disableKey`, `kms/scheduleKeyDeletion`} {
		_, err := w.as(w.admin, request, `{"keyId":"alias/pay"}`)
		w.refused(fault.KeyInUse, "retireKey", err)
	}
	_, err := w.as(w.admin, "kms/retireKey", `{"keyId":"alias/pay"}`)
	w.refused(fault.InvalidRequest, "toKeyId", err)
	require.Equal(t, fsm.KeyActive, w.key("alias/pay").State)
}

func TestAliasesAreDecidedForBothKeys(t *testing.T) {
	w := newWorld(t)
	one := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/one"}`)).KeyID
	two := into[wire.KeyResponse](t, w.ok("kms/createKey", `{}`)).KeyID
	w.ok("kms/createAlias", `{"alias":"alias/more","keyId":%q}`, one)
	token := w.principal("keeper", fmt.Sprintf(`[{"effect":"allow","roles":["kms-admin-access"],"keys":[%q]}]`, one))
	_, err := w.as(token, "kms/updateAlias", fmt.Sprintf(`{"alias":"alias/more","keyId":%q}`, two))
	w.refused(fault.AccessDenied, "", err)
	require.Equal(t, two, into[wire.AliasResponse](t, w.ok("kms/updateAlias", `{"alias":"alias/more","keyId":%q}`, two)).KeyID)
	_, err = w.as(token, "kms/deleteAlias", `{"alias":"alias/more"}`)
	w.refused(fault.AccessDenied, "", err)

	list := func(token, more string) []wire.AliasResponse {
		answer, err := w.as(token, "kms/listAliases", `{"limit":10`+more+`}`)
		require.NoError(t, err)
		return into[wire.ListAliasesResponse](t, answer).Aliases
	}
	require.Len(t, list(w.admin, ""), 3)
	require.Equal(t, []wire.AliasResponse{{Alias: "alias/one", KeyID: one}}, list(token, ""))
	require.Equal(t, []wire.AliasResponse{{Alias: "alias/more", KeyID: two}}, list(w.admin, `,"keyId":"`+two+`"`))
	w.ok("kms/deleteAlias", `{"alias":"alias/more"}`)
	require.Empty(t, list(w.admin, `,"keyId":"`+two+`"`))

	updated := into[wire.KeyResponse](t, w.ok("kms/updateKey", `{"keyId":%q,"description":"cards","tags":{"team":"pay"}}`, one))
	require.Equal(t, "cards", updated.Description)
	updated = into[wire.KeyResponse](t, w.ok("kms/updateKey", `{"keyId":%q,"description":""}`, one))
	require.Empty(t, updated.Description)
	require.Equal(t, map[string]string{"team": "pay"}, updated.Tags)
	_, err = w.as(w.admin, "kms/updateKey", fmt.Sprintf(`{"keyId":%q}`, one))
	w.refused(fault.InvalidRequest, "description", err)
}

func TestLastUseIsKnownAtOnceAndKeptByTheCluster(t *testing.T) {
	w := newWorld(t)
	require.Nil(t, into[wire.KeyResponse](t, w.ok("kms/describeKey", `{"keyId":"alias/default"}`)).LastUsedAt)
	w.engine.WriteUses(t.Context())
	before := w.log.index
	w.ok("kms/encrypt", `{"keyId":"alias/default","plaintext":"aGk="}`)
	used := w.now()
	require.Equal(t, used.UnixMilli(), into[wire.KeyResponse](t, w.ok("kms/describeKey", `{"keyId":"alias/default"}`)).LastUsedAt.Milli())
	w.setNow(w.now().Add(time.Minute))
	w.engine.WriteUses(t.Context())
	require.Equal(t, used.UnixMilli(), w.key("alias/default").LastUsedAt)
	require.Equal(t, before+2, w.log.index, "one booking of seals, one entry for the use")
	w.engine.WriteUses(t.Context())
	require.Equal(t, before+2, w.log.index, "an idle cluster writes nothing")
}

func TestKeyHealth(t *testing.T) {
	w := newWorld(t)
	w.longLived()
	w.engine.Cluster.Members = func() []wire.NodeStatus {
		return []wire.NodeStatus{{NodeID: "n1"}, {NodeID: "n2"}, {NodeID: "n3"}}
	}
	w.engine.Cluster.PeerKeys = func(_ context.Context, node string, ids []string) ([]engine.KeyUsable, error) {
		if node == "n3" {
			return nil, errors.New("gone")
		}
		var out []engine.KeyUsable
		for _, id := range ids {
			out = append(out, engine.KeyUsable{KeyID: id, Usable: true})
		}
		return out, nil
	}
	w.ok("kms/createKey", `{"alias":"alias/sign","spec":"ec-p256"}`)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":"aGk="}`)
	w.ok("kms/createKey", `{"alias":"alias/off"}`)
	w.ok("secrets/createSecret", `{"path":"/a/empty","kmsKeyId":"alias/off"}`)
	w.ok("kms/disableKey", `{"keyId":"alias/off"}`)
	w.setNow(w.now().Add(36 * time.Hour))
	health := into[wire.KeyHealthResponse](t, w.ok("kms/getKeyHealth", `{}`))
	require.Len(t, health.Keys, 3)
	for _, k := range health.Keys {
		require.InDelta(t, 1.5, k.VersionAgeDays, 0.01)
		require.Equal(t, []string{"n1", "n2", "n3"}, []string{k.Nodes[0].NodeID, k.Nodes[1].NodeID, k.Nodes[2].NodeID})
		require.True(t, k.Nodes[0].Usable, "%+v", k)
		require.True(t, k.Nodes[1].Usable)
		require.False(t, k.Nodes[2].Usable)
		require.NotEmpty(t, k.Nodes[2].Reason)
	}
	off := w.key("alias/off").ID
	require.Equal(t, []wire.SecretInactiveKey{{Path: "/a/empty", KeyID: off, State: "disabled"}}, health.SecretsOnInactiveKeys)
	require.EqualValues(t, 1, health.SecretsOnInactiveTotal)

	// A round trip speaks for the key for a moment only.
	w.token.Down.Store(true)
	w.setNow(w.now().Add(time.Minute))
	one := into[wire.KeyHealthResponse](t, w.ok("kms/getKeyHealth", `{"keyId":"alias/sign"}`))
	require.Len(t, one.Keys, 1)
	require.False(t, one.Keys[0].Nodes[0].Usable)
	require.NotEmpty(t, one.Keys[0].Nodes[0].Reason)
	w.token.Down.Store(false)

	reader := w.principal("reader", fmt.Sprintf(`[{"effect":"allow","roles":["kms-read-access"],"keys":[%q]}]`, off))
	answer, err := w.as(reader, "kms/getKeyHealth", `{}`)
	require.NoError(t, err)
	seen := into[wire.KeyHealthResponse](t, answer)
	require.Len(t, seen.Keys, 1)
	require.EqualValues(t, 1, seen.SecretsOnInactiveTotal)
	require.Empty(t, seen.SecretsOnInactiveKeys, "counted, but the path is not theirs to see")
}
