package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/fault"
)

// holder keeps copies in a folder of its own, on a disk that can fail.
type holder struct {
	*Copies
	dir string
	d   *faultyDisk
}

func newHolder(t testing.TB) *holder {
	t.Helper()
	h := &holder{dir: t.TempDir(), d: &faultyDisk{}}
	h.open(t)
	t.Cleanup(func() { h.d.mend(); _ = h.Close() })
	return h
}

func (h *holder) open(t require.TestingT) {
	var err error
	h.Copies, err = openCopies(CopiesConfig{Dir: h.dir, MinFreeBytes: 1, Logger: slog.New(slog.DiscardHandler)}, h.d.disk())
	require.NoError(t, err)
	require.NoError(t, h.Load(context.Background()))
}

// again is a start of the node that holds the copies.
func (h *holder) again(t testing.TB) {
	t.Helper()
	require.NoError(t, h.Close())
	h.open(t)
}

// home is what a copy is made of.
type home interface {
	ChainID(context.Context) (ChainID, error)
	Lines(context.Context, uint64, int) (Lines, error)
	Settled() Head
}

func idOf(t require.TestingT, of home) ChainID {
	id, err := of.ChainID(context.Background())
	require.NoError(t, err)
	return id
}

// pull takes one run of at most so many bytes.
func (h *holder) pull(t require.TestingT, from home, maxBytes int) error {
	id := idOf(t, from)
	var after uint64
	if c := h.Find(from.Settled().Node, id); c != nil {
		after = c.Settled().Sequence
	}
	run, err := from.Lines(context.Background(), after, maxBytes)
	require.NoError(t, err)
	if run.Count == 0 {
		return nil
	}
	return h.Take(from.Settled().Node, id, run)
}

func (h *holder) pullAll(t testing.TB, from home) *Copy {
	t.Helper()
	id := idOf(t, from)
	for {
		require.NoError(t, h.pull(t, from, 2000))
		c := h.Find(from.Settled().Node, id)
		if c.Settled().Sequence >= from.Settled().Sequence {
			return c
		}
	}
}

// folderOf is where h keeps the copy of a chain.
func (h *holder) folderOf(t testing.TB, of home) string {
	return filepath.Join(h.dir, "copies", of.Settled().Node, idOf(t, of).String()[:16])
}

func requireSameFiles(t testing.TB, want, got string) {
	t.Helper()
	wanted := files(t, want)
	require.Len(t, files(t, got), len(wanted))
	for _, path := range wanted {
		a, err := os.ReadFile(path)
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(got, filepath.Base(path)))
		require.NoError(t, err)
		require.Equal(t, string(a), string(b), path)
	}
}

func TestACopyHasTheFilesOfItsChain(t *testing.T) {
	cfg := closedTrail(t, 300, 20_000)
	trail := mustOpen(t, cfg)
	h := newHolder(t)
	c := h.pullAll(t, trail)
	require.Equal(t, trail.Settled(), c.Settled())
	requireSameFiles(t, cfg.Dir, h.folderOf(t, trail))
	report, err := Verify(h.folderOf(t, trail), trail.Settled())
	require.NoError(t, err, "the tool for trails reads a copy")
	require.Equal(t, trail.Settled(), report.Head)
	found, _, err := c.Query(t.Context(), Filter{Principal: "app-7"})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.EqualValues(t, trail.Settled().Sequence, h.Copied())

	h.again(t)
	mustAppend(t, trail, read("later"))
	require.NoError(t, trail.syncFile())
	h.pullAll(t, trail)
	requireSameFiles(t, cfg.Dir, h.folderOf(t, trail))
}

