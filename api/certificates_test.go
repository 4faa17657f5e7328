package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// clients is an authority of client certificates.
type clients struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newClients(t *testing.T) *clients {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &clients{t, cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func (c *clients) issue(name string, extra int) tls.Certificate {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(c.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, Subject: pkix.Name{Organization: []string{strings.Repeat("x", extra)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	require.NoError(c.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// askingForCertificates makes n serve on a listener as the server makes it.
func (n *node) askingForCertificates() (address string, roots *x509.CertPool) {
	n.t.Helper()
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	defer borrowed.Close()
	roots = x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert})
	require.NoError(n.t, err)
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(listener) }()
	n.t.Cleanup(func() {
		_ = listener.Close()
		<-served
	})
	return listener.Addr().String(), roots
}

// whoAmI asks over a TLS connection of its own.
func whoAmI(t *testing.T, address string, config *tls.Config, header http.Header) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	req, err := http.NewRequest(http.MethodPost, "https://"+address+"/api/v1/iam/whoAmI", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header = header
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// TestAClientCertificateIsACredentialOnEveryNode: real TLS, and from a follower
// over the link to the leader.
func TestAClientCertificateIsACredentialOnEveryNode(t *testing.T) {
	leader, follower := pair(t, nil)
	known, unknown := newClients(t), newClients(t)
	leader.ok("iam/createPrincipal", `{"name":"pay","kind":"service"}`)
	// The harness has no verifier of issuers, so the trust is put below it.
	putTrust(t, leader.cluster, known.pem)
	for _, n := range []*node{leader, follower} {
		address, roots := n.askingForCertificates()
		ask := func(certs []tls.Certificate, header http.Header) (int, string) {
			return whoAmI(t, address, &tls.Config{RootCAs: roots, Certificates: certs}, header)
		}
		status, body := ask([]tls.Certificate{known.issue("pay.example", 0)}, nil)
		require.Equal(t, 200, status, body)
		require.Contains(t, body, `"principal":"pay"`)
		require.Contains(t, body, `"credentialId":"cert:`)

		status, body = ask([]tls.Certificate{known.issue("pay.example", 0)}, http.Header{"Authorization": {"Bearer " + n.admin}})
		require.Equal(t, 200, status, body)
		require.Contains(t, body, `"principal":"admin"`)

		for _, certs := range [][]tls.Certificate{{unknown.issue("pay.example", 0)}, {known.issue("web.example", 0)}, nil} {
			status, body = ask(certs, nil)
			require.Equal(t, 401, status, body)
		}
		status, body = ask([]tls.Certificate{known.issue("pay.example", 9000)}, nil)
		require.Equal(t, 401, status)
		require.Contains(t, body, "at most 3 and 8192 are taken")

		// A certificate is public: to show one without its key is nothing.
		forged := known.issue("pay.example", 0)
		forged.PrivateKey = unknown.key
		_, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{forged}, MaxVersion: tls.VersionTLS12})
		require.Error(t, err)
		der := base64.StdEncoding.EncodeToString(known.issue("pay.example", 0).Certificate[0])
		status, _ = ask(nil, http.Header{headerCertificate: {der}})
		require.Equal(t, 401, status, "the header is of the link alone")
	}
}

// TestOnlySoManyConnectionsAreHeld and one that was closed makes room.
func TestOnlySoManyConnectionsAreHeld(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := limitListener(inner, 1)
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	for range 2 {
		conn, err := net.Dial("tcp", inner.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("there is room for one")
	default:
	}
	require.NoError(t, first.Close())
	_ = first.Close() // a second time gives back nothing
	second := <-accepted
	require.NoError(t, l.Close())
	_, open := <-accepted
	require.False(t, open)
	require.NoError(t, second.Close())
	require.Contains(t, fmt.Sprint(l.Close()), "closed")
}

func putTrust(t *testing.T, c *cluster, authority string) {
	t.Helper()
	command, err := fsm.Encode(fsm.PutTrust{
		Meta:  fsm.Meta{Time: time.Now().UnixMilli(), Principal: "admin"},
		Trust: fsm.Trust{Name: "mesh", Kind: fsm.TrustCertificate, CAPEM: authority, SANs: []string{"dns:pay.example"}, Principal: "pay"},
	})
	require.NoError(t, err)
	result, err := c.log.Propose(t.Context(), command)
	require.NoError(t, err)
	require.Nil(t, result.Refused)
}
