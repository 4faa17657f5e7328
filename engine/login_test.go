package engine_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestALoginMakesATokenOfTheTrust(t *testing.T) {
	w := newWorld(t)
	w.principal("svc", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	i := newIssuer(t)
	w.trustIssuer("ci", i, `"principal":"svc","groups":["ci"],"groupsClaim":"teams","groupsPrefix":"t-","allowedGroups":["t-w*","ci"],"ttl":"30m"`)
	id, answer, err := w.request("", "iam/login", login("ci", i.jwt(w, map[string]any{"teams": []string{"web", "db", "wx y"}})))
	require.NoError(t, err)
	made := into[wire.LoginResponse](t, answer)
	require.Equal(t, w.now().Add(30*time.Minute), made.ExpiresAt.Time)
	token := string(made.Token.Expose())

	own, _ := w.story(id, "iam.login")
	require.Len(t, own, 1)
	require.Equal(t, []string{audit.OK, "svc", made.TokenID, "ci"}, []string{own[0].Outcome, own[0].Principal, own[0].CredentialID, own[0].Reason})
	kept := w.log.machine.State().Token(made.TokenID)
	require.Equal(t, "jwt", kept.Method)
	require.Equal(t, []string{"ci", "t-web"}, kept.Groups)
	listed := into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"svc"}`)).Tokens
	require.Len(t, listed, 2)

	_, err = w.as(token, "iam/listPolicies", `{}`)
	require.NoError(t, err)
	_, err = w.as(token, "iam/listPrincipals", `{}`)
	w.refused(fault.AccessDenied, "", err)
	w.setNow(w.now().Add(30 * time.Minute))
	_, err = w.as(token, "iam/listPolicies", `{}`)
	w.refused(fault.Unauthenticated, "", err)
}

// TestATokenNeverOutlivesItsJWT also where the trust would give it longer.
func TestATokenNeverOutlivesItsJWT(t *testing.T) {
	w := newWorld(t)
	i := newIssuer(t)
	w.trustIssuer("ci", i, `"principal":"admin"`)
	answer, err := w.as("", "iam/login", login("ci", i.jwt(w, map[string]any{"exp": w.now().Unix() + 90})))
	require.NoError(t, err)
	require.Equal(t, w.now().Unix()+90, into[wire.LoginResponse](t, answer).ExpiresAt.Unix())
}

// TestWhoIsNotLetInHearsOneWord and the trail has the reason.
func TestWhoIsNotLetInHearsOneWord(t *testing.T) {
	w := newWorld(t)
	i, stranger := newIssuer(t), newIssuer(t)
	w.ok("iam/createPrincipal", `{"name":"leaver","kind":"service"}`)
	w.trustIssuer("ci", i, `"principal":"leaver"`)
	w.trustIssuer("mine", i, `"principalClaim":"user.name","principalPrefix":"svc-"`)
	w.trustCertificates("mesh", newAuthority(t, w.now()), `"sans":["dns:a.example"],"principal":"admin"`)
	many := make([]string, 70)
	for n := range many {
		many[n] = fmt.Sprint("g", n)
	}
	w.trustIssuer("groups", i, `"principal":"admin","groupsClaim":"g"`)
	none := strings.Split(i.jwt(w, nil), ".")
	none[0] = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	w.ok("iam/createPrincipal", `{"name":"gone","kind":"service"}`)
	w.trustIssuer("fixed", i, `"principal":"gone"`)
	w.ok("iam/deletePrincipal", `{"name":"gone"}`)
	said := map[string]bool{}
	for _, c := range []struct{ trust, jwt, reason string }{
		{"none", i.jwt(w, nil), "there is no such trust"},
		{"mesh", i.jwt(w, nil), "the trust is for certificates"},
		{"ci", "x", "no signed JWT"},
		{"ci", w.admin, "no signed JWT"},
		{"ci", strings.Join(none, "."), "its algorithm"},
		{"ci", stranger.jwt(w, nil), "its signature is wrong"},
		{"ci", i.jwt(w, map[string]any{"iss": "https://issuer.example/"}), "of another issuer"},
		{"ci", i.jwt(w, map[string]any{"aud": "vault"}), "for another audience"},
		{"ci", i.jwt(w, map[string]any{"aud": nil}), "for another audience"},
		{"ci", i.jwt(w, map[string]any{"exp": w.now().Unix()}), "it has expired"},
		{"ci", i.jwt(w, map[string]any{"exp": nil}), "does not say when it expires"},
		{"ci", i.jwt(w, map[string]any{"nbf": w.now().Unix() + 31}), "it is not valid yet"},
		{"ci", i.jwt(w, map[string]any{"iat": w.now().Unix() + 31}), "it is not valid yet"},
		{"ci", i.jwt(w, map[string]any{"sub": "repo:evil/web"}), "its claims do not match"},
		{"ci", i.jwt(w, map[string]any{"sub": nil}), "its claims do not match"},
		{"mine", i.jwt(w, map[string]any{"user": map[string]any{"name": "nobody"}}), "it names no principal"},
		{"mine", i.jwt(w, map[string]any{"user": []string{"leaver"}}), "it names no principal"},
		{"mine", i.jwt(w, nil), "it names no principal"},
		{"fixed", i.jwt(w, nil), "it names no principal"},
		{"groups", i.jwt(w, map[string]any{"g": many}), "it names too many groups"},
	} {
		id, _, err := w.request("", "iam/login", login(c.trust, c.jwt))
		w.refused(fault.Unauthenticated, "nobody is let in", err)
		require.NotContains(t, err.Error(), c.reason)
		said[err.Error()] = true
		own, _ := w.story(id, "iam.login")
		require.Len(t, own, 1)
		require.Equal(t, audit.Denied, own[0].Outcome)
		require.Empty(t, own[0].Principal)
		require.Contains(t, own[0].Reason, c.reason)
		require.NotContains(t, fmt.Sprintf("%+v", own[0]), c.jwt+" ")
	}
	require.Len(t, said, 1, "which part was wrong is not for a stranger")

	_, err := w.as("", "iam/login", login("ci", strings.Repeat("x", 16<<10+1)))
	w.refused(fault.InvalidRequest, "jwt: has 16385 bytes", err)
	_, err = w.as("", "iam/login", login("ci", i.jwt(w, map[string]any{"nbf": w.now().Unix() + 30})))
	require.NoError(t, err, "within the skew of clocks")
}

// TestFailedLoginsAreCountedBySource as other failed authentications are.
func TestFailedLoginsAreCountedBySource(t *testing.T) {
	w := newWorld(t)
	i := newIssuer(t)
	w.trustIssuer("ci", i, `"principal":"admin"`)
	limited := func(operation, body string) int {
		n := 0
		for ; n < 300; n++ {
			if _, err := w.as("", operation, body); fault.Is(err, fault.RateLimited) {
				break
			}
		}
		w.setNow(w.now().Add(time.Minute))
		return n
	}
	require.Equal(t, 200, limited("iam/login", login("ci", "x")))
	require.Equal(t, 200, limited("iam/login", `{"trust":"ci","jwt":1}`))
	require.Equal(t, 200, limited("iam/describeLogin", `{"trust":"none"}`))
	require.Equal(t, 200, limited("iam/describeLogin", `{"trust":"ci"}`), "nobody is known who could be held to another limit")
	_, err := w.as("", "iam/login", login("ci", i.jwt(w, nil)))
	require.NoError(t, err)
}

func TestTokensOfATrustEndWithIt(t *testing.T) {
	w := newWorld(t)
	i := newIssuer(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	put := func(more string) { w.trustIssuer("ci", i, `"principal":"svc"`+more) }
	enter := func() string {
		answer, err := w.as("", "iam/login", login("ci", i.jwt(w, nil)))
		require.NoError(t, err)
		return string(into[wire.LoginResponse](t, answer).Token.Expose())
	}
	alive := func(token string) bool {
		_, err := w.as(token, "iam/whoAmI", `{}`)
		return err == nil
	}
	put("")
	token := enter()
	put(`,"ttl":"1m","reason":"shorter","clientId":"cli"`)
	require.True(t, alive(token), "nobody is let in by it who was not before")
	put(`,"groups":["a"]`)
	require.False(t, alive(token))
	token = enter()
	w.ok("iam/deleteTrust", `{"name":"ci"}`)
	require.False(t, alive(token))
	for _, listed := range into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"svc"}`)).Tokens {
		require.Equal(t, "revoked", listed.State)
	}
	put(`,"groups":["a"]`)
	require.False(t, alive(token), "a trust of the same name is another one")
	token = enter()
	w.ok("iam/deletePrincipal", `{"name":"svc"}`)
	require.False(t, alive(token))
}

