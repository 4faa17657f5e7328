package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// others are members whose clocks lie: by how much each is ahead of the
// world's. One that is not there does not answer.
type others struct {
	mu    sync.Mutex
	ahead map[string]time.Duration
}

func (o *others) say(n2, n3 time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ahead = map[string]time.Duration{"n2": n2, "n3": n3}
}

// clocks is a world with two other members, ann, whose reads a window that is
// always open restricts, and bob, whom nothing restricts.
func clocks(t *testing.T) (w *world, o *others, read func(string) error, ann, bob string) {
	w, read = reader(t)
	o = &others{}
	w.engine.Cluster.Members = func() []wire.NodeStatus {
		return []wire.NodeStatus{{NodeID: "n1"}, {NodeID: "n2"}, {NodeID: "n3"}}
	}
	w.engine.Cluster.PeerClock = func(_ context.Context, node string, _ engine.ClockQuery) (engine.ClockReading, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		ahead, there := o.ahead[node]
		if !there {
			return engine.ClockReading{}, errors.New("no answer")
		}
		return engine.ClockReading{UnixMs: w.now().Add(ahead).UnixMilli()}, nil
	}
	ann, bob = w.principal("ann", readWeb), w.principal("bob", readWeb)
	w.ok("iam/putAccessPolicy", `{"name":"day","paths":["/app/**"],"principals":["ann"],"timeWindows":[{"from":"00:00","to":"24:00","timezone":"UTC"}]}`)
	return w, o, read, ann, bob
}

func (w *world) askClocks() { w.engine.AskClocks(context.Background()) }

func clockOff(t *testing.T, w *world, offset string, err error) {
	t.Helper()
	w.refused(fault.AccessDenied, "clock of this node is about", err)
	require.Equal(t, "timeWindow", detail(t, err, "reason"))
	require.Equal(t, offset, detail(t, err, "clockOffset"))
	require.NotEmpty(t, detail(t, err, "decisionId"))
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.NotContains(t, f.Details, "opensAt", "it does not know what time it is")
}

func TestAClockThatIsOffRefusesWhatTimesRestrict(t *testing.T) {
	w, o, read, ann, bob := clocks(t)
	w.askClocks()
	require.NoError(t, read(ann), "nobody answers: trusted")

	o.say(7200*time.Millisecond, 8*time.Second)
	w.askClocks()
	err := read(ann)
	clockOff(t, w, "-8.0s", err)
	require.ErrorContains(t, err, "behind")
	require.NoError(t, read(bob), "no time restricts him")
	require.NoError(t, read(w.admin))
	list, err := w.as(ann, "secrets/batchGetSecretValue", `{"items":[{"path":"/app/dev/web/db"}]}`)
	require.NoError(t, err)
	require.Contains(t, list, "AccessDenied")

	o.say(-7200*time.Millisecond, -7200*time.Millisecond)
	w.askClocks()
	err = read(ann)
	clockOff(t, w, "7.2s", err)
	require.ErrorContains(t, err, "ahead of")

	o.say(time.Second, -time.Second)
	w.askClocks()
	require.NoError(t, read(ann), "it is right again")
}

func TestOnlyAMajorityThatAgreesCounts(t *testing.T) {
	w, o, read, ann, _ := clocks(t)
	for _, one := range [][2]time.Duration{{time.Hour, 0}, {0, -time.Hour}, {time.Hour, -time.Hour}, {5 * time.Second, 5 * time.Second}} {
		o.say(one[0], one[1])
		w.askClocks()
		require.NoError(t, read(ann), "%v", one)
	}
	o.say(6*time.Second, 0)
	delete(o.ahead, "n3")
	w.setNow(w.now().Add(61 * time.Second)) // what n3 said is too old by now
	w.askClocks()
	clockOff(t, w, "-6.0s", read(ann))
}

func TestOldEvidenceDoesNotCount(t *testing.T) {
	w, o, read, ann, _ := clocks(t)
	o.say(time.Hour, time.Hour)
	w.askClocks()
	w.setNow(w.now().Add(60 * time.Second))
	clockOff(t, w, "-3600.0s", read(ann))
	w.setNow(w.now().Add(time.Millisecond))
	require.NoError(t, read(ann))
}

