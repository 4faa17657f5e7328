package audit

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/checkpoint"
)

func exported(t testing.TB, p *Prover, first, last uint64) []byte {
	t.Helper()
	var out bytes.Buffer
	n, err := p.Export(t.Context(), &out, first, last)
	require.NoError(t, err)
	require.Equal(t, int(n), bytes.Count(out.Bytes(), []byte(`{"v":1,"node":`)))
	return out.Bytes()
}

func verifyText(text []byte, t Trust) ([]Exported, error) {
	return VerifyExport("export.jsonl", bytes.NewReader(text), t)
}

// Whatever part of a chain is exported, it verifies alone.
func TestAnyPartOfAChainVerifies(t *testing.T) {
	c := newCluster(t)
	cfg := config(t)
	cfg.SegmentBytes = 40_000
	_, p := signedTrail(t, c, cfg, 500, 90)
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Uint64Range(1, 451).Draw(rt, "first")
		last := rapid.Uint64Range(first, 451).Draw(rt, "last")
		text := exported(t, p, first, last)
		got, err := verifyText(text, c.trust())
		require.NoError(rt, err)
		require.Len(rt, got, 1)
		require.Equal(rt, []uint64{first, last}, []uint64{got[0].From, got[0].To})
		require.GreaterOrEqual(rt, got[0].Signed.Size, last)
	})
	// What is not signed yet is not exported; nothing at all is no export.
	got, err := verifyText(exported(t, p, 400, 0), c.trust())
	require.NoError(t, err)
	require.Equal(t, uint64(451), got[0].To)
	require.Empty(t, exported(t, p, 452, 0))
	_, err = verifyText(nil, c.trust())
	require.ErrorContains(t, err, "holds no export")
	// Several in one file.
	both, err := verifyText(append(exported(t, p, 1, 10), exported(t, p, 50, 60)...), c.trust())
	require.NoError(t, err)
	require.Len(t, both, 2)
}

func split(text []byte) [][]byte {
	return slices.DeleteFunc(bytes.SplitAfter(text, []byte("\n")), func(line []byte) bool { return len(line) == 0 })
}

// Every bit of every byte of an export with 1,000 events counts. The verifier
// is taken up to each line once, and then shown each change of that line, so
// that all of them can be tried.
func TestAnyFlippedByteOfAnExportIsFound(t *testing.T) {
	c := newCluster(t)
	_, p := signedTrail(t, c, config(t), 999, 250)
	settled := exported(t, p, 1, 0)
	c.sign(t, p)
	text := exported(t, p, 1, 0)
	require.Equal(t, 1000, bytes.Count(text, []byte(`{"v":1,"node":`)))
	require.NotEqual(t, settled, text)
	lines := split(text)
	v := &exportVerifier{name: "x", trust: c.trust()}
	tried := 0
	for i, line := range lines {
		whole := line[:len(line)-1]
		for at := range whole {
			for _, mask := range []byte{1 << (at % 8)} {
				changed := bytes.Clone(whole)
				changed[at] ^= mask
				if bytes.IndexByte(changed, '\n') >= 0 {
					continue // two lines: below
				}
				copied := *v
				copied.tree, copied.early, copied.leaves = slices.Clone(v.tree), slices.Clone(v.early), slices.Clip(v.leaves)
				var err error
				if i == 0 {
					err = copied.begin(changed)
				} else {
					_, err = copied.take(changed)
				}
				tried++
				if err == nil {
					// The line alone can stand, as the first one with another bound can.
					forged := slices.Clone(lines)
					forged[i] = append(changed, '\n')
					_, err = verifyText(bytes.Join(forged, nil), c.trust())
				}
				require.Error(t, err, "line %d, byte %d, mask %x: %s", i+1, at, mask, changed)
			}
		}
		var err error
		if i == 0 {
			err = v.begin(whole)
		} else {
			_, err = v.take(whole)
		}
		require.NoError(t, err)
	}
	require.Greater(t, tried, len(text)*98/100, "every byte but newlines")
	for i := range lines { // newlines that come and go
		if i%50 != 0 && i < len(lines)-3 && i > 2 {
			continue
		}
		for name, forged := range map[string][]byte{
			"joined": bytes.Join([][]byte{bytes.Join(lines[:i], nil), lines[i][:len(lines[i])-1], bytes.Join(lines[i+1:], nil)}, nil),
			"parted": bytes.Join([][]byte{bytes.Join(lines[:i], nil), lines[i][:10], []byte("\n"), lines[i][10:], bytes.Join(lines[i+1:], nil)}, nil),
		} {
			_, err := verifyText(forged, c.trust())
			require.Error(t, err, "%s at %d", name, i)
		}
	}
}

