package trust_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/trust"
)

// keys are those of an issuer whose set is in the trust itself.
type keys struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newKeys(t testing.TB) keys {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, d, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return keys{r, e, d}
}

func (k keys) set(t testing.TB) string {
	out, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: k.rsa.Public(), KeyID: "rsa"}, {Key: k.ec.Public(), KeyID: "ec", Algorithm: "ES256"}, {Key: k.ed.Public(), KeyID: "ed"},
		{Key: k.rsa.Public(), KeyID: "seal", Use: "enc"},
	}})
	require.NoError(t, err)
	return string(out)
}

func (k keys) trust(t testing.TB) *fsm.Trust {
	return &fsm.Trust{
		Name: "ci", Epoch: 1, Kind: fsm.TrustJWT, Issuer: "i", JWKS: k.set(t), Audiences: []string{"strongroom"},
		Algorithms: []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}, ClockSkew: 30_000,
	}
}

const payload = `{"iss":"i","aud":["x","strongroom"],"sub":"s","exp":4000000000}`

func sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, payload string) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range header {
		options = options.WithHeader(name, value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	require.NoError(t, err)
	signed, err := signer.Sign([]byte(payload))
	require.NoError(t, err)
	text, err := signed.CompactSerialize()
	require.NoError(t, err)
	return text
}

func raw(header, payload string, mac func(signed string) []byte) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac(signed))
}

type header = map[jose.HeaderKey]any

func TestEachAlgorithmIsVerifiedWithAKeyOfItsOwn(t *testing.T) {
	k := newKeys(t)
	v := trust.New(trust.Config{})
	for algorithm, key := range map[jose.SignatureAlgorithm]any{jose.RS256: k.rsa, jose.PS256: k.rsa, jose.ES256: k.ec, jose.EdDSA: k.ed} {
		for _, h := range []header{nil, {"typ": "at+jwt"}, {"typ": "JWT", "jku": "https://evil.example", "x5u": "https://evil.example"}} {
			_, err := v.Verify(context.Background(), k.trust(t), []byte(sign(t, algorithm, key, h, payload)), time.Now())
			require.NoError(t, err, algorithm)
		}
	}
}

