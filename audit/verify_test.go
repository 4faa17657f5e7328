package audit

import (
	"os"
	"path/filepath"
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
