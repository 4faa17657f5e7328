package fsm_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func trusting(t *testing.T) *world {
	w := emptyWorld(t)
	w.ok(genesis(start))
	w.ok(fsm.CreatePrincipal{Meta: admin(start), Principal: fsm.Principal{Name: "svc-ci", Kind: "service"}})
	return w
}

func admin(at int64) fsm.Meta { return fsm.Meta{Time: at, Principal: "admin", RequestID: "r"} }

// TestATrustThatLetsInTooManyIsRefusedByEveryReplica: whatever an engine let
// through.
func TestATrustThatLetsInTooManyIsRefusedByEveryReplica(t *testing.T) {
	w := trusting(t)
	many := make([]string, 65)
	for i := range many {
		many[i] = "a"
	}
	for says, change := range map[string]func(k *fsm.Trust){
		"audiences: is missing":             func(k *fsm.Trust) { k.Audiences = nil },
		"algorithms: is missing":            func(k *fsm.Trust) { k.Algorithms = nil },
		"algorithms[1]: must be one of":     func(k *fsm.Trust) { k.Algorithms = []string{"RS256", "none"} },
		"algorithms[0]: must be one of":     func(k *fsm.Trust) { k.Algorithms = []string{"HS256"} },
		"claims: is missing":                func(k *fsm.Trust) { k.Claims = nil },
		"claims: must each have":            func(k *fsm.Trust) { k.Claims = map[string]string{"sub": ""} },
		"issuer: is missing":                func(k *fsm.Trust) { k.Issuer = "" },
		"issuer: has 513 bytes":             func(k *fsm.Trust) { k.Issuer = strings.Repeat("x", 513) },
		"jwks: and jwksUrl":                 func(k *fsm.Trust) { k.JWKS = "{}" },
		"principal: give principal, or":     func(k *fsm.Trust) { k.PrincipalClaim = "sub" },
		"principal: there is no principal":  func(k *fsm.Trust) { k.Principal = "nobody" },
		"principalPrefix: goes with":        func(k *fsm.Trust) { k.PrincipalPrefix = "a" },
		"groupsPrefix: must be what":        func(k *fsm.Trust) { k.GroupsPrefix = " " },
		"groupsClaim: is missing":           func(k *fsm.Trust) { k.GroupsClaim = "" },
		"groups[0]":                         func(k *fsm.Trust) { k.Groups = []string{"a b"} },
		"audiences: has 65 entries":         func(k *fsm.Trust) { k.Audiences = many },
		"audiences[0]: must have 1 to":      func(k *fsm.Trust) { k.Audiences = []string{""} },
		"clockSkew: must be 0s to 60s":      func(k *fsm.Trust) { k.ClockSkew = 60_001 },
		"ttl: must be 1m to 12h":            func(k *fsm.Trust) { k.TTL = 12*3_600_000 + 1 },
		"kind: must be":                     func(k *fsm.Trust) { k.Kind = "saml" },
		"sans: and revokedSerials":          func(k *fsm.Trust) { k.SANs = []string{"dns:a"} },
		"serviceAccounts: is what kind":     func(k *fsm.Trust) { k.Kind = fsm.TrustKubernetes },
		"tokenReviewUrl: is for kind":       func(k *fsm.Trust) { k.TokenReviewURL = "https://a" },
		"tokenReviewer: must be self or fi": func(k *fsm.Trust) { k.TokenReviewer = fsm.ReviewerSelf },
		"caPem: has":                        func(k *fsm.Trust) { k.CAPEM = strings.Repeat("x", 65<<10) },
	} {
		trust := issuerTrust()
		change(&trust)
		r := w.do(fsm.PutTrust{Meta: admin(start), Trust: trust})
		require.NotNil(t, r.Refused, says)
		require.Contains(t, r.Refused.Message, says)
	}
	for says, change := range map[string]func(k *fsm.Trust){
		"caPem: is missing":     func(k *fsm.Trust) { k.CAPEM = "" },
		"sans: is missing":      func(k *fsm.Trust) { k.SANs = nil },
		"principal: is missing": func(k *fsm.Trust) { k.Principal, k.PrincipalClaim = "", "sub" },
		"issuer: and all else":  func(k *fsm.Trust) { k.Issuer = "https://a" },
		"audiences: and all":    func(k *fsm.Trust) { k.Audiences = []string{"a"} },
		"ttl: and clockSkew":    func(k *fsm.Trust) { k.TTL = 60_000 },
	} {
		trust := certificateTrust()
		change(&trust)
		r := w.do(fsm.PutTrust{Meta: admin(start), Trust: trust})
		require.NotNil(t, r.Refused, says)
		require.Contains(t, r.Refused.Message, says)
	}
	require.Nil(t, w.m.State().Trust("ci"))
}

