package api

import (
	"bytes"
	"errors"
	"net"
	"sync"
)

// pipes is the listener of a node's link in this process: connections are
// net.Pipe, and say which member they are from as those of the real link do.
type pipes struct {
	accept chan net.Conn
	done   chan struct{}
	once   sync.Once

	mu    sync.Mutex
	open  []*peerConn
	dials int
	down  bool
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial(from string) (net.Conn, error) {
	near, far := net.Pipe()
	conn := &peerConn{Conn: far, from: from}
	p.mu.Lock()
	p.dials++
	p.open = append(p.open, conn)
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, errors.New("the link is down")
	}
	select {
	case p.accept <- conn:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accept:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// cut breaks every connection that is open.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
}

func (p *pipes) refuse(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *pipes) dialed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

// received answers all bytes that came in over the link.
func (p *pipes) received() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := ""
	for _, c := range p.open {
		out += c.received()
	}
	return out
}

// peerConn is a connection from a member that the link has verified.
type peerConn struct {
	net.Conn
	from string
	mu   sync.Mutex
	in   bytes.Buffer
}

func (c *peerConn) PeerID() string { return c.from }

func (c *peerConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.Write(b[:n])
	return n, err
}

func (c *peerConn) received() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.String()
}
