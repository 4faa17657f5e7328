package raft

import (
	"crypto/x509"
	"time"
)

// linkDrain is how long a connection of the link protocol that this node opened
// stays after its other end lost trust. The host opens new ones for what comes
// (api.Link.Renew), and what is under way gets its answer.
const linkDrain = 5 * time.Second

// trust is what a connection's other end has shown, and when it was last held
// against the authorities. A verified handshake says who was trusted then; a
// connection may live for months.
type trust struct {
	shown    []*x509.Certificate
	at       time.Time // of the handshake
	accepted bool
	drains   bool // see linkDrain

	judged *x509.CertPool // authorities that it was held against
	lost   time.Time      // when it was found that they do not vouch for it
}

// lostAt holds the connection against the authorities, if it was not yet, and
// answers since when they do not vouch for it: zero, they do. Its certificate
// may have expired meanwhile: that keeps no connection from going on, as it
// says nothing about who is at its other end. The caller holds link.mu.
func (t *trust) lostAt(authorities *x509.CertPool, now time.Time) time.Time {
	if len(t.shown) == 0 || t.judged == authorities {
		return t.lost
	}
	t.judged = authorities
	usage := x509.ExtKeyUsageServerAuth
	if t.accepted {
		usage = x509.ExtKeyUsageClientAuth
	}
	switch err := verifyChain(t.shown, authorities, usage, t.at); {
	case err == nil:
		t.lost = time.Time{}
	case t.lost.IsZero():
		t.lost = now
	}
	return t.lost
}

// Retrust closes the connections whose other ends have shown certificates that
// the authorities of now do not vouch for. A node calls it whenever others are
// trusted, and does so by itself every second: a handshake that was under way
// is found then.
func (n *Node) Retrust() {
	if n.cfg.Faults.KeepUntrusted {
		return
	}
	now, authorities := time.Now(), n.cfg.Authorities()
	for _, c := range n.link.untrusted(authorities, now) {
		n.cfg.Logger.Info("closing a connection of the node link: its certificate is of an authority that is not trusted any more",
			"peer", c.peer, "remote", c.RemoteAddr().String())
		n.metrics.untrusted.Inc()
		_ = c.Close()
	}
}

// untrusted answers the connections that must go now.
func (l *link) untrusted(authorities *x509.CertPool, now time.Time) []*peerConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	var gone []*peerConn
	for c := range l.conns {
		lost := c.trust.lostAt(authorities, now)
		if !lost.IsZero() && (!c.trust.drains || now.Sub(lost) >= linkDrain) {
			gone = append(gone, c)
		}
	}
	return gone
}