func TestHowToLogInIsToldToAnybody(t *testing.T) {
	w := newWorld(t)
	w.trustIssuer("ci", newIssuer(t), `"principal":"admin","clientId":"cli","scopes":["openid","groups"]`)
	answer, err := w.as("", "iam/describeLogin", `{"trust":"ci"}`)
	require.NoError(t, err)
	require.JSONEq(t, `{"trust":"ci","kind":"jwt","issuer":"https://issuer.example","clientId":"cli","scopes":["openid","groups"]}`, answer)
	_, err = w.as("srt_bad", "iam/describeLogin", `{"trust":"none"}`)
	w.refused(fault.NotFound, "trust: there is no trust none", err)
}

// TestATrustThatCouldNotBeUsedIsRefused names the field and the way out.
func TestATrustThatCouldNotBeUsedIsRefused(t *testing.T) {
	w := newWorld(t)
	i := newIssuer(t)
	base := `"name":"x","principal":"admin","claims":{"sub":"*"},`
	for body, says := range map[string]string{
		`"kind":"jwt","issuer":"https://i.example","jwks":` + i.keys:                                                        "audiences: is missing",
		`"kind":"jwt","audiences":["a"],"issuer":"http://i.example"`:                                                        "issuer: must be https",
		`"kind":"oidc","audiences":["a"],"issuer":"https://user:pw@i.example"`:                                              "issuer: must be https",
		`"kind":"jwt","audiences":["a"],"issuer":"i","jwksUrl":"http://i.example"`:                                          "jwksUrl: must be https",
		`"kind":"jwt","audiences":["a"],"issuer":"i","jwks":{"keys":[]}`:                                                    "jwks: must be",
		`"kind":"jwt","audiences":["a"],"issuer":"i","jwks":{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`:                        "jwks: must be",
		`"kind":"jwt","audiences":["a"],"issuer":"i","algorithms":["HS256"],"jwks":` + i.keys:                               "algorithms[0]: must be one of",
		`"kind":"jwt","audiences":["a"],"issuer":"i","algorithms":["none"],"jwks":` + i.keys:                                "algorithms[0]: must be one of",
		`"kind":"jwt","audiences":["a"],"issuer":"i","clockSkew":"61s","jwks":` + i.keys:                                    "clockSkew: must be 0s to 60s",
		`"kind":"jwt","audiences":["a"],"issuer":"i","ttl":"13h","jwks":` + i.keys:                                          "ttl: must be 1m to 12h",
		`"kind":"oidc","audiences":["a"],"issuer":"https://i.example","caPem":"x"`:                                          "caPem: must be certificates",
		`"kind":"kubernetes","audiences":["a"],"tokenReviewUrl":"https://k","tokenReviewer":"self","serviceAccounts":["a"]`: "serviceAccounts[0]: must be NAMESPACE/NAME",
	} {
		_, err := w.as(w.admin, "iam/putTrust", "{"+base+body+"}")
		w.refused(fault.InvalidRequest, says, err)
	}
	for _, san := range []string{"pay.example", "cn:pay", "dns:*", "uri:*", "email:"} {
		_, err := w.as(w.admin, "iam/putTrust", fmt.Sprintf(`{"name":"x","kind":"certificate","principal":"admin","caPem":%q,"sans":[%q]}`, newAuthority(t, w.now()).pem, san))
		w.refused(fault.InvalidRequest, "sans[0]: must be dns:", err)
	}
	require.Empty(t, into[wire.ListTrustsResponse](t, w.ok("iam/listTrusts", `{}`)).Trusts)
}

