package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// What a request saw in one session says nothing in the next: another node
// may have led in between.
func TestNothingIsHandedOutOnALookOfAnEarlierSession(t *testing.T) {
	l := newLedger(time.Now)
	seen := fsm.Observation{Path: "/a", Version: 1}
	_, _, ok := l.hand(l.mark(), seen)
	require.False(t, ok, "no session is open")
	require.True(t, l.open(5))
	at := l.mark()
	d, _, ok := l.hand(at, seen)
	require.True(t, ok)
	require.Equal(t, uint64(5), d.seen.Session)
	l.shut()
	require.True(t, l.open(9))
	_, _, ok = l.hand(at, seen)
	require.False(t, ok)

	l.fence(9)
	_, _, ok = l.hand(l.mark(), seen)
	require.False(t, ok)
	require.False(t, l.open(9), "it was settled")
	require.True(t, l.open(12))
}

// A delivery on its way is held, whatever its consumer says meanwhile.
func TestADeliveryOnItsWayCounts(t *testing.T) {
	l := newLedger(time.Now)
	l.open(5)
	at := l.mark()
	d, _, ok := l.hand(at, fsm.Observation{Path: "/a", Version: 1, Principal: "p", Last: 1, Until: 9})
	require.True(t, ok)
	l.say(fsm.Observation{Path: "/a", Version: 2, Principal: "p", Session: 5, Said: l.mark().stamp})
	moved := func() bool {
		_, observed, release := l.close(fsm.ClosedVersion{Path: "/a", Version: 1})
		release(true)
		var c *fsm.Consumer
		for _, o := range observed {
			c = c.With(o)
		}
		return c.Holding(1, 5) == 0
	}
	require.False(t, moved())
	l.handed(d)
	require.False(t, moved(), "it was given after it said so")
	l.say(fsm.Observation{Path: "/a", Version: 2, Principal: "p", Session: 5, Said: l.mark().stamp})
	require.True(t, moved())
}

// A destruction that is on its way counts a delivery that has not ended,
// whatever the consumer says in another request before it is decided.
func TestWhatIsSaidDuringADestructionFreesNoDelivery(t *testing.T) {
	l := newLedger(time.Now)
	l.open(5)
	d, _, ok := l.hand(l.mark(), fsm.Observation{Path: "/a", Version: 1, Principal: "p", Last: 1, Until: 9})
	require.True(t, ok)
	say := func() {
		l.say(fsm.Observation{Path: "/a", Version: 2, Principal: "p", Session: 5, Said: l.mark().stamp})
	}
	_, observed, release := l.close(fsm.ClosedVersion{Path: "/a", Version: 1})
	say()
	var c *fsm.Consumer // what Apply comes to see: the word may be committed first
	for _, o := range append(l.all(), observed...) {
		c = c.With(o)
	}
	require.NotZero(t, c.Holding(1, 5))
	l.handed(d)
	release(true)
	require.Empty(t, l.closed)
	say()
	c = nil
	for _, o := range l.all() {
		c = c.With(o)
	}
	require.Zero(t, c.Holding(1, 5), "what is said afterwards counts")
}

// A consumer that is just being told by a node that follows that what it uses
// is still current keeps that: a destruction must count it.
func TestANotModifiedThatIsLentIsHeld(t *testing.T) {
	l := newLedger(time.Now)
	l.open(5)
	seen := fsm.Observation{Path: "/a", Version: 1, Principal: "p", First: 5, Until: 99}
	require.NotZero(t, l.lend(l.mark(), seen, nil, "n2", fsm.New().State()))
	_, observed, release := l.close(fsm.ClosedVersion{Path: "/a", Version: 1})
	defer release(true)
	var c *fsm.Consumer
	for _, o := range observed {
		c = c.With(o)
	}
	require.NotNil(t, c)
	require.EqualValues(t, 99, c.Holding(1, 5))
}

// A commit takes off what it held, and no more.
func TestWhatGrewSinceItsCommitStays(t *testing.T) {
	l := newLedger(time.Now)
	l.open(5)
	o := fsm.Observation{Path: "/a", Version: 2, Principal: "p", Session: 5, Said: 1}
	l.say(o)
	batch := l.batch()
	o.Said = 2
	l.say(o)
	l.committed(batch)
	require.Len(t, l.batch(), 1)
	l.committed(l.batch())
	require.Empty(t, l.batch())
}

// Two commits hold the same line. One takes it off, another delivery begins it
// anew, and the other commit comes late: it held nothing of the new one.
func TestALateCommitTakesOffNoLineThatWasBegunSince(t *testing.T) {
	l := newLedger(time.Now)
	l.open(5)
	seen := fsm.Observation{Path: "/a", Version: 1, Principal: "p", Session: 5, Last: 1, Until: 9}
	give := func(until int64) {
		seen.Until = until
		d, _, ok := l.hand(l.mark(), seen)
		require.True(t, ok)
		l.handed(d)
	}
	give(9)
	first, second := l.batch(), l.batch()
	l.committed(first)
	require.Empty(t, l.batch())
	give(99)
	l.committed(second)
	require.Len(t, l.batch(), 1, "what was given since is not committed")
	require.EqualValues(t, 99, l.batch()[0].Until)
}

// A commit proves what became of the destructions before it, and of no later
// one: a version that was doubted again meanwhile stays closed.
func TestAVersionStaysClosedThatWasDoubtedAgain(t *testing.T) {
	l := newLedger(time.Now)
	require.True(t, l.open(5))
	seen := fsm.Observation{Path: "/a", Version: 1}
	v := fsm.ClosedVersion{Path: "/a", Version: 1}
	_, _, release := l.close(v)
	release(false)
	before := l.unsure()

	_, _, release = l.close(v)
	release(false)
	l.sure(before) // the commit that proved the first one comes back
	_, wait, ok := l.hand(l.mark(), seen)
	require.False(t, ok, "the second destruction may still be committed")
	require.NotNil(t, wait)

	l.sure(l.unsure())
	<-wait
	_, _, ok = l.hand(l.mark(), seen)
	require.True(t, ok)
}

// A look at the state that was taken while a version was closed may have seen
// it before its destruction: once it is open, that look is too old.
func TestALookWhileAVersionWasClosedIsTooOld(t *testing.T) {
	l := newLedger(time.Now)
	require.True(t, l.open(5))
	seen := fsm.Observation{Path: "/a", Version: 1}
	_, _, release := l.close(fsm.ClosedVersion{Path: "/a", Version: 1})
	at := l.mark()
	// Here the state is looked at, then the destruction is applied.
	release(true)
	_, _, ok := l.hand(at, seen)
	require.False(t, ok)
	_, _, ok = l.hand(l.mark(), seen)
	require.True(t, ok)
}

func TestASessionNeverGoesBack(t *testing.T) {
	l := newLedger(time.Now)
	require.True(t, l.open(9))
	require.False(t, l.open(5), "it was opened before, and its answer came late")
	require.Equal(t, uint64(9), l.current())
}
