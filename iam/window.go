package iam

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a machine that has no zones installed decides as the others do

	"github.com/strongroom/strongroom/internal/fault"
)

// TimeWindow is a recurring window, as it is written.
//
// It is open from From until before To by the wall clocks of Timezone, on the
// Days on which it begins: "mon" to "sun", none given is every day. Clocks are
// "15:04" or "15:04:05"; To may be "24:00". If To is not later than From the
// window ends on the day after.
//
// A clock that is put forward skips what it skips: a window that would begin
// or end in the gap begins or ends at the first instant after it, and one that
// lies in it is not there that day. A clock that is put back shows an hour
// twice, and the window is open both times.
type TimeWindow struct {
	Days     []string
	From, To string
	Timezone string // of the IANA database, such as Europe/Madrid, or UTC
}

const (
	day        = 24 * time.Hour
	maxWindows = 32
	// horizon is how far ahead a window is looked for. Windows recur each week,
	// and one that a gap swallowed is there the week after.
	horizon = 15 * day
)

type window struct {
	days     [7]bool // by time.Weekday
	from, to time.Duration
	zone     *time.Location
}

// windows are open when any of them is.
type windows []window

func compileWindows(field string, in []TimeWindow) (windows, error) {
	if len(in) > maxWindows {
		return nil, fault.Invalid(field, "has %d entries; at most %d are allowed", len(in), maxWindows)
	}
	var out windows
	for i, w := range in {
		compiled, err := compileWindow(fmt.Sprintf("%s[%d]", field, i), w)
		if err != nil {
			return nil, err
		}
		out = append(out, compiled)
	}
	return out, nil
}

func compileWindow(field string, in TimeWindow) (window, error) {
	var out window
	for i, name := range in.Days {
		weekday := slices.Index(weekdays, name)
		switch {
		case weekday < 0:
			return out, fault.Invalid(fmt.Sprintf("%s.days[%d]", field, i), "%s is not a day; days are mon, tue, wed, thu, fri, sat and sun", quote(name))
		case out.days[weekday]:
			return out, fault.Invalid(fmt.Sprintf("%s.days[%d]", field, i), "%s is there twice", name)
		}
		out.days[weekday] = true
	}
	if len(in.Days) == 0 {
		out.days = [7]bool{true, true, true, true, true, true, true}
	}
	var err error
	if out.from, err = parseClock(in.From); err != nil || out.from == day {
		return out, fault.Invalid(field+".from", "must be a time of day such as 09:00, at most 23:59:59")
	}
	if out.to, err = parseClock(in.To); err != nil {
		return out, fault.Invalid(field+".to", "must be a time of day such as 17:30, at most 24:00")
	}
	if out.from == out.to {
		return out, fault.Invalid(field+".to", "is the same as from; the whole day is 00:00 to 24:00")
	}
	// Local, and the empty name, would mean something else on each node.
	if in.Timezone == "" || in.Timezone == "Local" {
		return out, fault.Invalid(field+".timezone", "must be a name of the IANA database such as Europe/Madrid, or UTC")
	}
	if out.zone, err = time.LoadLocation(in.Timezone); err != nil {
		return out, fault.Invalid(field+".timezone", "%s is not a time zone; names are those of the IANA database such as Europe/Madrid, or UTC", quote(in.Timezone))
	}
	return out, nil
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// parseClock reads 15:04 or 15:04:05, each with two digits, up to 24:00.
func parseClock(s string) (time.Duration, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, fmt.Errorf("not a clock")
	}
	var total time.Duration
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second}[:len(parts)] {
		n, err := strconv.ParseUint(parts[i], 10, 8)
		if err != nil || len(parts[i]) != 2 || i > 0 && n > 59 {
			return 0, fmt.Errorf("not a clock")
		}
		total += time.Duration(n) * unit
	}
	if total > day {
		return 0, fmt.Errorf("not a clock")
	}
	return total, nil
}

// inside compares wall clocks. That alone decides gaps and repeated hours: a
// clock that jumps over the beginning shows something later at the first
// instant after, and one that is put back shows the same again.
func (w *window) inside(at time.Time) bool {
	local := at.In(w.zone)
	clock := sinceMidnight(local)
	today := local.Weekday()
	if w.from < w.to {
		return w.days[today] && w.from <= clock && clock < w.to
	}
	return w.days[today] && w.from <= clock || w.days[(today+6)%7] && clock < w.to
}

func sinceMidnight(local time.Time) time.Duration {
	h, m, s := local.Clock()
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second + time.Duration(local.Nanosecond())
}

// next answers the first instant after at at which inside may answer
// something else: when a clock of the zone comes to the beginning or the end,
// to midnight, or jumps.
func (w *window) next(at time.Time) time.Time {
	local := at.In(w.zone)
	_, offset := local.Zone()
	year, month, date := local.Date()
	midnight := time.Date(year, month, date, 0, 0, 0, 0, time.UTC).Add(-time.Duration(offset) * time.Second)
	first := midnight.Add(day)
	for _, clock := range [...]time.Duration{w.from, w.to} {
		if t := midnight.Add(clock); t.After(at) && t.Before(first) {
			first = t
		}
	}
	if _, jumps := local.ZoneBounds(); !jumps.IsZero() && jumps.Before(first) {
		first = jumps // up to here the offset is what it is
	}
	return first.UTC()
}

func (ws windows) inside(at time.Time) bool {
	for i := range ws {
		if ws[i].inside(at) {
			return true
		}
	}
	return false
}

// turns answers the first instant after at, within the horizon, at which ws
// are open, or not; zero if there is none.
func (ws windows) turns(at time.Time, open bool) time.Time {
	for end, t := at.Add(horizon), at; ; {
		next := ws[0].next(t)
		for i := range ws[1:] {
			if n := ws[i+1].next(t); n.Before(next) {
				next = n
			}
		}
		if t = next; t.After(end) {
			return time.Time{}
		}
		if ws.inside(t) == open {
			return t
		}
	}
}

// opens answers the first instant, at or after at, at which ws are open; zero
// if that is none.
func (ws windows) opens(at time.Time) time.Time {
	if ws.inside(at) {
		return at
	}
	return ws.turns(at, true)
}

// closes answers the first instant after at at which ws, open at at, are not;
// zero if that is not soon.
func (ws windows) closes(at time.Time) time.Time { return ws.turns(at, false) }
