package engine_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

func (w *world) whoAmI(token string) error {
	w.t.Helper()
	_, err := w.as(token, "iam/whoAmI", `{}`)
	return err
}

func TestLifeOfATokenIsBounded(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	for ttl, want := range map[string]time.Duration{"1s": time.Second, "366d": 366 * 24 * time.Hour, "90m": 90 * time.Minute} {
		made := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc","ttl":%q}`, ttl))
		require.Equal(t, w.now().Add(want), made.ExpiresAt.Time, ttl)
	}
	made := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc"}`))
	require.Equal(t, w.now().Add(24*time.Hour), made.ExpiresAt.Time, "there is always an end")
	for _, ttl := range []string{"0s", "999ms", "367d", "8784h0m1s"} {
		_, err := w.as(w.admin, "iam/createToken", fmt.Sprintf(`{"principal":"svc","ttl":%q}`, ttl))
		w.refused(fault.InvalidRequest, "ttl:", err)
	}
}

func TestATokenIsGoodUntilTheInstantItExpires(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	token := string(into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc","ttl":"10s"}`)).Token.Expose())
	w.setNow(w.now().Add(10*time.Second - time.Millisecond))
	require.NoError(t, w.whoAmI(token))
	w.setNow(w.now().Add(time.Millisecond))
	w.refused(fault.Unauthenticated, "not valid here", w.whoAmI(token))
	state := into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"svc"}`)).Tokens[0].State
	require.Equal(t, "expired", state)
}

func TestBoundAddressesOfAToken(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	made := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc","boundCidrs":["10.1.0.0/16","2001:db8::/64"]}`))
	token := string(made.Token.Expose())
	for address, good := range map[string]bool{
		"10.1.255.1": true, "10.2.0.1": false, "::ffff:10.1.0.1": true, "::ffff:10.2.0.1": false,
		"2001:db8::7": true, "2001:db8:0:1::7": false,
	} {
		w.source = netip.MustParseAddr(address)
		if err := w.whoAmI(token); good {
			require.NoError(t, err, address)
		} else {
			w.refused(fault.Unauthenticated, "", err)
		}
	}
	w.source = netip.Addr{}
	w.refused(fault.Unauthenticated, "", w.whoAmI(token)) // an address that is not known is in no range
	w.source = netip.MustParseAddr("192.0.2.7")
	for _, cidr := range []string{"10.1.0.0", "10.1.0.1/16", "10.1.0.0/33", "fe80::%eth0/64", "everywhere", ""} {
		_, err := w.as(w.admin, "iam/createToken", fmt.Sprintf(`{"principal":"svc","boundCidrs":["10.0.0.0/8",%q]}`, cidr))
		w.refused(fault.InvalidRequest, "boundCidrs[1]:", err)
	}
	many := strings.Repeat(`"10.0.0.0/8",`, 64) + `"10.0.0.0/8"`
	_, err := w.as(w.admin, "iam/createToken", `{"principal":"svc","boundCidrs":[`+many+`]}`)
	w.refused(fault.InvalidRequest, "boundCidrs: has 65 entries", err)
}

