package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// overTLS makes n serve on a TLS listener too, and answers its address and
// the authority of its certificate.
func (n *node) overTLS() (address string, roots *x509.CertPool) {
	n.t.Helper()
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	defer borrowed.Close()
	roots = x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS12})
	require.NoError(n.t, err)
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(listener) }()
	n.t.Cleanup(func() {
		_ = listener.Close()
		<-served
	})
	return "https://" + listener.Addr().String(), roots
}

// TestTheClientSpeaksToEveryNode is the whole way: client, TLS, follower,
// link, leader, engine, and back.
func TestTheClientSpeaksToEveryNode(t *testing.T) {
	leader, follower := pair(t, nil)
	for _, n := range []*node{leader, follower} {
		address, roots := n.overTLS()
		c, err := client.New(client.Config{
			Addresses: []string{address}, CAs: roots, RetryFor: 10 * time.Second,
			Token: func() (secret.Bytes, error) { return secret.Copy([]byte(n.admin)), nil },
		})
		require.NoError(t, err)
		ctx := context.Background()
		path := "/app/dev/" + n.name + "/db"
		require.NoError(t, c.Do(ctx, "secrets", "createSecret", &wire.CreateSecretRequest{Path: path, Value: wire.NewValue([]byte("first"))}, nil))
		var got wire.GetSecretValueResponse
		require.NoError(t, c.Do(ctx, "secrets", "getSecretValue", &wire.GetSecretValueRequest{Path: path}, &got))
		require.Equal(t, "first", string(got.Value.Expose()))
		require.Len(t, got.VersionID, 52, "the clientToken that the client made")

		err = c.Do(ctx, "secrets", "getSecretValue", &wire.GetSecretValueRequest{Path: path + "-none"}, &got)
		require.True(t, client.IsCode(err, fault.NotFound))
		var answered *client.Error
		require.ErrorAs(t, err, &answered)
		require.NotEmpty(t, answered.RequestID)
		c.Close()
	}
}

// TestAWriteThroughALostLeaderIsDoneOnce: the server answers Uncertain, the
// client asks again with the same token.
func TestAWriteThroughALostLeaderIsDoneOnce(t *testing.T) {
	leader, follower := pair(t, nil)
	address, roots := follower.overTLS()
	c, err := client.New(client.Config{
		Addresses: []string{address}, CAs: roots, RetryFor: 10 * time.Second,
		Token: func() (secret.Bytes, error) { return secret.Copy([]byte(leader.admin)), nil },
	})
	require.NoError(t, err)
	defer c.Close()
	leader.ok("secrets/createSecret", `{"path":"/a/b"}`)
	lost := 0
	leader.log.hook(nil, func() error {
		if lost++; lost == 1 {
			leader.link.cut()
		}
		return nil
	})
	var put wire.PutSecretValueResponse
	require.NoError(t, c.Do(context.Background(), "secrets", "putSecretValue", &wire.PutSecretValueRequest{Path: "/a/b", Value: wire.NewValue([]byte("v"))}, &put))
	require.Equal(t, uint64(1), put.Version)
	leader.log.hook(nil, nil)
	require.Contains(t, leader.ok("secrets/describeSecret", `{"path":"/a/b"}`).body, `"latestVersion":1`)
}

// TestOnlyHTTP1IsSpoken: the rules of this package are about its bytes.
func TestOnlyHTTP1IsSpoken(t *testing.T) {
	n := single(t, nil)
	address, roots := n.overTLS()
	conn, err := tls.Dial("tcp", address[len("https://"):], &tls.Config{RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}})
	require.NoError(t, err)
	require.NotEqual(t, "h2", conn.ConnectionState().NegotiatedProtocol)
	require.NoError(t, conn.Close())
}
