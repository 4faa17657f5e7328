package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestLifeOfAnAccessKeyIsBounded(t *testing.T) {
	w, _ := leading(t)
	for ttl, want := range map[string]time.Duration{"1s": time.Second, "366d": 366 * 24 * time.Hour} {
		made := into[wire.CreateAccessKeyResponse](t, w.ok("iam/createAccessKey", `{"principal":"svc","ttl":%q}`, ttl))
		require.Equal(t, w.now().Add(want), made.ExpiresAt.Time)
	}
	for request, says := range map[string]string{
		`"ttl":"0s"`: "ttl:", `"ttl":"367d"`: "ttl:", `"boundCidrs":["10.0.0.1/8"]`: "boundCidrs[0]:", `"description":"\u0007"`: "description:",
	} {
		_, err := w.as(w.admin, "iam/createAccessKey", `{"principal":"svc",`+request+`}`)
		w.refused(fault.InvalidRequest, says, err)
	}
	for _, id := range []string{"", "x", "SRAKaaaaaaaaaaaaaaaa", "SRAKAAAAAAAAAAAAAAA1", "AKIAAAAAAAAAAAAAAAAA"} {
		_, err := w.as(w.admin, "iam/deleteAccessKey", fmt.Sprintf(`{"accessKeyId":%q}`, id))
		w.refused(fault.InvalidRequest, "accessKeyId:", err)
	}
}

// TestTheSecretOfAnAccessKeyIsInNoAnswerButTheFirst and is no name either.
func TestTheSecretOfAnAccessKeyIsInNoAnswerButTheFirst(t *testing.T) {
	w, k := leading(t)
	other := w.accessKeyOf("svc", "")
	require.NotEqual(t, other.secret, k.secret)
	require.Len(t, k.id, 20)
	require.False(t, holds(w.ok("iam/listAccessKeys", `{}`), k.secret))
	var state bytes.Buffer
	_, err := w.log.machine.Snapshot().WriteTo(&state)
	require.NoError(t, err)
	require.NotContains(t, state.String(), k.secret)
	require.Contains(t, state.String(), k.id)
	_, err = w.as(w.admin, "iam/createPrincipal", fmt.Sprintf(`{"name":%q,"kind":"user"}`, k.secret))
	w.refused(fault.InvalidRequest, "secret of an access key", err)
	require.NotContains(t, err.Error(), k.secret)
}

// TestAccessKeysSurviveTheRootKey: what they are derived under moves to the new
// root key as all else does, and stays what it was. The old root key is gone
// from the HSM when it is asked again.
func TestAccessKeysSurviveTheRootKey(t *testing.T) {
	w, k := leading(t)
	w.withRoots()
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
	require.EqualValues(t, 1, w.log.machine.State().FingerprintKey().Root)
	stop := w.lead()
	w.jobBecomes(w.rotateRoot().JobID, "done")
	stop()
	require.EqualValues(t, 2, w.log.machine.State().FingerprintKey().Root)
	w.ok("cluster/removeRootKey", `{"version":1}`)
	w.token.RemoveRoot(1)

	w.reborn(func(*engine.Config) {}) // nothing derived is remembered
	require.NoError(t, w.engine.OpenLedger(context.Background()))
	w.setNow(w.now().Add(6 * time.Second))
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
	_, err := w.sendSigned(w.sign(pairOfKeys{k.id, k.secret + "x"}, who, `{}`, w.now()), who, `{}`)
	w.refused(fault.Unauthenticated, "", err)
	later := w.accessKeyOf("svc", "")
	must(w.sendSigned(w.sign(later, who, `{}`, w.now()), who, `{}`))
}

