package origin

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func trusted(t testing.TB, header bool, ranges ...string) Proxies {
	t.Helper()
	p, err := NewProxies(ranges, header)
	require.NoError(t, err)
	return p
}

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func TestWhereARequestComesFrom(t *testing.T) {
	p := trusted(t, true, "10.0.0.0/24", "2001:db8:1::/64")
	for name, c := range map[string]struct {
		peer, proxied string
		forwarded     []string
		source, via   string
	}{
		"a client":             {"192.0.2.9", "", nil, "192.0.2.9", Direct},
		"a client that forges": {"192.0.2.9", "", []string{"10.0.0.5, 172.16.0.1"}, "192.0.2.9", Direct},
		"a client that forges what is no address": {"192.0.2.9", "", []string{"nonsense"}, "192.0.2.9", Direct},
		"a proxy itself":                  {"10.0.0.5", "", nil, "10.0.0.5", Direct},
		"a client of a proxy":             {"10.0.0.5", "", []string{"192.0.2.9"}, "192.0.2.9", XForwardedFor},
		"a client of a proxy that forges": {"10.0.0.5", "", []string{"172.16.0.1, 192.0.2.9"}, "192.0.2.9", XForwardedFor},
		"in a line of its own":            {"10.0.0.5", "", []string{"172.16.0.1", "192.0.2.9"}, "192.0.2.9", XForwardedFor},
		"in a line after garbage":         {"10.0.0.5", "", []string{"unknown, ,;%00", "192.0.2.9"}, "192.0.2.9", XForwardedFor},
		"in a line after an empty one":    {"10.0.0.5", "", []string{"", "192.0.2.9"}, "192.0.2.9", XForwardedFor},
		"that claims to be a proxy":       {"10.0.0.5", "", []string{"10.0.0.7, 192.0.2.9"}, "192.0.2.9", XForwardedFor},
		"behind two proxies":              {"10.0.0.5", "", []string{"172.16.0.1, 192.0.2.9, 10.0.0.6"}, "192.0.2.9", XForwardedFor},
		"behind three, in lines":          {"2001:db8:1::5", "", []string{"192.0.2.9,10.0.0.6", "10.0.0.7"}, "192.0.2.9", XForwardedFor},
		"a proxy behind proxies":          {"10.0.0.5", "", []string{"10.0.0.7, 10.0.0.6"}, "10.0.0.7", XForwardedFor},
		"IPv4 in the clothes of IPv6":     {"::ffff:10.0.0.5", "", []string{"::ffff:192.0.2.9"}, "192.0.2.9", XForwardedFor},
		"a proxy in these clothes":        {"10.0.0.5", "", []string{"192.0.2.9, ::ffff:10.0.0.6"}, "192.0.2.9", XForwardedFor},
		"tabs and spaces":                 {"10.0.0.5", "", []string{"192.0.2.1 ,\t 192.0.2.9 \t"}, "192.0.2.9", XForwardedFor},
		"IPv6":                            {"10.0.0.5", "", []string{"2001:DB8::9"}, "2001:db8::9", XForwardedFor},
		"a peer with a zone is no proxy":  {"2001:db8:1::5%eth0", "", []string{"192.0.2.9"}, "2001:db8:1::5", Direct},
		"by the PROXY protocol":           {"10.0.0.5", "192.0.2.9", nil, "192.0.2.9", ProxyProtocol},
		"by it, and a forged list":        {"10.0.0.5", "192.0.2.9", []string{"172.16.0.1"}, "192.0.2.9", ProxyProtocol},
		"by it from a proxy with a list":  {"10.0.0.5", "10.0.0.6", []string{"172.16.0.1, 192.0.2.9"}, "192.0.2.9", XForwardedFor},
		"by it from a proxy":              {"10.0.0.5", "10.0.0.6", nil, "10.0.0.6", ProxyProtocol},
	} {
		got, err := p.Of(Remote{Peer: addr(c.peer), Proxied: addr(c.proxied)}, c.forwarded)
		require.NoError(t, err, name)
		require.Equal(t, Origin{Source: addr(c.source), Peer: clean(addr(c.peer)), Via: c.via}, got, name)
	}
	nobody, err := Proxies{}.Of(Remote{Peer: addr("127.0.0.1")}, []string{"192.0.2.9"})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", nobody.Source.String(), "without a setting nobody is trusted, this machine neither")
}

