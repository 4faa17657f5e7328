package audit

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A process that is killed in the middle of write(2) leaves any part of its
// last line. None of it was answered; all before it was.
func TestTornTailIsCutWhereverItWasTorn(t *testing.T) {
	for place, segmentBytes := range map[string]int64{"the only line of its file": 1, "after another line": 0} {
		origin := closedTrail(t, 4, segmentBytes)
		paths := files(t, origin.Dir)
		whole, err := os.ReadFile(paths[len(paths)-1])
		require.NoError(t, err)
		start := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
		before, err := Verify(origin.Dir)
		require.NoError(t, err)

		for cut := start + 1; cut < len(whole); cut++ {
			cfg := origin
			cfg.Dir = copyDir(t, origin.Dir)
			path := files(t, cfg.Dir)[before.Segments-1]
			require.NoError(t, os.Truncate(path, int64(cut)))
			_, err := Verify(cfg.Dir)
			requireBroken(t, err, path, before.Events)

			trail, d := mustOpenOn(t, cfg)
			d.set(func(now *disk) { now.sync = func(*os.File) error { return nil } }) // hundreds of trails: nothing here is about fsync
			events := all(t, trail, Filter{})
			requireDense(t, events)
			require.Len(t, events, int(before.Events)-1+2, "%s, cut at byte %d", place, cut)
			for i := range 3 {
				require.Equal(t, fmt.Sprintf("app-%d", i), events[i+1].Principal, "what was answered stays")
			}
			end := events[len(events)-2:]
			require.Equal(t, []string{EventOpen, EventRecovered}, []string{end[0].Event, end[1].Event})
			require.Equal(t, fmt.Sprintf("%d torn bytes after the last whole event were cut", cut-start), end[1].Reason)
			require.Equal(t, before.Events+2, mustAppend(t, trail, read("web")), "the number of a torn event is given again")
			require.NoError(t, trail.Close())
			report, err := Verify(cfg.Dir)
			require.NoError(t, err)
			require.Equal(t, before.Events+2, report.Events)
		}
	}
}

// Nothing was torn where a line ends, and nothing is claimed to have been.
func TestWholeEndIsNotCalledRecovered(t *testing.T) {
	cfg := closedTrail(t, 2, 0)
	trail := mustOpen(t, cfg)
	require.Empty(t, all(t, trail, Filter{Events: []string{EventRecovered}}))
}

// A file system can extend a file before it writes into it: what a power cut
// leaves then is zeros, perhaps more than any line has.
func TestZerosOfAPowerCutAreATornTail(t *testing.T) {
	for _, zeros := range []int{1, 4096, maxLine - 1, maxLine, maxLine + 1, 3*maxLine + 5} {
		cfg := closedTrail(t, 2, 0)
		appendBytes(t, files(t, cfg.Dir)[0], make([]byte, zeros))
		trail := mustOpen(t, cfg)
		events := all(t, trail, Filter{})
		requireDense(t, events)
		require.Len(t, events, 5)
		require.Equal(t, fmt.Sprintf("%d torn bytes after the last whole event were cut", zeros), events[4].Reason)
	}
}

// The very first write of a node may be torn, too.
func TestTornFirstEventIsCut(t *testing.T) {
	cfg := closedTrail(t, 0, 0)
	require.NoError(t, os.Truncate(files(t, cfg.Dir)[0], 10))
	trail := mustOpen(t, cfg)
	events := all(t, trail, Filter{})
	require.Len(t, events, 2)
	requireDense(t, events)
	require.Equal(t, "10 torn bytes after the last whole event were cut", events[1].Reason)
}

// A process that is killed between making a file and writing to it leaves an
// empty one.
func TestEmptyNewestFileIsFilled(t *testing.T) {
	cfg := closedTrail(t, 2, 0)
	require.NoError(t, os.WriteFile(segmentPath(cfg.Dir, 4), nil, 0o600))
	trail := mustOpen(t, cfg)
	require.Equal(t, uint64(4), trail.Head().Sequence)
	require.NoError(t, trail.Close())
	require.Len(t, lines(t, files(t, cfg.Dir)[1]), 1)
	_, err := Verify(cfg.Dir)
	require.NoError(t, err)
}

// Only the newest file can be torn by an accident: an older one was synced
// before the next was made. It is named, and no byte of it is touched.
func TestTailCutInAnOlderFileIsRefusedNotRepaired(t *testing.T) {
	origin := closedTrail(t, 4, 1)
	const older = 2
	whole, err := os.ReadFile(files(t, origin.Dir)[older])
	require.NoError(t, err)
	for cut := range whole {
		cfg := origin
		cfg.Dir = copyDir(t, origin.Dir)
		path := files(t, cfg.Dir)[older]
		require.NoError(t, os.Truncate(path, int64(cut)))
		_, err := Open(cfg)
		if cut == 0 { // at the end of a line: the next file tells
			path = files(t, cfg.Dir)[older+1]
		}
		requireBroken(t, err, path, older+1)
		_, err = Verify(cfg.Dir)
		requireBroken(t, err, path, older+1)
		left, err := os.ReadFile(files(t, cfg.Dir)[older])
		require.NoError(t, err)
		require.True(t, bytes.Equal(whole[:cut], left))
	}
}

// unsynced is a disk for tests of what is in the files, not of when.
func unsynced() disk {
	d := realDisk()
	d.sync = func(*os.File) error { return nil }
	return d
}

func appendBytes(t testing.TB, path string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.Write(data)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// requireBroken asserts that err names the event.
func requireBroken(t require.TestingT, err error, path string, sequence uint64) {
	var broken *BrokenError
	require.ErrorAs(t, err, &broken)
	require.Equal(t, path, broken.File, "%v", err)
	require.Equal(t, sequence, broken.Sequence, "%v", err)
	require.Positive(t, broken.Line)
	require.NotEmpty(t, broken.Reason)
}
