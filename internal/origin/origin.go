// Package origin decides where a request comes from. That is the address of
// the TCP peer, unless the operator listed the peer as a proxy that it trusts;
// then it is what that proxy says, in the PROXY protocol or in
// X-Forwarded-For, and never more than what trusted proxies say: the walk goes
// from the server outwards and ends at the first address that is not a trusted
// proxy. What stands beyond it was written by the client, and is not read.
//
// Nothing here guesses. What a trusted proxy sends and this package cannot read
// is an error, not the address of the proxy: an access policy that allows the
// proxy, or a deny that names the client, would decide about the wrong one.
package origin

import (
	"fmt"
	"net/netip"
	"strings"
)

// How an address was found, as whoAmI shows it.
const (
	Direct        = "direct"
	ProxyProtocol = "proxyProtocol"
	XForwardedFor = "xForwardedFor"
)

// Origin is where a request comes from.
type Origin struct {
	Source netip.Addr // decides
	Peer   netip.Addr // the other end of the TCP connection
	Via    string     // Direct, ProxyProtocol or XForwardedFor
}

// Proxies are the proxies that are trusted. The zero value trusts none.
type Proxies struct {
	ranges []netip.Prefix
	header bool
}

// maxHops bounds a chain of trusted proxies. A longer one is a loop.
const maxHops = 16

// MaxRanges bounds the ranges of NewProxies.
const MaxRanges = 256

// NewProxies makes Proxies of CIDR ranges. With header, every connection from
// them must begin with a header of the PROXY protocol, version 2.
func NewProxies(ranges []string, header bool) (Proxies, error) {
	p := Proxies{header: header}
	if len(ranges) > MaxRanges {
		return Proxies{}, fmt.Errorf("has %d ranges; at most %d are allowed", len(ranges), MaxRanges)
	}
	for _, text := range ranges {
		parsed, err := parseRange(text)
		if err != nil {
			return Proxies{}, err
		}
		p.ranges = append(p.ranges, parsed)
	}
	if header && len(ranges) == 0 {
		return Proxies{}, fmt.Errorf("is empty, so nobody may send the header that api.proxyProtocol asks for; list the proxies, or switch it off")
	}
	return p, nil
}

func parseRange(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("must be a CIDR range without a zone, such as 10.0.0.0/24, or 10.0.0.5/32 for one address; it is %.80q", text)
	}
	switch {
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s is IPv4 in the clothes of IPv6; write the IPv4 range", p)
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits set beyond its length; write %s", p, p.Masked())
	case p.Bits() == 0:
		return p, fmt.Errorf("%s trusts everybody, so any client could say where it is; list the addresses of the proxies", p)
	}
	return p, nil
}

// trusts reports whether a is a trusted proxy. An address with a zone is none:
// it says which wire of this machine it is on, and the ranges do not.
func (p Proxies) trusts(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	for _, r := range p.ranges {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

// Of answers where a request comes from. remote is the remote address of its
// connection, which came from Listen or from any other listener; forwarded are
// the values of all its X-Forwarded-For headers, in their order. The error
// names the header and not what is in it.
func (p Proxies) Of(remote Remote, forwarded []string) (Origin, error) {
	peer := remote.Peer
	o := Origin{Source: clean(peer), Peer: clean(peer), Via: Direct}
	if !p.trusts(peer) {
		return o, nil
	}
	if remote.Proxied.IsValid() {
		o.Source, o.Via = remote.Proxied, ProxyProtocol
	}
	walk := walker{lines: forwarded}
	for hop := 1; p.trusts(o.Source); hop++ {
		element, ok := walk.next()
		if !ok {
			return o, nil
		}
		if hop > maxHops {
			return Origin{}, fmt.Errorf("has a chain of more than %d trusted proxies, which is a loop; look at api.trustedProxies", maxHops)
		}
		a, err := netip.ParseAddr(element)
		if err != nil || !usable(a) {
			return Origin{}, fmt.Errorf("has no address in place %d from its end, which a trusted proxy wrote; let the proxy write addresses without ports and zones", hop)
		}
		o.Source, o.Via = a.Unmap(), XForwardedFor
	}
	return o, nil
}

// clean answers an address in the one form that is compared and shown.
func clean(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// usable reports whether a can be the address of a client.
func usable(a netip.Addr) bool {
	u := a.Unmap()
	return a.Zone() == "" && !u.IsUnspecified() && !u.IsMulticast()
}

// walker goes through the elements of lists, from the end of the last one. It
// looks at no more than it is asked for.
type walker struct {
	lines []string
	rest  string // of the line in hand, left of what was answered
	more  bool   // rest holds an element, if only an empty one
}

func (w *walker) next() (element string, ok bool) {
	if !w.more {
		if len(w.lines) == 0 {
			return "", false
		}
		w.rest, w.lines = w.lines[len(w.lines)-1], w.lines[:len(w.lines)-1]
	}
	at := strings.LastIndexByte(w.rest, ',')
	element = strings.Trim(w.rest[at+1:], " \t")
	w.more = at >= 0
	if w.more {
		w.rest = w.rest[:at]
	}
	return element, true
}
