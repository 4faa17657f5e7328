package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var at = time.Now()

func certificate(t *testing.T, p Pair) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(p.Cert)
	require.NotNil(t, block)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}

func pool(t *testing.T, ca Pair) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	require.True(t, p.AppendCertsFromPEM(ca.Cert))
	return p
}

func TestServerCertificateServesItsHostsOnly(t *testing.T) {
	ca, err := CreateCA("api", at)
	require.NoError(t, err)
	p, err := IssueServer(ca, []string{"127.0.0.1", "vault.example"}, at)
	require.NoError(t, err)
	c := certificate(t, p)
	for _, host := range []string{"127.0.0.1", "vault.example"} {
		_, err = c.Verify(x509.VerifyOptions{Roots: pool(t, ca), DNSName: host})
		require.NoError(t, err)
	}
	_, err = c.Verify(x509.VerifyOptions{Roots: pool(t, ca), DNSName: "other.example"})
	require.Error(t, err)
	_, err = c.Verify(x509.VerifyOptions{Roots: pool(t, ca), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.Error(t, err, "it does not log in as a client")
	_, err = IssueServer(ca, nil, at)
	require.Error(t, err)
}

func TestNodeCertificateNamesClusterAndNodeAndWorksBothWays(t *testing.T) {
	ca, err := CreateCA("link", at)
	require.NoError(t, err)
	p, err := IssueNode(ca, "5a0f1f0e-6d2a-4b5b-9f0a-0d8f4c1f5e11", "node1", at)
	require.NoError(t, err)
	c := certificate(t, p)
	require.Len(t, c.URIs, 1)
	require.Equal(t, "strongroom://5a0f1f0e-6d2a-4b5b-9f0a-0d8f4c1f5e11/node/node1", c.URIs[0].String())
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		_, err = c.Verify(x509.VerifyOptions{Roots: pool(t, ca), KeyUsages: []x509.ExtKeyUsage{usage}})
		require.NoError(t, err)
	}
	other, err := CreateCA("another", at)
	require.NoError(t, err)
	_, err = c.Verify(x509.VerifyOptions{Roots: pool(t, other)})
	require.Error(t, err)
	_, err = IssueNode(p, "x", "y", at)
	require.ErrorContains(t, err, "may not sign")
	require.False(t, c.NotAfter.After(certificate(t, ca).NotAfter))
}

func TestWriteNeverOverwritesAndKeepsTheKeyPrivate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	ca, err := CreateCA("api", at)
	require.NoError(t, err)
	require.NoError(t, ca.Write(cert, key))
	info, err := os.Stat(key)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	again, err := ReadPair(cert, key)
	require.NoError(t, err)
	require.Equal(t, ca, again)

	other, err := CreateCA("other", at)
	require.NoError(t, err)
	require.Error(t, other.Write(cert, key))
	require.Error(t, other.Write(cert, filepath.Join(dir, "new-key.pem")))
	require.NoFileExists(t, filepath.Join(dir, "new-key.pem"), "half a pair is taken back")
	again, err = ReadPair(cert, key)
	require.NoError(t, err)
	require.Equal(t, ca, again)
	require.NoError(t, os.WriteFile(key, other.Key, 0o600))
	_, err = ReadPair(cert, key)
	require.ErrorContains(t, err, "do not belong together")
}

func TestMutualTLSWithNodeCertificates(t *testing.T) {
	ca, err := CreateCA("link", at)
	require.NoError(t, err)
	pair := func(node string) tls.Certificate {
		p, err := IssueNode(ca, "c", node, at)
		require.NoError(t, err)
		c, err := tls.X509KeyPair(p.Cert, p.Key)
		require.NoError(t, err)
		return c
	}
	near, far := net.Pipe()
	server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair("a")}, ClientCAs: pool(t, ca), ClientAuth: tls.RequireAndVerifyClientCert})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	client := tls.Client(near, &tls.Config{Certificates: []tls.Certificate{pair("b")}, InsecureSkipVerify: true})
	require.NoError(t, client.Handshake())
	require.NoError(t, <-done)
	require.Equal(t, "strongroom://c/node/b", server.ConnectionState().PeerCertificates[0].URIs[0].String())
}