// Removed, exchanged, doubled and cut events are found, and the first that is
// wrong is named.
func TestForgeriesOfAnExportAreNamed(t *testing.T) {
	c := newCluster(t)
	_, p := signedTrail(t, c, config(t), 199, 50)
	c.sign(t, p)
	lines := split(exported(t, p, 1, 0))
	var places []int // of events
	for i, line := range lines {
		if bytes.HasPrefix(line, []byte(`{"v":1,"node":`)) {
			places = append(places, i)
		}
	}
	require.Len(t, places, 200)
	rapid.Check(t, func(rt *rapid.T) {
		forged := slices.Clone(lines)
		i := rapid.IntRange(0, len(places)-2).Draw(rt, "event")
		want := uint64(i + 1)
		switch rapid.SampledFrom([]string{"drop", "swap", "double", "truncate"}).Draw(rt, "forgery") {
		case "drop":
			forged = slices.Delete(forged, places[i], places[i]+1)
		case "swap":
			j := rapid.IntRange(i+1, len(places)-1).Draw(rt, "other")
			forged[places[i]], forged[places[j]] = forged[places[j]], forged[places[i]]
		case "double":
			forged = slices.Insert(forged, places[i], forged[places[i]])
			want++
		case "truncate":
			forged = forged[:places[i]]
		}
		_, err := verifyText(bytes.Join(forged, nil), c.trust())
		requireBroken(rt, err, "export.jsonl", want)
	})
}

// Whoever makes all links and checksums anew, and takes over the signatures,
// is found to within one checkpoint.
func TestAnExportMadeAnewIsFoundByTheSignature(t *testing.T) {
	c := newCluster(t)
	_, p := signedTrail(t, c, config(t), 199, 50)
	c.sign(t, p)
	lines := split(exported(t, p, 1, 0))
	for _, from := range []uint64{1, 30, 51, 52, 120, 199, 200} {
		forged := slices.Clone(lines)
		var at chain
		at.node = "n1"
		for i, line := range forged {
			if !bytes.HasPrefix(line, []byte(`{"v":1,"node":`)) {
				continue
			}
			if at.sequence+1 >= from {
				e := read("mallory")
				out := appendPrefix(nil, "n1", at.sequence+1, at.hash)
				forged[i] = append(appendCRC(appendBody(out, &e), 0), '\n')
			}
			at.step(sum(bytes.TrimSuffix(forged[i], []byte("\n"))))
		}
		_, err := verifyText(bytes.Join(forged, nil), c.trust())
		var broken *BrokenError
		require.ErrorAs(t, err, &broken)
		vouched := []uint64{0, 51, 101, 151}
		want := uint64(0)
		for _, v := range vouched {
			if v < from {
				want = v
			}
		}
		require.Equal(t, want+1, broken.Sequence, "changed from %d: %v", from, err)
	}
	// With checkpoints between left out, and the edge made to fit: the root.
	middle := split(exported(t, p, 60, 70))
	e := read("mallory")
	_, prev, err := decodeLine(bytes.TrimSuffix(middle[len(middle)-2], []byte("\n")))
	require.NoError(t, err)
	middle[len(middle)-2] = append(appendCRC(appendBody(appendPrefix(nil, "n1", 70, prev), &e), 0), '\n')
	_, err = verifyText(bytes.Join(middle, nil), c.trust())
	require.ErrorContains(t, err, "another root")
}

