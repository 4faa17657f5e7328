package iam_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
)

func windowed(t require.TestingT, ws ...iam.TimeWindow) *iam.AccessPolicy {
	return compileAccess(t, iam.AccessDocument{Name: "w", Paths: list("/**"), Actions: list("*"), TimeWindows: ws})
}

// instant reads a time as RFC 3339 has it.
func instant(text string) time.Time {
	out, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return out
}

func decideAt(p *iam.AccessPolicy, when time.Time) iam.Decision {
	q := about("secrets:getSecretValue", "/a")
	q.At = when
	r := rules(policyOfAll)
	r.Access = iam.Accesses(p)
	return iam.Decide(r, q)
}

var policyOfAll = compile(panics{}, "all", allow(list("*")))

// panics is for what is compiled before any test runs.
type panics struct{}

func (panics) Errorf(string, ...any) {}
func (panics) FailNow()              { panic("a policy of the test does not compile") }

// The edges: what opens and closes when clocks jump, and when days end. Each
// line is an instant and whether the window is open at it.
func TestWindowsAtTheEdges(t *testing.T) {
	w := func(from, to, zone string, days ...string) iam.TimeWindow {
		return iam.TimeWindow{Days: days, From: from, To: to, Timezone: zone}
	}
	for name, c := range map[string]struct {
		window iam.TimeWindow
		open   []string
		shut   []string
	}{
		"an evening to midnight": {w("22:00", "24:00", "UTC", "mon"),
			[]string{"2026-11-23T22:00:00Z", "2026-11-23T23:59:59.999Z"},
			[]string{"2026-11-23T21:59:59.999Z", "2026-11-24T00:00:00Z", "2026-11-24T22:00:00Z"}},
		"a night belongs to the day on which it begins": {w("22:00", "06:00", "UTC", "mon"),
			[]string{"2026-11-23T22:00:00Z", "2026-11-24T00:00:00Z", "2026-11-24T05:59:59.999Z"},
			[]string{"2026-11-23T05:00:00Z", "2026-11-24T06:00:00Z", "2026-11-24T23:00:00Z"}},
		"a day from noon to noon": {w("12:00", "11:59:59", "UTC", "sun"),
			[]string{"2026-11-22T12:00:00Z", "2026-11-23T11:59:58.999Z"}, []string{"2026-11-23T11:59:59Z", "2026-11-22T11:00:00Z"}},
		"the whole day, of another zone": {w("00:00", "24:00", "Asia/Kolkata", "tue"),
			[]string{"2026-11-23T18:30:00Z", "2026-11-24T18:29:59.999Z"}, []string{"2026-11-23T18:29:59.999Z", "2026-11-24T18:30:00Z"}},

		// Europe/Madrid: 02:00 → 03:00 on 2027-03-28, 03:00 → 02:00 on 2026-10-25.
		"Madrid: begins in the gap": {w("02:30", "04:00", "Europe/Madrid"),
			[]string{"2027-03-28T01:00:00Z", "2027-03-28T01:59:59.999Z"}, []string{"2027-03-28T00:59:59.999Z", "2027-03-28T02:00:00Z"}},
		"Madrid: ends in the gap": {w("01:00", "02:30", "Europe/Madrid"),
			[]string{"2027-03-28T00:00:00Z", "2027-03-28T00:59:59.999Z"}, []string{"2027-03-28T01:00:00Z"}},
		"Madrid: lies in the gap": {w("02:10", "02:50", "Europe/Madrid"),
			[]string{"2027-03-27T01:10:00Z", "2027-03-29T00:10:00Z"}, []string{"2027-03-28T00:59:59.999Z", "2027-03-28T01:00:00Z", "2027-03-28T01:10:00Z"}},
		"Madrid: both passes": {w("02:15", "02:45", "Europe/Madrid"),
			[]string{"2026-10-25T00:15:00Z", "2026-10-25T00:44:59.999Z", "2026-10-25T01:15:00Z", "2026-10-25T01:44:59.999Z"},
			[]string{"2026-10-25T00:14:59.999Z", "2026-10-25T00:45:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:45:00Z"}},

		// America/New_York: 02:00 → 03:00 on 2027-03-14, 02:00 → 01:00 on 2026-11-01.
		"New York: over both passes": {w("00:30", "02:00", "America/New_York"),
			[]string{"2026-11-01T04:30:00Z", "2026-11-01T05:59:59.999Z", "2026-11-01T06:00:00Z", "2026-11-01T06:59:59.999Z"},
			[]string{"2026-11-01T04:29:59.999Z", "2026-11-01T07:00:00Z"}},
		"New York: a night over the gap": {w("22:00", "02:30", "America/New_York", "sat"),
			[]string{"2027-03-14T03:00:00Z", "2027-03-14T06:59:59.999Z"}, []string{"2027-03-14T07:00:00Z", "2027-03-14T07:30:00Z"}},

		// Australia/Lord_Howe: half an hour, 02:00 → 02:30 on 2026-10-04, 02:00 → 01:30 on 2027-04-04.
		"Lord Howe: begins in the half hour": {w("02:15", "03:00", "Australia/Lord_Howe"),
			[]string{"2026-10-03T15:30:00Z"}, []string{"2026-10-03T15:29:59.999Z", "2026-10-03T16:00:00Z"}},
		"Lord Howe: both passes of a half hour": {w("01:30", "01:45", "Australia/Lord_Howe"),
			[]string{"2027-04-03T14:30:00Z", "2027-04-03T15:00:00Z", "2027-04-03T15:14:59.999Z"}, []string{"2027-04-03T14:45:00Z", "2027-04-03T15:15:00Z"}},

		// America/Santiago: midnight is skipped on 2026-09-06, and repeated on 2027-04-04.
		"Santiago: midnight that is not there": {w("00:00", "02:00", "America/Santiago", "sun"),
			[]string{"2026-09-06T04:00:00Z", "2026-09-06T04:59:59.999Z"}, []string{"2026-09-06T03:59:59.999Z", "2026-09-06T05:00:00Z"}},
		"Santiago: the last hour of Saturday twice": {w("23:00", "24:00", "America/Santiago", "sat"),
			[]string{"2027-04-04T02:00:00Z", "2027-04-04T02:59:59.999Z", "2027-04-04T03:00:00Z", "2027-04-04T03:59:59.999Z"},
			[]string{"2027-04-04T01:59:59.999Z", "2027-04-04T04:00:00Z"}},

		// Europe/Dublin has its summer time the other way round in the database.
		"Dublin": {w("01:30", "03:00", "Europe/Dublin"),
			[]string{"2027-03-28T01:00:00Z", "2027-03-28T01:59:59.999Z"}, []string{"2027-03-28T00:59:59.999Z", "2027-03-28T02:00:00Z"}},
		// Pacific/Apia had no 2011-12-30.
		"Apia": {w("09:00", "10:00", "Pacific/Apia", "fri", "sat"), []string{"2011-12-30T19:00:00Z"}, []string{"2011-12-30T10:00:00Z", "2011-12-29T19:00:00Z"}},
	} {
		p := windowed(t, c.window)
		for _, when := range c.open {
			require.True(t, decideAt(p, instant(when)).Allowed, "%s: shut at %s", name, when)
		}
		for _, when := range c.shut {
			d := decideAt(p, instant(when))
			require.False(t, d.Allowed, "%s: open at %s", name, when)
			require.Equal(t, iam.ReasonWindow, d.Reason)
			require.True(t, d.OpensAt.After(instant(when)), "%s at %s", name, when)
			require.True(t, decideAt(p, d.OpensAt).Allowed)
			require.False(t, decideAt(p, d.OpensAt.Add(-time.Millisecond)).Allowed, "%s at %s: it opens before %s", name, when, d.OpensAt)
		}
	}
}

