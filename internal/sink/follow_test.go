package sink

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/audit"
)

// receiver is a target that a test commands.
type receiver struct {
	mu       sync.Mutex
	got      []uint64
	batches  []int
	attempts []time.Time
	fail     func(n int) error // of the n-th delivery, from 1; nil: taken
	take     int               // records taken of one that fails
	reloads  int
	hold     chan struct{} // deliveries wait for it; nil: they do not
	arrived  chan struct{} // gets one for each delivery that waits
}

func (r *receiver) deliver(ctx context.Context, records []record) (int, error) {
	if r.hold != nil {
		r.arrived <- struct{}{}
		select {
		case <-r.hold:
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, time.Now())
	taken, err := len(records), error(nil)
	if r.fail != nil {
		if err = r.fail(len(r.attempts)); err != nil {
			taken = min(r.take, len(records)-1)
		}
	}
	for _, one := range records[:taken] {
		r.got = append(r.got, one.at.sequence)
	}
	r.batches = append(r.batches, len(records))
	return taken, err
}

func (r *receiver) reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reloads++
}

func (r *receiver) close() error { return nil }

func (r *receiver) sequences() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uint64(nil), r.got...)
}

// receive runs one sink whose target is r.
func (w *world) receive(r *receiver) {
	w.t.Helper()
	w.with(func(f *follower) { f.target = r })
}

func (w *world) with(change func(*follower)) {
	w.t.Helper()
	w.cfg.Registerer, w.cfg.Trail = nil, w.trail
	set, err := New(w.cfg)
	require.NoError(w.t, err)
	for _, f := range set.followers {
		change(f)
	}
	w.run(set)
}

func upTo(first, last uint64) []uint64 {
	var out []uint64
	for s := first; s <= last; s++ {
		out = append(out, s)
	}
	return out
}

func one(change func(*Settings)) Settings {
	s := Settings{Name: "one", Type: "stdout", BatchEvents: 10}
	if change != nil {
		change(&s)
	}
	return s
}

func TestEverythingArrivesOnceAndInOrder(t *testing.T) {
	w, r := newWorld(t, one(nil)), &receiver{}
	w.happen(25)
	w.receive(r)
	w.done(w.happen(17))
	require.Equal(t, upTo(1, w.trail.Settled().Sequence), r.sequences())
	w.stop()
	w.happen(5)
	w.receive(r)
	w.done(w.happen(1))
	require.Equal(t, upTo(1, w.trail.Settled().Sequence), r.sequences(), "a restart in good order repeats nothing")
	for _, n := range r.batches {
		require.LessOrEqual(t, n, 10)
	}
}

// A process that dies between the delivery and the cursor delivers again, and
// leaves nothing out.
func TestACrashBeforeTheCursorRepeatsAndLosesNothing(t *testing.T) {
	w, r := newWorld(t, one(nil)), &receiver{}
	w.cfg.saveEvery = time.Hour
	last := w.happen(30)
	w.receive(r)
	w.eventually("the delivery", func() bool { return len(r.sequences()) == int(last) })
	require.Equal(t, uint64(1), w.set.OldestNeeded(), "what is not on the disk of the cursor is still needed")
	path := filepath.Join(w.cfg.Dir, "one.cursor")
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	w.stop()
	require.NoError(t, os.WriteFile(path, before, 0o600), "as if the process had been killed")
	w.cfg.saveEvery = time.Millisecond
	w.receive(r)
	w.done(last)
	require.Equal(t, append(upTo(1, last), upTo(1, last)...), r.sequences())
}

func TestWhatWasTakenOfAFailedDeliveryDoesNotComeAgain(t *testing.T) {
	w := newWorld(t, one(nil))
	r := &receiver{take: 4, fail: func(n int) error {
		if n <= 2 {
			return errors.New("no")
		}
		return nil
	}}
	last := w.happen(30)
	w.receive(r)
	w.done(last)
	require.Equal(t, upTo(1, last), r.sequences())
}

func TestFiltersSelectAndTheCursorGoesOn(t *testing.T) {
	w := newWorld(t, one(func(s *Settings) {
		s.Events, s.Outcomes = []string{"alert.*", "iam.login"}, []string{audit.OK, audit.Denied}
	}))
	r := &receiver{}
	w.happen(25)
	want := []uint64{w.append(event("alert.read_volume", audit.OK), 1)}
	want = append(want, w.append(event("iam.login", audit.Denied), 1))
	w.append(event("iam.login", audit.Failed), 1)
	w.append(event("iam.login_other", audit.OK), 1)
	w.append(event("alerts", audit.OK), 1)
	w.receive(r)
	w.done(w.happen(1))
	require.Equal(t, want, r.sequences())
}

func TestANewSinkMayBeginWithTheNewest(t *testing.T) {
	w, r := newWorld(t, one(func(s *Settings) { s.Newest = true })), &receiver{}
	before := w.happen(10)
	w.receive(r)
	w.done(before)
	w.stop()
	w.happen(3) // the cursor is there: what happens while the node is down is not skipped
	w.receive(r)
	w.done(before + 3)
	require.Equal(t, upTo(before+1, before+3), r.sequences())
}

func TestOneDeadSinkDelaysNoOther(t *testing.T) {
	w := newWorld(t, one(func(s *Settings) { s.Name = "dead" }), one(func(s *Settings) { s.Name = "alive" }))
	dead, alive := &receiver{fail: func(int) error { return errors.New("connection refused") }}, &receiver{}
	w.with(func(f *follower) {
		if f.target = alive; f.Name == "dead" {
			f.target = dead
		}
	})
	last := w.happen(40)
	w.eventually("the other sink", func() bool { return len(alive.sequences()) == int(last) })
	require.Equal(t, uint64(1), w.set.OldestNeeded(), "retention waits for the slowest")
	require.Equal(t, 1, strings.Count(w.log.String(), "connection refused"), "said once, not for each attempt")
}

