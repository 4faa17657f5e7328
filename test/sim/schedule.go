package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/raft"
)

func isNoLeader(err error) bool { return fault.Is(err, fault.NoLeader) }

// schedule is what a seed draws: the shape of the cluster, and what happens to
// it when.
type schedule struct {
	seed    uint64
	options options
	steps   []step
}

// step is one fault, after a wait. It answers what it did.
type step struct {
	after time.Duration
	do    func(*world) string
}

// draw makes the schedule of a seed.
func draw(seed uint64) schedule {
	r := rand.New(rand.NewPCG(seed, 0))
	s := schedule{seed: seed, options: options{
		Nodes: 3, Base: []time.Duration{100 * time.Microsecond, time.Millisecond, 8 * time.Millisecond}[r.IntN(3)],
		Timing:   raft.Timing{Commit: 20 * time.Millisecond},
		Snapshot: raft.SnapshotConfig{Threshold: 64, Trailing: 24, Interval: 2 * time.Second},
		Pause:    40 * time.Millisecond,
	}}
	if r.IntN(4) == 0 {
		s.options.Nodes = 5
	}
	if r.IntN(3) == 0 {
		// A lease that outlives slow answers: more is left to the read gate.
		s.options.Timing.Heartbeat, s.options.Timing.Election, s.options.Timing.Lease = time.Second, time.Second, 500*time.Millisecond
	}
	for range 4 + r.IntN(6) {
		s.steps = append(s.steps, step{
			after: 50*time.Millisecond + time.Duration(r.Int64N(int64(1500*time.Millisecond))),
			do:    faults[r.IntN(len(faults))](r),
		})
	}
	return s
}

// faults draw one kind of fault each. What they need of chance they draw from
// r when the schedule is made, so that it does not depend on the run.
var faults = []func(r *rand.Rand) func(*world) string{
	cutOff, cutOff, partition, slowHome, handOver, handOver, handOverSlowly, lossy,
	crash, crash, crashInWrite, powerCut, stall, slowDisk, failedWrite, reset, mute, rot, replace, mend, mend,
}

// victim is a node: the leader, if one is known and leads says so.
func (w *world) victim(pick int, leads bool) *node {
	if l := w.leader(); l != nil && leads {
		return l.node
	}
	return w.members()[pick%len(w.members())]
}

func cutOff(r *rand.Rand) func(*world) string {
	pick, leads, in, out := r.IntN(60), r.IntN(2) == 0, r.IntN(3) > 0, r.IntN(3) > 0
	return func(w *world) string {
		v := w.victim(pick, leads)
		for _, o := range w.members() {
			if o == v {
				continue
			}
			if in {
				w.network.set(line{o.id, v.id}, trouble{cut: true})
			}
			if out {
				w.network.set(line{v.id, o.id}, trouble{cut: true})
			}
		}
		return fmt.Sprintf("%s is cut off (to it %v, from it %v)", v.id, in, out)
	}
}

// partition cuts one line between two nodes, or the cluster in two.
func partition(r *rand.Rand) func(*world) string {
	pick, bridge := r.IntN(60), r.IntN(2) == 0
	return func(w *world) string {
		n := len(w.members())
		side := func(i int) bool { return (i+pick)%n < n/2 }
		for i, a := range w.members() {
			for j, b := range w.members() {
				if i != j && (!bridge && side(i) != side(j) || bridge && (i+pick)%n < 2 && (j+pick)%n < 2) {
					w.network.set(line{a.id, b.id}, trouble{cut: true})
				}
			}
		}
		if bridge {
			return "two nodes do not reach each other"
		}
		return "the network is cut in two"
	}
}

// slowHome delays what comes to a node; what it sends arrives at once.
func slowHome(r *rand.Rand) func(*world) string {
	pick, leads := r.IntN(60), r.IntN(3) > 0
	late := time.Duration(5+r.IntN(200)) * time.Millisecond
	return func(w *world) string {
		v := w.victim(pick, leads)
		w.slow(v, late)
		return fmt.Sprintf("what comes to %s takes %v more", v.id, late)
	}
}

func (w *world) slow(v *node, late time.Duration) {
	for _, o := range w.members() {
		if o != v {
			w.network.set(line{o.id, v.id}, trouble{delay: late})
		}
	}
}

