package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// target says whom a fault is done to; who that is, is found out when it is.
type target string

const (
	leader   target = "leader"
	follower target = "follower"
	all      target = "all"
)

// step is one fault of a schedule.
type step struct {
	Family string        `json:"family"`
	On     target        `json:"on"`
	Hold   time.Duration `json:"hold"`
	// Number is what else the seed decides: which follower, which percentage.
	Number uint32 `json:"number"`
}

func (s step) String() string {
	return fmt.Sprintf("%s on %s for %v (%d)", s.Family, s.On, s.Hold, s.Number)
}

// fault is one that has been made and must be taken back.
type fault struct {
	// verify answers an error unless the fault has had an effect: one without
	// tests nothing, and fails the run. It may wait. nil: arming was the proof.
	verify func() error
	// disarm takes it back. It is called once, whatever verify said.
	disarm func() error
}

// family is a kind of fault.
type family struct {
	name   string
	on     []target
	least  time.Duration // how long it is held
	most   time.Duration
	weight int // how often it is drawn, 0: only by the short form
	arm    func(l *Lab, s step) (fault, error)
}

// families is the catalogue. Its order is that of the short form.
func families() []family {
	var out []family
	out = append(out, networkFamilies()...)
	out = append(out, processFamilies()...)
	out = append(out, diskFamilies()...)
	out = append(out, hsmFamilies()...)
	return append(out, clusterFamilies()...)
}

// mostSpares is how many nodes may join in one run.
const mostSpares = 4

// spares is how many nodes a schedule wants besides the first members.
func spares(steps []step) (n int) {
	for _, s := range steps {
		if s.Family == oneMore {
			n++
		}
	}
	return n
}

// schedule draws n faults.
func schedule(seed uint64, n int) []step {
	random := rand.New(rand.NewPCG(seed, 0))
	var bag []family
	for _, f := range families() {
		for range f.weight {
			bag = append(bag, f)
		}
	}
	var out []step
	joins := 0
	for len(out) < n {
		f := bag[random.IntN(len(bag))]
		if f.name == oneMore {
			if joins++; joins > mostSpares {
				continue
			}
		}
		out = append(out, step{
			Family: f.name, On: f.on[random.IntN(len(f.on))], Number: random.Uint32(),
			Hold: f.least + time.Duration(random.Int64N(int64(f.most-f.least)+1)),
		})
	}
	return out
}

// eachOnce is the schedule of the short form: every family on each of its
// targets, for the least time.
func eachOnce() []step {
	var out []step
	for i, f := range families() {
		for _, on := range f.on {
			out = append(out, step{Family: f.name, On: on, Hold: f.least, Number: uint32(i)})
		}
	}
	return out
}

// begin arms the fault of a step.
func (l *Lab) begin(s step) (fault, error) {
	for _, f := range families() {
		if f.name == s.Family {
			return f.arm(l, s)
		}
	}
	return fault{}, fmt.Errorf("no family %q", s.Family)
}

// pick is the member that a step is about.
func (l *Lab) pick(s step) (*node, error) {
	lead, err := l.leader()
	if err != nil || s.On == leader {
		return lead, err
	}
	others := l.others(lead)
	return others[int(s.Number)%len(others)], nil
}

// each does something to nodes, all of them, and joins what fails.
func each(nodes []*node, do func(*node) error) error {
	var errs []error
	for _, n := range nodes {
		if err := do(n); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.name(), err))
		}
	}
	return errors.Join(errs...)
}
