package audit

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"
)

// Decode gives back what was appended and the hash of the line before, and
// refuses a line of which one byte was changed.
func TestDecodeReadsWhatLinesAnswers(t *testing.T) {
	cfg := closedTrail(t, 20, 2000)
	trail := mustOpen(t, cfg)
	got, err := trail.Lines(t.Context(), 0, 1<<20)
	require.NoError(t, err)
	var before [sha256.Size]byte
	got.All(func(sequence uint64, line []byte) bool {
		e, prev, err := Decode(line)
		require.NoError(t, err)
		require.Equal(t, []any{"n1", sequence, before}, []any{e.Node, e.Sequence, prev})
		before = sha256.Sum256(line)
		_, _, err = Decode(bytes.Replace(line, []byte(`"v":1`), []byte(`"v": 1`), 1))
		require.Error(t, err)
		return true
	})
}

func TestOldestIsWhatLinesBeginsWith(t *testing.T) {
	empty := mustOpen(t, config(t))
	require.Equal(t, uint64(1), empty.Oldest())
	trail := mustOpen(t, closedTrail(t, 100, 2000))
	require.Greater(t, len(trail.segments), 3)
	got, err := trail.Lines(t.Context(), trail.Oldest()-1, 1)
	require.NoError(t, err)
	require.Equal(t, uint64(1), got.First)
	require.Equal(t, 1, got.Count)
}