// What is verified goes through the checkpoints that were kept, or is found.
func TestKeptCheckpointsAreHeldAgainstAnExport(t *testing.T) {
	c := newCluster(t)
	trail, p := signedTrail(t, c, config(t), 30, 10)
	open := func(size uint64) checkpoint.Signed {
		text, _, err := p.Checkpoint(size)
		require.NoError(t, err)
		signed, err := checkpoint.Open(text, c.trust().Keys)
		require.NoError(t, err)
		return signed
	}
	kept := Trust{Keys: c.trust().Keys, Kept: []checkpoint.Signed{open(21), open(11)}}
	got, err := verifyText(exported(t, p, 5, 20), kept)
	require.NoError(t, err)
	require.Equal(t, 1, got[0].Kept)
	got, err = verifyText(exported(t, p, 1, 0), kept)
	require.NoError(t, err)
	require.Equal(t, 2, got[0].Kept)
	report, err := VerifySigned(trail.cfg.Dir, kept)
	require.NoError(t, err)
	require.Equal(t, 2, report.Kept)

	// The same cluster signed another tree of the chain: it has two faces.
	kept.Kept[1].Root[0] ^= 1
	_, err = verifyText(exported(t, p, 1, 0), kept)
	requireBroken(t, err, "export.jsonl", 1)
	_, err = VerifySigned(trail.cfg.Dir, kept)
	require.ErrorContains(t, err, "not those that were signed")
	_, err = verifyText(exported(t, p, 1, 0), newCluster(t).trust())
	require.ErrorContains(t, err, "no signature in it is of the public key")
}

// The events of a time are in the range that is answered for it.
func TestRangeHoldsWhatItShould(t *testing.T) {
	cfg := config(t)
	cfg.SegmentBytes = 300_000
	trail := mustOpen(t, cfg)
	began := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	times := map[uint64]time.Time{}
	var batch []Event
	for i := range 1500 {
		e := read(strings.Repeat("x", 100))
		e.Time = began.Add(time.Duration(i*10+(i*7919)%97) * time.Millisecond) // about in order
		batch = append(batch, e)
	}
	for chunk := range slices.Chunk(batch, 100) {
		first := mustAppend(t, trail, chunk...)
		for i, e := range chunk {
			times[first+uint64(i)] = e.Time
		}
	}
	settled(t, trail)
	rapid.Check(t, func(rt *rapid.T) {
		from := began.Add(time.Duration(rapid.IntRange(-100, 31_000).Draw(rt, "from")) * time.Millisecond)
		to := from.Add(time.Duration(rapid.IntRange(0, 5000).Draw(rt, "long")) * time.Millisecond)
		first, last, err := trail.Range(t.Context(), from, to)
		require.NoError(rt, err)
		var want []uint64
		for sequence, at := range times {
			if !at.Before(from) && at.Before(to) {
				want = append(want, sequence)
			}
		}
		if len(want) == 0 {
			require.Zero(rt, first)
			return
		}
		require.Equal(rt, []uint64{slices.Min(want), slices.Max(want)}, []uint64{first, last})
	})
}

func FuzzVerifyExport(f *testing.F) {
	c := newCluster(f)
	_, p := signedTrail(f, c, config(f), 5, 3)
	good := exported(f, p, 1, 0)
	f.Add(good)
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := verifyText(text, c.trust())
		if err == nil {
			// Nobody but the holder of the key makes one that verifies: it is that
			// one, perhaps several times.
			require.NotEmpty(t, got)
			require.Empty(t, bytes.ReplaceAll(text, good, nil))
		}
	})
}
