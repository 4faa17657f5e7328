package engine_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// rival is a second engine over the same log, as a node is that leads for a
// moment: its writers do not queue with those of the first.
func (w *world) rival() func(operation, format string, args ...any) {
	w.t.Helper()
	cfg := w.engine.Config
	cfg.Registerer = nil
	other, err := engine.New(cfg)
	require.NoError(w.t, err)
	return func(operation, format string, args ...any) {
		mine := w.engine
		w.engine = other
		w.ok(operation, format, args...)
		w.engine = mine
	}
}

func TestAWriteThatLosesItsNumberSealsAgain(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	rival := w.rival()
	w.log.proposing = func() {
		w.log.proposing = nil
		rival("secrets/putSecretValue", `{"path":"/a/b","value":%q}`, b64("theirs"))
	}
	put := w.put("/a/b", "mine")
	require.Equal(t, uint64(2), put.Version)
	require.Equal(t, "mine", w.value("/a/b"))
	require.Contains(t, w.ok("secrets/getSecretValue", `{"path":"/a/b","version":1}`), b64("theirs"), "both open under their own numbers")
}

func TestAWriteThatAlwaysLosesGivesUp(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("first")) // and its seals are booked
	rival := w.rival()
	rounds := 0
	var race func()
	race = func() {
		w.log.proposing = nil
		rounds++
		rival("secrets/putSecretValue", `{"path":"/a/b","value":%q}`, b64(fmt.Sprint("theirs ", rounds)))
		w.log.proposing = race
	}
	w.log.proposing = race
	_, err := w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/a/b","value":%q}`, b64("mine")))
	w.log.proposing = nil
	w.refused(fault.Conflict, "changed by others each time", err)
	require.Equal(t, 8, rounds, "it seals again a bounded number of times")
	require.Equal(t, "theirs 8", w.value("/a/b"))
}

func TestACompareAndSetThatLosesIsNotTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	rival := w.rival()
	w.log.proposing = func() {
		w.log.proposing = nil
		rival("secrets/putSecretValue", `{"path":"/a/b","value":%q}`, b64("theirs"))
	}
	_, err := w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/a/b","value":%q,"expectedVersion":0}`, b64("mine")))
	w.refused(fault.Conflict, "expectedVersion: is 0, but the current version is 1", err)
	require.Equal(t, "theirs", w.value("/a/b"))
}

// TestASecretMadeAnewIsNotWrittenWithAnOldSeal: the seal names the id of the
// secret, and the path now has another one.
func TestASecretMadeAnewIsNotWrittenWithAnOldSeal(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("old"))
	rival := w.rival()
	w.log.proposing = func() {
		w.log.proposing = nil
		rival("secrets/deleteSecret", `{"path":"/a/b","force":true}`)
		rival("secrets/createSecret", `{"path":"/a/b","reuseRetiredPath":true}`)
	}
	require.Equal(t, uint64(1), w.put("/a/b", "mine").Version)
	require.Equal(t, "mine", w.value("/a/b"))
}

func TestAKeyThatIsDisabledMeanwhileSealsNothing(t *testing.T) {
	w := newWorld(t)
	w.ok("kms/createKey", `{"alias":"alias/pay"}`)
	w.ok("secrets/createSecret", `{"path":"/a/b","kmsKeyId":"alias/pay"}`)
	rival := w.rival()
	w.log.proposing = func() {
		w.log.proposing = nil
		rival("kms/disableKey", `{"keyId":"alias/pay"}`)
	}
	_, err := w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/a/b","value":%q}`, b64("mine")))
	w.refused(fault.KeyNotActive, "kmsKeyId: the key is disabled", err)
	require.Zero(t, w.log.machine.State().Secret("/a/b").Latest)
}

func TestAnAnswerIsWipedWhereItIsHeld(t *testing.T) {
	s := newStock(t)
	for _, ask := range []struct{ operation, body string }{
		{"getSecretValue", `{"path":"/app/dev/web/db"}`}, {"generateSecret", `{"path":"/app/dev/web/db","kind":"uuid","reveal":true}`},
	} {
		answer, err := s.engine.Do(context.Background(), engine.Find("secrets", ask.operation),
			engine.Caller{RequestID: uuid.NewString(), Token: s.admin, Source: s.source}, []byte(ask.body))
		require.NoError(t, err)
		var value *wire.Value
		switch r := answer.Response.(type) {
		case *wire.GetSecretValueResponse:
			value = r.Value
		case *wire.GenerateSecretResponse:
			value = r.Value
		}
		held := value.Expose()
		require.NotEmpty(t, held)
		require.NotEqual(t, make([]byte, len(held)), held)
		answer.Wipe()
		require.Equal(t, make([]byte, len(held)), held)
		answer.Wipe() // a second time is harmless
	}
}

func TestKeysAreListedToWhoMaySeeThem(t *testing.T) {
	s := newStock(t)
	token := s.principal("ops", `[{"effect":"allow","roles":["kms-read-access"],"keys":["alias/pay","alias/default"]},
		{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/dev/web/gone"]}]`)
	var got []string
	for cursor := ""; ; {
		answer, err := s.as(token, "kms/listKeys", fmt.Sprintf(`{"limit":1,"cursor":%q}`, cursor))
		require.NoError(t, err)
		page := into[wire.ListKeysResponse](t, answer)
		for _, key := range page.Keys {
			got = append(got, key.Aliases...)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	require.ElementsMatch(t, []string{"alias/pay", "alias/default"}, got)
	answer, err := s.as(token, "kms/listBoundSecrets", `{"keyId":"alias/default"}`)
	require.NoError(t, err)
	bound := into[wire.ListBoundSecretsResponse](t, answer)
	require.Equal(t, []wire.BoundSecret{{Path: "/app/dev/web/gone", Versions: 1}}, bound.Secrets)
	require.Equal(t, uint64(4), bound.Total, "how many there are is no secret to who may ask")
}
