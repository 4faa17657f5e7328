// Package cron says when a schedule of five fields is due next, in a time
// zone. It is small because the rules of daylight saving time are the point:
// they are decided here, and tested.
//
// A schedule is matched against wall clocks of its zone. A wall clock time
// that a zone skips in spring is taken at the first moment after the gap, so a
// daily schedule is due every day; one that comes twice in autumn is taken at
// its first time alone, so nothing that is due once a day is done twice.
package cron

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	// For a machine that has no zones installed. Those that are installed come
	// before these (ZONEINFO, then the system's): nodes whose zones are of
	// different releases can differ on when a schedule is due. The leader alone
	// asks, so that is a difference from one leader to the next, never between
	// two at a time.
	_ "time/tzdata"
)

// Schedule is a parsed expression. It is immutable.
type Schedule struct {
	minute, hour, day, month, weekday uint64 // bits
	// anyDay and anyWeekday say that the field began with a star. If neither
	// did, a day that matches one of the two is due, as in every cron.
	anyDay, anyWeekday bool
	zone               *time.Location
}

type field struct {
	name     string
	min, max int
	names    []string // of min, min+1, …
}

var fields = []field{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of the week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// horizon is how far ahead a due time is looked for: 29 February on a given
// weekday comes back within it.
const horizon = 41

// Parse reads "minute hour day month weekday": numbers, names of three
// letters, lists, ranges and steps. zone is a name of the IANA database, ""
// is UTC; "Local" is refused, because it is another zone on each node.
func Parse(expression, zone string) (Schedule, error) {
	s := Schedule{zone: time.UTC}
	parts := strings.Fields(expression)
	if len(parts) != len(fields) {
		return s, fmt.Errorf("has %d fields; write five: minute hour day-of-month month day-of-week, such as \"30 3 * * sun\"", len(parts))
	}
	sets := make([]uint64, len(fields))
	for i, f := range fields {
		set, err := f.parse(parts[i])
		if err != nil {
			return s, fmt.Errorf("%s: %w", f.name, err)
		}
		sets[i] = set
	}
	s.minute, s.hour, s.day, s.month, s.weekday = sets[0], sets[1], sets[2], sets[3], sets[4]
	if s.weekday&(1<<7) != 0 { // 7 is Sunday, too
		s.weekday |= 1
	}
	s.anyDay, s.anyWeekday = parts[2][0] == '*', parts[4][0] == '*'
	var err error
	if s.zone, err = Zone(zone); err != nil {
		return s, err
	}
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return s, fmt.Errorf("is never due: no month has such a day")
	}
	return s, nil
}

// Zone answers the zone of an IANA name, UTC for "".
func Zone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("the time zone must be a name of the IANA database, such as Europe/Berlin")
	}
	return zone, nil
}

func (f field) parse(text string) (uint64, error) {
	var set uint64
	for item := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(item, "/")
		step := 1
		if stepped {
			var err error
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > f.max {
				return 0, fmt.Errorf("the step after / must be 1 to %d", f.max)
			}
		}
		from, to, err := f.span(span, stepped)
		if err != nil {
			return 0, err
		}
		for n := from; n <= to; n += step {
			set |= 1 << n
		}
	}
	return set, nil
}

func (f field) span(text string, stepped bool) (from, to int, err error) {
	if text == "*" {
		return f.min, f.max, nil
	}
	low, high, ranged := strings.Cut(text, "-")
	if from, err = f.number(low); err != nil {
		return 0, 0, err
	}
	switch {
	case ranged:
		if to, err = f.number(high); err != nil {
			return 0, 0, err
		}
	case stepped:
		to = f.max
	default:
		to = from
	}
	if from > to {
		return 0, 0, fmt.Errorf("the range %d-%d runs backwards", from, to)
	}
	return from, to, nil
}

func (f field) number(text string) (int, error) {
	for i, name := range f.names {
		if text == name {
			return f.min + i, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.min || n > f.max || len(text) > 2 || text[0] == '+' || text[0] == '-' {
		return 0, fmt.Errorf("must be %d to %d", f.min, f.max)
	}
	return n, nil
}

// Next answers the first due time after t, the zero time if there is none in
// the next 41 years.
func (s Schedule) Next(t time.Time) time.Time {
	local := t.In(s.zone)
	year, month, day := local.Date()
	// From the day before: a time that was skipped or comes twice is near.
	for n := -1; n < horizon*366; n++ {
		date := time.Date(year, month, day+n, 12, 0, 0, 0, time.UTC)
		if !s.onDay(date) {
			continue
		}
		for hour := range 24 {
			if s.hour&(1<<hour) == 0 {
				continue
			}
			for minute := range 60 {
				if s.minute&(1<<minute) == 0 {
					continue
				}
				if due := s.at(date, hour, minute); due.After(t) {
					return due
				}
			}
		}
	}
	return time.Time{}
}

func (s Schedule) onDay(date time.Time) bool {
	if s.month&(1<<date.Month()) == 0 {
		return false
	}
	day, weekday := s.day&(1<<date.Day()) != 0, s.weekday&(1<<date.Weekday()) != 0
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}

// at answers when the clocks of the zone show this time first, or, where they
// never do, when they were moved over it.
func (s Schedule) at(date time.Time, hour, minute int) time.Time {
	wall := time.Date(date.Year(), date.Month(), date.Day(), hour, minute, 0, 0, time.UTC)
	// The offsets in force a day before and a day after are those around any
	// one change of the clocks; the earlier instant that shows the wall time
	// is the first.
	var first time.Time
	offsets := []int{offset(wall.Add(-24*time.Hour), s.zone), offset(wall.Add(24*time.Hour), s.zone)}
	for _, o := range offsets {
		at := wall.Add(-time.Duration(o) * time.Second)
		if offset(at, s.zone) == o && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if !first.IsZero() {
		return first
	}
	// In the gap: the change itself lies between the two readings.
	low, high := wall.Add(-26*time.Hour), wall.Add(26*time.Hour)
	before := offset(low, s.zone)
	for high.Sub(low) > time.Second {
		middle := low.Add(high.Sub(low) / 2)
		if offset(middle, s.zone) == before {
			low = middle
		} else {
			high = middle
		}
	}
	return high.Truncate(time.Second)
}

func offset(at time.Time, zone *time.Location) int {
	_, o := at.In(zone).Zone()
	return o
}
