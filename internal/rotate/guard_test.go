package rotate

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyListedHostsAreAllowed(t *testing.T) {
	g := guard{setting: "rotation.webhookAllow", allow: []string{"hooks.example.com", "*.in.example.com:8443", "127.0.0.1:9000", "[2001:db8::1]:443"}}
	for host, ok := range map[string]bool{
		"hooks.example.com:443": true, "hooks.example.com:8443": false, "evil.hooks.example.com:443": false,
		"a.in.example.com:8443": true, "a.b.in.example.com:8443": true, "in.example.com:8443": false, "xin.example.com:8443": false,
		"127.0.0.1:9000": true, "127.0.0.2:9000": false, "[2001:db8::1]:443": true, "[::ffff:127.0.0.1]:9000": false,
		"HOOKS.example.com:443": false, "hooks.example.com.:443": false, "[fe80::1%25eth0]:443": false, "127.1:9000": false, "2130706433:9000": false,
	} {
		name, port, err := net.SplitHostPort(host)
		require.NoError(t, err)
		err = g.check("url", name, port, "443")
		require.Equal(t, ok, err == nil, "%s: %v", host, err)
	}
	require.ErrorContains(t, guard{setting: "rotation.webhookAllow"}.check("url", "a.example", "443", "443"), "rotation.webhookAllow must list it")
}

// TestAddressesInsideAreRefused, whatever name led there.
func TestAddressesInsideAreRefused(t *testing.T) {
	for _, address := range []string{
		"169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fe80::1", "fd00:ec2::254", "100.100.100.200",
		"168.63.129.16", "192.0.0.192", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1",
	} {
		require.NotEmpty(t, refusedAddress(netip.MustParseAddr(address), "hooks.example.com"), address)
	}
	for _, address := range []string{"10.1.2.3", "192.168.1.1", "203.0.113.7", "2001:db8::1", "fd12::1"} {
		require.Empty(t, refusedAddress(netip.MustParseAddr(address), "hooks.example.com"), address)
	}
	for _, named := range []string{"localhost", "127.0.0.1", "::1"} {
		require.Empty(t, refusedAddress(netip.MustParseAddr("127.0.0.1"), named), "it was named outright")
		require.NotEmpty(t, refusedAddress(netip.MustParseAddr("169.254.169.254"), named))
	}
}

// TestANameThatLeadsInsideIsRefusedAtTheSocket: the name resolves to the
// machine itself, as one of an attacker could.
func TestANameThatLeadsInsideIsRefusedAtTheSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, err = guard{}.dialer("hooks.example.com")(t.Context(), "tcp", l.Addr().String())
	require.ErrorContains(t, err, "the machine itself")
	conn, err := guard{}.dialer("127.0.0.1")(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