var windowZones = []string{"UTC", "Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "Africa/Cairo", "Europe/Dublin"}

// windowTimes are near changes of clocks, and elsewhere.
var windowTimes = []string{
	"2026-10-25T01:00:00Z", "2027-03-28T01:00:00Z", "2026-11-01T06:00:00Z", "2027-03-14T07:00:00Z", "2026-10-03T15:30:00Z", "2027-04-03T15:00:00Z",
	"2026-09-06T04:00:00Z", "2027-04-04T03:00:00Z", "2026-10-29T21:00:00Z", "2026-04-23T22:00:00Z", "2026-11-26T12:00:00Z", "2026-12-31T23:59:59Z",
}

func drawWindow(t *rapid.T) iam.TimeWindow {
	clocks := []string{"00:00", "00:30", "01:15", "01:30", "02:00", "02:15", "02:30", "03:00", "09:00", "12:34:56", "17:30", "22:00", "23:59:59"}
	from := pick(t, "from", clocks)
	to := pick(t, "to", slices.DeleteFunc(append(slices.Clone(clocks), "24:00"), func(s string) bool { return s == from }))
	return iam.TimeWindow{Days: some(t, "days", 0, "mon", "tue", "wed", "thu", "fri", "sat", "sun"), From: from, To: to, Timezone: pick(t, "zone", windowZones)}
}

// onTheWall says whether w is open when the clocks of its zone show what they
// show at when.
func onTheWall(w iam.TimeWindow, when time.Time) bool {
	zone, err := time.LoadLocation(w.Timezone)
	if err != nil {
		panic(err)
	}
	local := when.In(zone)
	clock := local.Format("15:04:05.000")
	on := func(weekday time.Weekday) bool {
		return len(w.Days) == 0 || slices.Contains(w.Days, strings.ToLower(weekday.String()[:3]))
	}
	if w.From < w.To {
		return on(local.Weekday()) && w.From <= clock && clock < w.To
	}
	return on(local.Weekday()) && w.From <= clock || on((local.Weekday()+6)%7) && clock < w.To
}

// TestWindowsOpenAndCloseWhenClocksSaySo walks minute by minute, and compares
// what is said about the next opening and closing with what is met on the way.
func TestWindowsOpenAndCloseWhenClocksSaySo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ws := []iam.TimeWindow{drawWindow(t)}
		if rapid.Bool().Draw(t, "two") {
			ws = append(ws, drawWindow(t))
		}
		p := windowed(t, ws...)
		open := func(when time.Time) bool {
			return slices.ContainsFunc(ws, func(w iam.TimeWindow) bool { return onTheWall(w, when) })
		}
		start := instant(pick(t, "near", windowTimes)).Add(time.Duration(rapid.IntRange(-3*60, 3*60).Draw(t, "minutes")) * time.Minute)
		d := decideAt(p, start)
		require.Equal(t, open(start), d.Allowed, "%+v at %s", ws, start)
		turn := d.OpensAt
		if d.Allowed {
			q := about("secrets:getSecretValue", "/a")
			q.At = start
			turn = iam.Rules{Access: iam.Accesses(p)}.ClosesAt(q)
		}
		// Nothing turns before; all turns are at whole seconds.
		for when := start; when.Before(start.Add(30 * time.Hour)); when = when.Add(time.Minute) {
			if !turn.IsZero() && !when.Before(turn) {
				break
			}
			require.Equal(t, d.Allowed, open(when), "%+v: from %s nothing is said to change before %s", ws, start, turn)
		}
		if turn.IsZero() {
			require.True(t, d.Allowed, "every window opens again")
			return
		}
		require.Equal(t, !d.Allowed, open(turn), "%+v: from %s something is said to change at %s", ws, start, turn)
		require.Equal(t, d.Allowed, open(turn.Add(-time.Millisecond)))
	})
}

