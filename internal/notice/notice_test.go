package notice

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const start = int64(1_767_571_200_000) // a Monday, midnight

// world feeds a Watcher.
type world struct {
	*testing.T
	w  *Watcher
	at int64
}

func newWorld(t *testing.T) *world {
	w, err := New(DefaultSettings())
	require.NoError(t, err)
	return &world{t, w, start}
}

func (w *world) event(kind Kind, path string) []Alert {
	return w.w.Observe(Event{At: w.at, Principal: "app", Source: "192.0.2.1", Name: "secrets.get_value", Path: path, Kind: kind})
}

// habit lets days go by in each of which the same is done, with no alert.
func (w *world) habit(days int, each func() []Alert) {
	for range days {
		begin := w.at
		w.at += 9 * hour
		require.Empty(w, each())
		w.at = begin + day
	}
	w.at += 9 * hour
}

func (w *world) reads(n, paths int) (out []Alert) {
	for i := range n {
		out = append(out, w.event(Read, fmt.Sprintf("/app/%d", i%paths))...)
	}
	return out
}

func TestReadsAreHeldAgainstTheOwnDaysBefore(t *testing.T) {
	w := newWorld(t)
	w.habit(9, func() []Alert { return w.reads(50, 5) })
	require.Empty(t, w.reads(200, 5), "four times the most is not yet too much")
	alerts := w.reads(1, 5)
	require.Len(t, alerts, 1)
	require.Equal(t, Alert{
		Detector: ReadVolume, At: w.at, Principal: "app", Source: "192.0.2.1", Measured: 201, Threshold: 200, Baseline: 50,
		Text: "201 reads within ten minutes; the threshold is 200, 4 times the most of the 14 days before, which is 50",
	}, alerts[0])
	require.Empty(t, w.reads(500, 5), "it was told")
}

func TestAFewReadsAreNeverTooMany(t *testing.T) {
	w := newWorld(t)
	w.habit(9, func() []Alert { return w.reads(1, 1) })
	require.Empty(t, w.reads(100, 1))
	require.Contains(t, w.reads(1, 1)[0].Text, "101 reads within ten minutes; the threshold is 100, the lowest that is set; the most of the 14 days before is 1")
}

func TestANewHabitAlertsForSomeDaysAndThenNoMore(t *testing.T) {
	w := newWorld(t)
	w.habit(9, func() []Alert { return w.reads(50, 5) })
	days := 0
	for ; len(w.reads(2000, 5)) > 0; days++ {
		w.at += day
	}
	require.GreaterOrEqual(t, days, 2, "one day of an attack does not teach")
	require.LessOrEqual(t, days, 6)
}

func TestFirstReadsOfADayAreCounted(t *testing.T) {
	w := newWorld(t)
	w.habit(9, func() []Alert { return w.reads(20, 20) })
	for i := range 12 {
		require.Empty(t, w.event(Read, fmt.Sprintf("/new/%d", i)))
		require.Empty(t, w.event(Read, fmt.Sprintf("/new/%d", i)), "it is not the first any more")
	}
	alerts := w.event(Read, "/new/12")
	require.Len(t, alerts, 1)
	require.Equal(t, FirstRead, alerts[0].Detector)
	require.Equal(t, "13 first reads of a path within a day; the threshold is 12, and there were none on the 14 days before", alerts[0].Text)
}

func TestFreshPathsWeighAQuarter(t *testing.T) {
	w := newWorld(t)
	w.habit(9, func() []Alert { return w.reads(20, 20) })
	fresh := func(i int) []Alert {
		return w.w.Observe(Event{At: w.at, Principal: "app", Path: fmt.Sprintf("/fresh/%d", i), Kind: Read, Fresh: true})
	}
	var alerts []Alert
	n := 0
	for ; len(alerts) == 0; n++ {
		w.at += 2 * 60_000 // not so fast that the number of paths alerts
		alerts = fresh(n)
	}
	require.Equal(t, FirstRead, alerts[0].Detector)
	require.Equal(t, 49, n)
}

