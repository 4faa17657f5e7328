package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A search over sealed files finds what it finds over plain ones, whatever is
// in names and paths, and what they hold of the marked fields elsewhere.
func TestMarksHideNothing(t *testing.T) {
	texts := rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", `a"`, `\`, `\"`, `","path":"/b`, `,"requestId":"a"`, "\n", "ü", "𝄞", `a","principal":"b`}),
		rapid.StringN(0, 12, 40),
	)
	marked := func(f Filter) []Filter {
		return []Filter{
			{RequestID: f.RequestID}, {Principal: f.Principal}, {Path: f.Path},
			{RequestID: f.RequestID, Path: f.Path}, {Principal: f.Principal, Path: f.Path, Outcome: OK},
		}
	}
	for seed := range 30 {
		events := rapid.Custom(func(r *rapid.T) (out []Event) {
			for range rapid.IntRange(1, 60).Draw(r, "n") {
				e := Event{Event: "x.y", Outcome: OK, RequestID: texts.Draw(r, "id"), Principal: texts.Draw(r, "who"), Path: texts.Draw(r, "path"), Reason: texts.Draw(r, "why")}
				if rapid.Bool().Draw(r, "used a key") {
					e.KMS = []KMSEvent{{Event: "kms.decrypt", KeyID: "k", KeyVersion: 1, Sequence: 1}}
				}
				if rapid.Bool().Draw(r, "told a consumer") {
					e.Consumer = &Consumer{Session: 1, Instance: texts.Draw(r, "instance")}
				}
				out = append(out, e)
			}
			return out
		}).Example(seed)
		cfg := config(t)
		cfg.SegmentBytes = 2000
		trail := mustOpen(t, cfg)
		var taken []Event
		for _, e := range events {
			if _, err := trail.Append(context.Background(), []Event{e}); err == nil { // some are too long
				taken = append(taken, e)
			}
		}
		ask := func() (out [][]Event) {
			for _, e := range taken {
				for _, f := range marked(Filter{RequestID: e.RequestID, Principal: e.Principal, Path: e.Path}) {
					f.To = time.Now().Add(time.Hour)
					f.After = 1
					found := all(t, trail, f)
					for i := range found {
						found[i].Time = time.Time{}
					}
					out = append(out, found)
				}
			}
			return out
		}
		want := ask()
		require.NoError(t, trail.Close())
		cfg.KeepPlain = false
		trail = mustOpen(t, cfg)
		awaitSealed(t, trail)
		got := ask()
		for i := range want {
			// The events of starts came since, which have none of the fields.
			require.LessOrEqual(t, len(want[i]), len(got[i]))
			require.Equal(t, want[i], got[i][:len(want[i])])
		}
		require.NoError(t, trail.Close())
	}
}

// blocky is a trail with one sealed file of several blocks, whose events have
// ids of their own, and where its frames are.
func blocky(t testing.TB) (Config, *seal, string) {
	t.Helper()
	cfg := config(t)
	cfg.SegmentBytes = 1 << 20
	trail := mustOpen(t, cfg)
	for i := range 5000 {
		e := read(fmt.Sprintf("app-%d", i/1000))
		e.RequestID, e.Path, e.Reason = fmt.Sprintf("request-%d", i), fmt.Sprintf("/app/%d", i%50), strings.Repeat("r", 100)
		mustAppend(t, trail, e)
	}
	require.NoError(t, trail.Close())
	cfg.KeepPlain = false
	trail = mustOpen(t, cfg)
	awaitSealed(t, trail)
	require.NoError(t, trail.Close())
	path := files(t, cfg.Dir)[0]
	s, err := readSeal(path)
	require.NoError(t, err)
	require.Greater(t, len(s.blocks), 3)
	m, err := s.marks(path)
	require.NoError(t, err)
	require.Len(t, m, len(s.blocks))
	return cfg, s, path
}

