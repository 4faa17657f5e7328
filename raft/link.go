package raft

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Bounds of the node link. Strangers can reach the port, so what they may
// hold is small and cannot keep members out: when too many handshakes are
// unfinished, the oldest goes.
const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 128
	linkBacklog      = 64 // connections accepted and not yet taken by the server above
)

// link is the one TLS listener of a node and all its connections, of all
// protocols and both directions.
type link struct {
	identity  *identity
	listener  net.Listener
	advertise string
	in        *inbound
	reads     func(ctx context.Context, conn net.Conn, peer string) // serves protocolRead
	marks     func(ctx context.Context, conn net.Conn, peer string) // serves protocolMarks
	log       *slog.Logger
	perPeer   int // connections that one member may open
	join      func(ctx context.Context, conn net.Conn, peer string)
	level     func(conn net.Conn, peer string) // serves protocolLevel
	stranger  func(peer string, from net.Addr) // told of nodes that are no members

	simulation *Simulation // nil: the network

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	peers  chan net.Conn // of protocolLink

	mu         sync.Mutex
	handshakes []net.Conn // unfinished, oldest first
	conns      map[*peerConn]bool
	accepted   map[string]int // open connections by the member that opened them
}

func newLink(cfg Config, id *identity, listener net.Listener, in *inbound) *link {
	ctx, cancel := context.WithCancel(context.Background())
	advertise := cfg.AdvertiseAddress
	if advertise == "" {
		advertise = listener.Addr().String()
	}
	return &link{
		identity: id, listener: listener, advertise: advertise, in: in, log: cfg.Logger, perPeer: cfg.MaxConnections, simulation: cfg.Simulation,
		ctx: ctx, cancel: cancel, peers: make(chan net.Conn, linkBacklog),
		conns: map[*peerConn]bool{}, accepted: map[string]int{},
	}
}

// run accepts connections until close. It is started once.
func (l *link) run() {
	l.work.Go(func() {
		config := l.identity.server()
		for {
			conn, err := l.listener.Accept()
			if err == nil && l.begin(conn) {
				l.work.Go(func() { l.admit(conn, tls.Server(conn, config)) })
				continue
			}
			if l.ctx.Err() != nil {
				return
			}
			l.log.Error("the node link cannot accept", "error", err)
			select {
			case <-time.After(50 * time.Millisecond): // out of files, for instance
			case <-l.ctx.Done():
				return
			}
		}
	})
}

// begin registers an unfinished handshake and drops the oldest beyond the
// bound. It answers false, and closes conn, when the link is closing.
func (l *link) begin(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		_ = conn.Close()
		return false
	}
	if len(l.handshakes) >= maxHandshakes {
		_ = l.handshakes[0].Close()
		l.handshakes = l.handshakes[1:]
	}
	l.handshakes = append(l.handshakes, conn)
	return true
}

func (l *link) end(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.handshakes, conn); i >= 0 {
		l.handshakes = slices.Delete(l.handshakes, i, i+1)
	}
}

// admit verifies the other end within its time, and serves it.
func (l *link) admit(raw net.Conn, conn *tls.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	err := conn.HandshakeContext(ctx)
	cancel()
	l.end(raw)
	var peer string
	if err == nil {
		peer, err = l.identity.admit(conn.ConnectionState())
	}
	var stranger *noMemberError
	if errors.As(err, &stranger) && l.stranger != nil {
		l.stranger(stranger.id, raw.RemoteAddr())
	}
	if err != nil {
		l.log.Warn("refused a connection on the node link", "remote", raw.RemoteAddr().String(), "error", err)
		_ = conn.Close()
		return
	}
	c := l.track(conn, peer, true)
	if c == nil {
		l.log.Warn("too many connections on the node link", "peer", peer)
		_ = conn.Close()
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case protocolRaft:
		l.in.serve(l.ctx, c, peer)
		return
	case protocolJoin:
		l.join(l.ctx, c, peer)
		return
	case protocolRead:
		l.reads(l.ctx, c, peer)
		return
	case protocolMarks:
		l.marks(l.ctx, c, peer)
		return
	case protocolLevel:
		l.level(c, peer)
		return
	}
	select {
	case l.peers <- c:
	default:
		l.log.Warn("no room for a link connection", "peer", peer)
		_ = c.Close()
	}
}

