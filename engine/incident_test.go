package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// one is the metric of a collector that has several.
type one struct {
	all  prometheus.Collector
	name string
}

func (o *one) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(o, out) }

func (o *one) Collect(out chan<- prometheus.Metric) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(o.all)
	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() == o.name {
			out <- prometheus.MustNewConstMetric(prometheus.NewDesc(o.name, "", nil, nil), prometheus.GaugeValue, f.Metric[0].GetGauge().GetValue())
		}
	}
}

func (w *world) incident(format string, args ...any) wire.IncidentResponse {
	w.t.Helper()
	return into[wire.IncidentResponse](w.t, w.ok("audit/incident", format, args...))
}

// What a principal was given is listed exactly: neither what it was denied, nor
// what others got, nor what it got before.
func TestAnIncidentListsExactlyWhatWasGiven(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/app/a", "/app/b", "/app/c", "/app/d"} {
		w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, b64("x"))
	}
	w.ok("secrets/updateSecret", `{"path":"/app/b","rotation":{"kind":"generate","generate":{"kind":"hex"}}}`)
	reader := w.principal("app", readsApp)
	other := w.principal("other", readsApp)
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/d"}`)) // too long ago
	w.setNow(w.now().Add(2 * time.Hour))
	first := w.now()
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/a"}`))
	w.put("/app/a", "y")
	w.source = netip.MustParseAddr("203.0.113.9")
	w.setNow(w.now().Add(time.Minute))
	must(w.as(reader, "secrets/batchGetSecretValue", `{"items":[{"path":"/app/a"},{"path":"/app/b"}]}`))
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/a","version":1}`))
	must(w.as(other, "secrets/getSecretValue", `{"path":"/app/c"}`))
	_, err := w.as(reader, "secrets/getSecretValue", `{"path":"/other/x"}`)
	w.refused(fault.AccessDenied, "", err)

	out := w.incident(`{"principal":"app","since":"1h"}`)
	require.True(t, out.Complete)
	require.Empty(t, out.Unreachable)
	require.Equal(t, 3, out.Total)
	require.Len(t, out.Given, 3)
	a1, a2, b1 := out.Given[0], out.Given[1], out.Given[2]
	require.Equal(t, []any{"/app/a", uint64(1), 2, "active", false, true}, []any{a1.Path, a1.Version, a1.Count, a1.State, a1.Current, a1.Rotated})
	require.Equal(t, []string{"192.0.2.7", "203.0.113.9"}, a1.Sources)
	require.Equal(t, first.UnixMilli(), a1.First.UnixMilli())
	require.Equal(t, w.now().UnixMilli(), a1.Last.UnixMilli())
	require.Len(t, a1.Credentials, 1)
	require.Equal(t, []string{"n1"}, a1.Nodes)
	require.Equal(t, []any{"/app/a", uint64(2), 1, true, false}, []any{a2.Path, a2.Version, a2.Count, a2.Current, a2.Rotated})
	require.Equal(t, []any{"/app/b", true}, []any{b1.Path, b1.Rotates})
	require.False(t, a1.Rotates)

	w.ok("secrets/markCompromised", `{"path":"/app/a","versions":[1],"reason":"r"}`)
	w.ok("iam/quarantinePrincipal", `{"principal":"app","reason":"alert"}`)
	w.ok("secrets/deleteSecret", `{"path":"/app/b","force":true}`)
	out = w.incident(`{"principal":"app","since":"1h"}`)
	require.True(t, out.Given[0].Compromised)
	require.Equal(t, "gone", out.Given[2].State)
	require.Equal(t, "alert", out.Quarantined.Reason)
	w.setNow(w.now().Add(time.Minute))
	w.ok("secrets/createSecret", `{"path":"/app/b","value":%q,"reuseRetiredPath":true}`, b64("z"))
	require.Equal(t, "gone", w.incident(`{"principal":"app","since":"1h"}`).Given[2].State, "another secret has the path now")

	until := w.incident(`{"principal":"app","since":"1h","until":%q}`, first.Add(time.Second).Format(time.RFC3339))
	require.Equal(t, 1, until.Total)
	w.ok("iam/deletePrincipal", `{"name":"app"}`)
	require.Equal(t, 3, w.incident(`{"principal":"app","since":"1h"}`).Total, "of one that was deleted, too")
}

func TestPagesOfAnIncidentAreTheWhole(t *testing.T) {
	w := newWorld(t)
	reader := w.principal("app", readsApp)
	for i := range 5 {
		w.ok("secrets/createSecret", `{"path":"/app/%d","value":%q}`, i, b64("x"))
		must(w.as(reader, "secrets/getSecretValue", fmt.Sprintf(`{"path":"/app/%d"}`, i)))
	}
	var paths []string
	cursor := ""
	for {
		page := w.incident(`{"principal":"app","limit":2,"cursor":%q}`, cursor)
		require.Equal(t, 5, page.Total)
		for _, g := range page.Given {
			paths = append(paths, g.Path)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	require.Equal(t, []string{"/app/0", "/app/1", "/app/2", "/app/3", "/app/4"}, paths)
}

// A member that cannot be asked is named: the list may lack what it served.
func TestAnIncidentSaysWhatItCouldNotAsk(t *testing.T) {
	w := newWorld(t)
	w.principal("app", readsApp)
	w.engine.Cluster.Members = func() []wire.NodeStatus {
		return []wire.NodeStatus{{NodeID: "n1", Alive: true}, {NodeID: "n2", Alive: true}, {NodeID: "n3"}}
	}
	w.engine.Cluster.PeerEvents = func(_ context.Context, node string, q engine.TrailQuery) (engine.TrailPage, error) {
		require.Equal(t, "app", q.Principal)
		if node == "n3" {
			return engine.TrailPage{}, fault.New(fault.NoLeader, "no answer")
		}
		return engine.TrailPage{Events: []wire.AuditEvent{{
			Node: "n2", Sequence: 7, Time: &wire.Time{Time: w.now()}, Event: "secrets.get_value", Outcome: audit.OK, Principal: "app", Path: "/app/far", Version: 2,
		}}}, nil
	}
	out := w.incident(`{"principal":"app"}`)
	require.False(t, out.Complete)
	require.Equal(t, []string{"n3"}, out.Unreachable)
	require.Equal(t, []string{"n2"}, out.Given[0].Nodes)
	require.Equal(t, "gone", out.Given[0].State)
}

func TestAnIncidentIsForAuditors(t *testing.T) {
	w := newWorld(t)
	reader := w.principal("app", readsApp)
	_, err := w.as(reader, "audit/incident", `{"principal":"app"}`)
	w.refused(fault.AccessDenied, "", err)
	for body, says := range map[string]string{
		`{"principal":""}`: "principal:", `{"principal":"app","since":"91d"}`: "since:", `{"principal":"app","until":"2020-01-01T00:00:00Z"}`: "until:",
		`{"principal":"app","cursor":"1.YQ"}`: "cursor:",
	} {
		_, err := w.as(w.admin, "audit/incident", body)
		w.refused(fault.InvalidRequest, says, err)
	}
}
