package audit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
)

// config is a trail that looks at its disk often, in a folder of its own.
func config(t testing.TB) Config {
	return Config{
		Dir: filepath.Join(t.TempDir(), "audit"), Node: "n1", Durability: Written,
		SyncInterval: time.Millisecond, Logger: slog.New(slog.DiscardHandler), KeepPlain: true,
	}
}

func mustOpen(t testing.TB, cfg Config) *Trail {
	t.Helper()
	trail, err := Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = trail.Close() })
	return trail
}

func mustAppend(t testing.TB, trail *Trail, events ...Event) uint64 {
	t.Helper()
	first, err := trail.Append(context.Background(), events)
	require.NoError(t, err)
	return first
}

func read(principal string) Event {
	return Event{Event: "secrets.get_value", Outcome: OK, Principal: principal, Path: "/app/db", Version: 3}
}

// all pages through everything that filter selects.
func all(t testing.TB, trail *Trail, filter Filter) []Event {
	t.Helper()
	var out []Event
	for {
		events, more, err := trail.Query(context.Background(), filter)
		require.NoError(t, err)
		out = append(out, events...)
		if !more {
			return out
		}
		require.NotEmpty(t, events)
		filter.After = events[len(events)-1].Sequence
	}
}

// requireDense asserts that events are 1, 2, 3 … of one node.
func requireDense(t testing.TB, events []Event) {
	t.Helper()
	for i, e := range events {
		require.Equal(t, uint64(i+1), e.Sequence)
		require.Equal(t, "n1", e.Node)
	}
}

func requireUnavailable(t testing.TB, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, fault.AuditUnavailable, fault.KindOf(err), "%v", err)
}

// requireRefuses waits until the trail has noticed, and asserts that both
// questions are answered alike.
func requireRefuses(t testing.TB, trail *Trail) {
	t.Helper()
	require.Eventually(t, func() bool { return trail.Ready() != nil }, 20*time.Second, time.Millisecond)
	requireUnavailable(t, trail.Ready())
	_, err := trail.Append(context.Background(), []Event{read("late")})
	requireUnavailable(t, err)
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	segments, err := listSegments(dir)
	require.NoError(t, err)
	var out []string
	for _, s := range segments {
		out = append(out, s.path)
	}
	return out
}

func lines(t testing.TB, path string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix(data, []byte("\n")))
	return bytes.SplitAfter(data[:len(data)-1], []byte("\n"))
}

// closedTrail writes n events in files of about the given size, and stops.
func closedTrail(t testing.TB, n int, segmentBytes int64) Config {
	t.Helper()
	cfg := config(t)
	cfg.SegmentBytes = segmentBytes
	trail := mustOpen(t, cfg)
	for i := range n {
		e := read(fmt.Sprintf("app-%d", i))
		e.Time = time.UnixMilli(1_700_000_000_000 + int64(i))
		mustAppend(t, trail, e)
	}
	require.NoError(t, trail.Close())
	return cfg
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	return to
}
