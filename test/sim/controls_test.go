package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/raft"
)

// control is a guard, a history in which it matters, and what is seen when it
// is taken away.
type control struct {
	name    string
	options func(*options)
	without func(*raft.Faults) // the guard away
	with    func(*raft.Faults) // taken away in both, so that this guard alone stands; nil: nothing
	steps   func(r *rand.Rand) []step
	shows   []string // one of them is in a violation without the guard
}

const (
	tries = 12 // schedules within which the guard must be missed
	holds = 2  // schedules in which it must hold
)

// patient is a lease that outlives answers that are slow to come home.
func patient(o *options) {
	o.Timing.Heartbeat, o.Timing.Election, o.Timing.Lease = time.Second, time.Second, 500*time.Millisecond
}

func wait(d time.Duration, do func(*world) string) step { return step{d, do} }

// handOvers are by leaders to which everything comes late, so that they do not
// know that they lead no more, while clients go on asking them.
func handOvers(r *rand.Rand) []step {
	var out []step
	for range 5 {
		late, pick := time.Duration(100+r.IntN(100))*time.Millisecond, r.IntN(60)
		out = append(out, wait(300*time.Millisecond, func(w *world) string {
			old := w.leader()
			if old == nil {
				return "nobody leads"
			}
			w.slow(old.node, late)
			did := w.handOver(pick)
			for i := range 6 {
				c := &client{w, fmt.Sprintf("old%d", i), w.random, 0}
				w.clients.Go(func() {
					for until := time.Now().Add(3 * late); time.Now().Before(until); <-time.After(3 * time.Millisecond) {
						c.ask(old)
					}
				})
			}
			return did
		}), wait(2*time.Second, mend(r)))
	}
	return out
}

// ask reads from a process that may lead, for as long as a patient client waits.
func (c *client) ask(p *process) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	c.get(ctx, p, "r0", func() (*fsm.State, error) { return p.raft.ReadState(ctx) })
}

func kills(r *rand.Rand) []step {
	var out []step
	for range 4 {
		out = append(out, wait(time.Second, func(w *world) string {
			v := w.victim(r.IntN(60), true)
			v.crash("killed", false)
			return v.id + " is killed"
		}), wait(3*time.Second, mend(r)))
	}
	return out
}

var controls = []control{
	{
		name: "the read gate", options: patient, steps: handOvers, shows: []string{"stale"},
		with:    func(f *raft.Faults) { f.ReadInTransfer = true },
		without: func(f *raft.Faults) { f.VerifyLeaderReads = true },
	},
	{
		name: "the question of nodes that follow", steps: kills, shows: []string{"stale"},
		without: func(f *raft.Faults) { f.NoReadIndex = true },
	},
	{
		name: "the barrier of a new leader", steps: kills, shows: []string{"stale"},
		without: func(f *raft.Faults) { f.NoBarrier = true },
	},
	{
		name: "the silence of a leader whose disk hangs", shows: []string{"no write was served"},
		without: func(f *raft.Faults) { f.NoStallGuard = true },
		steps: func(*rand.Rand) []step {
			return []step{wait(time.Second, func(w *world) string {
				v := w.victim(0, true)
				release := v.disk.stall()
				defer release()
				had := w.progress.Load()
				for late := time.Now().Add(6 * time.Second); w.progress.Load() < had+5; <-time.After(5 * time.Millisecond) {
					if time.Now().After(late) {
						w.history.violation("no write was served while the disk of the leader hung for 6 s")
						break
					}
				}
				return "the disk of " + v.id + " hung"
			})}
		},
	},
	{
		name: "no vote before a damaged log is whole", shows: []string{"is lost", "applied a command of term"},
		without: func(f *raft.Faults) { f.VoteWhileMending = true },
		options: noSnapshots,
		steps: func(*rand.Rand) []step {
			return forgetting(func(n *node) string {
				n.disk.set(func() {
					for index := n.disk.durable.last; index > n.disk.durable.last-3; index-- {
						n.disk.damage(index)
					}
				})
				return "the newest entries of " + n.id + " are damaged"
			})
		},
	},
	{
		name: "the admission of folders", shows: []string{"is lost", "applied a command of term"},
		without: func(f *raft.Faults) { f.NoAdmission = true },
		options: noSnapshots,
		steps: func(*rand.Rand) []step {
			return forgetting(func(n *node) string {
				if err := n.wipe(); err != nil {
					return err.Error()
				}
				return "the disk of " + n.id + " is a new one"
			})
		},
	},
	{
		name: "pre-vote", shows: []string{"unseated"},
		without: func(f *raft.Faults) { f.NoPreVote = true },
		steps: func(r *rand.Rand) []step {
			var term uint64
			return []step{
				wait(time.Second, func(w *world) string {
					l := w.leader()
					term = l.raft.Term()
					away := w.members()[0]
					if away == l.node {
						away = w.members()[1]
					}
					w.isolate(away)
					return away.id + " is cut off"
				}),
				wait(5*time.Second, mend(r)),
				wait(3*time.Second, func(w *world) string {
					l := w.leader()
					if l == nil || l.raft.Term() != term {
						w.history.violation("a node that came back unseated the leader")
					}
					return "it is back"
				}),
			}
		},
	},
}

