package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/origin"
)

// Headers of the node link about where the caller is; see headerSource. They
// only inform: a member of an older release sends none.
const (
	headerPeerAddress = "Strongroom-Peer-Address"
	headerVia         = "Strongroom-Via"
)

type remoteKey struct{}

// withRemote keeps the remote address of a connection as the listener made it:
// the text that Go keeps has lost what a PROXY header said.
func withRemote(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, remoteKey{}, conn.RemoteAddr())
}

// locate fills in where the request comes from. X-Forwarded-For is the only
// header that is looked at, and only as far as trusted proxies wrote it;
// Forwarded, X-Real-IP and their like are never.
func (s *Server) locate(r *http.Request, from *engine.Caller) error {
	addr, ok := r.Context().Value(remoteKey{}).(net.Addr)
	if !ok {
		return nil // no connection of ours: the address is not known, and is in no range
	}
	o, err := s.Proxies.Of(origin.RemoteOf(addr), r.Header.Values("X-Forwarded-For"))
	if err != nil {
		return fault.Invalid("X-Forwarded-For", "%v", err)
	}
	from.Source, from.Peer, from.Via = o.Source, o.Peer, o.Via
	return nil
}

// handOnOrigin writes where the caller is into the headers of a request to the
// leader.
func handOnOrigin(h http.Header, from engine.Caller) {
	h.Set(headerSource, from.Source.String())
	if from.Via != "" {
		h.Set(headerPeerAddress, from.Peer.String())
		h.Set(headerVia, from.Via)
	}
}

// handedOnOrigin reads what handOnOrigin wrote.
func handedOnOrigin(h http.Header, from *engine.Caller) error {
	source, err := netip.ParseAddr(h.Get(headerSource))
	if err != nil && h.Get(headerSource) != (netip.Addr{}).String() {
		return fault.New(fault.Internal, "a member sent no source address")
	}
	from.Source, from.Via = source, h.Get(headerVia)
	from.Peer, _ = netip.ParseAddr(h.Get(headerPeerAddress)) // nothing is decided by it
	return nil
}
