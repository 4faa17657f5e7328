package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func (w *world) usage(token, prefix string) wire.GetUsageResponse {
	w.t.Helper()
	answer, err := w.as(token, "secrets/getUsage", fmt.Sprintf(`{"prefix":%q}`, prefix))
	require.NoError(w.t, err)
	return into[wire.GetUsageResponse](w.t, answer)
}

func TestUsageIsWhatWasStoredAndForHowLong(t *testing.T) {
	w := newWorld(t)
	hours := func(n float64) { w.setNow(w.now().Add(time.Duration(n * float64(time.Hour)))) }
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("12345"))
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/empty"}`)
	w.ok("secrets/createSecret", `{"path":"/app/dev-2/x","value":%q}`, b64("1"))
	hours(2)
	w.put("/app/dev/web/db", "123")
	w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/db","version":1}`)
	hours(0.5)
	got := w.usage(w.admin, "/app/dev")
	require.Equal(t, "/app/dev/", got.Prefix)
	require.Equal(t, []uint64{2, 1, 3}, []uint64{got.Secrets, got.StoredVersions, got.StoredBytes})
	require.InDelta(t, 2.5, got.VersionHours, 1e-9)
	require.Equal(t, w.now().UnixMilli(), got.CountedAt.Milli())
	require.Equal(t, uint64(3), w.usage(w.admin, "/").Secrets)
	require.InDelta(t, 5, w.usage(w.admin, "/").VersionHours, 1e-9)

	w.ok("secrets/deleteSecret", `{"path":"/app/dev/web/db"}`)
	require.Equal(t, uint64(2), w.usage(w.admin, "/app/dev").Secrets, "until it is purged it is stored")
	w.ok("secrets/deleteSecret", `{"path":"/app/dev/web/db","force":true}`)
	hours(3)
	got = w.usage(w.admin, "/app/dev")
	require.Equal(t, []uint64{1, 0, 0}, []uint64{got.Secrets, got.StoredVersions, got.StoredBytes})
	require.InDelta(t, 2.5, got.VersionHours, 1e-9, "the hours of a month are not taken back")
}

// TestUsageShowsNothingOfWhatTheCallerMayNotSee: the sums are over what
// listSecrets would show, so that no difference of two sums tells more.
func TestUsageShowsNothingOfWhatTheCallerMayNotSee(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("12345"))
	w.ok("secrets/createSecret", `{"path":"/app/dev/api/db","value":%q}`, b64("123"))
	token := w.principal("web", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/*/web/**"]}]`)
	for _, prefix := range []string{"/", "/app/dev", "/app/dev/web"} {
		got := w.usage(token, prefix)
		require.Equal(t, []uint64{1, 1, 5}, []uint64{got.Secrets, got.StoredVersions, got.StoredBytes})
	}
	absent, forbidden := w.usage(token, "/app/dev/none"), w.usage(token, "/app/dev/api")
	forbidden.Prefix = absent.Prefix
	require.Equal(t, absent, forbidden)
	nobody := w.principal("nobody", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/**"]}]`)
	_, err := w.as(nobody, "secrets/getUsage", `{"prefix":"/app"}`)
	w.refused(fault.AccessDenied, "secrets:getUsage", err)
}

func TestACallerThatHangsUpEndsTheCount(t *testing.T) {
	w := newWorld(t)
	w.fill(10_000)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := w.engine.Do(ctx, engine.Find("secrets", "getUsage"), engine.Caller{Token: w.admin, Source: w.source}, []byte(`{}`))
	require.ErrorIs(t, err, context.Canceled)
}

// fill stores n secrets of one version, by commands alone.
func (w *world) fill(n int) {
	key := w.log.machine.State().KeyByRef("alias/default").ID
	for i := range n {
		command, err := fsm.Encode(fsm.CreateSecret{
			Meta: fsm.Meta{Time: w.now().UnixMilli(), Principal: "admin"}, Path: fmt.Sprintf("/app/t%03d/s%d/p%d", i%1000, i%7, i), SecretID: fmt.Sprint("s", i), KeyID: key,
			First: &fsm.NewVersion{Number: 1, VersionID: "v", Size: 32, KeyID: key, KeyVersion: 1, Sealed: []byte("s"), DataKey: []byte("d"), Fingerprint: []byte("f")},
		})
		require.NoError(w.t, err)
		result, err := w.log.Propose(context.Background(), command)
		require.NoError(w.t, err)
		require.Nil(w.t, result.Refused)
	}
}

// BenchmarkUsage is the whole tree, for a caller with a
// grant on every path; engine/DESIGN.md has the figure.
func BenchmarkUsage(b *testing.B) {
	const secrets = 100_000
	w := newWorld(b)
	w.fill(secrets)
	token := w.principal("auditor", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/**"]}]`)
	for b.Loop() {
		require.Equal(b, uint64(secrets), w.usage(token, "/").Secrets)
	}
}