func TestARevokedTokenIsRefusedByTheNextRequest(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	first := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc","description":"first"}`))
	second := w.tokenOf("svc")
	require.NoError(t, w.whoAmI(string(first.Token.Expose())))
	w.ok("iam/revokeToken", `{"tokenId":%q}`, first.TokenID)
	w.refused(fault.Unauthenticated, "", w.whoAmI(string(first.Token.Expose())))
	require.NoError(t, w.whoAmI(second), "only that token")
	w.ok("iam/revokeToken", `{"tokenId":%q}`, first.TokenID) // again: nothing more to do

	for _, token := range into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"svc"}`)).Tokens {
		require.Equal(t, token.TokenID == first.TokenID, token.State == "revoked")
		require.Equal(t, token.TokenID == first.TokenID, token.RevokedAt != nil)
	}
	for _, id := range []string{"", "x", string(first.Token.Expose()), first.TokenID + "0", "{" + first.TokenID[:34] + "}"} {
		_, err := w.as(w.admin, "iam/revokeToken", fmt.Sprintf(`{"tokenId":%q}`, id))
		w.refused(fault.InvalidRequest, "tokenId:", err)
		require.NotContains(t, err.Error(), string(first.Token.Expose()), "whoever pastes the text must not find it in a log")
	}
}

func TestTokensOfADeletedPrincipalAreGone(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	token := w.tokenOf("svc")
	require.NoError(t, w.whoAmI(token))
	w.ok("iam/deletePrincipal", `{"name":"svc"}`)
	w.refused(fault.Unauthenticated, "", w.whoAmI(token))
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	w.refused(fault.Unauthenticated, "", w.whoAmI(token)) // a new principal of that name is another one
}

func TestEveryWrongTokenIsAnsweredAlike(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	revoked := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc"}`))
	w.ok("iam/revokeToken", `{"tokenId":%q}`, revoked.TokenID)
	elsewhere := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc","boundCidrs":["10.0.0.0/8"]}`))
	other := newWorld(t)
	altered := []byte(w.admin)
	altered[20] ^= 1 // 0 and 1, A and @: another character in any case
	want := w.whoAmI(string(revoked.Token.Expose())).Error()
	for name, token := range map[string]string{
		"bound elsewhere": string(elsewhere.Token.Expose()), "of another cluster": other.admin, "malformed": "srt_x",
		"altered": string(altered), "cut": w.admin[:len(w.admin)-1], "in another case": strings.ToUpper(w.admin),
	} {
		err := w.whoAmI(token)
		w.refused(fault.Unauthenticated, "", err)
		require.Equal(t, want, err.Error(), name)
		require.NotContains(t, err.Error(), token)
	}
}

func TestTokensAreListedWithoutTheirTexts(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	texts := []string{w.admin, w.tokenOf("svc"), w.tokenOf("svc")}
	list := w.ok("iam/listTokens", `{}`)
	for _, text := range texts {
		require.False(t, holds(list, text))
	}
	all := into[wire.ListTokensResponse](t, list).Tokens
	require.Len(t, all, 3)
	require.Len(t, into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"svc"}`)).Tokens, 2)
	require.Empty(t, into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"sv"}`)).Tokens, "not a prefix")
}

func TestWhoAmITellsWhatTheServerSees(t *testing.T) {
	w := newWorld(t)
	token := w.principal("svc", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	w.source = netip.MustParseAddr("::ffff:192.0.2.99").Unmap()
	answer, err := w.as(token, "iam/whoAmI", `{}`)
	require.NoError(t, err)
	me := into[wire.WhoAmIResponse](t, answer)
	listed := into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"svc"}`)).Tokens[0]
	require.Equal(t, wire.WhoAmIResponse{
		Principal: "svc", Kind: "service", Groups: []string{}, Policies: []string{"svc"}, AuthMethod: "token", SourceAddress: "192.0.2.99",
		CredentialID: listed.TokenID, ExpiresAt: listed.ExpiresAt,
	}, me)
}

// TestATokenIsNoName: pasted where a name belongs, it would stay in the state
// and in every trail for ever.
func TestATokenIsNoName(t *testing.T) {
	w := newWorld(t)
	for _, request := range []string{
		`iam/createToken {"principal":%q}`, `iam/createPrincipal {"name":%q,"kind":"user"}`, `iam/attachPolicy {"policy":%q,"principal":"admin"}`,
		`secrets/createSecret {"path":"/app/%s"}`, `secrets/getSecretValue {"path":"/app/%s/x"}`,
	} {
		operation, body, _ := strings.Cut(request, " ")
		_, err := w.as(w.admin, operation, fmt.Sprintf(body, w.admin))
		w.refused(fault.InvalidRequest, "is the text of a token", err)
		require.NotContains(t, err.Error(), w.admin)
	}
	for _, e := range w.events(audit.Filter{}) {
		require.NotContains(t, fmt.Sprintf("%+v", e), w.admin)
	}
}
