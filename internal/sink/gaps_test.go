package sink

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

// shortTrail has lost what is older than oldest.
type shortTrail struct {
	*audit.Trail
	oldest uint64
}

func (s shortTrail) Oldest() uint64 { return s.oldest }

func (s shortTrail) Lines(ctx context.Context, after uint64, maxBytes int) (audit.Lines, error) {
	if after+1 < s.oldest {
		return audit.Lines{}, fault.New(fault.NotFound, "not kept")
	}
	return s.Trail.Lines(ctx, after, maxBytes)
}

// What is not kept any more is told, and nothing is put in its place.
func TestASinkThatFellBehindSaysSoAndGoesOn(t *testing.T) {
	for _, last := range []uint64{0, 6, 38} { // the last event that the sink got
		w, r := newWorld(t, one(nil)), &receiver{}
		if last > 0 {
			w.receive(r)
			w.done(w.happen(int(last) - 1))
			w.stop()
		}
		newest := w.happen(60)
		const oldest = 40
		short := func(f *follower) { f.target, f.trail = r, shortTrail{w.trail, oldest} }
		w.with(short)
		w.done(newest)
		gaps := w.set.followers[0].metrics.gaps
		require.Equal(t, 1.0, testutil.ToFloat64(gaps))
		require.Contains(t, w.log.String(), "fallen behind what the trail keeps")
		require.Contains(t, w.log.String(), fmt.Sprintf("first=%d last=39 count=%d", last+1, 39-last))
		require.Equal(t, append(upTo(1, last), upTo(oldest, newest)...), r.sequences())
		w.stop()
		w.with(short) // the cursor behind the gap is a good one
		w.done(w.happen(1))
		require.Zero(t, testutil.ToFloat64(w.set.followers[0].metrics.gaps))
		w.stop()
	}
}

// The cursor is just before what is kept: the hash in the next event tells
// that the trail is the same, and that another is not.
func TestTheNextEventTellsWhoseTrailItIs(t *testing.T) {
	for _, same := range []bool{true, false} {
		w, r := newWorld(t, one(nil)), &receiver{}
		w.receive(r)
		last := w.happen(20)
		w.done(last)
		w.stop()
		if !same {
			require.NoError(t, cursorFile(filepath.Join(w.cfg.Dir, "one.cursor")).save(cursor{last, [32]byte{1}}))
		}
		newest := w.happen(5)
		w.with(func(f *follower) { f.target, f.trail = r, shortTrail{w.trail, last + 1} })
		w.done(newest)
		require.Equal(t, upTo(1, newest), r.sequences())
		require.Equal(t, !same, strings.Contains(w.log.String(), "was replaced"))
	}
}

// A trail that is another one is noticed by the hash at the cursor, whether it
// is longer or shorter, and the sink gets the whole of it.
func TestATrailThatWasReplacedIsNoticed(t *testing.T) {
	for _, events := range []int{2, 5, 60} {
		w := newWorld(t, Settings{Type: "stdout", Name: "one", BatchEvents: 10})
		w.start()
		w.done(w.happen(5)) // 6 with the start
		w.stop()
		require.NoError(t, w.trail.Close())
		w.open(filepath.Join(t.TempDir(), "another"))
		newest := w.append(event("iam.login", audit.OK), events)
		w.cfg.Stdout = &logBuffer{}
		w.start()
		w.done(newest)
		require.Equal(t, 1.0, w.metric("strongroom_audit_sink_gap_total", "one"))
		require.Contains(t, w.log.String(), "was replaced")
		require.Equal(t, w.native(0), w.cfg.Stdout.(*logBuffer).lines())
		w.stop()
	}
}
