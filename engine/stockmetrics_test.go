package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// shown answers the metrics of one collector as lines "name{labels} value".
func shown(t *testing.T, c prometheus.Collector) []string {
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	families, err := registry.Gather()
	require.NoError(t, err)
	var lines []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			lines = append(lines, strings.TrimPrefix(fmt.Sprintf("%s %s %v", family.GetName(), strings.Join(labels, ","), value), "strongroom_"))
		}
	}
	return lines
}

func TestWhatIsThereIsCountedByState(t *testing.T) {
	w, _ := rotated(t)
	w.engine.FlushLedger(t.Context())
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/gone","value":%q}`, b64("twelve bytes"))
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/brief","value":%q,"expiresAt":%q}`, b64("x"), w.now().Add(time.Hour).UTC().Format(time.RFC3339))
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/off","value":%q}`, b64("x"))
	w.ok("secrets/disableVersion", `{"path":"/app/dev/web/off","version":1}`)
	w.ok("secrets/deleteSecret", `{"path":"/app/dev/web/gone"}`)
	w.ok("kms/createKey", `{"alias":"alias/turns"}`)
	w.ok("kms/setKeyRotation", `{"keyId":"alias/turns","period":"720h"}`)
	counted := w.engine.StockCollector()
	lines := shown(t, counted)
	for _, want := range []string{
		"secrets active 3", "secrets pendingDeletion 1", "secrets purged 0",
		"secrets_versions active 4", "secrets_versions disabled 1", "secrets_versions expired 0", "secrets_versions destroyed 0",
		"secrets_stored_bytes  20", "consumers  1", "consumers_behind  1", "kms_next_rotation_seconds  2.592e+06",
	} {
		require.Contains(t, lines, want)
	}

	// A count is kept for a while; then time and what was done show.
	w.setNow(w.now().Add(time.Hour + 2*time.Minute)) // pod-1 is not waited for any more, brief has expired
	w.ok("secrets/destroyVersion", `{"path":%q,"version":1}`, held)
	w.setNow(w.now().Add(time.Hour))
	lines = shown(t, counted)
	for _, want := range []string{"secrets_versions active 2", "secrets_versions expired 1", "secrets_versions destroyed 1", "secrets_stored_bytes  17", "consumers  1", "consumers_behind  0"} {
		require.Contains(t, lines, want)
	}
}

func TestACountIsKeptForAWhile(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":"eA=="}`)
	counted := w.engine.StockCollector()
	require.Contains(t, shown(t, counted), "secrets active 1")
	w.ok("secrets/createSecret", `{"path":"/a/c","value":"eA=="}`)
	require.Contains(t, shown(t, counted), "secrets active 1")
	w.setNow(w.now().Add(30 * time.Minute)) // a walk that took a while on a busy machine is good for a hundred times as long
	require.Contains(t, shown(t, counted), "secrets active 2")
	w.ok("secrets/createSecret", `{"path":"/a/d","value":"eA=="}`)
	w.setNow(w.now().Add(-2 * time.Hour))
	require.Contains(t, shown(t, counted), "secrets active 3", "a clock that was put back does not keep a count for days")
}

// Each denial is counted once, under the reason that its event has.
func TestDenialsAreCountedByReason(t *testing.T) {
	w := newWorld(t)
	count := func(reason string) float64 { return testutil.ToFloat64(w.engine.Denials().WithLabelValues(reason)) }
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":"eA=="}`)
	before := count("iam")
	token := w.principal("nobody", `[{"effect":"allow","actions":["secrets:describeSecret"],"paths":["/app/**"]}]`)
	for range 3 {
		_, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
		require.Error(t, err)
	}
	_, err := w.as("sr_nonsense", "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	require.Error(t, err)
	require.Equal(t, []float64{3, 1}, []float64{count("iam") - before, count("unauthenticated")})
	lines := shown(t, w.engine.Denials())
	require.Len(t, lines, 8, "reasons are a fixed list: %v", lines)
	require.True(t, slices.IsSorted(lines))
}
