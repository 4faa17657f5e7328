package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file ends where it is full; the chain does not.
func TestChainGoesOnFromFileToFile(t *testing.T) {
	const segmentBytes = 2000
	cfg := closedTrail(t, 40, segmentBytes)
	paths := files(t, cfg.Dir)
	require.Greater(t, len(paths), 3)
	at := chain{node: "n1"}
	for _, path := range paths {
		require.Equal(t, segmentPath(cfg.Dir, at.sequence+1), path, "a file is named after its first event")
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(segmentBytes))
		for _, line := range lines(t, path) {
			_, err := at.next(bytes.TrimSuffix(line, []byte("\n")))
			require.NoError(t, err)
		}
	}
	report, err := Verify(cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, Report{Node: "n1", Segments: len(paths), Events: 41, Head: Head{"n1", 41, at.hash}}, report)

	trail := mustOpen(t, cfg)
	events := all(t, trail, Filter{})
	requireDense(t, events)
	require.Len(t, events, 42)
	require.Equal(t, uint64(42), trail.Head().Sequence)
}

// A batch is all or none, so it is never spread over two files; one that is
// larger than a file gets a file of its own.
func TestBatchStaysInOneFile(t *testing.T) {
	cfg := config(t)
	cfg.SegmentBytes = 1000
	trail := mustOpen(t, cfg)
	var batch []Event
	for i := range 20 {
		batch = append(batch, read(fmt.Sprintf("app-%d", i)))
	}
	first := mustAppend(t, trail, batch...)
	next := mustAppend(t, trail, read("web"))
	require.NoError(t, trail.Close())
	require.Equal(t, []string{segmentPath(cfg.Dir, 1), segmentPath(cfg.Dir, first), segmentPath(cfg.Dir, next)}, files(t, cfg.Dir))
	require.Len(t, lines(t, segmentPath(cfg.Dir, first)), len(batch))
}

func TestNamesOfFilesSortAsTheirEvents(t *testing.T) {
	require.Equal(t, "d/audit-00000000000000000042.jsonl", segmentPath("d", 42))
	dir := t.TempDir()
	want := []uint64{1, 9, 10, 99, 1 << 40, 1<<64 - 1}
	for i := range want {
		require.NoError(t, os.WriteFile(segmentPath(dir, want[len(want)-1-i]), nil, 0o600))
	}
	segments, err := listSegments(dir)
	require.NoError(t, err)
	var got []uint64
	for _, s := range segments {
		got = append(got, s.first)
	}
	require.Equal(t, want, got)
}

// What is plainly not ours is left alone.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	cfg := closedTrail(t, 3, 0)
	foreign := []string{"README", ".audit-00000000000000000001.jsonl.swp", "audit-00000000000000000009.jsonl.gz", "Audit-1.jsonl", "lost+found"}
	for _, name := range foreign[:4] {
		require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, name), []byte("mine"), 0o640))
	}
	require.NoError(t, os.Mkdir(filepath.Join(cfg.Dir, foreign[4]), 0o700))
	_, err := Verify(cfg.Dir)
	require.NoError(t, err)
	trail := mustOpen(t, cfg)
	mustAppend(t, trail, read("web"))
	require.Len(t, all(t, trail, Filter{}), 6)
	for _, name := range foreign[:4] {
		data, err := os.ReadFile(filepath.Join(cfg.Dir, name))
		require.NoError(t, err)
		require.Equal(t, "mine", string(data))
	}
}

// What looks like ours and is not could be a part of the trail that somebody
// renamed: to pass over it would be to lose it in silence.
func TestAlmostOurNamesAreRefused(t *testing.T) {
	for _, name := range []string{
		"audit-1.jsonl", "audit-000000000000000000004.jsonl", "audit-+0000000000000000004.jsonl", "audit-0000000000000000000x.jsonl",
		"audit-99999999999999999999.jsonl", "audit-.jsonl", "audit-00000000000000000001 (copy).jsonl",
	} {
		cfg := closedTrail(t, 2, 0)
		require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, name), nil, 0o600))
		requireMoveAway(t, cfg, filepath.Join(cfg.Dir, name))
	}
}

// A link could lead the trail to another disk, or to a file that others write.
func TestOnlyRegularFilesAreSegments(t *testing.T) {
	cfg := closedTrail(t, 2, 0)
	path, elsewhere := files(t, cfg.Dir)[0], filepath.Join(t.TempDir(), "trail")
	require.NoError(t, os.Rename(path, elsewhere))
	require.NoError(t, os.Symlink(elsewhere, path))
	requireMoveAway(t, cfg, path)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	requireMoveAway(t, cfg, path)
}

func requireMoveAway(t testing.TB, cfg Config, path string) {
	t.Helper()
	_, err := Open(cfg)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "move it away")
	_, err = Verify(cfg.Dir)
	require.ErrorContains(t, err, path)
}

// No trail at all is a mistake in the path, not a trail without fault.
func TestVerifyWantsATrail(t *testing.T) {
	_, err := Verify(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Verify(filepath.Join(t.TempDir(), "nowhere"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