// peerConn is a connection whose other end has proved to be peer.
type peerConn struct {
	net.Conn
	peer string
	asks bool // it only asks whether it may take part
	end  func() error

	trust trust
}

// PeerID answers the node at the other end, as its certificate names it.
func (c *peerConn) PeerID() string { return c.peer }

// Close closes the connection and gives back its place.
func (c *peerConn) Close() error { return c.end() }

// track makes a peerConn that close finds. It answers nil when the link is
// closing or, for an accepted one, the peer has too many.
func (l *link) track(conn net.Conn, peer string, accepted bool) *peerConn {
	c := &peerConn{Conn: conn, peer: peer}
	if conn, is := conn.(interface{ ConnectionState() tls.ConnectionState }); is {
		state := conn.ConnectionState()
		c.asks = state.NegotiatedProtocol == protocolJoin
		c.trust = trust{shown: state.PeerCertificates, at: time.Now(), accepted: accepted, drains: !accepted && state.NegotiatedProtocol == protocolLink}
	}
	c.end = sync.OnceValue(func() error {
		l.mu.Lock()
		delete(l.conns, c)
		if accepted {
			if l.accepted[peer]--; l.accepted[peer] == 0 {
				delete(l.accepted, peer)
			}
		}
		l.mu.Unlock()
		return conn.Close()
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil || accepted && l.accepted[peer] >= l.perPeer {
		return nil
	}
	l.conns[c] = true
	if accepted {
		l.accepted[peer]++
	}
	return c
}

// cut closes the connections whose peer keep refuses.
func (l *link) cut(keep func(peer string) bool) {
	l.mu.Lock()
	var gone []*peerConn
	for c := range l.conns {
		if !c.asks && !keep(c.peer) {
			gone = append(gone, c)
		}
	}
	l.mu.Unlock()
	for _, c := range gone {
		_ = c.Close()
	}
}

func (l *link) closeAll() {
	l.mu.Lock()
	var all []*peerConn
	for c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// dial connects to address and requires that node want is there, or any of the
// cluster if that is empty.
func (l *link) dial(ctx context.Context, want, address, protocol string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(l.ctx, cancel)
	defer stop()
	conn, err := l.connect(ctx, address, l.identity.client(want, protocol))
	if err != nil {
		return nil, fmt.Errorf("dial node %q at %s: %w", want, address, err)
	}
	c := l.track(conn, want, false)
	if c == nil {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	return c, nil
}

func (l *link) connect(ctx context.Context, address string, config *tls.Config) (net.Conn, error) {
	if l.simulation == nil {
		dialer := tls.Dialer{Config: config}
		return dialer.DialContext(ctx, "tcp", address)
	}
	raw, err := l.simulation.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}

// close ends everything and waits for it.
func (l *link) close() error {
	l.cancel()
	err := l.listener.Close()
	l.mu.Lock()
	for _, conn := range l.handshakes {
		_ = conn.Close()
	}
	l.mu.Unlock()
	l.closeAll()
	l.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// outbound is the hraft.StreamLayer: it dials, and accepts nothing, for the
// receiving side is inbound.
type outbound struct {
	*link
	members func() []Server
}

// Accept implements net.Listener. It waits for the end.
func (o outbound) Accept() (net.Conn, error) {
	<-o.ctx.Done()
	return nil, net.ErrClosed
}

// Close implements net.Listener. The node closes the link.
func (o outbound) Close() error { return nil }

// Addr implements net.Listener: the address that members know.
func (o outbound) Addr() net.Addr { return address(o.advertise) }

// Dial implements hraft.StreamLayer. The library asks for an address; the
// node that answers must be the member that has it.
func (o outbound) Dial(target hraft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	for _, s := range o.members() {
		if s.Address == string(target) {
			ctx, cancel := context.WithTimeout(o.ctx, timeout)
			defer cancel()
			return o.dial(ctx, s.ID, s.Address, protocolRaft)
		}
	}
	return nil, fmt.Errorf("no member of this cluster has the address %s", target)
}

// address is an advertised host:port, which may be a name.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// linkListener hands out the connections of protocolLink. Closing it stops
// handing out; the node link itself goes on.
type linkListener struct {
	*link
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener. Each connection has a method PeerID() string.
func (l *linkListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.peers:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *linkListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *linkListener) Addr() net.Addr { return address(l.advertise) }