func noSnapshots(o *options) { o.Snapshot = raft.SnapshotConfig{} }

func (w *world) isolate(v *node) {
	for _, o := range w.members() {
		w.network.set(line{o.id, v.id}, trouble{cut: true})
		w.network.set(line{v.id, o.id}, trouble{cut: true})
	}
}

// forgetting is the history in which a node that has forgotten what it
// acknowledged loses a write: two of three hold it, one of them forgets, the
// other is down, and the third never heard of it.
func forgetting(forget func(*node) string) []step {
	var has, forgets *node
	return []step{
		wait(time.Second, func(w *world) string {
			has = w.victim(0, true)
			behind := w.members()[0]
			if behind == has {
				behind = w.members()[1]
			}
			for _, n := range w.members() {
				if n != has && n != behind {
					forgets = n
				}
			}
			w.isolate(behind)
			return behind.id + " hears nothing of what follows"
		}),
		wait(time.Second, func(w *world) string {
			has.crash("killed", false)
			forgets.crash("killed", false)
			forgets.ending.Wait()
			did := forget(forgets)
			w.restart(forgets)
			w.network.mend()
			return did
		}),
		wait(5*time.Second, func(w *world) string {
			w.restart(has)
			return has.id + " is back"
		}),
	}
}

// TestGuardsAreMissed is the negative control of the simulation: with a guard
// away, the same history shows what it is there for; with it, nothing.
func TestGuardsAreMissed(t *testing.T) {
	p, dir := issue(t), scratch(t)
	for _, c := range controls {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= holds; seed++ {
				out := run(t, p, dirOf(t, dir), c.schedule(seed, c.with))
				require.Empty(t, out.wrong, "with the guard, seed %d\n%s", seed, out.log)
			}
			var seen []string
			for seed := uint64(1); seed <= tries; seed++ {
				out := run(t, p, dirOf(t, dir), c.schedule(seed, c.with, c.without))
				for _, wrong := range out.wrong {
					for _, text := range c.shows {
						if strings.Contains(wrong, text) {
							t.Logf("seed %d: %s", seed, wrong)
							return
						}
					}
				}
				seen = append(seen, out.wrong...)
			}
			require.Fail(t, "nobody misses the guard", "%d schedules without it showed: %q", tries, seen)
		})
	}
}

// A disk that says that it has written what it has not loses what was
// acknowledged; the same with an honest one loses nothing.
func TestALyingDiskIsNoticed(t *testing.T) {
	p, dir := issue(t), scratch(t)
	c := control{steps: func(r *rand.Rand) []step {
		return []step{wait(2*time.Second, powerCut(r)), wait(2*time.Second, powerCut(r))}
	}}
	honest := run(t, p, dir, c.schedule(1, nil))
	require.Empty(t, honest.wrong, honest.log)
	s := c.schedule(1, nil)
	s.steps = append([]step{wait(time.Second, func(w *world) string {
		for _, n := range w.members() {
			n.disk.set(func() { n.disk.lies = true })
		}
		return "no fsync does anything any more"
	})}, s.steps...)
	lying := run(t, p, dir, s)
	require.NotEmpty(t, lying.wrong, lying.log)
	t.Log(lying.wrong[0])
}

func (c control) schedule(seed uint64, away ...func(*raft.Faults)) schedule {
	s := draw(seed)
	s.options.Nodes, s.options.Base, s.options.Pause = 3, time.Millisecond, 10*time.Millisecond
	s.options.Timing = raft.Timing{Commit: 20 * time.Millisecond}
	if c.options != nil {
		c.options(&s.options)
	}
	s.options.Without = func(f *raft.Faults) {
		for _, take := range away {
			if take != nil {
				take(f)
			}
		}
	}
	s.steps = c.steps(rand.New(rand.NewPCG(seed, 1)))
	return s
}

func dirOf(t *testing.T, dir string) string {
	return fmt.Sprintf("%s/%s", dir, strings.ReplaceAll(t.Name(), "/", "-"))
}