// Runs, restarts and torn ends of the one who copies, and appends and starts
// of the one who is copied, in any order: what the copy holds is always the
// beginning of the chain, and in the end all of it.
func TestCopiesConvergeWhateverHappens(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "x")
		require.NoError(r, err)
		cfg := config(t)
		cfg.Dir, cfg.SegmentBytes = filepath.Join(dir, "home"), 3000
		trail, err := Open(cfg)
		require.NoError(r, err)
		h := &holder{dir: filepath.Join(dir, "holder"), d: &faultyDisk{}}
		h.open(r)
		defer func() { h.d.mend(); _ = h.Close(); _ = trail.Close() }()
		held := uint64(0)
		r.Repeat(map[string]func(*rapid.T){
			"append": func(r *rapid.T) {
				for range rapid.IntRange(1, 8).Draw(r, "n") {
					_, err := trail.Append(context.Background(), []Event{read("web")})
					require.NoError(r, err)
				}
			},
			"pull": func(r *rapid.T) {
				require.NoError(r, h.pull(r, trail, rapid.IntRange(1, 4000).Draw(r, "bytes")))
			},
			"full": func(r *rapid.T) {
				h.d.fills(rapid.IntRange(0, 500).Draw(r, "bytes"))
				_ = h.pull(r, trail, 4000)
				h.d.mend()
			},
			"fsync fails": func(r *rapid.T) {
				h.d.failsSync()
				_ = h.pull(r, trail, 4000)
				h.d.mend()
				require.NoError(r, h.Close())
				h.open(r)
			},
			"crash": func(r *rapid.T) {
				require.NoError(r, h.Close())
				if c := h.Find("n1", idOf(r, trail)); c != nil {
					last := c.segments[len(c.segments)-1]
					run, err := trail.Lines(context.Background(), c.settled.sequence, 1)
					require.NoError(r, err)
					f, err := os.OpenFile(last.path, os.O_WRONLY|os.O_APPEND, 0)
					require.NoError(r, err)
					torn := run.Data[:rapid.IntRange(0, max(0, len(run.Data)-1)).Draw(r, "torn")]
					_, err = f.Write(torn)
					require.NoError(r, errors.Join(err, f.Close()))
				}
				h.open(r)
			},
			"home starts again": func(r *rapid.T) {
				require.NoError(r, trail.Close())
				trail, err = Open(cfg)
				require.NoError(r, err)
			},
			"": func(r *rapid.T) {
				c := h.Find("n1", idOf(r, trail))
				if c == nil {
					require.Zero(r, held)
					return
				}
				now := c.Settled()
				require.GreaterOrEqual(r, now.Sequence, held, "what was said to be held is held")
				held = now.Sequence
				hash, err := trail.HashAt(context.Background(), now.Sequence)
				require.NoError(r, err)
				require.Equal(r, hash, now.Hash)
				require.Empty(r, h.Broken())
			},
		})
		require.NoError(r, trail.syncFile())
		for c := h.Find("n1", idOf(r, trail)); c == nil || c.Settled() != trail.Settled(); c = h.Find("n1", idOf(r, trail)) {
			require.NoError(r, h.pull(r, trail, 4000))
		}
		requireSameFiles(t, cfg.Dir, h.folderOf(t, trail))
	})
}

// Whatever does not follow is kept out as a whole, and said, and what was
// there stays.
func TestACopyTakesOnlyWhatFollows(t *testing.T) {
	trail := mustOpen(t, closedTrail(t, 20, 1<<20))
	other := mustOpen(t, closedTrail(t, 20, 1<<20))
	id := idOf(t, trail)
	run := func(after uint64, from home) Lines {
		got, err := from.Lines(t.Context(), after, 2000)
		require.NoError(t, err)
		require.Greater(t, got.Count, 2)
		return got
	}
	cases := map[string]struct {
		run  func(Lines) Lines
		says string
	}{
		"another chain": {func(Lines) Lines { return run(5, other) }, "does not carry the hash"},
		"a changed byte": {func(l Lines) Lines {
			l.Data = bytes.Replace(l.Data, []byte("app-"), []byte("apq-"), 1)
			return l
		}, "checksum"},
		"an event less": {func(l Lines) Lines {
			_, l.Data, _ = bytes.Cut(l.Data, []byte{'\n'})
			l.Count--
			return l
		}, "sequence"},
		"two events changed places": {func(l Lines) Lines {
			parts := bytes.SplitAfter(l.Data, []byte{'\n'})
			parts[1], parts[2] = parts[2], parts[1]
			l.Data = bytes.Join(parts, nil)
			return l
		}, "sequence"},
		"half an event": {func(l Lines) Lines { l.Data = l.Data[:len(l.Data)-3]; return l }, "not as many whole events"},
		"a wrong count": {func(l Lines) Lines { l.Count++; return l }, "not as many whole events"},
		"nothing":       {func(l Lines) Lines { return Lines{First: l.First} }, "not as many whole events"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHolder(t)
			first, err := trail.Lines(t.Context(), 0, 1)
			require.NoError(t, err)
			require.NoError(t, h.Take("n1", id, first))
			for h.Find("n1", id).Settled().Sequence < 5 {
				require.NoError(t, h.pull(t, trail, 1))
			}
			before := h.Find("n1", id).Settled()
			err = h.Take("n1", id, c.run(run(5, trail)))
			var fork *ForkError
			require.ErrorAs(t, err, &fork)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, before, h.Find("n1", id).Settled())
			require.Len(t, h.Broken(), 1)
			require.Equal(t, "n1", h.Broken()[0].Node)
			require.False(t, h.Takes("n1", id))
			require.ErrorAs(t, h.Take("n1", id, run(5, trail)), &fork, "also what does follow: a person has to look")
			_, err = Verify(h.folderOf(t, trail))
			require.NoError(t, err)
		})
	}
	t.Run("what is held", func(t *testing.T) {
		h := newHolder(t)
		h.pullAll(t, trail)
		require.ErrorIs(t, h.Take("n1", id, run(5, trail)), errHeld)
		require.Empty(t, h.Broken(), "two asked at the same time; nothing is wrong")
	})
	t.Run("a first event of another chain", func(t *testing.T) {
		h := newHolder(t)
		require.ErrorContains(t, h.Take("n1", id, run(0, other)), "another chain")
	})
	t.Run("a name that is a path", func(t *testing.T) {
		h := newHolder(t)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(h.Take("../n1", id, run(0, trail))))
	})
}

