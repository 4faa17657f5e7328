package api

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/origin"
)

// The proxy of these tests is 127.0.0.2; a stranger is 127.0.0.3.
const (
	theProxy   = "127.0.0.2"
	aStranger  = "127.0.0.3"
	headerOfV2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\x7f\x00\x00\x01\x12\x34\x1c\xe8" // 192.0.2.9
	localOfV2  = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func behind(t testing.TB, header bool) func(*Config) {
	proxies, err := origin.NewProxies([]string{theProxy + "/32", "10.0.0.0/24"}, header)
	require.NoError(t, err)
	return func(c *Config) { c.Proxies = proxies }
}

func dialFrom(t testing.TB, ip, to string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 10 * time.Second}
	conn, err := dialer.Dial("tcp", to)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return conn
}

// seen is what whoAmI says of the way that a request came.
type seen struct{ SourceAddress, PeerAddress, Via string }

func (n *node) seenFrom(conn net.Conn, headers ...string) seen {
	n.t.Helper()
	r := exchange(n.t, conn, post("iam/whoAmI", n.admin, `{}`, headers...))
	require.Equal(n.t, 200, r.status, r.body)
	var got seen
	require.NoError(n.t, json.Unmarshal([]byte(r.body), &got))
	return got
}

func TestAProxySaysWhereItsClientsAreOnEveryNode(t *testing.T) {
	leader, follower := pair(t, behind(t, false))
	for _, n := range []*node{leader, follower} {
		proxied := func(headers ...string) seen { return n.seenFrom(dialFrom(t, theProxy, n.address), headers...) }
		require.Equal(t, seen{theProxy, theProxy, origin.Direct}, proxied())
		require.Equal(t, seen{theProxy, theProxy, origin.Direct}, proxied("Forwarded: for=10.9.9.9", "X-Real-IP: 10.9.9.9", "True-Client-IP: 10.9.9.9", "X_Forwarded_For: 10.9.9.9", headerSource+": 10.9.9.9", headerVia+": xForwardedFor"))
		require.Equal(t, seen{"192.0.2.9", theProxy, origin.XForwardedFor}, proxied("X-Forwarded-For: 192.0.2.9"))
		require.Equal(t, seen{"192.0.2.9", theProxy, origin.XForwardedFor}, proxied("x-forwarded-for: 10.9.9.9", "X-Forwarded-For: 10.9.9.9, 192.0.2.9", "X-FORWARDED-FOR: 10.0.0.7"))
		require.Equal(t, seen{"2001:db8::9", theProxy, origin.XForwardedFor}, proxied("X-Forwarded-For: 10.9.9.9, 2001:DB8:0::9"))
		require.Equal(t, seen{aStranger, aStranger, origin.Direct}, n.seenFrom(dialFrom(t, aStranger, n.address), "X-Forwarded-For: 192.0.2.9", "Forwarded: for=192.0.2.9", "X-Real-IP: 192.0.2.9"))
		require.Equal(t, seen{aStranger, aStranger, origin.Direct}, n.seenFrom(dialFrom(t, aStranger, n.address), "X-Forwarded-For: unknown"), "what a stranger writes is not even read")

		r := exchange(t, dialFrom(t, theProxy, n.address), post("iam/whoAmI", n.admin, `{}`, "X-Forwarded-For: 10.9.9.9, unknown"))
		require.Equal(t, 400, r.status)
		require.Equal(t, "X-Forwarded-For", r.failed(t).Details["field"])
		require.NotContains(t, r.body, "10.9.9.9")
	}
}

func TestOneConnectionOfAProxyServesManyClients(t *testing.T) {
	n := single(t, behind(t, false))
	conn := dialFrom(t, theProxy, n.address)
	for _, client := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.1"} {
		require.Equal(t, client, n.seenFrom(conn, "X-Forwarded-For: "+client).SourceAddress)
	}
	require.Equal(t, theProxy, n.seenFrom(conn).SourceAddress, "nothing is kept from one request to the next")
}

func TestAnAccessPolicyHoldsForTheClientOfAProxy(t *testing.T) {
	leader, follower := pair(t, behind(t, false))
	leader.ok("secrets/createSecret", `{"path":"/app/db","value":"`+mark+`"}`)
	leader.ok("iam/putAccessPolicy", `{"name":"office","paths":["/app/**"],"sourceCidrs":["192.0.2.0/24"]}`)
	for _, n := range []*node{leader, follower} {
		for _, c := range []struct {
			peer, header string
			status       int
		}{
			{theProxy, "X-Forwarded-For: 192.0.2.9", 200},
			{theProxy, "X-Forwarded-For: 192.0.2.9, 198.51.100.1", 403},
			{theProxy, "X-Ignored: 1", 403}, // the proxy's own address
			{theProxy, "X-Forwarded-For: 192.0.2.9:443", 400},
			{aStranger, "X-Forwarded-For: 192.0.2.9", 403},
		} {
			r := exchange(t, dialFrom(t, c.peer, n.address), post("secrets/getSecretValue", n.admin, `{"path":"/app/db"}`, c.header))
			require.Equal(t, c.status, r.status, "%+v: %s", c, r.body)
			require.Equal(t, c.status == 200, strings.Contains(r.body, mark))
		}
	}
}

