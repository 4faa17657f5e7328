package engine_test

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A schedule is nothing but what is drawn. Tasks are coroutines: one of them
// runs at a time, up to the next place at which it can be interrupted, and it
// is drawn which one goes on from there. Nothing is left to the scheduler of
// the machine or to its clock: a request runs out of time where it is drawn,
// and the play is in a bubble, where time stands still while anything runs.

// task is a request, or a piece of a node's own work, on its way.
type task struct {
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	number int
	slow   bool        // it goes on rarely
	alarm  *time.Timer // of a wait that nothing ends
}

// maxTasks are on their way at the same time.
const maxTasks = 6

// step begins a task, or lets one that is on its way go on.
func (p *play) step() {
	const begins, fast, slow = 6, 8, 1
	total := 0
	for _, t := range p.tasks {
		total += t.weight(fast, slow)
	}
	if len(p.tasks) < maxTasks {
		total += begins
	}
	at := p.chance("next", total)
	for _, t := range p.tasks {
		if at -= t.weight(fast, slow); at < 0 {
			p.resume(t)
			return
		}
	}
	p.begin(p.act)
}

func (t *task) weight(fast, slow int) int {
	if t.slow {
		return slow
	}
	return fast
}

// begin runs a task up to its first interruption.
func (p *play) begin(do func()) {
	p.begun++
	t := &task{number: p.begun, slow: p.chance("slow", 4) == 3}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		do()
	})
	p.tasks = append(p.tasks, t)
	p.resume(t)
}

func (p *play) resume(t *task) {
	p.running = t
	_, goesOn := t.next()
	p.running = nil
	require.Empty(p, p.broken, "a version was destroyed that is in use")
	if !goesOn {
		p.tasks = slices.DeleteFunc(p.tasks, func(one *task) bool { return one == t })
	}
}

// finish lets all tasks come to their ends.
func (p *play) finish() {
	for len(p.tasks) > 0 && !p.over {
		p.resume(p.tasks[p.chance("last", len(p.tasks))])
	}
}

// abandon is finish where nothing counts any more: nobody leads, and every
// wait is over.
func (p *play) abandon() {
	p.over = true
	for _, t := range p.tasks {
		t.stop()
	}
}

// interlude is a place at which anything else may happen.
func (p *play) interlude() {
	t := p.running
	if t == nil || p.over {
		return
	}
	t.quiet()
	t.yield(struct{}{})
}

// chance draws evenly; rapid's own generators prefer small numbers.
func (p *play) chance(what string, n int) int {
	if p.over {
		return n - 1
	}
	if p.tape != nil {
		return p.rewound(what, n)
	}
	drawn := rapid.Custom(func(t *rapid.T) int {
		drawn := 0
		for range 8 {
			drawn *= 2
			if rapid.Bool().Draw(t, "bit") {
				drawn++
			}
		}
		return drawn % n
	}).Draw(p.T, what)
	p.drawn = append(p.drawn, chosen{what, n, drawn})
	return drawn
}

// chosen is what was drawn once.
type chosen struct {
	what     string
	of, came int
}

// rewound answers what came when the same was drawn before.
func (p *play) rewound(what string, n int) int {
	if len(p.tape) == 0 || p.tape[0].what != what || p.tape[0].of != n {
		p.tell("nothing like this was drawn before: %s of %d", what, n)
		p.over = true
		return n - 1
	}
	came := p.tape[0].came
	p.tape = p.tape[1:]
	return came
}

// patience is the context of a request. Where the request waits for others,
// which is when it asks for Done, it lets them run, and its time ends where it
// is drawn. It never ends at a moment at which what it waits for has come:
// which of both the request would notice is up to the runtime.
type patience struct {
	context.Context
	*play
	cancel context.CancelFunc
	waits  func() []<-chan struct{} // what the request may be waiting for
}

func (p *play) patience(waits func() []<-chan struct{}) *patience {
	ctx, cancel := context.WithCancel(context.Background())
	return &patience{ctx, p, cancel, waits}
}

func (w *patience) Done() <-chan struct{} {
	if t := w.running; t != nil && t.alarm != nil {
		return w.Context.Done() // it is the same wait: nothing ran since it was asked last
	}
	for waits := w.waits(); len(waits) > 0 && w.Err() == nil && !slices.ContainsFunc(waits, closed); {
		if w.running == nil || w.over || w.chance("time ends", 4) == 0 {
			w.tell("the time of the request ends")
			w.cancel()
			break
		}
		w.interlude()
	}
	w.setAlarm()
	return w.Context.Done()
}

// setAlarm ends a wait for something that can only come when others go on,
// who cannot while it waits: the clock of the bubble moves when nothing runs.
func (w *patience) setAlarm() {
	if t := w.running; t != nil {
		t.quiet()
		t.alarm = time.AfterFunc(time.Millisecond, w.cancel)
	}
}

func (t *task) quiet() {
	if t.alarm != nil {
		t.alarm.Stop()
		t.alarm = nil
	}
}

func noWaits() []<-chan struct{} { return nil }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
