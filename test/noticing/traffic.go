// Package noticing replays made-up traffic of a company through the detectors
// of internal/notice, with the settings that a new cluster has: how often they
// cry wolf, and how long an attack stays unnoticed. It is how the defaults were
// chosen, and holds them.
package noticing

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/strongroom/strongroom/internal/notice"
)

// Times in milliseconds, as in the trail.
const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
	week   = 7 * day
	// monday is when the traffic begins: 5 January 2026, 00:00 UTC.
	monday = int64(1_767_571_200_000)
)

// seen is an event, and whether somebody attacked by it.
type seen struct {
	notice.Event
	attack bool
}

// kind is a kind of principal: how many of a hundred there are, and what one
// does in the time given.
type kind struct {
	name  string
	share int
	live  func(p *person, end int64)
}

var kinds = []kind{
	{"service", 34, service},
	{"autoscaled service", 10, autoscaled},
	{"cron job", 15, cron},
	{"deployer", 5, deployer},
	{"human", 20, human},
	{"CI", 10, ci},
	{"new service", 6, newcomer},
}

// person is one principal on its way through the month.
type person struct {
	*rand.Rand
	name   string
	paths  []string // what it reads
	next   int      // of the paths that it does not read yet
	events []seen
}

func newPerson(seed uint64, n int) *person {
	return &person{Rand: rand.New(rand.NewPCG(seed, uint64(n))), name: fmt.Sprintf("p%04d", n)}
}

// live answers what the principal number n does until end, in order.
func live(seed uint64, n int, end int64) (string, []seen) {
	p, k := newPerson(seed, n), kindOf(n)
	k.live(p, end)
	slices.SortStableFunc(p.events, func(a, b seen) int { return int(a.At - b.At) })
	return k.name, p.events
}

// kindOf answers what kind the principal number n is of.
func kindOf(n int) kind {
	at := n % 100
	for _, k := range kinds {
		if at < k.share {
			return k
		}
		at -= k.share
	}
	panic("the shares are less than a hundred")
}

// take gives it more paths to read.
func (p *person) take(n int) {
	for range n {
		p.paths = append(p.paths, fmt.Sprintf("/%s/secret-%d", p.name, p.next))
		p.next++
	}
}

func (p *person) read(at int64, path string, fresh bool) {
	p.events = append(p.events, seen{Event: notice.Event{
		At: at, Principal: p.name, Source: "192.0.2.1", Name: "secrets.get_value", Path: path, Kind: notice.Read, Fresh: fresh,
	}})
}

func (p *person) denied(at int64, path string) {
	p.events = append(p.events, seen{Event: notice.Event{
		At: at, Principal: p.name, Source: "192.0.2.1", Name: "secrets.get_value", Path: path, Kind: notice.Denial,
	}})
}

// readAll reads everything once, as a program does when it starts.
func (p *person) readAll(at int64) {
	for i, path := range p.paths {
		p.read(at+int64(i)*20, path, false)
	}
}

// between answers a whole number from low to high.
func (p *person) between(low, high int) int { return low + p.IntN(high-low+1) }

// workday reports whether people work on the day.
func workday(at int64) bool { return (at-monday)/day%7 < 5 }

// release is what a new version of a program brings: at times it reads secrets
// that it did not read before, most of them made for it. At times it is
// configured wrong and asks for what it may not have until somebody looks.
func (p *person) release(at int64) {
	if p.IntN(3) == 0 {
		before := len(p.paths)
		p.take(p.between(1, 4))
		for i, path := range p.paths[before:] {
			p.read(at+int64(i)*50, path, p.IntN(10) < 7)
		}
	}
	if p.IntN(25) == 0 {
		for t := at; t < at+hour; t += 30 * second {
			p.denied(t, "/shared/not-granted")
		}
	}
	p.readAll(at)
}
