package origin

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// headerTime is how long a trusted proxy may take to send its header. Proxies
// send it at once.
const headerTime = 5 * time.Second

// Remote is what a connection tells of its other end.
type Remote struct {
	Peer    netip.Addr
	Proxied netip.Addr // what the PROXY header says, invalid if none does
}

// RemoteOf answers what a connection's RemoteAddr tells. It must not be asked
// before a byte of the connection was read.
func RemoteOf(a net.Addr) Remote {
	if proxied, ok := a.(proxiedAddr); ok {
		return Remote{Peer: addrOf(proxied.Addr), Proxied: proxied.conn.told()}
	}
	return Remote{Peer: addrOf(a)}
}

func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Listen answers l, whose connections from trusted proxies begin with a PROXY
// header if p asks for one. TLS goes on top of it. The bytes of anybody else
// are not looked at here: a header from there is no TLS, and ends the handshake.
func (p Proxies) Listen(l net.Listener, reg prometheus.Registerer, log *slog.Logger) (net.Listener, error) {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_proxy_headers_refused_total",
		Help: "Connections from trusted proxies that were closed because their PROXY header was missing or could not be read, by reason.",
	}, []string{"reason"})
	for _, reason := range []error{errNoHeader, errVersion1, errTruncated, errTooLong, errMalformed, errFamily} {
		refused.WithLabelValues(reason.Error())
	}
	if err := reg.Register(refused); err != nil {
		return nil, err
	}
	if !p.header {
		return l, nil
	}
	return &listener{Listener: l, proxies: p, refused: refused, log: log, said: &rate.Sometimes{Interval: 10 * time.Second}}, nil
}

type listener struct {
	net.Listener
	proxies Proxies
	refused *prometheus.CounterVec
	log     *slog.Logger
	said    *rate.Sometimes // a proxy that is set up wrongly fails with every connection
}

// Accept does not wait for the header: one slow proxy would stop everybody.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || !l.proxies.trusts(addrOf(conn.RemoteAddr())) {
		return conn, err
	}
	return &proxiedConn{Conn: conn, listener: l}, nil
}

// proxiedConn is a connection whose first bytes are a PROXY header.
type proxiedConn struct {
	net.Conn
	listener *listener
	once     sync.Once
	source   netip.Addr
	err      error
}

// Read reads what follows the header.
func (c *proxiedConn) Read(b []byte) (int, error) {
	c.once.Do(c.readHeader)
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(b)
}

func (c *proxiedConn) readHeader() {
	late := time.AfterFunc(headerTime, func() { _ = c.Conn.Close() }) // Read fails then, and says why
	defer late.Stop()
	if c.source, c.err = readHeader(c.Conn); c.err == nil || errors.Is(c.err, io.EOF) && !errors.Is(c.err, errTruncated) {
		return
	}
	reason := reasonOf(c.err)
	c.listener.refused.WithLabelValues(reason).Inc()
	c.listener.said.Do(func() {
		c.listener.log.Warn("closing connections of a trusted proxy whose PROXY header is missing or cannot be read; it must send version 2, see api.proxyProtocol",
			"proxy", addrOf(c.Conn.RemoteAddr()).String(), "reason", reason)
	})
	_ = c.Conn.Close() // nothing on it can be understood any more
}

// reasonOf is one of the reasons, whatever else is in the error.
func reasonOf(err error) string {
	for _, reason := range []error{errNoHeader, errVersion1, errTooLong, errMalformed, errFamily} {
		if errors.Is(err, reason) {
			return reason.Error()
		}
	}
	return errTruncated.Error() // it came too late, or the connection broke
}

// told answers the address in the header, once it was read.
func (c *proxiedConn) told() netip.Addr {
	c.once.Do(func() { c.err = errNoHeader }) // nobody read: then nobody said anything
	return c.source
}

// RemoteAddr is the peer's, and leads RemoteOf to the header.
func (c *proxiedConn) RemoteAddr() net.Addr { return proxiedAddr{c.Conn.RemoteAddr(), c} }

type proxiedAddr struct {
	net.Addr
	conn *proxiedConn
}
