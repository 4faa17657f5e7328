package raft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// Bounds of the questions of nodes that follow.
const (
	maxAsked = 256 // reads that one question serves; the others wait for the next
	maxItem  = 128 << 10
	maxFrame = 4 << 20 // bytes of one question, or of its answer
	// askPatience is how long a read waits for the leader's answer. Whoever asks
	// can still hand the request to the leader.
	askPatience = time.Second
	// catchUpPatience is how long a read waits until this node has applied what
	// the answer is about. A leader tells its followers within twice
	// Timing.Commit that an entry is committed.
	catchUpPatience = 50 * time.Millisecond
	// dialPause is how long a leader that could not be reached, or does not
	// speak the protocol, is not dialled again.
	dialPause = time.Second
)

// Reading is what a node that follows may serve one read from.
type Reading struct {
	// State holds every write that was acknowledged, on any node, before
	// AskLeader was called, and everything that the leader decided its answer by.
	State *fsm.State
	// Answer is what the leader's handler said to the item of this read.
	Answer []byte
	// Sent is when the question left, by the monotonic clock.
	Sent time.Time
}

// Handler answers what nodes that follow ask this one while it leads. It is
// called before the leader looks at its state; what it answers is called after
// it, once, with the items of one question of peer. It must not block.
type Handler func() func(state *fsm.State, peer string, items [][]byte) [][]byte

// AnswerFollowers sets who answers. It is called before other members ask, or
// their items are answered by nothing.
func (n *Node) AnswerFollowers(h Handler) { n.handler.Store(&h) }

// AskLeader lets a node that follows serve a read by itself. It asks the
// leader for its word, in one question for all reads that wait, and waits until
// this node has applied what that is about. item is handed to the leader's
// handler. fault.NoLeader: nothing is known; hand the request to the leader.
//
// Why it is enough: DESIGN.md.
func (n *Node) AskLeader(ctx context.Context, item []byte) (Reading, error) {
	if n.cfg.Faults.NoReadIndex {
		return Reading{State: n.machine.State()}, nil
	}
	if leader, _, known := n.Leader(); known && n.apartFrom(leader) {
		n.metrics.followed.WithLabelValues("apart").Inc()
		return Reading{}, n.cannotFollow(errors.New("the leader has another state"))
	}
	reading, outcome, err := n.follower.ask(ctx, item)
	n.metrics.followed.WithLabelValues(outcome).Inc()
	return reading, err
}

// follower is this node's side of the questions to the leader. One is under
// way at a time: what comes meanwhile waits for the next one.
type follower struct {
	node *Node
	kick chan struct{}

	mu   sync.Mutex
	next []*asked

	// These belong to run.
	conn  *asking
	id    uint64
	rests map[string]time.Time // leaders that are not dialled before that
}

// asked is one read that waits for its answer.
type asked struct {
	item []byte
	done chan struct{}

	// Set before done is closed.
	err    error
	index  uint64
	answer []byte
	sent   time.Time
}

func newFollower(n *Node) *follower {
	return &follower{node: n, kick: make(chan struct{}, 1), rests: map[string]time.Time{}}
}

func (f *follower) ask(ctx context.Context, item []byte) (Reading, string, error) {
	n := f.node
	if len(item) > maxItem {
		return Reading{}, "tooLarge", n.cannotFollow(fmt.Errorf("an item of %d bytes", len(item)))
	}
	a := &asked{item: item, done: make(chan struct{})}
	f.mu.Lock()
	f.next = append(f.next, a)
	f.mu.Unlock()
	f.wake()
	patience := time.NewTimer(2 * askPatience) // the question before may take one
	defer patience.Stop()
	select {
	case <-a.done:
	case <-ctx.Done():
		return Reading{}, "unreachable", n.cannotFollow(ctx.Err())
	case <-patience.C:
		return Reading{}, "unreachable", n.cannotFollow(errors.New("the leader did not answer in time"))
	}
	if a.err != nil {
		return Reading{}, "unreachable", n.cannotFollow(a.err)
	}
	if err := n.awaitIndex(ctx, a.index); err != nil {
		return Reading{}, "behind", n.cannotFollow(err)
	}
	return Reading{State: n.machine.State(), Answer: a.answer, Sent: a.sent}, "ok", nil
}

// Asking answers how many reads wait for the next question.
func (n *Node) Asking() int {
	n.follower.mu.Lock()
	defer n.follower.mu.Unlock()
	return len(n.follower.next)
}

