package api

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// limitedListener accepts only so many connections at one time; others wait in
// the queue of the system. It is netutil.LimitListener, whose connections
// hide the TLS below them, and with it what the client showed.
type limitedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limitListener(l net.Listener, most int) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

type tlsKey struct{}

// withTLS keeps the TLS of a connection of the public listener.
func withTLS(ctx context.Context, conn net.Conn) context.Context {
	if limited, ok := conn.(*limitedConn); ok {
		conn = limited.Conn
	}
	if secured, ok := conn.(*tls.Conn); ok {
		return context.WithValue(ctx, tlsKey{}, secured)
	}
	return ctx
}
