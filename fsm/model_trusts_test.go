package fsm_test

import (
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// trusts draws a command about trusts, or a login by one.
func (p player) trusts() fsm.Command {
	m, name, principal := p.w.meta(), pick(p, "ci", "staff"), pick(p, somePrincipals...)
	trust := issuerTrust()
	trust.Name, trust.Principal, trust.TTL = name, principal, pick(p, int64(60_000), 3_600_000)
	trust.Audiences = pick(p, []string{"a"}, []string{"a"}, []string{"b"}, nil)
	k := token(pick(p, someTokens...), principal, p.w.now+3_600_000)
	k.Method, k.Trust, k.TrustEpoch = fsm.TrustJWT, name, pick(p, uint64(0), 1)
	if there := p.w.m.State().Trust(name); there != nil {
		k.TrustEpoch = there.Epoch - pick(p, uint64(0), 0, 0, 1)
		k.Principal = pick(p, there.Principal, there.Principal, principal)
	}
	return pick[fsm.Command](p, fsm.PutTrust{Meta: m, Trust: trust}, fsm.Login{Meta: m, Token: k}, fsm.Login{Meta: m, Token: k}, fsm.DeleteTrust{Meta: m, Name: name})
}

// checkTrusts: a token stands only for whom its trust makes of callers now.
func checkTrusts(t tester, s *fsm.State) {
	for trust := range s.Trusts("") {
		require.NotZero(t, trust.Revision)
		require.LessOrEqual(t, trust.Epoch, s.Index())
		require.NotEmpty(t, trust.Audiences)
	}
	for k := range s.Tokens("", "") {
		require.LessOrEqual(t, k.TrustEpoch, s.Index())
		if k.Trust == "" || !s.Stands(k) {
			continue
		}
		require.Equal(t, s.Trust(k.Trust).Principal, k.Principal)
		require.Equal(t, s.Trust(k.Trust).Kind, k.Method)
	}
}