func TestWindowsThatCannotBeMeantAreRefused(t *testing.T) {
	good := iam.TimeWindow{Days: list("mon"), From: "09:00", To: "17:30", Timezone: "Europe/Madrid"}
	for _, c := range []struct {
		field, says string
		change      func(*iam.TimeWindow)
	}{
		{"days[0]", "is not a day", func(w *iam.TimeWindow) { w.Days = list("Mon") }},
		{"days[0]", "is not a day", func(w *iam.TimeWindow) { w.Days = list("monday") }},
		{"days[1]", "there twice", func(w *iam.TimeWindow) { w.Days = list("mon", "mon") }},
		{"from", "a time of day", func(w *iam.TimeWindow) { w.From = "9:00" }},
		{"from", "a time of day", func(w *iam.TimeWindow) { w.From = "24:00" }},
		{"from", "a time of day", func(w *iam.TimeWindow) { w.From = "" }},
		{"from", "a time of day", func(w *iam.TimeWindow) { w.From = "09:60" }},
		{"from", "a time of day", func(w *iam.TimeWindow) { w.From = "+9:00" }},
		{"to", "a time of day", func(w *iam.TimeWindow) { w.To = "24:01" }},
		{"to", "a time of day", func(w *iam.TimeWindow) { w.To = "25:00" }},
		{"to", "a time of day", func(w *iam.TimeWindow) { w.To = "17:30:00.5" }},
		{"to", "the whole day is 00:00 to 24:00", func(w *iam.TimeWindow) { w.To = "09:00:00" }},
		{"timezone", "IANA", func(w *iam.TimeWindow) { w.Timezone = "" }},
		{"timezone", "IANA", func(w *iam.TimeWindow) { w.Timezone = "Local" }},
		{"timezone", "is not a time zone", func(w *iam.TimeWindow) { w.Timezone = "CEST" }},
		{"timezone", "is not a time zone", func(w *iam.TimeWindow) { w.Timezone = "../../etc/passwd" }},
		{"timezone", "is not a time zone", func(w *iam.TimeWindow) { w.Timezone = "Europe/Madrit" }},
	} {
		w := good
		c.change(&w)
		_, err := iam.CompileAccessPolicy(catalogue, iam.AccessDocument{Name: "w", Paths: list("/**"), TimeWindows: []iam.TimeWindow{good, w}})
		requireInvalid(t, err, "timeWindows[1]."+c.field, c.says)
	}
	_, err := iam.CompileAccessPolicy(catalogue, iam.AccessDocument{Name: "w", Paths: list("/**"), TimeWindows: slices.Repeat([]iam.TimeWindow{good}, 33)})
	requireInvalid(t, err, "timeWindows", "has 33 entries")
}
