// Package sim runs whole clusters of raft nodes in one process, under simulated
// time, on a simulated network and simulated disks, through schedules of
// faults that a seed draws, and holds what clients saw against what the log
// says. What is simulated and what is not: DESIGN.md.
package sim

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network is what the nodes of one cluster are connected by. Connections are
// streams as TCP gives them: bytes come in order and once, or not at all. So a
// lost packet is a late one, and a cut line that is mended delivers late what
// was sent meanwhile.
type network struct {
	mu        sync.Mutex
	random    *rand.Rand
	base      time.Duration // one way, on a line that nothing is wrong with
	lines     map[line]trouble
	deaf      map[string]bool // nodes that nothing goes to or comes from
	listeners map[string]*listener
	conns     map[*conn]bool // one end of each
}

// line is one direction between two nodes.
type line struct{ from, to string }

// trouble is what is wrong with a line.
type trouble struct {
	cut   bool
	delay time.Duration
	loss  float64 // share of segments that are sent again, after a fifth of a second and more
}

func newNetwork(random *rand.Rand, base time.Duration) *network {
	return &network{
		random: random, base: base, lines: map[line]trouble{}, deaf: map[string]bool{},
		listeners: map[string]*listener{}, conns: map[*conn]bool{},
	}
}

const resend = 200 * time.Millisecond

// travel answers how long a segment takes from one node to the other.
func (n *network) travel(l line) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.lines[l]
	took := n.base + t.delay + time.Duration(n.random.Int64N(int64(n.base/2+t.delay/8)+1))
	for again := resend; n.random.Float64() < t.loss && again < 4*time.Second; again *= 2 {
		took += again
	}
	return took
}

func (n *network) isCut(l line) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lines[l].cut || n.deaf[l.from] || n.deaf[l.to]
}

// change changes what is wrong, and has everybody who waits look again.
func (n *network) change(do func()) {
	n.mu.Lock()
	do()
	var all []*conn
	for c := range n.conns {
		all = append(all, c)
	}
	n.mu.Unlock()
	for _, c := range all {
		c.in.wake()
		c.out.wake()
	}
}

func (n *network) set(l line, t trouble) {
	n.change(func() { n.lines[l] = t })
}

func (n *network) mend() {
	n.change(func() { clear(n.lines); clear(n.deaf) })
}

func (n *network) setDeaf(id string, deaf bool) { n.change(func() { n.deaf[id] = deaf }) }

// reset ends the connections of a node. Both ends are told, as by a kernel
// whose process has died, unless the machine is gone: then the other ends hear
// nothing.
func (n *network) reset(id string, gone bool) {
	n.mu.Lock()
	var ends []*conn
	for c := range n.conns {
		if c.out.from == id || c.out.to == id {
			ends = append(ends, c)
		}
	}
	if l := n.listeners[id]; l != nil && gone {
		delete(n.listeners, id)
	}
	n.mu.Unlock()
	for _, c := range ends {
		if gone {
			c.vanish(id)
			continue
		}
		c.in.breakOff()
		c.out.breakOff()
	}
}

