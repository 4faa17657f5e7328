package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/audit"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// world is a real trail and the sinks that follow it.
type world struct {
	t        *testing.T
	trail    *audit.Trail
	cfg      Config
	registry *prometheus.Registry
	set      *Set
	stop     func()
	log      *logBuffer
}

func newWorld(t *testing.T, sinks ...Settings) *world {
	w := &world{t: t, log: &logBuffer{}, stop: func() {}}
	dir := t.TempDir()
	w.open(filepath.Join(dir, "audit"))
	w.cfg = Config{
		Sinks: sinks, Trail: w.trail, Dir: filepath.Join(dir, "sinks"), Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		Secret: os.ReadFile, Stdout: &logBuffer{}, backoffMin: time.Millisecond, backoffMax: 5 * time.Millisecond, saveEvery: time.Millisecond,
	}
	for i := range w.cfg.Sinks {
		s := &w.cfg.Sinks[i]
		if s.Format == "" {
			s.Format = "native"
		}
		if s.Name == "" {
			s.Name = s.Type
		}
		s.BatchEvents, s.BatchBytes, s.Timeout = max(s.BatchEvents, 1), max(s.BatchBytes, 1<<20), max(s.Timeout, 5*time.Second)
		s.BatchTime = max(s.BatchTime, time.Millisecond)
	}
	t.Cleanup(func() { w.stop(); _ = w.trail.Close() })
	return w
}

func (w *world) open(dir string) {
	trail, err := audit.Open(audit.Config{Dir: dir, Node: "n1", SyncInterval: time.Millisecond, SegmentBytes: 4096, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(w.t, err)
	w.trail = trail
}

// start runs the sinks; stop ends them as the end of the process does.
func (w *world) start() {
	w.t.Helper()
	w.registry = prometheus.NewRegistry()
	w.cfg.Registerer, w.cfg.Trail = w.registry, w.trail
	set, err := New(w.cfg)
	require.NoError(w.t, err)
	w.run(set)
}

func (w *world) run(set *Set) {
	w.set = set
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { set.Run(ctx) })
	w.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// happen appends so many events with numbered paths, and answers the newest
// sequence.
func (w *world) happen(n int) uint64 {
	w.t.Helper()
	return w.append(event("secrets.get_value", audit.OK), n)
}

func event(name, outcome string) audit.Event {
	return audit.Event{Event: name, Outcome: outcome, Principal: "app", Path: "/app/db", SourceAddress: "192.0.2.7", Version: 3, RequestID: "r1"}
}

func (w *world) append(e audit.Event, n int) uint64 {
	w.t.Helper()
	var last uint64
	for range n {
		var err error
		last, err = w.trail.Append(context.Background(), []audit.Event{e})
		require.NoError(w.t, err)
	}
	w.eventually("the trail to settle", func() bool { return w.trail.Settled().Sequence >= last })
	return last
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	require.Eventually(w.t, ok, patience, time.Millisecond, "waited in vain for %s; log:\n%s", what, w.log)
}

// done waits until every sink has dealt with the event, on its disk too.
func (w *world) done(sequence uint64) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("the cursors to reach %d", sequence), func() bool { return w.set.OldestNeeded() > sequence })
}

// metric answers a series of a sink.
func (w *world) metric(name, sink string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	require.NoError(w.t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && m.Label[0].GetValue() == sink {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	require.Fail(w.t, "there is no series", "%s of %s", name, sink)
	return 0
}

// native answers the lines of the trail after a sequence.
func (w *world) native(after uint64) []string {
	w.t.Helper()
	var out []string
	for {
		lines, err := w.trail.Lines(context.Background(), after+uint64(len(out)), 1<<20)
		require.NoError(w.t, err)
		if lines.Count == 0 {
			return out
		}
		lines.All(func(_ uint64, line []byte) bool { out = append(out, string(line)); return true })
	}
}

func sequenceOf(t *testing.T, line string) uint64 {
	var e struct{ Sequence uint64 }
	require.NoError(t, json.Unmarshal([]byte(line), &e), line)
	return e.Sequence
}

// recordOf makes a record of an event as the trail would write it.
func recordsOf(t *testing.T, events ...audit.Event) []record {
	t.Helper()
	w := newWorld(t)
	for _, e := range events {
		w.append(e, 1)
	}
	var out []record
	for _, line := range w.native(uint64(w.trail.Settled().Sequence) - uint64(len(events))) {
		e, prev, err := audit.Decode([]byte(line))
		require.NoError(t, err)
		out = append(out, record{prev: cursor{e.Sequence - 1, prev}, at: cursor{e.Sequence, sha256.Sum256([]byte(line))}, event: e, known: true, body: []byte(line)})
	}
	require.Len(t, out, len(events))
	return out
}

// logBuffer is written to while a test reads.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) lines() []string {
	return strings.Split(strings.TrimSuffix(l.String(), "\n"), "\n")
}
