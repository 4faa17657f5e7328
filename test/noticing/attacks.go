package noticing

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/strongroom/strongroom/internal/notice"
)

// attack is what somebody does with what they stole from a principal of a kind.
type attack struct {
	Name   string
	victim string // kind of the principal; "": none is known
	// begin is the hour of the day at which it begins.
	begin int64
	act   func(r *rand.Rand, do func(after int64, e notice.Event))
}

// attacks are those that the detectors are held against. The thief reads what
// the token may read, and does not know what its owner is used to.
var attacks = []attack{
	{"a service's token reads all that it may, 5 a second", "service", 11, func(_ *rand.Rand, do func(int64, notice.Event)) {
		for i := range int64(400) {
			do(i*200, notice.Event{Path: fmt.Sprintf("/stolen/%d", i), Kind: notice.Read})
		}
	}},
	{"a service's token reads three paths again and again, 10 a second", "service", 11, func(_ *rand.Rand, do func(int64, notice.Event)) {
		for i := range int64(6000) {
			do(i*second/10, notice.Event{Path: fmt.Sprintf("/stolen/%d", i%3), Kind: notice.Read})
		}
	}},
	{"a service's token reads 4 new paths an hour", "service", 9, func(r *rand.Rand, do func(int64, notice.Event)) {
		for i := range int64(24 * 4) {
			do(i*15*minute+r.Int64N(minute), notice.Event{Path: fmt.Sprintf("/stolen/%d", i), Kind: notice.Read})
		}
	}},
	{"a CI token is tried on 200 paths, all denied, 1 a second", "CI", 14, func(_ *rand.Rand, do func(int64, notice.Event)) {
		for i := range int64(200) {
			do(i*second, notice.Event{Path: fmt.Sprintf("/stolen/%d", i), Kind: notice.Denial})
		}
	}},
	{"passwords are tried from one address, 1 every 10 seconds", "", 3, func(_ *rand.Rand, do func(int64, notice.Event)) {
		for i := range int64(360) {
			do(i*10*second, notice.Event{Name: "auth.login", Kind: notice.Denial})
		}
	}},
	{"a human's account browses at night, 1 path every 40 seconds", "human", 2, func(r *rand.Rand, do func(int64, notice.Event)) {
		for i := range int64(90) {
			do(i*40*second+r.Int64N(10*second), notice.Event{Path: fmt.Sprintf("/stolen/%d", i), Kind: notice.Read})
		}
	}},
	{"a cron job's token reads 1 path a minute of 60 with one canary", "cron job", 16, func(r *rand.Rand, do func(int64, notice.Event)) {
		canary := r.Int64N(60)
		for i := range int64(60) {
			do(i*minute, notice.Event{Path: fmt.Sprintf("/stolen/%d", i), Kind: notice.Read, Canary: i == canary})
		}
	}},
}

// strike answers the life of a victim with the attack in it, and when the
// attack began.
func (a *attack) strike(seed uint64, n int, end int64) (events []seen, began int64) {
	r := rand.New(rand.NewPCG(seed, uint64(n)+1<<32))
	if a.victim != "" {
		_, events = live(seed, n, end)
	}
	began = end - 2*day + a.begin*hour + r.Int64N(hour)
	name := fmt.Sprintf("p%04d", n)
	a.act(r, func(after int64, e notice.Event) {
		e.At, e.Source = began+after, "203.0.113.9"
		if a.victim != "" {
			e.Principal = name
		}
		if e.Name == "" {
			e.Name = "secrets.get_value"
		}
		events = append(events, seen{Event: e, attack: true})
	})
	slices.SortStableFunc(events, func(a, b seen) int { return int(a.At - b.At) })
	return events, began
}
