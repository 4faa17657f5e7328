package e2e_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// behindProxies starts the nodes again with these settings of the API.
func behindProxies(t *testing.T, c *localcluster.Cluster, settings string) {
	t.Helper()
	for node := 1; node <= c.Nodes; node++ {
		name := filepath.Join(c.NodeDir(node), "config.yaml")
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Contains(t, string(raw), "\napi:\n")
		require.NoError(t, os.WriteFile(name, []byte(strings.Replace(string(raw), "\napi:\n", "\napi:\n"+settings, 1)), 0o600))
		c.Kill(node)
		c.StartNode(node)
		c.AwaitReady(node)
	}
}

// answerFrom sends a request from an address of this machine, after some bytes
// before TLS. ok is false if there is no answer.
func answerFrom(t *testing.T, c *localcluster.Cluster, node int, ip, before, operation, body string, headers ...string) (answer string, status int, ok bool) {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(c.Dir, "ca.pem"))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	host := strings.TrimPrefix(c.Addr(node), "https://")
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: localcluster.Patience}
	raw, err := dialer.Dial("tcp", host)
	require.NoError(t, err)
	defer raw.Close()
	require.NoError(t, raw.SetDeadline(time.Now().Add(localcluster.Patience)))
	_, err = io.WriteString(raw, before)
	require.NoError(t, err)
	name, _, err := net.SplitHostPort(host)
	require.NoError(t, err)
	conn := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: name})
	if conn.Handshake() != nil {
		return "", 0, false
	}
	_, err = fmt.Fprintf(conn, "POST /api/v1/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n%s\r\n%s",
		operation, host, c.Token, len(body), strings.Join(append(headers, ""), "\r\n"), body)
	require.NoError(t, err)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(text), r.StatusCode, true
}

// A proxy says where its clients are, with X-Forwarded-For and then with the
// PROXY protocol; strangers say what they like. Access policies and the trail
// go by what the proxy says, on the leader and on followers.
func TestClientsBehindProxies(t *testing.T) {
	c := suite.Fresh(t, 3)
	const proxy, stranger = "127.0.0.2", "127.0.0.3"
	const path = "/app/e2e/proxies/secret"
	const v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\x7f\x00\x00\x01\x12\x34\x1c\xe8"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, path)
	c.OK(1, "iam/putAccessPolicy", `{"name":"proxies","paths":["/app/e2e/proxies/**"],"sourceCidrs":["192.0.2.0/24"]}`)
	read := func(node int, ip, before string, headers ...string) int {
		_, status, ok := answerFrom(t, c, node, ip, before, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path), headers...)
		require.True(t, ok)
		return status
	}
	origin := func(node int, ip, before string, headers ...string) string {
		answer, status, ok := answerFrom(t, c, node, ip, before, "iam/whoAmI", `{}`, headers...)
		require.True(t, ok && status == http.StatusOK, answer)
		var me struct{ SourceAddress, PeerAddress, Via string }
		require.NoError(t, json.Unmarshal([]byte(answer), &me))
		return me.SourceAddress + " " + me.PeerAddress + " " + me.Via
	}

	behindProxies(t, c, "  trustedProxies: [127.0.0.2/32]\n")
	for node := 1; node <= 3; node++ {
		require.Equal(t, "192.0.2.9 127.0.0.2 xForwardedFor", origin(node, proxy, "", "X-Forwarded-For: 10.0.0.1, 192.0.2.9"))
		require.Equal(t, "127.0.0.3 127.0.0.3 direct", origin(node, stranger, "", "X-Forwarded-For: 192.0.2.9", "Forwarded: for=192.0.2.9", "X-Real-IP: 192.0.2.9"))
		require.Equal(t, http.StatusOK, read(node, proxy, "", "X-Forwarded-For: 192.0.2.9"))
		require.Equal(t, http.StatusForbidden, read(node, proxy, "", "X-Forwarded-For: 192.0.2.9, 198.51.100.7"))
		require.Equal(t, http.StatusForbidden, read(node, stranger, "", "X-Forwarded-For: 192.0.2.9"))
		require.Equal(t, http.StatusBadRequest, read(node, proxy, "", "X-Forwarded-For: 192.0.2.9:1"))
	}

	behindProxies(t, c, "  proxyProtocol: true\n")
	for node := 1; node <= 3; node++ {
		require.Equal(t, "192.0.2.9 127.0.0.2 proxyProtocol", origin(node, proxy, v2, "X-Forwarded-For: 10.0.0.1"))
		require.Equal(t, http.StatusOK, read(node, proxy, v2))
		for _, bad := range []struct{ ip, before string }{
			{proxy, ""}, {proxy, "PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n"}, {stranger, v2}, {stranger, "PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n"},
		} {
			_, _, ok := answerFrom(t, c, node, bad.ip, bad.before, "iam/whoAmI", `{}`)
			require.False(t, ok, "%q from %s", bad.before, bad.ip)
		}
		require.Contains(t, c.Metrics(node), `strongroom_proxy_headers_refused_total{reason="version1"} 1`)
	}
	events := c.OK(1, "audit/queryEvents", `{"path":%q}`, path)
	require.Contains(t, fmt.Sprint(events), "192.0.2.9")
	require.NotContains(t, fmt.Sprint(events), proxy)
}
