package audit

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
)

// Whatever a follower asks for, it gets the bytes of the files, in order.
func TestLinesAnswersTheFilesFromAnyPlace(t *testing.T) {
	cfg := closedTrail(t, 400, 20_000)
	trail := mustOpen(t, cfg)
	var want [][]byte
	for _, path := range files(t, cfg.Dir) {
		if st, err := os.Stat(path); err == nil && st.Size() > 0 {
			want = append(want, lines(t, path)...)
		}
	}
	require.Greater(t, len(files(t, cfg.Dir)), 3)
	for after := range uint64(len(want)) {
		got, err := trail.Lines(t.Context(), after, 3000)
		require.NoError(t, err)
		require.Equal(t, after+1, got.First)
		require.Positive(t, got.Count)
		require.LessOrEqual(t, len(got.Data), 3000)
		n := 0
		got.All(func(sequence uint64, line []byte) bool {
			require.Equal(t, strings.TrimSuffix(string(want[sequence-1]), "\n"), string(line))
			n++
			return true
		})
		require.Equal(t, got.Count, n)
	}
	one, err := trail.Lines(t.Context(), 7, 1)
	require.NoError(t, err)
	require.Equal(t, string(want[7]), string(one.Data), "one event, however long it is")
	none, err := trail.Lines(t.Context(), uint64(len(want)), 3000)
	require.NoError(t, err)
	require.Zero(t, none.Count)
}

// A block in the middle of a big file is found without reading what is before
// it.
func TestLinesBeginsAtABlock(t *testing.T) {
	cfg := closedTrail(t, 3000, 1<<30)
	trail := mustOpen(t, cfg)
	s := trail.segments[0]
	require.Greater(t, len(s.blocks), 1)
	file := lines(t, s.path)
	for _, sequence := range []uint64{1, 2, s.blocks[1].sequence - 1, s.blocks[1].sequence, s.blocks[1].sequence + 1, 3000} {
		got, err := trail.Lines(t.Context(), sequence-1, 1)
		require.NoError(t, err)
		require.Equal(t, string(file[sequence-1]), string(got.Data))
	}
	for _, b := range append(s.blocks, s.last) {
		require.Equal(t, string(file[b.sequence-1][:60]), string(bytes.Join(file, nil)[b.offset:b.offset+60]))
	}
}

// What is not on the disk yet may be gone after a power cut, so nobody is told
// of it.
func TestLinesHoldsBackWhatIsNotOnTheDisk(t *testing.T) {
	cfg := config(t)
	cfg.SyncInterval = time.Hour
	trail := mustOpen(t, cfg)
	settled := trail.Settled()
	require.Equal(t, trail.Head(), settled, "a start brings all to the disk")
	mustAppend(t, trail, read("web"))
	require.Equal(t, settled, trail.Settled())
	got, err := trail.Lines(t.Context(), settled.Sequence, 1000)
	require.NoError(t, err)
	require.Zero(t, got.Count)
	require.NoError(t, trail.syncFile())
	got, err = trail.Lines(t.Context(), settled.Sequence, 1000)
	require.NoError(t, err)
	require.Equal(t, 1, got.Count)
	require.Equal(t, trail.Head(), trail.Settled())
}

func TestWaitReturnsWithTheNextEvent(t *testing.T) {
	for _, durability := range []Durability{Written, Synced} {
		cfg := config(t)
		cfg.Durability = durability
		trail := mustOpen(t, cfg)
		at := trail.Settled().Sequence
		require.NoError(t, trail.Wait(t.Context(), at-1))
		done := make(chan error, 1)
		go func() { done <- trail.Wait(context.Background(), at) }()
		mustAppend(t, trail, read("web"))
		require.NoError(t, <-done)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, trail.Wait(ended, at+1), context.Canceled)
		go func() { done <- trail.Wait(context.Background(), at+1) }()
		require.NoError(t, trail.Close())
		require.Equal(t, fault.AuditUnavailable, fault.KindOf(<-done))
	}
}