func TestWithoutSinksNothingIsNeededAndReloadIsSafe(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.set.Reload()
	w.set.Reload()
	require.Equal(t, uint64(math.MaxUint64), w.set.OldestNeeded())
	_, err := os.Stat(w.cfg.Dir)
	require.ErrorIs(t, err, os.ErrNotExist, "without sinks there is no folder of cursors")
}

// Attempts grow apart up to the bound; what the receiver asks for counts; a
// reload ends the wait.
func TestAttemptsGrowApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newWorld(t, one(nil)), &receiver{}
		w.cfg.backoffMin, w.cfg.backoffMax = time.Second, 30*time.Second
		r.fail = func(n int) error {
			switch {
			case n < 10:
				return errors.New("down")
			case n == 10:
				return retryAfter{errors.New("busy"), 10 * time.Minute}
			}
			return nil
		}
		w.happen(1)
		w.receive(r)
		<-time.After(200 * time.Second)
		synctest.Wait()
		require.GreaterOrEqual(t, len(r.attempts), 9)
		for i := 1; i < 9; i++ {
			gap, want := r.attempts[i].Sub(r.attempts[i-1]), min(time.Second<<(i-1), 30*time.Second)
			require.GreaterOrEqual(t, gap, want/2, "attempt %d", i)
			require.LessOrEqual(t, gap, want+time.Millisecond, "attempt %d", i)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		require.Len(t, r.attempts, 10, "the receiver has asked for ten minutes")
		w.set.Reload()
		synctest.Wait()
		require.Len(t, r.attempts, 11, "and the operator for now")
		require.Equal(t, 1, r.reloads)
		require.Contains(t, w.log.String(), "takes events again")
		w.stop()
		require.NoError(t, w.trail.Close())
	})
}

func TestAReloadReachesAnIdleSink(t *testing.T) {
	w, r := newWorld(t, one(nil)), &receiver{}
	w.receive(r)
	w.done(w.happen(3))
	w.set.Reload()
	w.eventually("the reload", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.reloads == 1 })
}

// The end of the process does not wait for a receiver.
func TestStopEndsADeliveryThatHangs(t *testing.T) {
	w, r := newWorld(t, one(nil)), &receiver{hold: make(chan struct{}), arrived: make(chan struct{}, 10)}
	w.happen(3)
	w.receive(r)
	<-r.arrived
	w.stop()
}

// stuck is a target whose disk hangs: nothing ends it.
type stuck struct {
	receiver
	never chan struct{}
}

func (s *stuck) deliver(context.Context, []record) (int, error) {
	<-s.never
	return 0, errors.New("at last")
}

func TestStopDoesNotWaitForADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(t, one(nil)), &stuck{never: make(chan struct{})}
		w.happen(1)
		w.with(func(f *follower) { f.target = s })
		synctest.Wait()
		begun := time.Now()
		w.stop()
		require.Equal(t, closeTime, time.Since(begun))
		require.Contains(t, w.log.String(), "left behind")
		close(s.never)
		require.NoError(t, w.trail.Close())
	})
}

func TestATrailThatClosesEndsTheSinks(t *testing.T) {
	w, r := newWorld(t, one(nil)), &receiver{}
	w.receive(r)
	w.done(w.happen(3))
	require.NoError(t, w.trail.Close())
	ended := make(chan struct{})
	go func() { w.stop(); close(ended) }()
	<-ended
}

func TestTheSeriesAreThereFromTheStartAndTellTheLag(t *testing.T) {
	w := newWorld(t, Settings{Type: "file", Name: "one", Path: filepath.Join(t.TempDir(), "none", "a"), BatchEvents: 10})
	set, err := New(w.cfg)
	require.NoError(t, err)
	require.NotNil(t, set)
	old := event("iam.login", audit.OK)
	old.Time = time.Now().Add(-time.Hour)
	w.append(old, 1)
	w.start()
	names := []string{"sent_total", "errors_total", "gap_total", "lag_events", "lag_seconds"}
	for _, name := range names {
		_ = w.metric("strongroom_audit_sink_"+name, "one")
	}
	w.eventually("an error", func() bool { return w.metric("strongroom_audit_sink_errors_total", "one") > 0 })
	require.Equal(t, float64(w.trail.Settled().Sequence), w.metric("strongroom_audit_sink_lag_events", "one"))
	require.Contains(t, w.log.String(), "no such file or directory")
	require.NoError(t, os.Mkdir(filepath.Dir(w.cfg.Sinks[0].Path), 0o700))
	w.done(w.trail.Settled().Sequence)
	for name, want := range map[string]float64{"sent_total": float64(w.trail.Settled().Sequence), "gap_total": 0, "lag_events": 0, "lag_seconds": 0} {
		require.Equal(t, want, w.metric("strongroom_audit_sink_"+name, "one"), name)
	}
}

func TestTheLagIsTheAgeOfTheOldestEventThatWaits(t *testing.T) {
	w := newWorld(t, one(nil))
	set, err := New(w.cfg)
	require.NoError(t, err)
	at := w.trail.Settled().Sequence
	set.followers[0].position.Store(at)
	events, age := set.followers[0].lag(time.Now())
	require.Zero(t, events)
	require.Zero(t, age)
	old := event("iam.login", audit.OK)
	old.Time = time.Now().Add(-time.Hour)
	w.append(old, 1)
	w.happen(2)
	events, age = set.followers[0].lag(time.Now())
	require.Equal(t, uint64(3), events)
	require.InDelta(t, time.Hour, age, float64(time.Minute))
}