func TestAPrincipalsCredentialsEndTogether(t *testing.T) {
	w, k := leading(t)
	first, second := w.tokenOf("svc"), w.tokenOf("svc")
	admin := w.accessKeyOf("admin", "")
	some := w.principal("revoker", `[{"effect":"allow","actions":["iam:revokeToken"]}]`)
	_, err := w.as(some, "iam/revokeTokens", `{"principal":"svc","accessKeys":true}`)
	w.refused(fault.AccessDenied, "iam:deleteAccessKey", err)
	require.NoError(t, w.whoAmI(first))

	out, err := w.as(some, "iam/revokeTokens", `{"principal":"svc"}`)
	require.NoError(t, err)
	require.Equal(t, wire.RevokeTokensResponse{Principal: "svc", RevokedTokens: 3}, into[wire.RevokeTokensResponse](t, out))
	for _, token := range []string{first, second} {
		w.refused(fault.Unauthenticated, "", w.whoAmI(token))
	}
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
	again := into[wire.RevokeTokensResponse](t, w.ok("iam/revokeTokens", `{"principal":"svc","accessKeys":true}`))
	require.Equal(t, wire.RevokeTokensResponse{Principal: "svc", DeletedAccessKeys: 1}, again)
	_, err = w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`)
	w.refused(fault.Unauthenticated, "", err)
	must(w.sendSigned(w.sign(admin, who, `{}`, w.now()), who, `{}`))
	require.NoError(t, w.whoAmI(some), "nobody else's")

	w.principal("leaver", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	leaver := w.accessKeyOf("leaver", "")
	w.ok("iam/deletePrincipal", `{"name":"leaver"}`)
	_, err = w.sendSigned(w.sign(leaver, who, `{}`, w.now()), who, `{}`)
	w.refused(fault.Unauthenticated, "", err)
}

func TestLogoutEndsTheTokenItIsMadeWith(t *testing.T) {
	w, k := leading(t)
	first, second := w.tokenOf("svc"), w.tokenOf("svc")
	_, err := w.as(first, "iam/logout", `{}`)
	require.NoError(t, err)
	w.refused(fault.Unauthenticated, "", w.whoAmI(first))
	require.NoError(t, w.whoAmI(second))
	_, err = w.sendSigned(w.sign(k, "iam/logout", `{}`, w.now()), "iam/logout", `{}`)
	w.refused(fault.Conflict, "only a token can log out", err)
}

func TestTokensAreListedByState(t *testing.T) {
	w, _ := leading(t)
	w.ok("iam/createToken", `{"principal":"svc","ttl":"1s"}`)
	revoked := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc"}`))
	w.ok("iam/revokeToken", `{"tokenId":%q}`, revoked.TokenID)
	w.setNow(w.now().Add(time.Second))
	for _, state := range []string{"active", "expired", "revoked"} {
		list := into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"svc","state":%q}`, state)).Tokens
		require.Len(t, list, 1, state)
		require.Equal(t, state, list[0].State)
	}
	_, err := w.as(w.admin, "iam/listTokens", `{"state":"dead"}`)
	w.refused(fault.InvalidRequest, "state:", err)
}

// TestTheLastUseIsKnown now from memory, later and elsewhere from the state,
// and costs no commit of its own request.
func TestTheLastUseIsKnown(t *testing.T) {
	w, k := leading(t)
	token := w.tokenOf("svc")
	before := w.log.proposed
	w.source = netip.MustParseAddr("192.0.2.50")
	require.NoError(t, w.whoAmI(token))
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
	require.Equal(t, before, w.log.proposed)
	check := func() {
		t.Helper()
		used := 0
		for _, one := range into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"svc"}`)).Tokens {
			if one.LastUsedAt != nil {
				used++
				require.Equal(t, w.now(), one.LastUsedAt.Time)
				require.Equal(t, "192.0.2.50", one.LastUsedFrom)
			}
		}
		require.Equal(t, 1, used, "the other one was never used")
		key := into[wire.ListAccessKeysResponse](t, w.ok("iam/listAccessKeys", `{"principal":"svc"}`)).AccessKeys[0]
		require.Equal(t, w.now(), key.LastUsedAt.Time)
		require.Equal(t, "192.0.2.50", key.LastUsedFrom)
	}
	check()
	w.engine.WriteCredentialUses(context.Background())
	w.reborn(func(*engine.Config) {})
	require.NoError(t, w.engine.OpenLedger(context.Background()))
	check()
	before = w.log.proposed
	w.engine.WriteCredentialUses(context.Background())
	w.engine.WriteCredentialUses(context.Background())
	require.LessOrEqual(t, w.log.proposed, before+1, "what is known is not written again")
}
