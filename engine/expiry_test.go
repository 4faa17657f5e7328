package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
)

// shortLived makes a secret whose version 2 expires in ten days, which is to
// be told three days before.
func (w *world) shortLived() {
	w.t.Helper()
	w.lived(1)
	w.ok("secrets/putSecretValue", `{"path":%q,"value":%q,"expiresAt":%q,"notifyBefore":"3d"}`, life, b64("value 2"), w.now().Add(10*24*time.Hour).Format(time.RFC3339))
}

func TestItIsToldOnceThatAVersionExpires(t *testing.T) {
	w := newWorld(t)
	w.shortLived()
	admin := w.longToken()
	before := w.log.proposed
	w.engine.TellExpiries(t.Context())
	require.Equal(t, before, w.log.proposed, "nothing is proposed before its time")

	w.setNow(w.now().Add(7 * 24 * time.Hour))
	w.engine.TellExpiries(t.Context())
	w.engine.TellExpiries(t.Context())
	told := w.named("secrets.version_expires_soon")
	require.Len(t, told, 1)
	require.Equal(t, life, told[0].Path)
	require.EqualValues(t, 2, told[0].Version)
	require.Equal(t, audit.OK, told[0].Outcome)
	require.Equal(t, "strongroom:leader", told[0].Principal)
	require.Equal(t, "expires 2026-03-14T05:06:07Z", told[0].Reason)
	require.NotZero(t, told[0].Index)
	answer, err := w.as(admin, "secrets/listSecretVersions", `{"path":"`+life+`"}`)
	require.NoError(t, err)
	v := into[wire.ListSecretVersionsResponse](t, answer).Versions[0]
	require.Equal(t, "active", v.State)
	require.Equal(t, w.now(), v.NotifiedAt.Time)
	require.Equal(t, wire.Duration(3*24*time.Hour), *v.NotifyBefore)

	proposed := w.log.proposed
	w.engine.TellExpiries(t.Context())
	require.Equal(t, proposed, w.log.proposed, "an idle cluster writes nothing")
	w.setNow(w.now().Add(4 * 24 * time.Hour))
	answer, err = w.as(admin, "secrets/listSecretVersions", `{"path":"`+life+`"}`)
	require.NoError(t, err)
	require.Equal(t, "expired", into[wire.ListSecretVersionsResponse](t, answer).Versions[0].State)
}

// TestALeaderThatWasOvertakenTellsNothing: the mark is in the log by the time
// its own arrives.
func TestALeaderThatWasOvertakenTellsNothing(t *testing.T) {
	w := newWorld(t)
	w.shortLived()
	w.setNow(w.now().Add(8 * 24 * time.Hour))
	s := w.log.machine.State().Secret(life)
	other, err := fsm.Encode(fsm.NoteExpiry{Meta: fsm.Meta{Time: w.now().UnixMilli()}, Path: life, SecretID: s.ID, Version: 2})
	require.NoError(t, err)
	w.log.proposing = func() {
		w.log.proposing = nil
		_, err := w.log.Propose(t.Context(), other)
		require.NoError(t, err)
	}
	w.engine.TellExpiries(t.Context())
	require.Empty(t, w.named("secrets.version_expires_soon"))
}

// TestNothingIsMarkedAsToldThatCannotBe: without leadership or a trail the
// version waits.
func TestNothingIsMarkedAsToldThatCannotBe(t *testing.T) {
	w := newWorld(t)
	w.shortLived()
	w.setNow(w.now().Add(8 * 24 * time.Hour))
	w.log.lost = true
	w.engine.TellExpiries(t.Context())
	w.log.lost = false
	require.NoError(t, w.trail.Close())
	w.engine.TellExpiries(t.Context())
	require.Zero(t, w.log.machine.State().Version(life, 2).NotifiedAt)
	w.openTrail()
	w.engine.TellExpiries(t.Context())
	require.Len(t, w.named("secrets.version_expires_soon"), 1)
}

func TestVersionsThatExpireAreCounted(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	cfg := w.engine.Config
	cfg.Registerer = registry
	_, err := engine.New(cfg)
	require.NoError(t, err)
	counted := func(want string) {
		t.Helper()
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(
			"# HELP strongroom_secrets_versions_expiring Versions that expire within their notifyBefore, and can still be read.\n"+
				"# TYPE strongroom_secrets_versions_expiring gauge\nstrongroom_secrets_versions_expiring "+want+"\n"), "strongroom_secrets_versions_expiring"))
	}
	w.shortLived()
	counted("0")
	w.setNow(w.now().Add(8 * 24 * time.Hour))
	counted("1")
	w.engine.TellExpiries(t.Context())
	counted("1")
	w.setNow(w.now().Add(2 * 24 * time.Hour))
	counted("0")
}

// TestTheSameBytesWithAnotherLifeAreANewVersion.
func TestTheSameBytesWithAnotherLifeAreANewVersion(t *testing.T) {
	w := newWorld(t)
	w.shortLived()
	at := w.now().Add(10 * 24 * time.Hour).Format(time.RFC3339)
	put := func(more string) wire.PutSecretValueResponse {
		return into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", `{"path":%q,"value":%q,"expiresAt":%q%s}`, life, b64("value 2"), at, more))
	}
	require.True(t, put(`,"notifyBefore":"72h","reason":"again"`).Unchanged)
	require.False(t, put(`,"notifyBefore":"4d"`).Unchanged)
	require.False(t, put(``).Unchanged)
}