func TestACertificateIsACredential(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w.now())
	w.principal("pay", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	w.trustCertificates("mesh", a, `"sans":["uri:spiffe://acme/*"],"principal":"pay","revokedSerials":["00:AC"]`)
	ask := func(token string, der ...[]byte) (wire.WhoAmIResponse, error) {
		w.certificates = der
		answer, err := w.as(token, "iam/whoAmI", `{}`)
		w.certificates = nil
		if err != nil {
			return wire.WhoAmIResponse{}, err
		}
		return into[wire.WhoAmIResponse](t, answer), nil
	}
	good := a.issue(nil)
	me, err := ask("", good)
	require.NoError(t, err)
	require.Equal(t, "pay", me.Principal)
	require.Regexp(t, "^cert:[0-9a-f]{32}$", me.CredentialID)
	require.Equal(t, w.now().Add(time.Hour), me.ExpiresAt.Time)

	me, err = ask(w.admin, good)
	require.NoError(t, err)
	require.Equal(t, "admin", me.Principal, "the token decides where there is one")
	_, err = ask("srt_wrong", good)
	w.refused(fault.Unauthenticated, "", err)

	for name, der := range map[string][]byte{
		"of another authority": newAuthority(t, w.now()).issue(nil),
		"expired":              a.issue(func(c *x509.Certificate) { c.NotAfter = w.now().Add(-time.Second) }),
		"not valid yet":        a.issue(func(c *x509.Certificate) { c.NotBefore = w.now().Add(time.Minute) }),
		"of a server":          a.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"of another name":      a.issue(func(c *x509.Certificate) { c.URIs[0].Host = "evil" }),
		"below the name":       a.issue(func(c *x509.Certificate) { c.URIs[0].Path = "/pay/more" }),
		"without a name":       a.issue(func(c *x509.Certificate) { c.URIs = nil; c.Subject.CommonName = "spiffe://acme/pay" }),
		"revoked":              a.issue(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0xac) }),
		"the authority's own":  a.cert.Raw,
		"of an authority":      a.issue(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
		"no certificate":       []byte("x"),
	} {
		_, err := ask("", der)
		w.refused(fault.Unauthenticated, "the client certificate is not valid here", err)
		_ = name
	}
	w.trustCertificates("mesh2", a, `"sans":["dns:*.acme.example"],"principal":"admin"`)
	_, err = ask("", good)
	w.refused(fault.Unauthenticated, "", err) // two trusts, two principals
	w.ok("iam/deleteTrust", `{"name":"mesh2"}`)
	_, err = ask("", good)
	require.NoError(t, err)
	w.ok("iam/deleteTrust", `{"name":"mesh"}`)
	_, err = ask("", good)
	w.refused(fault.Unauthenticated, "", err)
}

// FuzzLogin: whatever stands for a JWT, there is no token without a signature
// of the issuer.
func FuzzLogin(f *testing.F) {
	w := newWorld(f)
	i := newIssuer(f)
	w.trustIssuer("ci", i, `"principal":"admin"`)
	good := i.jwt(w, nil)
	for _, seed := range []string{"", ".", "..", "a.b.c", good[:len(good)-1], good + ".", strings.ToUpper(good), "{" + good + "}"} {
		f.Add(seed)
	}
	operation := engine.Find("iam", "login")
	f.Fuzz(func(t *testing.T, jwt string) {
		if jwt == good {
			return
		}
		before := w.log.machine.State().Index()
		body := fmt.Sprintf(`{"trust":"ci","jwt":%q}`, jwt)
		_, err := w.engine.Do(context.Background(), operation, engine.Caller{Source: w.source}, []byte(body))
		require.Error(t, err)
		require.Equal(t, before, w.log.machine.State().Index())
	})
}