func TestWhoIsNewLearnsFirst(t *testing.T) {
	w := newWorld(t)
	require.Empty(t, w.reads(399, 350), "a program that starts for the first time reads all it needs")
	alerts := w.reads(1000, 2000)
	require.NotEmpty(t, alerts, "but not everything")
	require.Equal(t, ManyPaths, alerts[0].Detector)
}

func TestManyPathsOfWhoIsUsedToNewOnes(t *testing.T) {
	w := newWorld(t)
	n := 0
	some := func(count int) (out []Alert) {
		for range count {
			n++
			out = append(out, w.event(Read, fmt.Sprintf("/job/%d", n))...)
		}
		return out
	}
	w.habit(110, func() []Alert { return some(10) })
	require.True(t, w.known("app").known.full(), "so many paths are not remembered")
	alerts := some(100)
	require.Len(t, alerts, 1)
	require.Equal(t, ManyPaths, alerts[0].Detector)
	require.InDelta(t, 41, alerts[0].Measured, 3)
}

func (w *world) known(name string) *subject {
	s, ok := w.w.principals.Peek(name)
	require.True(w, ok)
	return s
}

func TestDenialsOfManyThingsCountMoreThanOneRepeated(t *testing.T) {
	w := newWorld(t)
	for range 190 {
		require.Empty(t, w.event(Denial, "/not/granted"))
	}
	other := newWorld(t)
	var alerts []Alert
	probed := 0
	for ; len(alerts) == 0; probed++ {
		alerts = other.event(Denial, fmt.Sprintf("/probe/%d", probed))
	}
	require.InDelta(t, 21, probed, 2, "two questions may share a bit")
	require.Len(t, alerts, 1)
	require.Equal(t, "21 denials within ten minutes, where a repeat counts a tenth; the threshold is 20, and there were none on the 14 days before", alerts[0].Text)
}

func TestWhoCannotBeNamedIsCountedByAddress(t *testing.T) {
	w := newWorld(t)
	var alerts []Alert
	for range 21 {
		alerts = w.w.Observe(Event{At: w.at, Source: "203.0.113.9", Name: "auth.login", Kind: Denial})
		require.Empty(t, w.w.Observe(Event{At: w.at, Source: "203.0.113.10", Name: "auth.login", Kind: Read}))
	}
	require.Len(t, alerts, 1)
	require.Empty(t, alerts[0].Principal)
	require.Equal(t, "203.0.113.9", alerts[0].Source)
	require.Contains(t, alerts[0].Text, "nobody could be named")
}

func TestACanaryAlertsAtOnceAndOncePerHour(t *testing.T) {
	w := newWorld(t)
	touch := func(kind Kind) []Alert {
		return w.w.Observe(Event{At: w.at, Principal: "app", Name: "secrets.get_value", Path: "/trap", Kind: kind, Canary: true})
	}
	alerts := touch(Attempt)
	require.Len(t, alerts, 1)
	require.Equal(t, "/trap", alerts[0].Path)
	require.Equal(t, "a canary was touched by secrets.get_value", alerts[0].Text)
	require.Empty(t, touch(Read))
	w.at += hour - 1
	require.Empty(t, touch(Denial))
	w.at++
	alerts = touch(Read)
	require.Len(t, alerts, 1)
	require.EqualValues(t, 2, alerts[0].Held)
	require.Contains(t, alerts[0].Text, "2 more alerts of this kind were held back")
}

func TestWhatWasToldBeforeIsNotToldAgain(t *testing.T) {
	w := newWorld(t)
	touch := Event{At: w.at, Principal: "app", Path: "/trap", Kind: Read, Canary: true}
	w.w.Told(Canary, touch)
	w.w.Told("unheard_of", touch)
	require.Empty(t, w.w.Observe(touch))
	touch.Principal = "another"
	require.Len(t, w.w.Observe(touch), 1)
}

func TestADetectorThatIsOffSaysNothing(t *testing.T) {
	w := newWorld(t)
	settings := DefaultSettings()
	for _, d := range Detectors {
		settings.Rules[d] = Rule{Off: true}
	}
	w.w.Set(settings)
	require.Empty(t, w.reads(50_000, 5000))
	require.Empty(t, w.w.Observe(Event{At: w.at, Principal: "app", Canary: true, Kind: Read}))
}