// withProxyHeaders makes n serve as a node does whose proxies send PROXY
// headers: the header, then TLS.
func (n *node) withProxyHeaders() (address string, roots *x509.CertPool) {
	n.t.Helper()
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	defer borrowed.Close()
	roots = x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(n.t, err)
	listener, err := n.server.Proxies.Listen(raw, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.NoError(n.t, err)
	served := make(chan error, 1)
	go func() {
		served <- n.server.Serve(tls.NewListener(listener, &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS12}))
	}()
	n.t.Cleanup(func() {
		_ = raw.Close()
		<-served
	})
	return raw.Addr().String(), roots
}

func TestThePROXYProtocolCountsFromTrustedProxiesOnly(t *testing.T) {
	leader, follower := pair(t, behind(t, true))
	for _, n := range []*node{leader, follower} {
		address, roots := n.withProxyHeaders()
		// after says what comes before TLS, and answers the handshake's error.
		after := func(peer, text string) (*tls.Conn, error) {
			conn := dialFrom(t, peer, address)
			_, err := io.WriteString(conn, text)
			require.NoError(t, err)
			secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12})
			return secure, secure.Handshake()
		}
		good := func(peer, text string, headers ...string) seen {
			conn, err := after(peer, text)
			require.NoError(t, err)
			return n.seenFrom(conn, headers...)
		}
		require.Equal(t, seen{"192.0.2.9", theProxy, origin.ProxyProtocol}, good(theProxy, headerOfV2))
		require.Equal(t, seen{"192.0.2.9", theProxy, origin.ProxyProtocol}, good(theProxy, headerOfV2, "X-Forwarded-For: 10.9.9.9", "X-Real-IP: 10.9.9.9"))
		require.Equal(t, seen{theProxy, theProxy, origin.Direct}, good(theProxy, localOfV2))
		fromProxy := strings.Replace(headerOfV2, "\xc0\x00\x02\x09", "\x0a\x00\x00\x07", 1)
		require.Equal(t, seen{"198.51.100.4", theProxy, origin.XForwardedFor}, good(theProxy, fromProxy, "X-Forwarded-For: 10.9.9.9, 198.51.100.4"))
		require.Equal(t, seen{aStranger, aStranger, origin.Direct}, good(aStranger, "", "X-Forwarded-For: 10.9.9.9"))

		for name, c := range map[string]struct{ peer, text string }{
			"a stranger with a header":         {aStranger, headerOfV2},
			"a stranger with LOCAL":            {aStranger, localOfV2},
			"a stranger with version 1":        {aStranger, "PROXY TCP4 192.0.2.9 127.0.0.1 4660 7400\r\n"},
			"a proxy with version 1":           {theProxy, "PROXY TCP4 192.0.2.9 127.0.0.1 4660 7400\r\n"},
			"a proxy without a header":         {theProxy, ""},
			"a proxy with two":                 {theProxy, headerOfV2 + headerOfV2},
			"a proxy that speaks for somebody": {theProxy, "\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00"},
		} {
			_, err := after(c.peer, c.text)
			require.Error(t, err, name)
		}
	}
}

// TestASlowProxyHoldsNobodyUp: its header is read on its own connection.
func TestASlowProxyHoldsNobodyUp(t *testing.T) {
	n := single(t, behind(t, true))
	address, roots := n.withProxyHeaders()
	for range 3 {
		_, err := io.WriteString(dialFrom(t, theProxy, address), headerOfV2[:7])
		require.NoError(t, err)
	}
	conn := tls.Client(dialFrom(t, aStranger, address), &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12})
	require.Equal(t, aStranger, n.seenFrom(conn).SourceAddress)
}

// TestALongListIsBoundedByTheHeaderLimit: what fits is walked from its end.
func TestALongListIsBoundedByTheHeaderLimit(t *testing.T) {
	n := single(t, behind(t, false))
	list := func(elements int) string {
		return post("iam/whoAmI", n.admin, `{}`, "X-Forwarded-For: "+strings.Repeat("10.0.0.1,", elements)+"192.0.2.9")
	}
	r := exchange(t, dialFrom(t, theProxy, n.address), list(1000))
	require.Equal(t, 200, r.status, r.body)
	require.Contains(t, r.body, `"sourceAddress":"192.0.2.9"`)

	conn := dialFrom(t, theProxy, n.address)
	go func() { _, _ = io.WriteString(conn, list(10_000)) }()
	answer, err := io.ReadAll(conn) // the server may close before all was sent, which may lose its answer
	require.True(t, err != nil || strings.HasPrefix(string(answer), "HTTP/1.1 431 "), "%s", answer)
	require.NotContains(t, string(answer), "sourceAddress")
}
