// Package outbound guards connections that the server makes to places that
// somebody else named: it sits where attackers do not, so none may lead to the
// machine's own network or to a cloud's metadata service.
package outbound

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// metadata are services of clouds that answer whoever asks from inside, at
// addresses that no other rule catches.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS, IPv6
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("192.0.0.0/24"),       // Oracle, and other services of providers
	netip.MustParsePrefix("0.0.0.0/8"),
}

// translated are prefixes whose addresses carry an IPv4 address, and where.
var translated = map[netip.Prefix]int{
	netip.MustParsePrefix("64:ff9b::/96"): 12,
	netip.MustParsePrefix("2002::/16"):    2,
}

// Refused says why an address is no place to connect to, "" if it is. The
// machine itself is one only for a host that is written as such: named is what
// was written.
func Refused(addr netip.Addr, named string) string {
	addr = addr.Unmap()
	for prefix, at := range translated {
		if prefix.Contains(addr) {
			raw := addr.As16()
			return Refused(netip.AddrFrom4([4]byte(raw[at:at+4])), named)
		}
	}
	switch {
	case addr.IsLoopback():
		if literal, err := netip.ParseAddr(named); named != "localhost" && (err != nil || !literal.IsLoopback()) {
			return "the machine itself"
		}
		return ""
	case addr.IsLinkLocalUnicast(), addr.IsLinkLocalMulticast(), addr.IsInterfaceLocalMulticast():
		return "a link-local address, as those of metadata services"
	case addr.IsUnspecified(), addr.IsMulticast():
		return "no address of a host"
	case slices.ContainsFunc(metadata, func(p netip.Prefix) bool { return p.Contains(addr) }):
		return "an address of a metadata service"
	}
	return ""
}

// Dialer connects to the host that was written as named, unless Refused says
// no. Addresses are looked at after the name was resolved, at the socket:
// there is no moment between the check and the connection in which a name
// could change its mind.
func Dialer(named string, timeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return AddressError("an address that cannot be read")
		}
		if why := Refused(at.Addr(), named); why != "" {
			return AddressError(why)
		}
		return nil
	}}
	return d.DialContext
}

// AddressError is the refusal of an address.
type AddressError string

func (e AddressError) Error() string { return "the host is " + string(e) }
