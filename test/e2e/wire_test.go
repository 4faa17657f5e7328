package e2e_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// raw sends bytes over TLS as they are and answers what comes back: clients
// that are honest cannot say most of this.
func raw(t *testing.T, c *localcluster.Cluster, node int, request string) *http.Response {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(c.Dir, "ca.pem"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem))
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.Addr(node), "https://"), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(localcluster.Patience)))
	_, err = conn.Write([]byte(request))
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err, request)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// forge claims to come from everywhere, and answers the status.
func forge(t *testing.T, c *localcluster.Cluster, node int, token, path string) int {
	t.Helper()
	body := fmt.Sprintf(`{"path":%q}`, path)
	return raw(t, c, node, "POST /api/v1/secrets/getSecretValue HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+"\r\n"+
		"X-Forwarded-For: 10.1.2.3, ::1, 127.0.0.2\r\nX-Real-Ip: 10.1.2.3\r\nForwarded: for=10.1.2.3\r\nStrongroom-Source-Address: 10.1.2.3\r\n"+
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)).StatusCode
}

// A selection of what must not get through, on the leader and on a follower
// alike; the whole table is in package api.
func TestMalformedRequestsAreRefusedByLeaderAndFollower(t *testing.T) {
	c := suite.Shared(t)
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/wire","value":"eA=="}`)
	head := func(line string, headers ...string) string {
		return line + "\r\nHost: x\r\nAuthorization: Bearer " + c.Token + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
	}
	post := func(body string, headers ...string) string {
		return head("POST /api/v1/secrets/getSecretValue HTTP/1.1", append(headers, fmt.Sprintf("Content-Length: %d", len(body)))...) + body
	}
	const good = `{"path":"/app/e2e/wire"}`
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(good), good)
	leader := c.Leader()
	for _, node := range []int{leader, c.Others(leader)[0]} {
		require.Equal(t, http.StatusOK, raw(t, c, node, post(good)).StatusCode, "what the others vary must be good")
		for name, one := range map[string]struct {
			request string
			status  int
		}{
			"an unknown field":       {post(`{"path":"/app/e2e/wire","pth":"x"}`), 400},
			"a field twice":          {post(`{"path":"/app/e2e/wire","path":"/app/e2e/wire"}`), 400},
			"a field in other case":  {post(`{"Path":"/app/e2e/wire"}`), 400},
			"bytes after the object": {post(good + `{}`), 400},
			"invalid UTF-8":          {post("{\"path\":\"/app/e2e/wire\xff\"}"), 400},
			"deep nesting":           {post(`{"path":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`), 400},
			"no object":              {post(`["/app/e2e/wire"]`), 400},
			"nothing":                {post(``), 400},
			"a path with ..":         {post(`{"path":"/app/../app/e2e/wire"}`), 400},
			"a path with //":         {post(`{"path":"/app//e2e/wire"}`), 400},
			"a path with a NUL":      {post(`{"path":"/app/e2e/wire\u0000"}`), 400},
			"a path, escaped":        {post(`{"path":"/app/e2e/%77ire"}`), 400},
			"two credentials":        {post(good, "Authorization: Bearer x"), 400},
			"a chunked body":         {head("POST /api/v1/secrets/getSecretValue HTTP/1.1", "Transfer-Encoding: chunked") + chunks, 400},
			"two lengths":            {post(good, "Content-Length: 3"), 400},
			"length and chunks":      {head("POST /api/v1/secrets/getSecretValue HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: chunked") + chunks, 400},
			"a compressed body":      {post(good, "Content-Encoding: gzip"), 400},
			"a body that is too big": {head("POST /api/v1/secrets/getSecretValue HTTP/1.1", "Content-Length: 99999999"), 413},
			"a query":                {head("POST /api/v1/secrets/getSecretValue?token=x HTTP/1.1", "Content-Length: 0"), 400},
			"an escaped URL":         {head("POST /api/v1/secrets/getSecret%56alue HTTP/1.1", "Content-Length: 0"), 404},
			"a doubled slash":        {head("POST /api/v1//secrets/getSecretValue HTTP/1.1", "Content-Length: 0"), 404},
			"a way around":           {head("POST /api/v1/kms/../secrets/getSecretValue HTTP/1.1", "Content-Length: 0"), 404},
			"an absolute URL":        {head("POST https://elsewhere/api/v1/secrets/getSecretValue HTTP/1.1", "Content-Length: 0"), 400},
			"GET":                    {head("GET /api/v1/secrets/getSecretValue HTTP/1.1"), 400},
			"the node link's path":   {head("POST /link/v1/forward/secrets/getSecretValue HTTP/1.1", "Content-Length: 0"), 404},
		} {
			resp := raw(t, c, node, one.request)
			require.Equal(t, one.status, resp.StatusCode, "%s, node%d", name, node)
		}
		r := c.Send(node, c.Token, "secrets/getSecretValue", good)
		require.Equal(t, http.StatusOK, r.Status, "and the node is well: %s", r.Body)
	}
}

// The link between nodes takes nobody without a certificate of the cluster's
// own authority, which the API's is not.
func TestTheNodeLinkIsForMembersOnly(t *testing.T) {
	c := suite.Shared(t)
	api := strings.TrimPrefix(c.Addr(1), "https://127.0.0.1:")
	link := "127.0.0.1:" + api[:len(api)-1] + "1"
	ask := func(certs ...tls.Certificate) error {
		conn, err := tls.Dial("tcp", link, &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{"strongroom-link/1"},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certs) == 0 {
					return &tls.Certificate{}, nil
				}
				return &certs[0], nil // whatever authorities the server asks for
			},
		})
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(localcluster.Patience)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("POST /link/v1/forward/no/where HTTP/1.1\r\nHost: node1\r\nContent-Length: 0\r\n\r\n")); err != nil {
			return err
		}
		// In TLS 1.3 the server's verdict on the client comes after the handshake.
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	certificate := func(name string) tls.Certificate {
		pair, err := tls.LoadX509KeyPair(filepath.Join(c.NodeDir(2), name+".pem"), filepath.Join(c.NodeDir(2), name+"-key.pem"))
		require.NoError(t, err)
		return pair
	}
	require.NoError(t, ask(certificate("node")), "a member is answered")
	require.ErrorContains(t, ask(), "remote error: tls")
	require.ErrorContains(t, ask(certificate("api")), "remote error: tls")
}
