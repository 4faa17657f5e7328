package engine_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
)

// shownClocks answers what cluster/status says of each clock, and who refuses.
func shownClocks(t *testing.T, w *world) (offsets map[string]time.Duration, refuse []string) {
	t.Helper()
	status := into[wire.StatusResponse](t, w.ok("cluster/status", `{}`))
	require.Equal(t, wire.Duration(5*time.Second), status.MaxClockOffset)
	offsets = map[string]time.Duration{}
	for _, n := range status.Nodes {
		if n.ClockOffset != nil {
			offsets[n.NodeID] = time.Duration(*n.ClockOffset)
		}
		if n.RefusesTimed {
			refuse = append(refuse, n.NodeID)
		}
	}
	return offsets, refuse
}

func TestStatusSaysWhoseClockIsOff(t *testing.T) {
	w, o, read, ann, _ := clocks(t)
	s := time.Second
	w.askClocks()
	offsets, refuse := shownClocks(t, w)
	require.Empty(t, offsets, "nobody was heard")
	require.Empty(t, refuse)

	for _, c := range []struct {
		name           string
		n2, n3         time.Duration
		of1, of2, of3  time.Duration
		thisOneRefuses bool
	}{
		{"all agree", 0, 0, 0, 0, 0, false},
		{"another one is off", 20 * s, s / 2, -s / 2, 20*s - s/2, 0, false},
		{"this one is off a little", 4 * s, 4 * s, -4 * s, 0, 0, false},
		{"this one is behind", 8 * s, 8 * s, -8 * s, 0, 0, true},
		{"this one is ahead", -8 * s, -9 * s, 8 * s, 0, -s, true},
		{"nobody knows", 20 * s, -20 * s, 0, 20 * s, -20 * s, false},
	} {
		o.say(c.n2, c.n3)
		w.askClocks()
		offsets, refuse = shownClocks(t, w)
		require.Equal(t, map[string]time.Duration{"n1": c.of1, "n2": c.of2, "n3": c.of3}, offsets, c.name)
		require.Equal(t, c.thisOneRefuses, len(refuse) == 1 && refuse[0] == "n1", c.name)
		require.Equal(t, c.thisOneRefuses, read(ann) != nil, "%s: status and the requests agree", c.name)
	}

	// A member that went silent is not spoken of once its word is too old.
	w.setNow(w.now().Add(61 * s))
	offsets, _ = shownClocks(t, w)
	require.Empty(t, offsets)
}

// The state is evidence also where no member answers.
func TestStatusSaysThatTheStateIsFromTheFuture(t *testing.T) {
	w, _, _, _, _ := clocks(t)
	w.setNow(w.now().Add(-7 * time.Second))
	offsets, refuse := shownClocks(t, w)
	require.Equal(t, map[string]time.Duration{"n1": -7 * time.Second}, offsets)
	require.Equal(t, []string{"n1"}, refuse)
}

// Whatever the members show, status and the requests agree on who refuses, and
// what the clocks are apart is what they show apart.
func TestStatusAndRefusalsOfClocksAgree(t *testing.T) {
	w, o, read, ann, _ := clocks(t)
	rapid.Check(t, func(rt *rapid.T) {
		off := rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(-20_000, 20_000).Draw(t, "ms")) * time.Millisecond
		})
		n2, n3 := off.Draw(rt, "n2"), off.Draw(rt, "n3")
		o.say(n2, n3)
		w.askClocks()
		offsets, refuse := shownClocks(t, w)
		require.InDelta(rt, n2, offsets["n2"]-offsets["n1"], float64(time.Millisecond))
		require.InDelta(rt, n3, offsets["n3"]-offsets["n1"], float64(time.Millisecond))
		require.Equal(rt, read(ann) != nil, len(refuse) > 0)
		if len(refuse) > 0 {
			require.Greater(rt, offsets["n1"].Abs(), 5*time.Second)
		}
	})
}
