package rotate

import (
	"context"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
)

// guard decides where a connection may go. Settings are made by whoever may
// update a secret, and the server sits where attackers do not: each way out is
// one that the operator listed, and never one to the machine's own network or
// to a cloud's metadata service, whatever a name resolves to.
type guard struct {
	allow   []string
	setting string
}

const dialTimeout = 10 * time.Second

var hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// check refuses a host that is not listed, or whose form is not plain.
func (g guard) check(field, host, port, usualPort string) error {
	addr, err := netip.ParseAddr(host)
	if err != nil && !hostForm.MatchString(host) || err == nil && (addr.Zone() != "" || addr.Is4In6()) {
		return fault.Invalid(field, "must name a host in lower case, or an address")
	}
	for _, entry := range g.allow {
		allowed, allowedPort, err := net.SplitHostPort(entry)
		if err != nil {
			allowed, allowedPort = entry, usualPort
		}
		suffix, wild := strings.CutPrefix(allowed, "*")
		if port == allowedPort && (host == allowed || wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix)) {
			return nil
		}
	}
	return fault.Invalid(field, "%s is not allowed: the servers' setting %s must list it", net.JoinHostPort(host, port), g.setting)
}

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

// refusedAddress says why an address is no place to connect to, "" if it is.
// The machine itself is one only for settings that name it outright.
func refusedAddress(addr netip.Addr, named string) string {
	addr = addr.Unmap()
	for prefix, at := range translated {
		if prefix.Contains(addr) {
			raw := addr.As16()
			return refusedAddress(netip.AddrFrom4([4]byte(raw[at:at+4])), named)
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

// dialer connects to a host that check has let through. Addresses are looked
// at after the name was resolved, at the socket: there is no moment between
// the check and the connection in which a name could change its mind.
func (g guard) dialer(named string) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return errAddress("an address that cannot be read")
		}
		if why := refusedAddress(at.Addr(), named); why != "" {
			return errAddress(why)
		}
		return nil
	}}
	return d.DialContext
}

// errAddress is the refusal of an address.
type errAddress string

func (e errAddress) Error() string { return "the host is " + string(e) }