func handOver(r *rand.Rand) func(*world) string {
	pick := r.IntN(60)
	return func(w *world) string { return w.handOver(pick) }
}

func (w *world) handOver(pick int) string {
	l := w.leader()
	if l == nil {
		return "nobody leads who could hand over"
	}
	to := w.members()[pick%len(w.members())].id
	w.clients.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = l.raft.TransferLeadership(ctx, to) // it may fail, as anything here
	})
	return fmt.Sprintf("%s hands over to %s", l.node.id, to)
}

// handOverSlowly is a hand-over by a leader to which everything comes late:
// what it believes of itself is old.
func handOverSlowly(r *rand.Rand) func(*world) string {
	pick, late := r.IntN(60), time.Duration(20+r.IntN(200))*time.Millisecond
	return func(w *world) string {
		if l := w.leader(); l != nil {
			w.slow(l.node, late)
		}
		return fmt.Sprintf("%s, to which everything comes %v later", w.handOver(pick), late)
	}
}

func lossy(r *rand.Rand) func(*world) string {
	share := 0.02 + r.Float64()*0.3
	return func(w *world) string {
		for _, a := range w.members() {
			for _, b := range w.members() {
				if a != b {
					w.network.set(line{a.id, b.id}, trouble{loss: share})
				}
			}
		}
		return fmt.Sprintf("%.0f %% of all segments are lost", 100*share)
	}
}

func crash(r *rand.Rand) func(*world) string {
	pick, leads, gone := r.IntN(60), r.IntN(2) == 0, r.IntN(2) == 0
	return func(w *world) string {
		v := w.victim(pick, leads)
		v.crash("killed", gone)
		return fmt.Sprintf("%s is killed, its machine too: %v", v.id, gone)
	}
}

// crashInWrite stops a node in one of its next writes, which is then durable
// or not.
func crashInWrite(r *rand.Rand) func(*world) string {
	pick, leads, count := r.IntN(60), r.IntN(2) == 0, 1+r.IntN(12)
	return func(w *world) string {
		v := w.victim(pick, leads)
		v.disk.set(func() { v.disk.crashAt = count })
		return fmt.Sprintf("%s will stop in its write number %d", v.id, count)
	}
}

func powerCut(*rand.Rand) func(*world) string {
	return func(w *world) string {
		for _, n := range w.members() {
			n.crash("the power is cut", true)
		}
		for _, n := range w.members() {
			w.restart(n)
		}
		return "the power is cut everywhere, and comes back"
	}
}

func stall(r *rand.Rand) func(*world) string {
	pick, leads, lasts := r.IntN(60), r.IntN(2) == 0, time.Duration(500+r.IntN(8000))*time.Millisecond
	return func(w *world) string {
		v := w.victim(pick, leads)
		release := v.disk.stall()
		w.clients.Go(func() {
			<-time.After(lasts)
			release()
		})
		return fmt.Sprintf("the disk of %s hangs for %v", v.id, lasts)
	}
}

func slowDisk(r *rand.Rand) func(*world) string {
	pick, late := r.IntN(60), time.Duration(5+r.IntN(150))*time.Millisecond
	return func(w *world) string {
		v := w.members()[pick%len(w.members())]
		v.disk.set(func() { v.disk.slow = late })
		return fmt.Sprintf("writes of the disk of %s take %v more", v.id, late)
	}
}

func failedWrite(r *rand.Rand) func(*world) string {
	pick, leads := r.IntN(60), r.IntN(2) == 0
	return func(w *world) string {
		v := w.victim(pick, leads)
		v.disk.set(func() { v.disk.fails = true })
		return fmt.Sprintf("the next write of %s fails", v.id)
	}
}

func reset(r *rand.Rand) func(*world) string {
	pick, leads := r.IntN(60), r.IntN(2) == 0
	return func(w *world) string {
		v := w.victim(pick, leads)
		w.network.reset(v.id, false)
		return fmt.Sprintf("all connections of %s are reset", v.id)
	}
}

