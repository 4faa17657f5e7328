package engine_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/names"
)

// Settings without a schedule follow the period of the path rule, whenever
// that changes.
func TestAPathRuleSaysHowOftenASecretIsRotated(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, turned, b64("first"))
	w.ok("secrets/updateSecret", `{"path":%q,"rotation":{"kind":"generate","generate":{"kind":"hex"}}}`, turned)
	w.admin = w.longToken()
	made := w.now()
	version := func() uint64 {
		w.engine.RotateSecrets(t.Context())
		w.engine.RotateByRule(t.Context())
		return into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":%q}`, turned)).CurrentVersion
	}
	w.setNow(made.Add(100 * 24 * time.Hour))
	require.Equal(t, uint64(1), version(), "on demand")
	w.ok("secrets/putPathRule", `{"prefix":"/app/","rotationPeriod":"30d"}`)
	require.True(t, w.rotation().Overdue)
	require.Equal(t, made.Add(30*24*time.Hour), w.rotation().NextRotationAt.Time)
	require.Equal(t, uint64(2), version())
	rotated := w.now()
	require.False(t, w.rotation().Overdue)
	w.setNow(rotated.Add(30*24*time.Hour - time.Millisecond))
	require.Equal(t, uint64(2), version())
	w.setNow(rotated.Add(30 * 24 * time.Hour))
	require.Equal(t, uint64(3), version())
	w.ok("secrets/deletePathRule", `{"prefix":"/app/"}`)
	w.setNow(w.now().Add(90 * 24 * time.Hour))
	require.Equal(t, uint64(3), version())
}

func TestAnOverdueRotationIsToldOnce(t *testing.T) {
	w := newWorld(t)
	w.admin = w.longToken()
	w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, turned, b64("first"))
	w.ok("secrets/createSecret", `{"path":"/other","value":%q}`, b64("first"))
	w.ok("secrets/putPathRule", `{"prefix":"/app/","rotationPeriod":"30d"}`)
	told := map[names.Path]uint64{}
	events := func() []audit.Event {
		w.engine.TellOverdue(t.Context(), told)
		return w.events(audit.Filter{Events: []string{"secrets.rotation_overdue"}})
	}
	require.Empty(t, events())
	w.setNow(w.now().Add(31 * 24 * time.Hour))
	require.Len(t, events(), 1)
	require.Equal(t, []any{turned, uint64(1), "system:rotation"}, []any{events()[0].Path, events()[0].Version, events()[0].Principal})
	require.Len(t, events(), 1, "once")
	w.put(turned, "second")
	require.Len(t, events(), 1)
	w.setNow(w.now().Add(31 * 24 * time.Hour))
	require.Len(t, events(), 2, "the next version is overdue as well")
}
