package fsm

import "fmt"

// TimeWindow is a recurring window, as it was written. What a zone is, and
// when its clocks jump, is not known here.
type TimeWindow struct {
	Days     []string `cbor:"1,keyasint,omitempty"` // "mon" …; none: every day
	From     string   `cbor:"2,keyasint,omitempty"` // "09:00" or "09:00:00"
	To       string   `cbor:"3,keyasint,omitempty"` // also "24:00"
	Timezone string   `cbor:"4,keyasint,omitempty"`
}

const (
	maxWindows  = 32
	maxZoneName = 64
)

var weekdays = map[string]bool{"mon": true, "tue": true, "wed": true, "thu": true, "fri": true, "sat": true, "sun": true}

func checkWindows(field string, in []TimeWindow) *Refusal {
	if len(in) > maxWindows {
		return invalid(field, "has %d entries; at most %d are allowed", len(in), maxWindows)
	}
	for i, w := range in {
		at := fmt.Sprintf("%s[%d].", field, i)
		if len(w.Days) > len(weekdays) {
			return invalid(at+"days", "has %d entries; a week has %d days", len(w.Days), len(weekdays))
		}
		for _, d := range w.Days {
			if !weekdays[d] {
				return invalid(at+"days", "must be mon, tue, wed, thu, fri, sat or sun")
			}
		}
		switch {
		case !isClock(w.From) || w.From >= "24:00":
			return invalid(at+"from", "must be a time of day such as 09:00")
		case !isClock(w.To) || w.To > "24:00" && w.To != "24:00:00":
			return invalid(at+"to", "must be a time of day such as 17:30, at most 24:00")
		case w.Timezone == "" || len(w.Timezone) > maxZoneName:
			return invalid(at+"timezone", "must have 1 to %d bytes", maxZoneName)
		}
	}
	return nil
}

// isClock reports whether s has the form 15:04 or 15:04:05.
func isClock(s string) bool {
	if len(s) != len("15:04") && len(s) != len("15:04:05") {
		return false
	}
	for i := range len(s) {
		if colon := i%3 == 2; colon != (s[i] == ':') || !colon && (s[i] < '0' || s[i] > '9') {
			return false
		}
		if i%3 == 0 && i > 0 && s[i] > '5' {
			return false
		}
	}
	return true
}
