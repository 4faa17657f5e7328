package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A line can link and carry the right checksum and still not be one that the
// trail writes: with a field that hides from one reader what another shows.
// Verify names it; what came before is counted, and it is not.
func TestVerifyNamesALineThatTheTrailDoesNotWrite(t *testing.T) {
	for name, body := range map[string]string{
		"unknown field": `","event":"a.b","outcome":"ok","note":"x"`,
		"twice":         `","event":"a.b","outcome":"ok","outcome":"denied"`,
		"another order": `","outcome":"ok","event":"a.b"`,
		"a space":       `", "event":"a.b","outcome":"ok"`,
		"zero field":    `","event":"a.b","outcome":"ok","version":0`,
		"bad outcome":   `","event":"a.b","outcome":"fine"`,
		"no JSON":       `","event":"a.b","outcome":"ok"]`,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := closedTrail(t, 2, 0)
			report, err := Verify(cfg.Dir)
			require.NoError(t, err)
			line := appendPrefix(nil, "n1", report.Events+1, report.Head.Hash)
			line = append(append(line, "2026-03-04T05:06:07.008Z"...), body...)
			appendBytes(t, files(t, cfg.Dir)[0], append(appendCRC(line, 0), '\n'))

			got, err := Verify(cfg.Dir)
			requireBroken(t, err, filepath.Join(cfg.Dir, "audit-00000000000000000001.jsonl"), report.Events+1)
			require.Equal(t, report.Events, got.Events)
		})
	}
}

// Verify is for copies and for investigators: it leaves no trace of its own.
func TestVerifyWritesNothing(t *testing.T) {
	cfg := closedTrail(t, 2, 0)
	require.NoError(t, os.Remove(filepath.Join(cfg.Dir, lockName)))
	before, err := os.ReadDir(cfg.Dir)
	require.NoError(t, err)
	_, err = Verify(cfg.Dir)
	require.NoError(t, err)
	after, err := os.ReadDir(cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, len(before), len(after))
}

// A cut end, and a newest event that was written anew, leave no trace in the
// trail; whoever kept a head sees both.
func TestAHeadThatWasKeptFindsWhatTheTrailCannotShow(t *testing.T) {
	cfg := closedTrail(t, 5, 0)
	report, err := Verify(cfg.Dir)
	require.NoError(t, err)
	path := files(t, cfg.Dir)[0]
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	last := lines[len(lines)-2] // the last one is empty
	shorter := whole[:len(whole)-len(last)]

	kept, err := ParseHead(report.Head.String())
	require.NoError(t, err)
	require.Equal(t, report.Head, kept)
	_, err = Verify(cfg.Dir, kept)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(path, shorter, 0o600))
	_, err = Verify(cfg.Dir)
	require.NoError(t, err, "the trail alone does not show it")
	_, err = Verify(cfg.Dir, kept)
	requireBroken(t, err, path, kept.Sequence)
	require.ErrorContains(t, err, "its end was cut")

	e, prev, err := decodeLine(last[:len(last)-1])
	require.NoError(t, err)
	e.Principal = "somebody else"
	forged := append(appendCRC(appendBody(appendPrefix(nil, e.Node, e.Sequence, prev), &e), 0), '\n')
	require.NoError(t, os.WriteFile(path, append(bytes.Clone(shorter), forged...), 0o600))
	_, err = Verify(cfg.Dir)
	require.NoError(t, err, "the trail alone does not show it")
	_, err = Verify(cfg.Dir, kept)
	requireBroken(t, err, path, kept.Sequence)
	require.ErrorContains(t, err, "not the one that was kept")

	require.NoError(t, os.WriteFile(path, whole, 0o600))
	kept.Node = "n2"
	_, err = Verify(cfg.Dir, kept)
	require.ErrorContains(t, err, `is of node "n2"`)
}

func TestHeadsAreReadStrictly(t *testing.T) {
	for _, text := range []string{"", "n1", "n1:1", "n1:0:" + strings.Repeat("00", 32), "n1:x:" + strings.Repeat("00", 32), "n1:1:00", ":1:" + strings.Repeat("00", 32), "n1:1:" + strings.Repeat("zz", 32)} {
		_, err := ParseHead(text)
		require.ErrorContains(t, err, "as verify prints it", text)
	}
}
