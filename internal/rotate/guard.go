package rotate

import (
	"context"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/outbound"
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

// refusedAddress says why an address is no place to connect to, "" if it is.
func refusedAddress(addr netip.Addr, named string) string { return outbound.Refused(addr, named) }

// dialer connects to a host that check has let through, unless its address is
// refused once the name was resolved.
func (g guard) dialer(named string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return outbound.Dialer(named, dialTimeout)
}

// errAddress is the refusal of an address.
type errAddress = outbound.AddressError