// A node that lost its disk has another chain under the same name. The old
// copy stays.
func TestEachChainOfANodeHasItsOwnCopy(t *testing.T) {
	old, young := mustOpen(t, closedTrail(t, 5, 1<<20)), mustOpen(t, closedTrail(t, 9, 1<<20))
	h := newHolder(t)
	h.pullAll(t, old)
	h.pullAll(t, young)
	h.again(t)
	require.Len(t, h.All(), 2)
	require.Equal(t, old.Settled(), h.Find("n1", idOf(t, old)).Settled())
	require.Equal(t, young.Settled(), h.Find("n1", idOf(t, young)).Settled())
	require.Nil(t, h.Find("n2", idOf(t, old)))
	for range MaxChains - 2 {
		h.pullAll(t, mustOpen(t, closedTrail(t, 1, 1<<20)))
	}
	require.ErrorContains(t, h.pull(t, mustOpen(t, closedTrail(t, 1, 1<<20)), 1000), "move the folders of old ones away")
	require.Len(t, h.All(), MaxChains)
}

func TestAFullDiskHoldsACopyUpUntilThereIsRoom(t *testing.T) {
	cfg := closedTrail(t, 50, 1<<20)
	trail := mustOpen(t, cfg)
	h := newHolder(t)
	require.NoError(t, h.pull(t, trail, 2000))
	h.d.fills(100)
	requirePaused := func(err error) {
		require.Equal(t, fault.AuditUnavailable, fault.KindOf(err))
		require.ErrorContains(t, err, "goes on by itself")
	}
	err := h.pull(t, trail, 2000)
	requirePaused(err)
	require.ErrorIs(t, err, syscall.ENOSPC)
	h.d.hasFree(1)
	requirePaused(h.pull(t, trail, 2000))
	h.d.mend()
	h.pullAll(t, trail)
	requireSameFiles(t, cfg.Dir, h.folderOf(t, trail))
	require.Empty(t, h.Broken())
}

// After an fsync that failed nobody knows what is on the disk: it is not said
// to be held.
func TestACopyIsHeldOnlyAfterFsync(t *testing.T) {
	cfg := closedTrail(t, 50, 1<<20)
	trail := mustOpen(t, cfg)
	h := newHolder(t)
	require.NoError(t, h.pull(t, trail, 2000))
	before := h.Find("n1", idOf(t, trail)).Settled()
	h.d.failsSync()
	require.ErrorContains(t, h.pull(t, trail, 2000), "fsync failed")
	h.d.mend()
	require.ErrorContains(t, h.pull(t, trail, 2000), "started again")
	require.Equal(t, before, h.Find("n1", idOf(t, trail)).Settled())
	h.again(t)
	h.pullAll(t, trail)
	requireSameFiles(t, cfg.Dir, h.folderOf(t, trail))
}

// A copy whose own files were changed is kept out, and no other with it.
func TestABrokenCopyIsSaidAndHindersNoOther(t *testing.T) {
	trail, other := mustOpen(t, closedTrail(t, 20, 1<<20)), mustOpen(t, closedTrail(t, 20, 1<<20))
	h := newHolder(t)
	h.pullAll(t, trail)
	h.pullAll(t, other)
	path := files(t, h.folderOf(t, trail))[0]
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(data, []byte("app-3"), []byte("app-4"), 1), 0o600))
	h.again(t)
	require.Nil(t, h.Find("n1", idOf(t, trail)))
	require.NotNil(t, h.Find("n1", idOf(t, other)))
	require.Len(t, h.Broken(), 1)
	require.Contains(t, h.Broken()[0].Reason, "checksum")
	var fork *ForkError
	require.ErrorAs(t, h.pull(t, trail, 1000), &fork, "nor is it begun anew over what is there")

	require.NoError(t, os.RemoveAll(h.folderOf(t, trail)))
	require.NoError(t, os.Rename(h.folderOf(t, other), h.folderOf(t, trail)))
	h.again(t)
	require.Empty(t, h.All())
	require.Contains(t, h.Broken()[0].Reason, "not named after this chain")
}