// listen is the address of a node, which is its id.
func (n *network) listen(id string) *listener {
	l := &listener{network: n, id: id, incoming: make(chan net.Conn, 256), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[id] = l
	return l
}

var errRefused = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

// dial connects from one node to another.
func (n *network) dial(ctx context.Context, from, to string) (net.Conn, error) {
	there, back := line{from, to}, line{to, from}
	for n.isCut(there) || n.isCut(back) {
		select {
		case <-time.After(resend): // the next SYN
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case <-time.After(n.travel(there) + n.travel(back)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	l := n.listeners[to]
	if l == nil {
		n.mu.Unlock()
		return nil, errRefused
	}
	a, b := newFlow(n, there), newFlow(n, back)
	near := &conn{network: n, in: b, out: a}
	far := &conn{network: n, in: a, out: b}
	n.conns[near] = true
	n.mu.Unlock()
	select {
	case l.incoming <- far:
		return near, nil
	case <-l.closed:
	default: // the backlog is full
	}
	near.forget()
	return nil, errRefused
}

type listener struct {
	network  *network
	id       string
	incoming chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		if l.network.listeners[l.id] == l {
			delete(l.network.listeners, l.id)
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.id) }

type address string

func (a address) Network() string { return "sim" }
func (a address) String() string  { return string(a) }

// flow is one direction of a connection.
type flow struct {
	line
	network *network

	mu      sync.Mutex
	queue   []segment
	last    time.Time // when the last segment arrives
	ended   bool      // the writer has closed; the reader gets the queue first
	broken  bool      // at once, for both
	lost    bool      // one end is gone: nothing arrives any more
	changed chan struct{}
}

type segment struct {
	bytes  []byte
	arrive time.Time
}

func newFlow(n *network, l line) *flow {
	return &flow{line: l, network: n, changed: make(chan struct{})}
}

// update changes the flow under its lock and wakes its reader.
func (f *flow) update(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *flow) wake()     { f.update(func() {}) }
func (f *flow) breakOff() { f.update(func() { f.broken = true }) }

func (f *flow) write(p []byte) (int, error) {
	took := f.network.travel(f.line)
	n := len(p)
	var err error
	f.update(func() {
		if f.broken || f.ended {
			n, err = 0, syscall.EPIPE
			return
		}
		arrive := time.Now().Add(took)
		if arrive.Before(f.last) {
			arrive = f.last
		}
		f.last = arrive
		f.queue = append(f.queue, segment{append([]byte(nil), p...), arrive})
	})
	return n, err
}

// read answers what has arrived, or how long to wait for the next look, or
// the end.
func (f *flow) read(p []byte) (n int, wait time.Duration, changed <-chan struct{}, err error) {
	cut := f.network.isCut(f.line)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.broken:
		return 0, 0, nil, syscall.ECONNRESET
	case f.lost || cut:
		return 0, time.Hour, f.changed, nil
	case len(f.queue) > 0:
		first := &f.queue[0]
		if wait := time.Until(first.arrive); wait > 0 {
			return 0, wait, f.changed, nil
		}
		n := copy(p, first.bytes)
		if first.bytes = first.bytes[n:]; len(first.bytes) == 0 {
			f.queue = f.queue[1:]
		}
		return n, 0, nil, nil
	case f.ended:
		return 0, 0, nil, io.EOF
	default:
		return 0, time.Hour, f.changed, nil
	}
}

// conn is one end of a connection.
type conn struct {
	network *network
	in, out *flow

	mu       sync.Mutex
	readBy   time.Time
	closed   bool
	deadline chan struct{} // closed and replaced when a deadline or the end is set
}

func (c *conn) limits() (by time.Time, closed bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline == nil {
		c.deadline = make(chan struct{})
	}
	return c.readBy, c.closed, c.deadline
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		by, closed, moved := c.limits()
		if closed {
			return 0, net.ErrClosed
		}
		n, wait, changed, err := c.in.read(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if !by.IsZero() {
			left := time.Until(by)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			wait = min(wait, left)
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-moved:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Write never waits: the segments are small, and a kernel would buffer them.
func (c *conn) Write(p []byte) (int, error) {
	if _, closed, _ := c.limits(); closed {
		return 0, net.ErrClosed
	}
	return c.out.write(p)
}

func (c *conn) Close() error {
	c.alter(func() { c.closed = true })
	c.out.update(func() { c.out.ended = true })
	c.in.breakOff() // what the other end still sends gets a reset
	c.forget()
	return nil
}

func (c *conn) forget() {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	delete(c.network.conns, c)
}

// vanish is the end of the machine id, at one end of the connection.
func (c *conn) vanish(id string) {
	for _, f := range []*flow{c.in, c.out} {
		f.update(func() {
			f.lost = true
			f.broken = f.broken || f.to == id // its own reads end, so that the simulated process can
		})
	}
}

func (c *conn) alter(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
	if c.deadline != nil {
		close(c.deadline)
		c.deadline = nil
	}
}

func (c *conn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *conn) SetReadDeadline(t time.Time) error  { c.alter(func() { c.readBy = t }); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { return nil }

func (c *conn) LocalAddr() net.Addr  { return address(c.out.from) }
func (c *conn) RemoteAddr() net.Addr { return address(c.out.to) }

var errGone = errors.New("the machine is gone")
