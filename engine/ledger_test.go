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
