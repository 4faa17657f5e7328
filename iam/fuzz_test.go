package iam_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// lines splits a fuzzed text into a list; an empty text is an empty list.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// FuzzCompilePolicy: no document panics; what is refused is the caller's
// fault and says where; what compiles decides, each time the same, and a deny
// of the same words takes away exactly what the allow gives.
func FuzzCompilePolicy(f *testing.F) {
	for _, s := range []struct{ effect, actions, roles, paths, keys string }{
		{"allow", "*", "", "", ""},
		{"allow", "secrets:getSecretValue\nsecrets:*", "", "/a\n/a/b*/**", ""},
		{"deny", "", "secrets-full-access\nkms-use-access", "/**", "*\nalias/payments\n" + keyA},
		{"allow", "cluster:*\niam:putPolicy", "full-access", "", ""},
		{"allow", "secrets:get*", "", "/**/a", ""},
		{"Allow", "", "", "", ""},
		{"allow", ":\n*:*", "\x00", "//", "alias/"},
	} {
		f.Add("p", s.effect, s.actions, s.roles, s.paths, s.keys)
	}
	asked := worldQuestions()
	f.Fuzz(func(t *testing.T, name, effect, actions, roles, paths, keys string) {
		s := iam.Statement{Effect: effect, Actions: lines(actions), Roles: lines(roles), Paths: lines(paths), Keys: lines(keys)}
		p, warnings, err := iam.CompilePolicy(catalogue, name, 1, []iam.Statement{s})
		if err != nil {
			require.Nil(t, p)
			require.True(t, fault.Is(err, fault.InvalidRequest))
			require.Regexp(t, `^InvalidRequest: (name|statements\[0\]\.(effect|(actions|roles|paths|keys)(\[[0-9]+\])?)): .`, err.Error())
			require.Less(t, len(err.Error()), 2048)
			return
		}
		again, sameWarnings, err := iam.CompilePolicy(catalogue, name, 1, []iam.Statement{s})
		require.NoError(t, err)
		require.Equal(t, warnings, sameWarnings)
		s.Effect = iam.Allow
		yes := rules(compile(t, "yes", s))
		s.Effect = iam.Deny
		no := rules(compile(t, "all", allow(list("*"))), compile(t, "no", s))
		for _, q := range asked {
			d := iam.Decide(rules(p), q)
			require.Equal(t, d, iam.Decide(rules(p), q))
			require.Equal(t, d, iam.Decide(rules(again), q))
			requireConsistent(t, d)
			require.NotEqual(t, allowed(yes, q), allowed(no, q), "%+v", q)
			require.Equal(t, effect == iam.Allow && allowed(yes, q), d.Allowed)
			if d.Allowed {
				require.True(t, iam.MayAnywhere(rules(p), q.Action))
			}
		}
	})
}

// FuzzParseCIDR: what is accepted is one range in one form, without host
// bits, and never an IPv4 range in IPv6 dress.
func FuzzParseCIDR(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.1.2.3", "::ffff:10.1.2.3/128", "::ffff:0:0/95", "fe80::1%eth0/64", "2001:db8::/32", "::/0", "010.0.0.0/8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := iam.ParseCIDR(text)
		if err != nil {
			require.Zero(t, p)
			require.Less(t, len(err.Error()), 512)
			return
		}
		require.True(t, p.IsValid())
		require.Equal(t, p.Masked(), p)
		require.False(t, p.Addr().Is4In6())
		again, err := iam.ParseCIDR(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
		require.True(t, iam.SourceAllowed([]netip.Prefix{p}, p.Addr()))
		require.True(t, iam.SourceAllowed([]netip.Prefix{p}, netip.AddrFrom16(p.Addr().As16())), "the mapped form is the same address")
	})
}
