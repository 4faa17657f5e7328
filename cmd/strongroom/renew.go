package main

import (
	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/tlsfiles"
)

// renew brings what was read from files into force. Handshakes ask for
// certificates and authorities by themselves; here goes what lives longer than
// a handshake. Connections for requests to come are opened first, so that none
// is begun on one that will be cut.
func (n *node) renew(c tlsfiles.Change) {
	n.renewing.Lock()
	defer n.renewing.Unlock()
	if c.Link || c.Authorities {
		n.peers.Renew()
	}
	if c.Authorities {
		n.raft.Retrust()
	}
	if c.Gossip {
		// Read here and not before: of two that come together, the later wins.
		if err := n.raft.UseGossipKeys(n.files.GossipKeys()); err != nil {
			n.log.Error("the gossip keys could not be set", "error", err)
		}
	}
}

// shown is what this node shows and trusts, on the wire.
func (n *node) shown() wire.MemberTLS {
	d := n.files.Describe()
	out := wire.MemberTLS{
		Certificate: d.Link.Fingerprint, Authority: d.Link.Authority, NotAfter: wire.Millis(d.Link.NotAfter.UnixMilli()),
		APICertificate: d.API.Fingerprint, APIIssuer: d.API.Issuer, APINotAfter: wire.Millis(d.API.NotAfter.UnixMilli()),
		GossipKeys: d.GossipKeys,
	}
	if len(d.Failing) > 0 {
		out.Refused = d.Failing
	}
	for _, a := range d.Authorities {
		out.Trusts = append(out.Trusts, wire.TLSAuthority{Fingerprint: a.Fingerprint, Subject: a.Subject, NotAfter: wire.Millis(a.NotAfter.UnixMilli())})
	}
	return out
}
