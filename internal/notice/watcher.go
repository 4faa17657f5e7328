package notice

import (
	"fmt"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const tenMinutes = hour / 6

// Watcher runs the detectors. It belongs to one goroutine.
type Watcher struct {
	settings Settings
	// Those that no principal could be named for are apart: anybody can ask
	// from many addresses, and must not push out what is known of principals.
	principals, sources *simplelru.LRU[string, *subject]
}

// subject is what is remembered of a principal, or of a source address.
type subject struct {
	since   int64 // when it was first seen
	reads   counter
	firsts  counter // four for each first read, one for each fresh one
	spread  counter
	denials counter // ten for each question, one for a repeat of it
	known   known
	paths   sketch     // of the hour
	denied  [16]uint64 // questions of the ten minutes, one bit each
	alerts  [len(Detectors)]alerted
}

// alerted is what one detector said about a subject last.
type alerted struct {
	at   int64
	held uint64
}

// New makes a Watcher that knows nobody.
func New(settings Settings) (*Watcher, error) {
	principals, err := simplelru.NewLRU[string, *subject](MaxPrincipals, nil)
	if err != nil {
		return nil, fmt.Errorf("notice: %w", err)
	}
	sources, err := simplelru.NewLRU[string, *subject](MaxSources, nil)
	if err != nil {
		return nil, fmt.Errorf("notice: %w", err)
	}
	return &Watcher{settings: settings, principals: principals, sources: sources}, nil
}

// Set changes the settings. What is remembered stays.
func (w *Watcher) Set(settings Settings) { w.settings = settings }

// Observe takes the next event of the trail and answers what there is to say
// about it.
func (w *Watcher) Observe(e Event) []Alert {
	s := w.subject(e)
	var out []Alert
	if e.Canary {
		out = w.say(out, s, e, Canary, 1, 0, 0)
	}
	switch e.Kind {
	case Read:
		return w.read(out, s, e)
	case Denial:
		return w.denial(out, s, e)
	}
	return out
}

// Told says that an alert was written at the given time already, by whoever
// followed the trail before this Watcher.
func (w *Watcher) Told(d Detector, e Event) {
	if i := index(d); i >= 0 {
		s := w.subject(e)
		s.alerts[i].at, s.alerts[i].held = max(s.alerts[i].at, e.At), 0
	}
}

func (w *Watcher) subject(e Event) *subject {
	kept, name := w.principals, e.Principal
	if name == "" {
		kept, name = w.sources, e.Source
	}
	if s, ok := kept.Get(name); ok {
		s.since = min(s.since, e.At) // a clock was set back
		return s
	}
	s := &subject{since: e.At}
	kept.Add(name, s)
	return s
}

func (w *Watcher) read(out []Alert, s *subject, e Event) []Alert {
	learning := e.At-s.since < w.settings.Learning.Milliseconds()
	s.reads.roll(e.At, tenMinutes)
	s.reads.count++
	out = w.judge(out, s, e, ReadVolume, &s.reads, 1, learning)

	h := hash(e.Path)
	if s.spread.roll(e.At, hour) {
		s.paths = sketch{}
	}
	if s.paths.add(h) {
		s.spread.count = s.paths.estimate()
		out = w.judge(out, s, e, ManyPaths, &s.spread, 1, learning)
	}

	s.firsts.roll(e.At, day)
	if !s.known.add(h) || learning {
		return out
	}
	if e.Fresh {
		s.firsts.count++
	} else {
		s.firsts.count += freshWeight
	}
	return w.judge(out, s, e, FirstRead, &s.firsts, freshWeight, false)
}

func (w *Watcher) denial(out []Alert, s *subject, e Event) []Alert {
	if s.denials.roll(e.At, tenMinutes) {
		s.denied = [16]uint64{}
	}
	s.denials.count++
	h := hash(e.Name, e.Path)
	word, bit := &s.denied[h/64%uint64(len(s.denied))], uint64(1)<<(h%64)
	// Of those that nobody could be named for it is not known what they wanted.
	if *word&bit == 0 || e.Principal == "" {
		*word |= bit
		s.denials.count += repeatWeight - 1
	}
	return w.judge(out, s, e, Denials, &s.denials, repeatWeight, false)
}

// judge holds a count against its threshold. The counter counts in parts of a
// unit.
func (w *Watcher) judge(out []Alert, s *subject, e Event, d Detector, c *counter, unit uint64, learning bool) []Alert {
	rule := w.settings.Rules[d]
	floor := rule.Floor
	if learning {
		floor *= learningFactor
	}
	baseline := c.baseline()
	threshold := max(unit*floor, rule.Factor*baseline)
	if rule.Off || !c.passed(threshold) {
		return out
	}
	return w.say(out, s, e, d, (c.count+unit-1)/unit, threshold/unit, (baseline+unit-1)/unit)
}

// say makes an alert, unless there was one a moment ago.
func (w *Watcher) say(out []Alert, s *subject, e Event, d Detector, measured, threshold, baseline uint64) []Alert {
	rule, last := w.settings.Rules[d], &s.alerts[index(d)]
	if rule.Off {
		return out
	}
	if last.at != 0 && e.At-last.at < w.settings.Again.Milliseconds() && e.At > last.at-hour {
		last.held++
		return out
	}
	a := Alert{
		Detector: d, At: e.At, Principal: e.Principal, Source: e.Source,
		Measured: measured, Threshold: threshold, Baseline: baseline, Held: last.held,
	}
	if d == Canary {
		a.Path = e.Path
	}
	a.Text = a.text(rule, e)
	last.at, last.held = e.At, 0
	return append(out, a)
}

func index(d Detector) int {
	for i, other := range Detectors {
		if other == d {
			return i
		}
	}
	return -1
}