// What a slow exchange leaves open is not held against the clock.
func TestTheRoundTripIsAllowedFor(t *testing.T) {
	w, _, read, ann, _ := clocks(t)
	trip := 4 * time.Second
	w.engine.Cluster.Members = func() []wire.NodeStatus { return []wire.NodeStatus{{NodeID: "n2"}} }
	var ahead time.Duration
	w.engine.Cluster.PeerClock = func(context.Context, string, engine.ClockQuery) (engine.ClockReading, error) {
		w.setNow(w.now().Add(trip))
		return engine.ClockReading{UnixMs: w.now().Add(-trip / 2).Add(ahead).UnixMilli()}, nil
	}
	ahead = 7 * time.Second
	w.askClocks()
	require.NoError(t, read(ann))
	ahead += time.Millisecond
	w.askClocks()
	clockOff(t, w, "-7.0s", read(ann))
}

// A leader before this one has written at a time that has not come here.
func TestAStateFromTheFutureMeansThatTheClockIsBehind(t *testing.T) {
	w, _, read, ann, bob := clocks(t)
	written := w.now()
	w.setNow(written.Add(-5 * time.Second))
	require.NoError(t, read(ann))
	w.setNow(written.Add(-5*time.Second - time.Millisecond))
	clockOff(t, w, "-5.0s", read(ann))
	require.NoError(t, read(bob))
	w.setNow(written)
	require.NoError(t, read(ann))
}

// A denial keeps its own reason.
func TestAClockThatIsOffChangesNoDenial(t *testing.T) {
	w, o, read, ann, _ := clocks(t)
	w.ok("iam/putAccessPolicy", `{"name":"shut","paths":["/app/**"],"principals":["ann"],"notAfter":"2020-01-01T00:00:00Z"}`)
	o.say(time.Hour, time.Hour)
	w.askClocks()
	err := read(ann)
	w.refused(fault.AccessDenied, "at this time", err)
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.NotContains(t, f.Details, "clockOffset")
	w.ok("iam/putAccessPolicy", `{"name":"far","paths":["/app/**"],"principals":["ann"],"sourceCidrs":["10.0.0.0/8"]}`)
	require.Equal(t, "sourceAddress", detail(t, read(ann), "reason"))
}

// A condition of a statement is a restriction to times as well, and filters
// leave out what it refuses.
func TestAClockThatIsOffAndConditionsOfStatements(t *testing.T) {
	w, o, read, _, _ := clocks(t)
	eve := w.principal("eve", `[{"effect":"allow","roles":["secrets-value-access","secrets-read-access"],"paths":["/app/dev/web/**"],"conditions":{"notBefore":"2020-01-01T00:00:00Z"}}]`)
	list := func() int {
		out, err := w.as(eve, "secrets/listSecrets", `{"prefix":"/app/dev/web/"}`)
		require.NoError(t, err)
		return strings.Count(out, "db")
	}
	require.NoError(t, read(eve))
	require.NotZero(t, list())
	o.say(time.Hour, time.Hour)
	w.askClocks()
	clockOff(t, w, "-3600.0s", read(eve))
	require.Zero(t, list())
	_, err := w.patient(eve, fmt.Sprintf(`{"paths":["/app/dev/web/db"],"afterIndex":%d,"timeout":"60s"}`, w.log.machine.State().Index()))
	w.refused(fault.AccessDenied, "clock of this node", err)
}

// Clocks that are all within half of the bound of the true time refuse nothing.
func TestClocksWithinHalfTheBoundNeverRefuse(t *testing.T) {
	w, o, read, ann, _ := clocks(t)
	start := w.now()
	rapid.Check(t, func(r *rapid.T) {
		half := int(engine.DefaultMaxClockOffset/2) / 1e6
		near := func(name string) time.Duration {
			return time.Duration(rapid.IntRange(-half, half).Draw(r, name)) * time.Millisecond
		}
		own := near("own")
		w.setNow(start.Add(own))
		o.say(near("n2")-own, near("n3")-own)
		w.askClocks()
		require.NoError(r, read(ann))
	})
}

func TestOffsetsAreMeasured(t *testing.T) {
	w, o, _, _, _ := clocks(t)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(w.engine.ClockCollector()))
	o.say(1500*time.Millisecond, -2*time.Second)
	w.askClocks()
	const help = "# HELP strongroom_clock_offset_seconds How far the clock of a member is ahead of this node's, as this node, the leader, saw it last.\n# TYPE strongroom_clock_offset_seconds gauge\n"
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(help+`strongroom_clock_offset_seconds{peer="n2"} 1.5
strongroom_clock_offset_seconds{peer="n3"} -2
`)))
	w.setNow(w.now().Add(61 * time.Second))
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader("")), "too old")
}
