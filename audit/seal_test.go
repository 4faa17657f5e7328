package audit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// awaitSealed waits until all full segments are sealed.
func awaitSealed(t testing.TB, trail *Trail) {
	t.Helper()
	require.Eventually(t, func() bool {
		trail.mu.Lock()
		defer trail.mu.Unlock()
		for _, s := range trail.segments[:len(trail.segments)-1] {
			if s.sealed == nil {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond)
}

// sealedTrail is closedTrail with all but its newest file sealed.
func sealedTrail(t testing.TB, n int, segmentBytes int64) Config {
	t.Helper()
	cfg := closedTrail(t, n, segmentBytes)
	cfg.KeepPlain = false
	trail := mustOpen(t, cfg)
	awaitSealed(t, trail)
	require.NoError(t, trail.Close())
	return cfg
}

// Sealing changes how events are kept, and nothing that anybody is answered.
func TestSealedTrailReadsAsThePlainOne(t *testing.T) {
	cfg := closedTrail(t, 3000, 400_000)
	plain := mustOpen(t, cfg)
	want := all(t, plain, Filter{})
	var lines [][]byte
	for after := uint64(0); ; {
		got, err := plain.Lines(t.Context(), after, 50_000)
		require.NoError(t, err)
		if got.Count == 0 {
			break
		}
		lines = append(lines, got.Data)
		after += uint64(got.Count)
	}
	head := plain.Head()
	require.NoError(t, plain.Close())

	cfg.KeepPlain = false
	sealed := mustOpen(t, cfg)
	awaitSealed(t, sealed)
	require.Greater(t, len(sealed.segments[0].blocks), 0, "a file has several blocks")
	for _, again := range []bool{false, true} {
		if again { // from the index alone
			require.NoError(t, sealed.Close())
			sealed = mustOpen(t, cfg)
		}
		got := all(t, sealed, Filter{})
		require.Equal(t, want, got[:len(want)])
		var read [][]byte
		for after := uint64(0); after < head.Sequence; {
			got, err := sealed.Lines(t.Context(), after, 50_000)
			require.NoError(t, err)
			read = append(read, got.Data)
			after += uint64(got.Count)
		}
		require.True(t, bytes.HasPrefix(bytes.Join(read, nil), bytes.Join(lines, nil)))
		at := want[1700].Time
		some := all(t, sealed, Filter{From: at, To: at.Add(100 * time.Millisecond)})
		require.Equal(t, want[1700:1800], some)
	}
	require.NoError(t, sealed.Close())
	report, err := Verify(cfg.Dir, head)
	require.NoError(t, err)
	require.Equal(t, "n1", report.Node)
	require.Equal(t, head.Sequence+2, report.Events)
}

// Any zstd tool reads the events of a sealed file.
func TestSealedFileIsPlainZstd(t *testing.T) {
	plain := closedTrail(t, 1000, 200_000)
	want, err := os.ReadFile(files(t, plain.Dir)[0])
	require.NoError(t, err)
	sealed := plain
	sealed.KeepPlain = false
	trail := mustOpen(t, sealed)
	awaitSealed(t, trail)
	path := files(t, sealed.Dir)[0]
	require.True(t, strings.HasSuffix(path, ".jsonl.zst"), path)
	packed, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Less(t, len(packed), len(want)/3, "is it worth it?")
	d, err := zstd.NewReader(nil)
	require.NoError(t, err)
	defer d.Close()
	got, err := d.DecodeAll(packed, nil)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// Verify reads what a sealed file holds, not what its index says of it: any
// byte that is changed, and any that is missing, is found.
func TestAnyChangeOfASealedFileIsFound(t *testing.T) {
	cfg := sealedTrail(t, 40, 3000)
	path := files(t, cfg.Dir)[1]
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	first := firstOf(filepath.Base(path))
	try := func(changed []byte, what string) {
		require.NoError(t, os.WriteFile(path, changed, 0o600))
		report, err := Verify(cfg.Dir)
		var broken *BrokenError
		require.ErrorAs(t, err, &broken, what)
		require.Equal(t, path, broken.File, what)
		require.GreaterOrEqual(t, broken.Sequence, first, what)
		require.LessOrEqual(t, report.Events, broken.Sequence-1, what)
	}
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1 << (i % 8)
		try(changed, fmt.Sprint("byte ", i))
		try(whole[:i], fmt.Sprint("cut at ", i))
	}
	try(append(bytes.Clone(whole), 0), "a byte more")
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	_, err = Verify(cfg.Dir)
	require.NoError(t, err)
}

// A sealed file in the place of another is refused at the start already.
func TestSealedFilesOfAnotherChainAreRefused(t *testing.T) {
	ours, theirs := sealedTrail(t, 40, 3000), sealedTrail(t, 40, 3000)
	path := files(t, ours.Dir)[1]
	foreign, err := os.ReadFile(files(t, theirs.Dir)[1])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, foreign, 0o600))
	_, err = Open(ours)
	requireBroken(t, err, path, firstOf(filepath.Base(path)))
	_, err = Verify(ours.Dir)
	requireBroken(t, err, path, firstOf(filepath.Base(path)))
}

// Wherever a process is killed while it seals, the next one has all events
// once, and finishes the work.
func TestSealingSurvivesAKill(t *testing.T) {
	origin := closedTrail(t, 60, 3000)
	done := sealedTrail(t, 0, 3000)
	done.Dir = copyDir(t, origin.Dir)
	trail := mustOpen(t, done)
	awaitSealed(t, trail)
	require.NoError(t, trail.Close())
	plain, sealed := files(t, origin.Dir), files(t, done.Dir)
	for name, leave := range map[string]func(t *testing.T, dir string){
		"half a file": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(sealed[0])+".tmp"), []byte("half"), 0o600))
		},
		"both": func(t *testing.T, dir string) {
			copyFile(t, sealed[0], dir)
			copyFile(t, sealed[2], dir)
		},
		"a middle one only": func(t *testing.T, dir string) {
			copyFile(t, sealed[1], dir)
			require.NoError(t, os.Remove(filepath.Join(dir, filepath.Base(plain[1]))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := done
			cfg.Dir = copyDir(t, origin.Dir)
			leave(t, cfg.Dir)
			before, err := Verify(cfg.Dir)
			require.NoError(t, err)
			require.Equal(t, uint64(61), before.Events)
			trail := mustOpen(t, cfg)
			awaitSealed(t, trail)
			requireDense(t, all(t, trail, Filter{}))
			require.NoError(t, trail.Close())
			_, err = Verify(cfg.Dir, before.Head)
			require.NoError(t, err)
			entries, err := os.ReadDir(cfg.Dir)
			require.NoError(t, err)
			for _, e := range entries {
				require.NotContains(t, e.Name(), ".tmp")
			}
		})
	}
	// Beside a plain file that tells of something else, a sealed one is a
	// forgery, or the plain one is.
	other := copyDir(t, origin.Dir)
	copyFile(t, files(t, sealedTrail(t, 60, 3000).Dir)[0], other)
	cfg := done
	cfg.Dir = other
	_, err := Open(cfg)
	require.ErrorContains(t, err, "holds other events than the plain one")
}

func copyFile(t testing.TB, from, dir string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(from)), data, 0o600))
}

// Whoever reads while a file is sealed under his feet misses nothing.
func TestReadersDoNotNoticeSealing(t *testing.T) {
	cfg := config(t)
	cfg.SegmentBytes, cfg.KeepPlain = 3000, false
	trail := mustOpen(t, cfg)
	stop, done := make(chan struct{}), make(chan error, 2)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			events, _, err := trail.Query(context.Background(), Filter{Limit: maxLimit})
			for i := range events {
				if err == nil && events[i].Sequence != uint64(i+1) {
					err = fmt.Errorf("event %d is missing", i+1)
				}
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	go func() {
		for after := uint64(0); after < 900; {
			if err := trail.Wait(context.Background(), after); err != nil {
				done <- err
				return
			}
			got, err := trail.Lines(context.Background(), after, 900)
			if err != nil {
				done <- err
				return
			}
			after += uint64(got.Count)
		}
		done <- nil
	}()
	for i := range 950 {
		mustAppend(t, trail, read(fmt.Sprintf("app-%d", i)))
	}
	require.NoError(t, <-done)
	close(stop)
	require.NoError(t, <-done)
}