// mute holds back all that goes to a node and comes from it, and delivers it
// later: what others see of a process that is stopped and goes on.
func mute(r *rand.Rand) func(*world) string {
	pick, leads, lasts := r.IntN(60), r.IntN(3) > 0, time.Duration(100+r.IntN(3000))*time.Millisecond
	return func(w *world) string {
		v := w.victim(pick, leads)
		w.network.setDeaf(v.id, true)
		w.clients.Go(func() {
			<-time.After(lasts)
			w.network.setDeaf(v.id, false)
		})
		return fmt.Sprintf("%s is neither heard nor hears for %v", v.id, lasts)
	}
}

// rot damages the log of a node that is taken down for it. One copy only: what
// a majority has lost is lost. Where a member was replaced two voters are left
// until the new one has its vote, and of two none may be lost.
func rot(r *rand.Rand) func(*world) string {
	pick := r.IntN(60)
	return func(w *world) string {
		v := w.members()[pick%len(w.members())]
		if w.replaced || !w.whole(v) {
			return "no log may be damaged now"
		}
		v.crash("it is taken down", false)
		v.ending.Wait()
		index := v.disk.rot()
		w.restart(v)
		return fmt.Sprintf("entry %d of %s is damaged", index, v.id)
	}
}

// whole reports whether all members but one are up and have their logs.
func (w *world) whole(but *node) bool {
	for _, n := range w.members() {
		if p := n.running(); n != but && (p == nil || p.raft.Mending()) {
			return false
		}
	}
	return true
}

// replace removes a node for good and lets a new one join in its place, as far
// as the cluster is able to just now.
func replace(r *rand.Rand) func(*world) string {
	pick := r.IntN(60)
	return func(w *world) string {
		l, v := w.leader(), w.members()[pick%len(w.members())]
		if l == nil || v == l.node || len(w.members()) > w.options.Nodes+1 || !w.whole(v) {
			return "no node is replaced now"
		}
		w.replaced = true
		meta := fsm.Meta{Time: time.Now().UnixMilli(), Principal: "admin", RequestID: "replace"}
		id := fmt.Sprintf("n%d", len(w.members())+1)
		did := w.commit(l, fsm.PutAutopilot{Meta: meta, Autopilot: fsm.Autopilot{Stabilization: 1000}}) &&
			w.remove(l, v, fsm.SetNode{Meta: meta, NodeID: v.id, Remove: true, Reason: "replaced"}) &&
			w.commit(l, fsm.SetNode{Meta: meta, NodeID: id, Address: id})
		if !did {
			return fmt.Sprintf("that %s is replaced is not sure", v.id)
		}
		n := w.add(id, rand.New(rand.NewPCG(w.random.Uint64(), 0)))
		n.joins = true
		w.restart(n)
		return fmt.Sprintf("%s is removed, %s joins", v.id, id)
	}
}

// remove asks first whether the others could go on, as the engine does.
func (w *world) remove(l *process, v *node, command fsm.SetNode) bool {
	return l.raft.Removing(v.id, func() error {
		if !w.commit(l, command) {
			return errors.New("nobody knows")
		}
		return nil
	}) == nil
}

func (w *world) commit(l *process, command fsm.Command) bool {
	encoded, err := fsm.Encode(command)
	if err != nil {
		w.history.violation("encode: %v", err)
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	result, err := l.raft.Propose(ctx, encoded)
	return err == nil && result.Refused == nil
}

func mend(*rand.Rand) func(*world) string {
	return func(w *world) string {
		w.network.mend()
		for _, n := range w.members() {
			n.disk.set(func() { n.disk.slow = 0 })
			w.restart(n)
		}
		return "the network is mended, and who was down starts"
	}
}

// restart starts a node that is down; that it does not start is a violation.
func (w *world) restart(n *node) {
	if err := n.start(); err != nil {
		w.history.violation("%s does not start: %v", n.id, err)
	}
}

// perform runs the steps of a schedule on a world under load.
func (w *world) perform(steps []step) {
	for _, s := range steps {
		<-time.After(s.after)
		w.log.add("-- %s", s.do(w))
		if slices.IndexFunc(w.members(), func(n *node) bool { return n.running() == nil }) >= 0 && w.random.IntN(2) == 0 {
			for _, n := range w.members() {
				if n.running() == nil && w.random.IntN(2) == 0 {
					w.restart(n)
				}
			}
		}
	}
}