// Blocks that have nothing of a request, a principal or a path are not read:
// here they could not be.
func TestBlocksWithoutTheRequestAreNotRead(t *testing.T) {
	cfg, s, path := blocky(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	second := s.blocks[1]
	changed := bytes.Clone(whole)
	for i := second.packed; i < s.blocks[2].packed; i++ {
		changed[i] = 0
	}
	require.NoError(t, os.WriteFile(path, changed, 0o600))
	trail := mustOpen(t, cfg)
	for _, f := range []Filter{{RequestID: "request-0"}, {RequestID: "none"}, {Principal: "app-4"}, {Path: "/app/none"}, {Principal: "app-0", RequestID: "request-1"}} {
		_, _, err := trail.Query(t.Context(), f)
		require.NoError(t, err, "%+v", f)
	}
	inside := fmt.Sprintf("request-%d", second.sequence) // the first event is of the start
	for _, f := range []Filter{{RequestID: inside}, {Path: "/app/7", Limit: 1000}, {}} {
		f.From = time.Unix(1, 0)
		_, _, err := trail.Query(t.Context(), f)
		for err == nil && f.RequestID == "" && f.After < second.sequence {
			var page []Event
			page, _, err = trail.Query(t.Context(), f)
			if len(page) > 0 {
				f.After = page[len(page)-1].Sequence
			}
		}
		require.Error(t, err, "%+v", f)
	}
}

// Marks that are damaged are not believed, and hide nothing.
func TestDamagedMarksHideNothing(t *testing.T) {
	cfg, s, path := blocky(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	m, err := s.marks(path)
	require.NoError(t, err)
	from := s.at - int64(len(m.frame()))
	require.Equal(t, m.frame(), whole[from:s.at])
	for _, at := range []int64{from, from + 4, from + 8, from + 9, from + 11, from + 500, s.at - 16, s.at - 9, s.at - 8, s.at - 1} {
		changed := bytes.Clone(whole)
		changed[at] ^= 0xff
		require.NoError(t, os.WriteFile(path, changed, 0o600))
		m, err := s.marks(path)
		require.NoError(t, err)
		require.Nil(t, m, "byte %d", at-from)
		_, err = Verify(cfg.Dir)
		require.Error(t, err, "byte %d", at-from)
	}
	changed := bytes.Clone(whole)
	changed[from+500] ^= 0xff
	require.NoError(t, os.WriteFile(path, changed, 0o600))
	trail := mustOpen(t, cfg)
	for _, i := range []int{0, 1234, 2500} {
		require.Len(t, all(t, trail, Filter{RequestID: fmt.Sprintf("request-%d", i)}), 1)
	}
}

// Somebody empties the marks, to hide events from searches, and makes all
// checksums anew. Who reads the events finds it.
func TestForgedMarksAreFound(t *testing.T) {
	cfg, s, path := blocky(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	m, err := s.marks(path)
	require.NoError(t, err)
	frames := whole[:s.at-int64(len(m.frame()))]
	for i := range m {
		m[i] = make([]byte, len(m[i]))
	}
	frames = append(bytes.Clone(frames), m.frame()...)
	index := s.sealIndex
	packed := sha256.Sum256(frames)
	index.Packed = hex.EncodeToString(packed[:])
	text, err := json.Marshal(index)
	require.NoError(t, err)
	old, err := json.Marshal(s.sealIndex)
	require.NoError(t, err)
	forged := append(frames, bytes.Replace(whole[s.at:], old, text, 1)...)
	require.NoError(t, os.WriteFile(path, forged, 0o600))
	_, err = Verify(cfg.Dir)
	requireBroken(t, err, path, s.First+s.Count)
	require.ErrorContains(t, err, "the marks of the sealed file are not those of the events in it")
}

// Files that were sealed before there were marks verify, and are searched, as
// they were.
func TestSealedFilesWithoutMarksAreReadWhole(t *testing.T) {
	cfg := config(t)
	cfg.Dir, cfg.KeepPlain, cfg.SegmentBytes = copyDir(t, "testdata/unmarked"), false, 3000
	for _, path := range files(t, cfg.Dir) {
		s, err := readSeal(path)
		require.NoError(t, err)
		m, err := s.marks(path)
		require.NoError(t, err)
		require.Nil(t, m)
	}
	_, err := Verify(cfg.Dir)
	require.NoError(t, err)
	trail := mustOpen(t, cfg)
	before := trail.Head().Sequence - 1 // without the event of this start
	require.Greater(t, before, uint64(10))
	for i := range before - 1 {
		require.Len(t, all(t, trail, Filter{Principal: fmt.Sprintf("app-%d", i)}), 1)
	}
	require.Len(t, all(t, trail, Filter{Path: "/app/db"}), int(before-1))
}

// Whatever is at the end of a file: it is marks for as many blocks as there
// are, or none.
func FuzzMarks(f *testing.F) {
	var m marker
	m.line([]byte(`,"requestId":"a","principal":"b"`), true)
	m.line([]byte(`,"path":"c`), true)
	good := m.finish()
	f.Add(good.frame(), 2)
	f.Add(good.frame(), 3)
	f.Add([]byte("SRMK"), 0)
	f.Fuzz(func(t *testing.T, b []byte, blocks int) {
		m, err := readMarks(bytes.NewReader(b), int64(len(b)), blocks)
		require.NoError(t, err)
		if m == nil {
			return
		}
		require.Len(t, m, blocks)
		for i := range m {
			m.may(i, []mark{markOf([]byte("x"))})
		}
	})
}

// One search in 1,700 reads a block in vain.
func TestMarksAreSeldomWrong(t *testing.T) {
	var m marker
	for i := range 700 {
		m.line(fmt.Appendf(nil, `,"requestId":"%d"`, i), i == 0)
	}
	made := m.finish()
	for i := range 700 {
		require.True(t, made.may(0, []mark{markOf(fmt.Appendf(nil, `,"requestId":"%d"`, i))}))
	}
	wrong := 0
	for i := range 100_000 {
		if made.may(0, []mark{markOf(fmt.Appendf(nil, `,"requestId":"no-%d"`, i))}) {
			wrong++
		}
	}
	require.Less(t, wrong, 200)
	require.Len(t, made[0], markBytes*700)
}
