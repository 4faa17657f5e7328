package iam_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
)

func TestRangesHaveOneForm(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8":              "10.0.0.0/8",
		"10.1.2.3/32":             "10.1.2.3/32",
		"0.0.0.0/0":               "0.0.0.0/0",
		"::/0":                    "::/0",
		"2001:db8::/32":           "2001:db8::/32",
		"2001:DB8:0:0::1/128":     "2001:db8::1/128",
		"::ffff:10.0.0.0/104":     "10.0.0.0/8",
		"::ffff:10.1.2.3/128":     "10.1.2.3/32",
		"::ffff:0:0/96":           "0.0.0.0/0",
		"::ffff:a01:203/128":      "10.1.2.3/32",
		"64:ff9b::a01:203/128":    "64:ff9b::a01:203/128", // NAT64 is IPv6: only the mapped form is one address
		"::a01:203/128":           "::a01:203/128",
		"fe80::/10":               "fe80::/10",
		"2001:db8::8000:0:0:0/65": "2001:db8:0:0:8000::/65",
	} {
		got, err := iam.ParseCIDR(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.String(), text)
		again, err := iam.ParseCIDR(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
}

func TestBadRangesAreRefusedWithTheWayOut(t *testing.T) {
	const not = "is not a CIDR range without a zone, such as 10.0.0.0/8 or 2001:db8::/32"
	for text, want := range map[string]string{
		"":                     not,
		"*":                    not,
		"example.org":          not,
		"10.0.0.0/33":          not,
		"10.0.0.0/-1":          not,
		"10.0.0.0/+8":          not,
		"10.0.0.0/08":          not,
		"10.0.0.0/":            not,
		"10.0.0.0/255.0.0.0":   not,
		"10.0.0/8":             not,
		"010.0.0.0/8":          not, // octal to some, decimal to others
		" 10.0.0.0/8":          not,
		"10.0.0.0/8 ":          not,
		"10.0.0.0/8,::/0":      not,
		"2001:db8::/129":       not,
		"fe80::%eth0/64":       not,
		"fe80::1%eth0":         not, // the advice for an address would not help it
		"::ffff:10.1.2.3%1/96": not,

		"10.1.2.3":        `"10.1.2.3" has no length; write 10.1.2.3/32 for this one address`,
		"2001:db8::1":     `"2001:db8::1" has no length; write 2001:db8::1/128`,
		"::ffff:10.1.2.3": `has no length; write ::ffff:10.1.2.3/128`,

		"10.1.0.0/8":          `"10.1.0.0/8" has bits set beyond its length; write 10.0.0.0/8`,
		"10.0.0.1/0":          "write 0.0.0.0/0",
		"2001:db8::1/32":      "write 2001:db8::/32",
		"::ffff:10.1.0.0/104": "write 10.0.0.0/8",
		"::1/0":               "write ::/0",

		// It would say "all of IPv4, and some of IPv6": nobody means that.
		"::ffff:0:0/95": "is wider than all IPv4-mapped addresses; write the IPv4 range itself",
		"::ffff:0:0/0":  "is wider than all IPv4-mapped addresses",
	} {
		got, err := iam.ParseCIDR(text)
		require.ErrorContains(t, err, want, text)
		require.Zero(t, got)
	}
}

// What an error says to write must itself be accepted.
func TestAdviceAboutRangesCanBeFollowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := prefixes().Draw(t, "prefix")
		_, err := iam.ParseCIDR(prefix.Masked().String())
		require.NoError(t, err)
		if prefix == prefix.Masked() {
			return
		}
		_, err = iam.ParseCIDR(prefix.String())
		require.ErrorContains(t, err, "write "+prefix.Masked().String())
	})
}

// prefixes draws ranges of both families, with host bits more often than not.
func prefixes() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		size := pick(t, "size", []int{4, 16})
		// A first byte that is not zero keeps IPv4-mapped addresses out.
		raw := append([]byte{byte(rapid.IntRange(1, 255).Draw(t, "first"))}, rapid.SliceOfN(rapid.Byte(), size-1, size-1).Draw(t, "rest")...)
		addr, _ := netip.AddrFromSlice(raw)
		return netip.PrefixFrom(addr, rapid.IntRange(0, addr.BitLen()).Draw(t, "bits"))
	})
}