func TestForgedTokensAreNotTaken(t *testing.T) {
	k, other := newKeys(t), newKeys(t)
	der, err := x509.MarshalPKIXPublicKey(k.rsa.Public())
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	hs256 := func(secret []byte) func(string) []byte {
		return func(signed string) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(signed))
			return mac.Sum(nil)
		}
	}
	none := func(string) []byte { return nil }
	good := sign(t, jose.ES256, k.ec, header{"kid": "ec"}, payload)
	parts := strings.Split(good, ".")
	change := func(at int, text string) string {
		out := append([]string{}, parts...)
		out[at] = text
		return strings.Join(out, ".")
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	for name, jwt := range map[string]string{
		"alg none":                  raw(`{"alg":"none"}`, payload, none),
		"alg NONE":                  raw(`{"alg":"NONE"}`, payload, none),
		"no alg":                    raw(`{"typ":"JWT"}`, payload, none),
		"public key as secret, PEM": raw(`{"alg":"HS256","kid":"rsa"}`, payload, hs256(public)),
		"public key as secret, DER": raw(`{"alg":"HS256","kid":"rsa"}`, payload, hs256(der)),
		"another's key":             sign(t, jose.RS256, other.rsa, header{"kid": "rsa"}, payload),
		"another's key, no kid":     sign(t, jose.EdDSA, other.ed, nil, payload),
		"key of another kid":        sign(t, jose.ES256, k.ec, header{"kid": "rsa"}, payload),
		"kid of another algorithm":  sign(t, jose.RS256, k.rsa, header{"kid": "ec"}, payload),
		"key for another use":       sign(t, jose.RS256, k.rsa, header{"kid": "seal"}, payload),
		"unknown kid":               sign(t, jose.RS256, k.rsa, header{"kid": "new"}, payload),
		"kid that is a path":        sign(t, jose.RS256, other.rsa, header{"kid": "../../dev/null"}, payload),
		"kid that is no text":       sign(t, jose.RS256, k.rsa, header{"kid": 1}, payload),
		"its own key":               sign(t, jose.RS256, other.rsa, header{"jwk": jose.JSONWebKey{Key: other.rsa.Public()}}, payload),
		"another curve":             sign(t, jose.ES384, p384, header{"kid": "ec"}, payload),
		"a critical header":         raw(`{"alg":"ES256","crit":["exp"],"exp":1}`, payload, none),
		"a log-out":                 sign(t, jose.RS256, k.rsa, header{"typ": "logout+jwt"}, payload),
		"an issuer twice":           sign(t, jose.RS256, k.rsa, nil, `{"iss":"evil","iss":"i","aud":"strongroom","exp":4000000000}`),
		"an algorithm twice":        raw(`{"alg":"RS256","alg":"none"}`, payload, none),
		"claims that are a list":    sign(t, jose.RS256, k.rsa, nil, `[]`),
		"claims that are null":      sign(t, jose.RS256, k.rsa, nil, `null`),
		"exp as text":               sign(t, jose.RS256, k.rsa, nil, `{"iss":"i","aud":"strongroom","exp":"4000000000"}`),
		"exp without end":           sign(t, jose.RS256, k.rsa, nil, `{"iss":"i","aud":"strongroom","exp":1e300}`),
		"exp below zero":            sign(t, jose.RS256, k.rsa, nil, `{"iss":"i","aud":"strongroom","exp":-1}`),
		"audience inside an object": sign(t, jose.RS256, k.rsa, nil, `{"iss":"i","aud":{"a":"strongroom"},"exp":4000000000}`),
		"audience in another case":  sign(t, jose.RS256, k.rsa, nil, `{"iss":"i","aud":"Strongroom","exp":4000000000}`),
		"claims in another case":    sign(t, jose.RS256, k.rsa, nil, `{"ISS":"i","AUD":"strongroom","EXP":4000000000}`),
		"no signature":              change(2, ""),
		"a signature of zeros":      change(2, base64.RawURLEncoding.EncodeToString(make([]byte, 64))),
		"other claims":              change(1, base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(payload, `"s"`, `"t"`, 1)))),
		"padding":                   good + "=",
		"a line feed":               parts[0] + "\n." + parts[1] + "." + parts[2],
		"a line feed at the end":    good + "\n",
		"a line feed in the middle": parts[0] + "." + parts[1] + "." + parts[2][:9] + "\r\n" + parts[2][9:],
		"another last sign":         good[:len(good)-1] + string(good[len(good)-1]+1),
		"four parts":                good + ".x",
		"the JSON form":             `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	} {
		_, err := trust.New(trust.Config{}).Verify(context.Background(), k.trust(t), []byte(jwt), time.Now())
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "evil", name)
	}
	_, err = trust.New(trust.Config{}).Verify(context.Background(), k.trust(t), []byte(good), time.Now())
	require.NoError(t, err)
	narrow := k.trust(t)
	narrow.Algorithms = []string{"RS256"}
	_, err = trust.New(trust.Config{}).Verify(context.Background(), narrow, []byte(good), time.Now())
	require.EqualError(t, err, "its algorithm is not one of the trust")
}

func TestKeysThatVerifyNothingAreNone(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	k := newKeys(t)
	for name, key := range map[string]any{"short": small.Public(), "private": k.ec, "shared": []byte("secret")} {
		set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: "a"}}})
		require.NoError(t, err)
		bad := k.trust(t)
		bad.JWKS = string(set)
		require.ErrorContains(t, trust.New(trust.Config{}).Check(bad), "jwks: must be", name)
	}
	many := k.trust(t)
	many.JWKS = `{"keys":[` + strings.Repeat(`{"kty":"x"},`, 100) + `{"kty":"x"}]}`
	require.Error(t, trust.New(trust.Config{}).Check(many))
}

// TestAnAnswerThatIsNoneOfAnIssuer is not waited for, followed or believed.
func TestAnAnswerThatIsNoneOfAnIssuer(t *testing.T) {
	k := newKeys(t)
	var answer http.HandlerFunc
	elsewhere := 0
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { elsewhere++; fmt.Fprint(w, k.set(t)) }))
	defer other.Close()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer server.Close()
	jwt := []byte(sign(t, jose.ES256, k.ec, header{"kid": "ec"}, payload))
	for name, handler := range map[string]http.HandlerFunc{
		"a redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) },
		"too much":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, k.set(t)+strings.Repeat(" ", 1<<20)) },
		"another type": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"an error":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); fmt.Fprint(w, k.set(t)) },
		"keys twice":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[],"keys":[]}`) },
	} {
		answer = handler
		remote := k.trust(t)
		remote.JWKS, remote.JWKSURL = "", server.URL
		remote.CAPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		_, err := trust.New(trust.Config{}).Verify(context.Background(), remote, jwt, time.Now())
		require.ErrorContains(t, err, "cannot be reached", name)
	}
	require.Zero(t, elsewhere)
	answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, k.set(t)) }
	good := k.trust(t)
	good.JWKS, good.JWKSURL = "", server.URL
	good.CAPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	_, err := trust.New(trust.Config{}).Verify(context.Background(), good, jwt, time.Now())
	require.NoError(t, err)
	// The machine itself is reached only where it is named outright.
	good.Name, good.JWKSURL = "meta", "https://169.254.169.254/keys"
	_, err = trust.New(trust.Config{}).Verify(context.Background(), good, jwt, time.Now())
	require.Error(t, err)
}

func FuzzVerify(f *testing.F) {
	k := newKeys(f)
	known := k.trust(f)
	good := sign(f, jose.RS256, k.rsa, header{"kid": "rsa"}, payload)
	for _, seed := range []string{good[:len(good)-2], "..", raw(`{"alg":"none"}`, payload, func(string) []byte { return nil })} {
		f.Add(seed)
	}
	v := trust.New(trust.Config{})
	f.Fuzz(func(t *testing.T, jwt string) {
		if _, err := v.Verify(context.Background(), known, []byte(jwt), time.Now()); err == nil {
			require.Equal(t, good, jwt)
		}
	})
}
