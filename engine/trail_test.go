package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// members gives the world other nodes whose trails are given.
func (w *world) members(trails map[string][]wire.AuditEvent) {
	w.engine.Cluster.Members = func() []wire.NodeStatus {
		out := []wire.NodeStatus{{NodeID: "n1"}}
		for node := range trails {
			out = append(out, wire.NodeStatus{NodeID: node})
		}
		return out
	}
	w.engine.Cluster.PeerEvents = func(_ context.Context, node string, q engine.TrailQuery) (engine.TrailPage, error) {
		if trails[node] == nil {
			return engine.TrailPage{}, errors.New("down")
		}
		var page engine.TrailPage
		for _, e := range trails[node] {
			if e.Sequence <= q.After || q.Event != "" && e.Event != q.Event {
				continue
			}
			if len(page.Events) == q.Limit {
				page.More = true
				break
			}
			page.Events = append(page.Events, e)
		}
		return page, nil
	}
}

func (w *world) allEvents(filter string, limit int) []wire.AuditEvent {
	w.t.Helper()
	var out []wire.AuditEvent
	for cursor, pages := "", 0; ; pages++ {
		page := into[wire.QueryEventsResponse](w.t, w.ok("audit/queryEvents", `{%s,"limit":%d,"cursor":%q}`, filter, limit, cursor))
		require.LessOrEqual(w.t, len(page.Events), limit)
		require.Less(w.t, pages, 1000, "a cursor must get on")
		out = append(out, page.Events...)
		if cursor = page.NextCursor; cursor == "" {
			return out
		}
	}
}

// TestPagesOfMergedTrailsHaveEveryEventOnce: the time of an event is when its
// request began, so times do not grow with sequence numbers. Whatever they
// are, paging must neither lose nor repeat an event.
func TestPagesOfMergedTrailsHaveEveryEventOnce(t *testing.T) {
	w := newWorld(t)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		trails := map[string][]wire.AuditEvent{}
		want := map[string]int{}
		for _, node := range []string{"n2", "n3", "n4"} {
			for i := range 1 + random.IntN(30) {
				at := wire.Millis(w.now().UnixMilli() + random.Int64N(20))
				trails[node] = append(trails[node], wire.AuditEvent{Node: node, Sequence: uint64(i + 1), Time: at, Event: "secrets.marked"})
				want[fmt.Sprint(node, " ", i+1)]++
			}
		}
		w.members(trails)
		for _, limit := range []int{1, 2, 7, 100} {
			got := map[string]int{}
			last := map[string]uint64{}
			for _, e := range w.allEvents(`"event":"secrets.marked"`, limit) {
				got[fmt.Sprint(e.Node, " ", e.Sequence)]++
				require.Greater(t, e.Sequence, last[e.Node], "a chain keeps its order")
				last[e.Node] = e.Sequence
			}
			require.Equal(t, want, got, "round %d, pages of %d", round, limit)
		}
	}
}

func TestTrailsThatGrowWithTimeAreMergedByTime(t *testing.T) {
	w := newWorld(t)
	trails := map[string][]wire.AuditEvent{}
	for i := range 50 {
		node := fmt.Sprint("n", 2+i%3)
		trails[node] = append(trails[node], wire.AuditEvent{Node: node, Sequence: uint64(len(trails[node]) + 1), Time: wire.Millis(int64(1000 + i/2)), Event: "secrets.marked"})
	}
	w.members(trails)
	got := w.allEvents(`"event":"secrets.marked"`, 7)
	require.Len(t, got, 50)
	require.True(t, slices.IsSortedFunc(got, func(a, b wire.AuditEvent) int { return a.Time.Compare(b.Time.Time) }))
}

func TestAMemberThatCannotBeAskedIsNamed(t *testing.T) {
	w := newWorld(t)
	w.members(map[string][]wire.AuditEvent{"n2": {{Node: "n2", Sequence: 1, Time: wire.Millis(5), Event: "secrets.marked"}}, "n3": nil})
	got := into[wire.QueryEventsResponse](t, w.ok("audit/queryEvents", `{"event":"secrets.marked"}`))
	require.Equal(t, []string{"n3"}, got.Unreachable)
	require.Len(t, got.Events, 1)
}

func TestEventsAreFoundByEachOfTheirFields(t *testing.T) {
	s := newStock(t)
	token := s.principal("nobody", `[{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/unrelated"]}]`)
	id, _, err := s.request(token, "secrets/getSecretValue", `{"path":"/app/dev/web/db","version":3}`)
	s.refused(fault.AccessDenied, "", err)
	from := s.now()
	s.setNow(s.now().Add(time.Hour))
	s.ok("kms/describeKey", `{"keyId":"alias/pay"}`)
	for filter, event := range map[string]string{
		`"requestId":"` + id + `"`:                                 "secrets.get_value",
		`"principal":"nobody"`:                                     "secrets.get_value",
		`"outcome":"denied"`:                                       "secrets.get_value",
		`"event":"secrets.get_value","path":"/app/dev/web/db"`:     "secrets.get_value",
		`"event":"kms.describe_key","keyId":"` + s.keyID + `"`:     "kms.describe_key",
		`"event":"kms.describe_key","from":"2026-03-04T06:06:07Z"`: "kms.describe_key",
	} {
		got := s.allEvents(filter, 100)
		require.Len(t, got, 1, filter)
		require.Equal(t, event, got[0].Event)
	}
	got := s.allEvents(`"principal":"nobody"`, 100)[0]
	require.Equal(t, "n1", got.Node)
	require.Equal(t, uint64(3), got.Version)
	require.Equal(t, "iam", got.Reason)
	require.Equal(t, from, got.Time.Time)
	require.Empty(t, s.allEvents(`"event":"kms.describe_key","to":"2026-03-04T06:06:07Z"`, 100), "to is the first instant without")

	for filter, says := range map[string]string{
		`"outcome":"good"`: "outcome:", `"path":"a"`: "path:", `"path":"/a//b"`: "path:",
		`"from":"2026-03-04T06:00:00Z","to":"2026-03-04T06:00:00Z"`: "to: must lie after from",
		`"requestId":"` + fmt.Sprintf("%0300d", 1) + `"`:            "requestId: has 300 bytes",
	} {
		_, err := s.as(s.admin, "audit/queryEvents", "{"+filter+"}")
		s.refused(fault.InvalidRequest, says, err)
	}
}