func TestSourceIsInARange(t *testing.T) {
	for source, in := range map[string]map[string]bool{
		"10.1.2.3":             {"10.0.0.0/8": true, "::ffff:10.0.0.0/104": true, "0.0.0.0/0": true, "10.1.2.3/32": true, "10.1.2.4/32": false, "::/0": false},
		"::ffff:10.1.2.3":      {"10.0.0.0/8": true, "::ffff:10.0.0.0/104": true, "0.0.0.0/0": true, "10.1.2.3/32": true, "10.1.2.4/32": false, "::/0": false},
		"9.255.255.255":        {"10.0.0.0/8": false},
		"10.0.0.0":             {"10.0.0.0/8": true},
		"10.255.255.255":       {"10.0.0.0/8": true},
		"11.0.0.0":             {"10.0.0.0/8": false},
		"2001:db8::1":          {"2001:db8::/32": true, "::/0": true, "0.0.0.0/0": false, "2001:db9::/32": false},
		"64:ff9b::a01:203":     {"10.0.0.0/8": false, "::/0": true},
		"::a01:203":            {"10.0.0.0/8": false, "::/0": true},
		"fe80::1%eth0":         {"fe80::/10": false, "::/0": false}, // a zone is a claim about this machine only
		"::ffff:10.1.2.3%eth0": {"10.0.0.0/8": false, "0.0.0.0/0": false},
	} {
		for text, want := range in {
			cidr, err := iam.ParseCIDR(text)
			require.NoError(t, err, text)
			require.Equal(t, want, iam.SourceAllowed([]netip.Prefix{cidr}, address(t, source)), "%s in %s", source, text)
		}
	}
}

// address makes one also of a mapped address with a zone, which a listener
// can hand us and ParseAddr may refuse.
func address(t *testing.T, text string) netip.Addr {
	plain, zone := text, ""
	for i := range text {
		if text[i] == '%' {
			plain, zone = text[:i], text[i+1:]
		}
	}
	out, err := netip.ParseAddr(plain)
	require.NoError(t, err)
	if zone == "" {
		return out
	}
	out = out.WithZone(zone)
	require.Equal(t, zone, out.Zone())
	return out
}

// No address at all is nobody's: a front end that forgot to say where a
// request came from is refused, not trusted.
func TestNoSourceIsInNoRange(t *testing.T) {
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	require.False(t, iam.SourceAllowed(everywhere, netip.Addr{}))
	require.False(t, iam.SourceAllowed(nil, netip.MustParseAddr("10.1.2.3")))
	require.True(t, iam.SourceAllowed(everywhere, netip.MustParseAddr("10.1.2.3")))
	require.True(t, iam.SourceAllowed(everywhere, netip.MustParseAddr("2001:db8::1")))
}

// An address and its mapped form are one address, whatever the ranges.
func TestMappedAddressesAreTheirIPv4Address(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v4 := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
		mapped := netip.AddrFrom16(v4.As16())
		bits := rapid.IntRange(0, 32).Draw(t, "bits")
		around := netip.PrefixFrom(v4, bits).Masked()
		for _, cidr := range []netip.Prefix{around, prefixes().Draw(t, "other").Masked()} {
			parsed, err := iam.ParseCIDR(cidr.String())
			require.NoError(t, err)
			require.Equal(t, cidr.Contains(v4), iam.SourceAllowed([]netip.Prefix{parsed}, v4))
			require.Equal(t, cidr.Contains(v4), iam.SourceAllowed([]netip.Prefix{parsed}, mapped))
		}
		written, err := iam.ParseCIDR(netip.PrefixFrom(mapped, 96+bits).Masked().String())
		require.NoError(t, err)
		require.Equal(t, around, written)
	})
}
