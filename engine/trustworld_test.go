package engine_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// issuer signs JWTs.
type issuer struct {
	t    testing.TB
	url  string
	key  *ecdsa.PrivateKey
	keys string // its JSON Web Key Set
}

func newIssuer(t testing.TB) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	require.NoError(t, err)
	return &issuer{t: t, url: "https://issuer.example", key: key, keys: string(set)}
}

// jwt is one for the trusts that trustIssuer makes, good for an hour, with
// claims put over it; nil takes one away.
func (i *issuer) jwt(w *world, claims map[string]any) string {
	i.t.Helper()
	all := map[string]any{"iss": i.url, "aud": "strongroom", "sub": "repo:acme/web", "iat": w.now().Unix(), "exp": w.now().Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(all)
	require.NoError(i.t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	require.NoError(i.t, err)
	signed, err := signer.Sign(payload)
	require.NoError(i.t, err)
	text, err := signed.CompactSerialize()
	require.NoError(i.t, err)
	return text
}

// trustIssuer puts a trust of kind jwt with more fields.
func (w *world) trustIssuer(name string, i *issuer, more string) {
	w.t.Helper()
	w.ok("iam/putTrust", `{"name":%q,"kind":"jwt","issuer":%q,"jwks":%s,"audiences":["strongroom"],"claims":{"sub":"repo:acme/*"},%s}`, name, i.url, i.keys, more)
}

// authority is one of client certificates, in the form of a JSON text.
func (s *stock) authority() string {
	text, err := json.Marshal(newAuthority(s.t, s.now()).pem)
	require.NoError(s.t, err)
	return string(text[1 : len(text)-1])
}

type authority struct {
	t    testing.TB
	now  time.Time
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB, now time.Time) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{t, now, cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue answers a client's certificate, in DER, as change makes it.
func (a *authority) issue(change func(*x509.Certificate)) []byte {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	spiffe, err := url.Parse("spiffe://acme/pay")
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0xab), Subject: pkix.Name{CommonName: "web.example"}, NotBefore: a.now.Add(-time.Minute), NotAfter: a.now.Add(time.Hour),
		DNSNames: []string{"pay.acme.example"}, URIs: []*url.URL{spiffe}, EmailAddresses: []string{"pay@acme.example"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	return der
}

func (w *world) trustCertificates(name string, a *authority, more string) {
	w.t.Helper()
	text, err := json.Marshal(a.pem)
	require.NoError(w.t, err)
	w.ok("iam/putTrust", `{"name":%q,"kind":"certificate","caPem":%s,%s}`, name, text, more)
}

func login(trust, jwt string) string { return fmt.Sprintf(`{"trust":%q,"jwt":%q}`, trust, jwt) }
