// Package notice finds in the events of an audit trail what a principal did
// not use to do. It knows no clock, no network and no trail: whoever has one
// feeds it, in order, and does something with what it answers.
//
// Every detector compares one count with one threshold, and the threshold with
// one baseline that a person can look up in the trail: the most that the same
// principal did in a window of the days before. An alert says all three.
package notice

import "time"

// Detector is one of the things that are noticed.
type Detector string

// The detectors.
const (
	// ReadVolume counts values handed out within ten minutes.
	ReadVolume Detector = "read_volume"
	// FirstRead counts paths within a day that the principal never read before.
	FirstRead Detector = "first_read"
	// ManyPaths counts different paths read within an hour.
	ManyPaths Detector = "many_paths"
	// Denials counts refusals within ten minutes; those of requests that nobody
	// could be named for are counted by their source address.
	Denials Detector = "denials"
	// Canary is any touch of a path that nobody has a reason to read.
	Canary Detector = "canary"
)

// Detectors are all of them, in the order in which they are shown.
var Detectors = [...]Detector{ReadVolume, FirstRead, ManyPaths, Denials, Canary}

// Kind says what an event is to the detectors.
type Kind uint8

// Kinds of events.
const (
	// Read is a value that was handed out.
	Read Kind = iota + 1
	// Denial is a refusal.
	Denial
	// Attempt is a read that failed for another reason than a refusal. It
	// matters for canaries alone.
	Attempt
)

// Event is what the detectors look at of one event of the trail.
type Event struct {
	At        int64 // milliseconds since the Unix epoch
	Principal string
	Source    string // address; whom a denial without principal is counted for
	Name      string // of the event
	Path      string
	Kind      Kind
	// Fresh says that the secret at the path is younger than a day. Whoever
	// deploys something new reads such paths, so they weigh a quarter.
	Fresh bool
	// Canary says that nobody has a reason to read the path.
	Canary bool
}

// Alert is one thing to look at.
type Alert struct {
	Detector  Detector
	At        int64
	Principal string // "" if nobody could be named
	Source    string
	Path      string // of a canary
	// Text says what was measured, the threshold and the baseline.
	Text string
	// Measured passed Threshold; Baseline is the most of the days before.
	Measured, Threshold, Baseline uint64
	// Held is how many alerts of this detector about this principal were held
	// back since the one before.
	Held uint64
}

// Rule is how one detector decides.
type Rule struct {
	Off bool
	// Floor is the lowest threshold, whatever the baseline is.
	Floor uint64
	// Factor is how many times the baseline is too many.
	Factor uint64
}

// Settings of a Watcher.
type Settings struct {
	Rules map[Detector]Rule
	// Learning is how long nothing is said about the habits of a principal that
	// was not seen before: in that time first reads are not counted, and the
	// floors of reads and paths are multiplied by ten.
	Learning time.Duration
	// Again is the least time between two alerts of a detector about a principal.
	Again time.Duration
}

// Bounds of what a Watcher remembers. At most 10 KiB of one principal, and
// about one and a half of most.
const (
	MaxPrincipals = 10_000
	MaxSources    = 2_000
	// BaselineDays is how many whole days before today make a baseline.
	BaselineDays = 14
	// MaxKnownPaths bounds the paths that are remembered of one principal. Of
	// one that reads more, first reads are not counted any more.
	MaxKnownPaths = 1024

	learningFactor = 10
	freshWeight    = 4 // so many fresh paths weigh like one
	repeatWeight   = 10
)

// DefaultSettings are those that test/noticing was tuned with; docs/noticing.md
// has the figures.
func DefaultSettings() Settings {
	return Settings{
		Rules: map[Detector]Rule{
			ReadVolume: {Floor: 100, Factor: 4},
			FirstRead:  {Floor: 12, Factor: 3},
			ManyPaths:  {Floor: 40, Factor: 3},
			Denials:    {Floor: 20, Factor: 4},
			Canary:     {},
		},
		Learning: 7 * 24 * time.Hour,
		Again:    time.Hour,
	}
}