// TestATokenStandsAsLongAsItsTrustLetsInTheSame is the rule by which tokens of
// logins end.
func TestATokenStandsAsLongAsItsTrustLetsInTheSame(t *testing.T) {
	w := trusting(t)
	w.ok(fsm.PutTrust{Meta: admin(start), Trust: issuerTrust()})
	epoch := w.m.State().Trust("ci").Epoch
	w.ok(fsm.Login{Meta: admin(start), Token: loginToken("t1", epoch, start+60_000)})
	stands := func() bool { return w.m.State().Stands(w.m.State().Token("t1")) }
	require.True(t, stands())

	same := issuerTrust()
	same.TTL, same.ClockSkew, same.ClientID, same.Scopes, same.Reason = 60_000, 0, "other", nil, "again"
	w.ok(fsm.PutTrust{Meta: admin(start), Trust: same})
	require.True(t, stands(), "nobody is let in by it who was not before")

	for name, change := range map[string]func(k *fsm.Trust){
		"issuer": func(k *fsm.Trust) { k.Issuer += "/" }, "keys": func(k *fsm.Trust) { k.JWKSURL += "/" },
		"audience": func(k *fsm.Trust) { k.Audiences = []string{"b"} }, "claims": func(k *fsm.Trust) { k.Claims["sub"] = "x" },
		"algorithms": func(k *fsm.Trust) { k.Algorithms = []string{"ES256"} }, "groups": func(k *fsm.Trust) { k.Groups = nil },
		"authority": func(k *fsm.Trust) { k.CAPEM = "other" },
	} {
		w.ok(fsm.PutTrust{Meta: admin(start), Trust: same})
		before := w.m.State().Trust("ci").Epoch
		changed := issuerTrust()
		change(&changed)
		w.ok(fsm.PutTrust{Meta: admin(start), Trust: changed})
		require.Greater(t, w.m.State().Trust("ci").Epoch, before, name)
		require.False(t, stands(), name)
	}
	w.ok(fsm.DeleteTrust{Meta: admin(start), Name: "ci"})
	require.False(t, stands())
	w.ok(fsm.PutTrust{Meta: admin(start), Trust: issuerTrust()})
	require.False(t, stands(), "a trust of the same name is another one")
}

func TestALoginIsNoWiderThanItsTrust(t *testing.T) {
	w := trusting(t)
	w.ok(fsm.PutTrust{Meta: admin(start), Trust: issuerTrust()})
	w.ok(fsm.PutTrust{Meta: admin(start), Trust: certificateTrust()})
	w.ok(fsm.CreatePrincipal{Meta: admin(start), Principal: fsm.Principal{Name: "other", Kind: "service"}})
	epoch := w.m.State().Trust("ci").Epoch
	for says, change := range map[string]func(k *fsm.Token){
		"changed or deleted meanwhile": func(k *fsm.Token) { k.TrustEpoch-- },
		"trust: was changed":           func(k *fsm.Token) { k.Trust = "" },
		"no tokens of this method":     func(k *fsm.Token) { k.Method = fsm.TrustOIDC },
		"trust: makes no tokens":       func(k *fsm.Token) { k.Trust, k.TrustEpoch, k.Method = "mesh", epoch+1, fsm.TrustCertificate },
		"for another principal":        func(k *fsm.Token) { k.Principal = "other" },
		"lives at most 12 hours":       func(k *fsm.Token) { k.ExpiresAt = start + 12*3_600_000 + 1 },
		"groups: has 65 entries":       func(k *fsm.Token) { k.Groups = make([]string, 65) },
		"groups[0]":                    func(k *fsm.Token) { k.Groups = []string{"a b"} },
		"ttl":                          func(k *fsm.Token) { k.ExpiresAt = start },
		"hash: must be":                func(k *fsm.Token) { k.Hash = nil },
	} {
		k := loginToken("t1", epoch, start+60_000)
		change(&k)
		r := w.do(fsm.Login{Meta: admin(start), Token: k})
		require.NotNil(t, r.Refused, says)
		require.Contains(t, r.Refused.Message, says)
	}
	w.ok(fsm.DeletePrincipal{Meta: admin(start), Name: "svc-ci"})
	w.refused(fault.NotFound, fsm.Login{Meta: admin(start), Token: loginToken("t1", epoch, start+60_000)}, "there is no principal")
}

// TestTokensOfLoginsAreForgottenSooner: they come by the thousand.
func TestTokensOfLoginsAreForgottenSooner(t *testing.T) {
	w := trusting(t)
	w.ok(fsm.PutTrust{Meta: admin(start), Trust: issuerTrust()})
	w.ok(fsm.Login{Meta: admin(start), Token: loginToken("t1", w.m.State().Trust("ci").Epoch, start+60_000)})
	w.ok(fsm.CreateToken{Meta: admin(start), Token: token("t2", "svc-ci", start+60_000)})
	w.ok(fsm.Sweep{Meta: fsm.Meta{Time: start + day}, Limit: 100})
	require.NotNil(t, w.m.State().Token("t1"))
	w.ok(fsm.Sweep{Meta: fsm.Meta{Time: start + day + 60_000}, Limit: 100})
	require.Nil(t, w.m.State().Token("t1"))
	require.NotNil(t, w.m.State().Token("t2"))
}

func TestThereAreOnlySoManyTrusts(t *testing.T) {
	w := trusting(t)
	name := func(prefix string, i int) string { return prefix + string(rune('a'+i/26)) + string(rune('a'+i%26)) }
	for i := range 32 {
		trust := certificateTrust()
		trust.Name = name("c", i)
		w.ok(fsm.PutTrust{Meta: admin(start), Trust: trust})
	}
	w.refused(fault.Conflict, fsm.PutTrust{Meta: admin(start), Trust: certificateTrust()}, "the most allowed")
	again := certificateTrust()
	again.Name = name("c", 0)
	w.ok(fsm.PutTrust{Meta: admin(start), Trust: again})
	for i := range 224 {
		trust := issuerTrust()
		trust.Name = name("i", i)
		w.ok(fsm.PutTrust{Meta: admin(start), Trust: trust})
	}
	w.refused(fault.Conflict, fsm.PutTrust{Meta: admin(start), Trust: issuerTrust()}, "there are 256 trusts")
}
