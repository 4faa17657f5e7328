package audit

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// One encoding per event is what makes a byte-wise chain meaningful: whatever
// the decoder accepts, the encoder writes the very same bytes for it.
func FuzzDecodeLine(f *testing.F) {
	cfg := config(f)
	trail := mustOpen(f, cfg)
	mustAppend(f, trail, read("web"),
		Event{Event: "kms.decrypt", KeyID: "k1", Outcome: OK, Cached: true, Reason: "é\U0001F511\x00\"\\"},
		Event{Event: "secrets.get_value", Outcome: Failed, SourceAddress: "192.0.2.7", Via: "n2", Path: "/a/b", DurationMicros: -1, Index: 1, KMS: []KMSEvent{{Event: "kms.decrypt", KeyID: "k1", KeyVersion: 1}}},
		Event{Event: "secrets.get_value", Outcome: Denied, DecisionID: "d", Decision: &Decision{
			Action: "secrets:getSecretValue", Reason: "timeWindow", OpensAt: 7, Path: "/a", AuthMethod: "token", Groups: []string{"ops"}, More: 1,
			Steps:  []Step{{Policy: "web", Revision: 3, Effect: "allow", Matched: "path /a", Via: "group ops"}, {Policy: "office", Access: true}},
			Report: &Outcome{Allowed: true},
		}})
	require.NoError(f, trail.Close())
	for _, line := range lines(f, files(f, cfg.Dir)[0]) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		f.Add(line, false)
		f.Add(line[:len(line)-crcBytes], true)
		f.Add(bytes.Replace(line[:len(line)-crcBytes], []byte(`"event"`), []byte(`"EVENT"`), 1), true)
		f.Add(bytes.Replace(line[:len(line)-crcBytes], []byte(`00Z`), []byte(`00+00:00`), 1), true)
	}
	f.Add([]byte(`{"v":1,"node":"n1","sequence":1,"prev":"","time":""`), true)
	f.Add([]byte{}, false)
	// Random bytes never have the right checksum; sealed puts it there, so
	// that the rest of the decoder is reached.
	f.Fuzz(func(t *testing.T, line []byte, sealed bool) {
		if sealed {
			line = appendCRC(bytes.Clone(line), 0)
		}
		e, prev, err := decodeLine(line)
		if err != nil {
			require.Zero(t, e)
			return
		}
		require.NoError(t, e.check())
		again := appendPrefix(nil, e.Node, e.Sequence, prev)
		again = appendCRC(appendBody(again, &e), 0)
		require.Equal(t, string(line), string(again))
		for _, c := range line {
			require.True(t, ' ' <= c && c <= '~', "%q", c)
		}
		// The chain steps over exactly what the decoder accepts in its place.
		at := chain{node: e.Node, sequence: e.Sequence - 1, hash: prev}
		when, err := at.next(line)
		require.NoError(t, err)
		require.True(t, when.Equal(e.Time))
		require.Equal(t, e.Sequence, at.sequence)
		require.Equal(t, sum(line), at.hash)
	})
}

// Whatever is offered to a copy: what it takes is as many events as was said,
// each in the one form, each carrying the hash of the one before.
func FuzzTake(f *testing.F) {
	trail := mustOpen(f, closedTrail(f, 3, 1<<20))
	run, err := trail.Lines(f.Context(), 0, 1<<20)
	require.NoError(f, err)
	id := idOf(f, trail)
	f.Add(run.Data, run.Count)
	f.Add(run.Data[:len(run.Data)-1], run.Count)
	f.Add(append(bytes.Clone(run.Data), run.Data...), 2*run.Count)
	f.Add([]byte("{}\n"), 1)
	f.Fuzz(func(t *testing.T, data []byte, count int) {
		head := chain{node: "n1"}
		times, err := newCopy("", "n1", id, disk{}, 0).check(&head, Lines{First: 1, Count: count, Data: data})
		if err != nil {
			return
		}
		require.Len(t, times, count)
		require.EqualValues(t, count, head.sequence)
		before := [32]byte{}
		for i, line := range bytes.Split(bytes.TrimSuffix(data, []byte{'\n'}), []byte{'\n'}) {
			e, prev, err := decodeLine(line)
			require.NoError(t, err)
			require.EqualValues(t, i+1, e.Sequence)
			require.Equal(t, before, prev)
			before = sum(line)
		}
		require.Equal(t, before, head.hash)
	})
}