// TestWhatATrustedProxyWroteMustBeRead: to go on with the address of the proxy
// would give its rights to anybody behind it.
func TestWhatATrustedProxyWroteMustBeRead(t *testing.T) {
	p := trusted(t, false, "10.0.0.0/24")
	for _, element := range []string{
		"", " ", "unknown", "_hidden", "192.0.2.9:4711", "[2001:db8::9]", "[2001:db8::9]:4711", `"192.0.2.9"`, "192.0.2.09", "192.0.2", "0x7f.1", "3221225985",
		"fe80::1%eth0", "::ffff:192.0.2.9%1", "192.0.2.9/32", "192.0.2.9 192.0.2.10", "192.0.2.9;", "0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "１.1.1.1", "192.0.2.9\x00",
		"for=192.0.2.9", "localhost",
	} {
		for _, lines := range [][]string{{element}, {"192.0.2.1", element}, {"192.0.2.1," + element}, {"192.0.2.1, " + element + ", 10.0.0.6"}} {
			_, err := p.Of(Remote{Peer: addr("10.0.0.5")}, lines)
			require.ErrorContains(t, err, "has no address in place", "%q", lines)
			require.NotContains(t, err.Error(), "192.0.2", "what is in the header is not shown")
		}
	}
	_, err := p.Of(Remote{Peer: addr("10.0.0.5")}, []string{strings.Repeat("10.0.0.6,", 10_000) + "10.0.0.6"})
	require.ErrorContains(t, err, "which is a loop")
}

// TestALongListCostsNothing: only what trusted proxies wrote is looked at.
func TestALongListCostsNothing(t *testing.T) {
	p := trusted(t, false, "10.0.0.0/24")
	list := []string{strings.Repeat("10.0.0.6,", 10_000) + "192.0.2.9", "10.0.0.7"}
	allocated := testing.AllocsPerRun(100, func() {
		got, err := p.Of(Remote{Peer: addr("10.0.0.5")}, list)
		require.NoError(t, err)
		require.Equal(t, "192.0.2.9", got.Source.String())
	})
	require.Less(t, allocated, 20.0)
}

func TestRangesThatTrustTheWrongAreRefused(t *testing.T) {
	for text, says := range map[string]string{
		"10.0.0.5": "or 10.0.0.5/32 for one address", "10.0.0.5/24": "write 10.0.0.0/24", "::ffff:10.0.0.0/120": "write the IPv4 range", "0.0.0.0/0": "trusts everybody",
		"::/0": "trusts everybody", "lb.example": "must be a CIDR range", "fe80::%eth0/64": "must be a CIDR range", "": "must be a CIDR range",
	} {
		_, err := NewProxies([]string{"10.0.0.0/24", text}, false)
		require.ErrorContains(t, err, says, text)
	}
	_, err := NewProxies(nil, true)
	require.ErrorContains(t, err, "nobody may send the header")
	_, err = NewProxies(slices.Repeat([]string{"10.0.0.0/24"}, MaxRanges+1), false)
	require.ErrorContains(t, err, "at most 256")
}

// TestNobodyMovesTheirOwnAddress holds the walk against its rule: whatever
// a client sends before it, what the proxies append decides.
func TestNobodyMovesTheirOwnAddress(t *testing.T) {
	p := trusted(t, false, "10.0.0.0/24")
	rapid.Check(t, func(t *rapid.T) {
		client := netip.AddrFrom4([4]byte{192, 0, 2, rapid.Byte().Draw(t, "client")})
		lines := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"10.0.0.9", "10.0.0.9,", "172.16.0.1", "127.0.0.1, 10.0.0.1"})), 0, 5).Draw(t, "forged")
		hops := []string{client.String()}
		for range rapid.IntRange(0, maxHops-1).Draw(t, "hops") {
			hops = append(hops, "10.0.0.6")
		}
		for _, hop := range hops { // each proxy appends, to the last line or in one of its own
			if len(lines) > 0 && rapid.Bool().Draw(t, "same line") {
				lines[len(lines)-1] += ", " + hop
			} else {
				lines = append(lines, hop)
			}
		}
		got, err := p.Of(Remote{Peer: addr("10.0.0.5")}, lines)
		require.NoError(t, err)
		require.Equal(t, Origin{Source: client, Peer: addr("10.0.0.5"), Via: XForwardedFor}, got)
	})
}

// FuzzForwarded: whatever comes, the address is the peer's or stands in the
// list as an element, and it is none of a proxy while one further left is not.
func FuzzForwarded(f *testing.F) {
	p := trusted(f, false, "10.0.0.0/24")
	for _, seed := range []string{"192.0.2.9", "a,b", ",", "10.0.0.1, 10.0.0.2", "fe80::1%a,10.0.0.1", "::ffff:1.2.3.4"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		o, err := p.Of(Remote{Peer: addr("10.0.0.5")}, []string{first, second})
		if err != nil {
			require.Equal(t, Origin{}, o)
			return
		}
		require.True(t, usable(o.Source) && !o.Source.Is4In6())
		elements := strings.Split(first+","+second, ",")
		at := slices.IndexFunc(elements, func(e string) bool {
			a, err := netip.ParseAddr(strings.Trim(e, " \t"))
			return err == nil && a.Unmap() == o.Source
		})
		require.GreaterOrEqual(t, at, 0)
		if p.trusts(o.Source) {
			require.Equal(t, 0, at, "all of the list are proxies")
		}
	})
}