func TestStrangersDoNotPushOutPrincipals(t *testing.T) {
	w := newWorld(t)
	w.habit(9, func() []Alert { return w.reads(50, 5) })
	for i := range 3 * MaxSources {
		w.w.Observe(Event{At: w.at, Source: fmt.Sprintf("2001:db8::%x", i), Name: "auth.login", Kind: Denial})
	}
	require.Equal(t, MaxSources, w.w.sources.Len())
	require.EqualValues(t, 50, w.known("app").reads.baseline())
}

func TestPrincipalsAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range MaxPrincipals + 10 {
		w.w.Observe(Event{At: w.at, Principal: fmt.Sprint(i), Path: "/a", Kind: Read})
	}
	require.Equal(t, MaxPrincipals, w.w.principals.Len())
}

func TestLateEventsCountAndAClockSetBackDoesNotStopTheCount(t *testing.T) {
	w := newWorld(t)
	w.habit(9, func() []Alert { return w.reads(50, 5) })
	w.at += hour
	require.Empty(t, w.reads(100, 5))
	w.at -= hour
	require.Empty(t, w.reads(100, 5))
	require.NotEmpty(t, w.reads(1, 5), "what comes late counts in the window that is open")

	ahead := newWorld(t)
	ahead.at += 400 * day
	ahead.reads(5, 5)
	ahead.at = start
	ahead.habit(9, func() []Alert { return ahead.reads(50, 5) })
	require.NotEmpty(t, ahead.reads(201, 5), "it learned again where the clock was set to")
}

// The set of known paths is a set, up to its bound.
func TestKnownIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var k known
		model := map[string]bool{}
		for _, path := range rapid.SliceOfN(rapid.StringMatching(`/[a-f]/[a-z0-9]{1,3}`), 1, 3000).Draw(t, "paths") {
			isNew := k.add(hash(path))
			if len(model) < MaxKnownPaths {
				require.Equal(t, !model[path], isNew)
				model[path] = true
			} else {
				require.False(t, isNew)
			}
		}
		require.LessOrEqual(t, len(k.table), 2*MaxKnownPaths)
	})
}

// What is estimated is near what was added.
func TestTheEstimateIsNear(t *testing.T) {
	for _, n := range []int{1, 10, 40, 120, 400, 1500, 4000} {
		var s sketch
		for i := range n {
			s.add(hash(fmt.Sprintf("/some/path-%d", i)))
		}
		require.InEpsilon(t, n, int(s.estimate()), 0.1)
	}
}

// Whatever comes in, nothing is said about somebody twice within the time, and
// an alert always tells of more than its threshold.
func TestAlertsAreRareAndTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := New(DefaultSettings())
		require.NoError(t, err)
		at, last := start, map[Detector]int64{}
		for range rapid.IntRange(1, 2000).Draw(t, "events") {
			at += rapid.Int64Range(0, 3*60_000).Draw(t, "later")
			e := Event{
				At: at, Principal: "app", Path: fmt.Sprintf("/%d", rapid.IntRange(0, 3000).Draw(t, "path")),
				Kind: rapid.SampledFrom([]Kind{Read, Denial, Attempt}).Draw(t, "kind"), Canary: rapid.IntRange(0, 99).Draw(t, "canary") == 0,
			}
			for _, a := range w.Observe(e) {
				require.Greater(t, a.Measured, a.Threshold)
				require.NotEmpty(t, a.Text)
				if before, told := last[a.Detector]; told {
					require.GreaterOrEqual(t, a.At-before, time.Hour.Milliseconds())
				}
				last[a.Detector] = a.At
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	w, err := New(DefaultSettings())
	require.NoError(b, err)
	paths := make([]string, 50)
	for i := range paths {
		paths[i] = fmt.Sprintf("/app/prod/service-%d/db-password", i)
	}
	at := start
	for i := range b.N {
		at += 10
		w.Observe(Event{At: at, Principal: "app", Source: "192.0.2.1", Name: "secrets.get_value", Path: paths[i%50], Kind: Read})
	}
}