func TestOneProcessKeepsTheCopies(t *testing.T) {
	h := newHolder(t)
	_, err := OpenCopies(CopiesConfig{Dir: h.dir})
	require.ErrorContains(t, err, "another process")
	require.NoError(t, os.Mkdir(filepath.Join(h.dir, "copies", "lost+found"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(h.dir, "copies", "n2", "notes"), 0o700))
	h.again(t)
	require.Empty(t, h.Broken(), "what a person left there is none of ours")
	trail := mustOpen(t, closedTrail(t, 2, 1<<20))
	require.NoError(t, h.Close())
	require.ErrorContains(t, h.pull(t, trail, 100), "closed")
}

func TestChainIDsHaveOneSpelling(t *testing.T) {
	id := idOf(t, mustOpen(t, config(t)))
	got, err := ParseChainID(id.String())
	require.NoError(t, err)
	require.Equal(t, id, got)
	for _, text := range []string{"", id.String()[:62], id.String() + "00", strings.ToUpper(id.String()), strings.Repeat("x", 64)} {
		_, err := ParseChainID(text)
		require.Error(t, err, text)
	}
}

func BenchmarkTake(b *testing.B) {
	trail := mustOpen(b, closedTrail(b, 4000, 1<<30))
	run, err := trail.Lines(context.Background(), 0, 1<<20)
	require.NoError(b, err)
	id := idOf(b, trail)
	b.SetBytes(int64(len(run.Data)))
	for b.Loop() {
		b.StopTimer()
		h := newHolder(b)
		b.StartTimer()
		require.NoError(b, h.Take("n1", id, run))
	}
	b.ReportMetric(float64(b.N*run.Count)/b.Elapsed().Seconds(), "events/s")
}

// A copy begins behind what its chain does not keep any more, and what an
// earlier copy has of before is kept beside.
func TestACopyBeginsWhereItsChainBegins(t *testing.T) {
	c := newCluster(t)
	cfg := config(t)
	cfg.SegmentBytes, cfg.KeepPlain = 10_000, false
	trail, p := signedTrail(t, c, cfg, 300, 50)
	awaitSealed(t, trail)
	h := newHolder(t)
	require.NoError(t, h.pull(t, trail, 20_000))
	early := h.All()[0].Settled().Sequence
	gone, err := p.Prune(t.Context(), 200, time.Now())
	require.NoError(t, err)
	require.Greater(t, gone, early)
	_, err = trail.Lines(t.Context(), early, 1000)
	require.Equal(t, fault.NotFound, fault.KindOf(err))

	id := idOf(t, trail)
	base, err := trail.Base()
	require.NoError(t, err)
	for name, wrong := range map[string]struct {
		node string
		id   ChainID
		base []byte
	}{
		"of another node":  {"n2", id, base},
		"of another chain": {"n1", ChainID{1}, base},
		"changed":          {"n1", id, bytes.Replace(base, []byte(`"v":1`), []byte(`"v":2`), 1)},
	} {
		require.Error(t, h.Begin(wrong.node, wrong.id, wrong.base), name)
	}
	require.Equal(t, early, h.All()[0].Settled().Sequence, "nothing was touched")
	require.NoError(t, h.Begin("n1", id, base))
	require.True(t, IsHeld(h.Begin("n1", id, base)))
	h.again(t)
	copied := h.pullAll(t, trail)
	require.Equal(t, trail.Settled(), copied.Settled())
	h.again(t)
	require.Len(t, h.All(), 1)
	require.Empty(t, h.Broken())

	folder := h.folder(placeOf("n1", id))
	report, err := Verify(folder, trail.Head())
	require.NoError(t, err)
	require.Equal(t, gone, report.Pruned)
	report, err = Verify(fmt.Sprintf("%s-to-%d", folder, early))
	require.NoError(t, err)
	require.Equal(t, early, report.Events)
	// The tree over the copy is the one over the chain: the same is signed.
	of, err := h.All()[0].Prove(t.Context(), "prod")
	require.NoError(t, err)
	here, err := of.Statement(t.Context(), time.Unix(0, 0))
	require.NoError(t, err)
	there, err := p.Statement(t.Context(), time.Unix(0, 0))
	require.NoError(t, err)
	require.Equal(t, there, here)
}

// Full files of a copy are sealed as those of a trail are, and it goes on.
func TestCopiesAreSealed(t *testing.T) {
	cfg := closedTrail(t, 300, 10_000)
	trail := mustOpen(t, cfg)
	h := newHolder(t)
	copied := h.pullAll(t, trail)
	h.Seal(t.Context())
	require.NotNil(t, copied.segments[0].sealed)
	mustAppend(t, trail, read("web"))
	settled(t, trail)
	h.again(t)
	copied = h.pullAll(t, trail)
	require.Equal(t, trail.Settled(), copied.Settled())
	events, _, err := copied.Query(t.Context(), Filter{Limit: maxLimit})
	require.NoError(t, err)
	requireDense(t, events)
	_, err = Verify(h.folder(placeOf("n1", idOf(t, trail))), trail.Head())
	require.NoError(t, err)
}