func (f *follower) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// awaitIndex waits until every command up to index is in the state of this
// node.
func (n *Node) awaitIndex(ctx context.Context, index uint64) error {
	patience := time.NewTimer(catchUpPatience)
	defer patience.Stop()
	for {
		applied, moved := n.machine.progress()
		switch {
		case n.failed.Load() || n.machine.halted.Load():
			return errHalted
		case applied >= index:
			return nil
		}
		select {
		case <-moved:
		case <-patience.C:
			return fmt.Errorf("this node has applied %d, the leader %d", applied, index)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *Node) cannotFollow(cause error) error {
	return fault.Wrap(fault.NoLeader, cause, "this node cannot serve the read by itself now; the leader can")
}

// run asks until ctx ends.
func (f *follower) run(ctx context.Context) {
	defer f.hangUp()
	for {
		select {
		case <-f.kick:
		case <-ctx.Done():
			for _, a := range f.take(0) {
				a.err = ctx.Err()
				close(a.done)
			}
			return
		}
		if batch := f.take(maxAsked); len(batch) > 0 {
			f.serve(ctx, batch)
		}
	}
}

// take takes up to limit reads off the queue, 0: all.
func (f *follower) take(limit int) []*asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, size := 0, 0
	for ; n < len(f.next) && (limit == 0 || n < limit && size < maxFrame/2); n++ {
		size += len(f.next[n].item)
	}
	batch := f.next[:n:n]
	if f.next = f.next[n:]; len(f.next) > 0 {
		f.wake()
	}
	return batch
}

// serve asks one question for all of batch.
func (f *follower) serve(ctx context.Context, batch []*asked) {
	began := time.Now()
	err := f.question(ctx, batch)
	f.node.metrics.questions.WithLabelValues(outcomeOf(err)).Observe(time.Since(began).Seconds())
	for _, a := range batch {
		a.err = err
		close(a.done)
	}
}

func (f *follower) question(ctx context.Context, batch []*asked) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	leader, self, known := f.node.Leader()
	if self || !known {
		return f.node.noLeader(nil)
	}
	if err := f.connect(ctx, leader); err != nil {
		return f.node.noLeader(err)
	}
	f.id++
	items := make([][]byte, len(batch))
	for i, a := range batch {
		items[i] = a.item
	}
	// Taken before the first byte leaves: what the leader answers, it decided
	// later.
	sent := time.Now()
	got, err := f.exchange(ctx, leader, appendQuestion(nil, f.id, items))
	if err == nil && (got.id != f.id || got.status == statusOK && len(got.items) != len(batch)) {
		err = errors.New("the leader's answer is not one to what it was asked")
	}
	if err != nil {
		f.hangUp()
		return f.node.noLeader(err)
	}
	if got.status != statusOK {
		return f.node.noLeader(fmt.Errorf("%s does not lead, or has lost touch with the majority", leader))
	}
	for i, a := range batch {
		a.index, a.answer, a.sent = got.index, got.items[i], sent
	}
	return nil
}

// asking is the connection to a leader and the goroutine that reads from it.
type asking struct {
	net.Conn
	leader  string
	answers chan answerFrame // closed when the connection is done for
	ended   chan struct{}
}

// connect makes sure that there is a connection to leader. One that could not
// be had is not tried again for a moment: members of an earlier release do not
// speak the protocol, and refuse.
func (f *follower) connect(ctx context.Context, leader string) error {
	if f.conn != nil && f.conn.leader == leader {
		return nil
	}
	f.hangUp()
	if f.node.cfg.Faults.cut(leader) {
		return errors.New("cut off by a test")
	}
	if time.Now().Before(f.rests[leader]) {
		return fmt.Errorf("%s could not be reached a moment ago", leader)
	}
	address, ok := f.node.addressOf(leader)
	if !ok {
		return fmt.Errorf("%s is no member", leader)
	}
	conn, err := f.node.link.dial(ctx, leader, address, protocolRead)
	if err != nil {
		clear(f.rests)
		f.rests[leader] = time.Now().Add(dialPause)
		return err
	}
	c := &asking{Conn: conn, leader: leader, answers: make(chan answerFrame), ended: make(chan struct{})}
	f.conn = c
	f.node.work.Go(func() { c.read() })
	return nil
}

// read hands over answers until the connection ends, or nobody waits.
func (c *asking) read() {
	defer close(c.answers)
	for r := newFrameReader(c.Conn); ; {
		payload, err := r.next()
		if err != nil {
			return
		}
		got, err := parseAnswer(payload)
		if err != nil {
			return
		}
		select {
		case c.answers <- got:
		case <-c.ended:
			return
		}
	}
}

func (f *follower) hangUp() {
	if f.conn == nil {
		return
	}
	close(f.conn.ended)
	_ = f.conn.Close()
	f.conn = nil
}

// exchange sends a question and waits for its answer. A leader that hangs
// closes no connection: this node asks no further once it knows another one.
func (f *follower) exchange(ctx context.Context, leader string, question []byte) (answerFrame, error) {
	if f.node.cfg.Faults.cut(leader) {
		return answerFrame{}, errors.New("cut off by a test")
	}
	deadline, _ := ctx.Deadline()
	if err := f.conn.SetWriteDeadline(deadline); err != nil {
		return answerFrame{}, err
	}
	if _, err := f.conn.Write(question); err != nil {
		return answerFrame{}, err
	}
	tick := time.NewTicker(f.node.cfg.Timing.Lease / 2)
	defer tick.Stop()
	for {
		select {
		case got, ok := <-f.conn.answers:
			if !ok {
				return answerFrame{}, net.ErrClosed
			}
			if back := f.node.cfg.Faults.AnswerReturned; back != nil {
				back(leader)
			}
			return got, nil
		case <-tick.C:
			if now, self, known := f.node.Leader(); self || known && now != leader {
				return answerFrame{}, fmt.Errorf("%s leads by now", now)
			}
		case <-ctx.Done():
			return answerFrame{}, ctx.Err()
		}
	}
}
