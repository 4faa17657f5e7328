package notice

import "fmt"

// measures say what the count of a detector is, for people.
var measures = map[Detector]string{
	ReadVolume: "reads within ten minutes",
	FirstRead:  "first reads of a path within a day",
	ManyPaths:  "different paths read within an hour, estimated",
	Denials:    "denials within ten minutes, where a repeat counts a tenth",
}

// Counts says what a detector counts, for people.
func Counts(d Detector) string {
	if d == Canary {
		return "any read of a canary, and any denial of one"
	}
	return measures[d]
}

// text says everything by which a person can check the alert in the trail.
func (a *Alert) text(rule Rule, e Event) string {
	var s string
	if a.Detector == Canary {
		s = "a canary was touched by " + e.Name
	} else {
		s = fmt.Sprintf("%d %s; the threshold is %d", a.Measured, measures[a.Detector], a.Threshold)
		switch {
		case a.Baseline == 0:
			s += fmt.Sprintf(", and there were none on the %d days before", BaselineDays)
		case a.Threshold == rule.Factor*a.Baseline:
			s += fmt.Sprintf(", %d times the most of the %d days before, which is %d", rule.Factor, BaselineDays, a.Baseline)
		default:
			s += fmt.Sprintf(", the lowest that is set; the most of the %d days before is %d", BaselineDays, a.Baseline)
		}
	}
	if a.Principal == "" {
		s += "; nobody could be named"
	}
	if a.Held > 0 {
		s += fmt.Sprintf("; %d more alerts of this kind were held back since the last one", a.Held)
	}
	return s
}
