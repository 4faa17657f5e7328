package api

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRequestsThatTwoProgramsMayReadDifferently are refused before anybody
// looks at who asks.
func TestRequestsThatTwoProgramsMayReadDifferently(t *testing.T) {
	n := single(t, func(c *Config) { c.AllowedHosts = []string{"localhost", "vault.example.org", "::1"} })
	auth := "Authorization: Bearer " + n.admin + "\r\n"
	request := func(line, headers string) string {
		return line + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n"
	}
	const op = "/api/v1/iam/whoAmI"
	body := "Content-Length: 2\r\n"
	for name, c := range map[string]struct {
		text   string
		status int
		says   string
	}{
		"two Authorization headers":       {request("POST "+op, auth+auth+body) + "{}", 400, "Authorization: is given more than once"},
		"two different ones":              {request("POST "+op, auth+"authorization: Bearer x\r\n"+body) + "{}", 400, "Authorization: is given more than once"},
		"basic authentication":            {request("POST "+op, "Authorization: Basic YTpi\r\n"+body) + "{}", 401, "Authorization: must be"},
		"a scheme alone":                  {request("POST "+op, "Authorization: Bearer\r\n"+body) + "{}", 401, "Authorization: must be"},
		"a token alone":                   {request("POST "+op, "Authorization: "+n.admin+"\r\n"+body) + "{}", 401, "Authorization: must be"},
		"two tokens":                      {request("POST "+op, "Authorization: Bearer "+n.admin+" x\r\n"+body) + "{}", 401, "Authorization: must be"},
		"two spaces":                      {request("POST "+op, "Authorization: Bearer  "+n.admin+"\r\n"+body) + "{}", 401, "Authorization: must be"},
		"a tab":                           {request("POST "+op, "Authorization: Bearer\t"+n.admin+"\r\n"+body) + "{}", 401, "Authorization: must be"},
		"a scheme in wide letters":        {request("POST "+op, "Authorization: Ｂearer "+n.admin+"\r\n"+body) + "{}", 401, "Authorization: must be"},
		"a longer scheme":                 {request("POST "+op, "Authorization: Bearers "+n.admin+"\r\n"+body) + "{}", 401, "Authorization: must be"},
		"no credential":                   {request("POST "+op, body) + "{}", 401, "Authorization: is missing"},
		"an unknown token":                {request("POST "+op, "Authorization: Bearer srt_nobody\r\n"+body) + "{}", 401, "Authorization: the token is not valid"},
		"chunks":                          {request("POST "+op, auth+"Transfer-Encoding: chunked\r\n") + "2\r\n{}\r\n0\r\n\r\n", 400, "Transfer-Encoding: is not accepted"},
		"chunks and a length":             {request("POST "+op, auth+"Transfer-Encoding: chunked\r\n"+body) + "2\r\n{}\r\n0\r\n\r\n", 400, "Transfer-Encoding: is not accepted"},
		"a compressed body":               {request("POST "+op, auth+"Content-Encoding: gzip\r\n"+body) + "{}", 400, "Content-Encoding: is not accepted"},
		"an encoding after an empty one":  {request("POST "+op, auth+"Content-Encoding:\r\nContent-Encoding: br\r\n"+body) + "{}", 400, "Content-Encoding: is not accepted"},
		"no length":                       {request("POST "+op, auth) + "{}", 400, "body: is empty"},
		"a query":                         {request("POST "+op+"?x=1", auth+body) + "{}", 400, "URL: must not have a query"},
		"an empty query":                  {request("POST "+op+"?", auth+body) + "{}", 400, "URL: must not have a query"},
		"a token in the query":            {request("POST "+op+"?token="+n.admin, body) + "{}", 400, "URL: must not have a query"},
		"an absolute URL":                 {request("POST http://localhost"+op, auth+body) + "{}", 400, "URL: must be a path"},
		"an absolute URL of another host": {request("POST https://evil.example"+op, auth+body) + "{}", 400, "URL: must be a path"},
		"OPTIONS *":                       {request("OPTIONS *", ""), 400, "URL: must be a path"},
		"CONNECT":                         {request("CONNECT localhost:7400", ""), 400, "URL: must be a path"},
		"GET of an operation":             {request("GET "+op, auth), 400, "method: must be POST"},
		"PUT of an operation":             {request("PUT "+op, auth+body) + "{}", 400, "method: must be POST"},
		"DELETE of an operation":          {request("DELETE "+op, auth), 400, "method: must be POST"},
		"PATCH of an operation":           {request("PATCH "+op, auth+body) + "{}", 400, "method: must be POST"},
		"OPTIONS of an operation":         {request("OPTIONS "+op, "Origin: https://evil.example\r\n"), 400, "method: must be POST"},
		"a method in small letters":       {request("post "+op, auth+body) + "{}", 400, "method: must be POST"},
		"POST of health":                  {request("POST /api/v1/health/live", body) + "{}", 400, "method: must be GET"},
		"POST of metrics":                 {request("POST /metrics", body) + "{}", 400, "method: must be GET"},
		"another host":                    {"POST " + op + " HTTP/1.1\r\nHost: evil.example\r\n" + auth + body + "\r\n{}", 400, "Host: is not a name"},
		"a host that begins alike":        {"POST " + op + " HTTP/1.1\r\nHost: localhost.evil.example:7400\r\n" + auth + body + "\r\n{}", 400, "Host: is not a name"},
		"a host with a dot":               {"POST " + op + " HTTP/1.1\r\nHost: localhost.\r\n" + auth + body + "\r\n{}", 400, "Host: is not a name"},
		"an address for a host":           {"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:7400\r\n\r\n", 400, "Host: is not a name"},
		"no host":                         {"GET /api/v1/health/live HTTP/1.0\r\n\r\n", 400, "Host: is not a name"},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.send(c.text)
			require.Equal(t, c.status, r.status, r.body)
			require.True(t, strings.HasPrefix(r.failed(t).Message, c.says), r.body)
			require.NotContains(t, r.body, n.admin)
			require.Equal(t, c.status == 401, r.header.Get("WWW-Authenticate") != "")
			if strings.HasPrefix(c.says, "method") {
				require.Equal(t, c.says[len("method: must be "):], r.header.Get("Allow"))
			}
		})
	}
	for _, host := range []string{"localhost", "localhost:7400", "vault.example.org:443", "[::1]:7400", "[::1]"} {
		r := n.send("GET /api/v1/health/live HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		require.Equal(t, 200, r.status, host)
	}
	require.NotContains(t, n.logged.String(), n.admin)
}

func TestTheSchemeIsComparedWithoutCaseInASCII(t *testing.T) {
	n := single(t, nil)
	for _, scheme := range []string{"Bearer", "bearer", "BEARER", "bEaReR"} {
		r := n.send(post("iam/whoAmI", "", "{}", "Authorization: "+scheme+" "+n.admin))
		require.Equal(t, 200, r.status, scheme)
	}
}

func TestURLsThatAreNotInTheTableAreNotThere(t *testing.T) {
	n := single(t, nil)
	for _, path := range []string{
		"/", "//", "/api", "/api/", "/api/v1", "/api/v1/", "/api/v1/secrets", "/api/v1/secrets/", "/api/v1//", "/api/v1/secrets//getSecretValue",
		"/api/v1/secrets/getSecretValue/", "/api/v1/secrets/getSecretValue/x", "/api/v1/secrets/getSecretValue#x", "//api/v1/secrets/getSecretValue",
		"/./api/v1/secrets/getSecretValue", "/api/v1/./secrets/getSecretValue", "/api/v1/kms/../secrets/getSecretValue", "/api/v1/secrets/..%2fgetSecretValue",
		"/api/v1/secrets/get%53ecretValue", "/api/v1/secrets%2fgetSecretValue", "/%61pi/v1/secrets/getSecretValue", "/api/v1/secrets/getSecretValue%00", "/api/v1/secrets/getSecretValue;x=1",
		"/API/v1/secrets/getSecretValue", "/api/V1/secrets/getSecretValue", "/api/v1/Secrets/getSecretValue", "/api/v1/secrets/getsecretvalue", "/api/v2/secrets/getSecretValue",
		"/api/v1/secrets/getSecretValue%20", "/api/v1/secrets/none", "/api/v1/none/getSecretValue", "/v1/secret/data/x", "/api/v1/health", "/api/v1/health/", "/api/v1/health/live/", "/api/v1/health%2flive",
		"/metrics/", "/debug/pprof/", "/link/v1/forward/secrets/getSecretValue", "/link/v1/trail", "/favicon.ico",
	} {
		for _, method := range []string{"POST", "GET"} {
			r := n.send(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 15\r\n\r\n{\"path\":\"/a/b\"}", method, path, n.admin))
			require.Equal(t, 404, r.status, "%s %s", method, path)
			require.Equal(t, "NotFound", r.failed(t).Code)
			require.Empty(t, r.header.Get("Location"), "nothing is redirected")
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxBodyBytes = 1000 })
	fits := `{"path":"/a/b"` + strings.Repeat(" ", 1000-15) + "}"
	require.Len(t, fits, 1000)
	require.Equal(t, 200, n.call("secrets/createSecret", fits).status)
	r := n.call("secrets/createSecret", fits+" ")
	require.Equal(t, 413, r.status)
	e := r.failed(t)
	require.Equal(t, "TooLarge", e.Code)
	require.Equal(t, "body: has 1001 bytes; at most 1000 are allowed", e.Message)
	require.True(t, r.closed, "what follows on this connection is not a request")

	r = n.send("POST /api/v1/iam/whoAmI HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
	require.Equal(t, 413, r.status, "refused by what it says, before a byte of it is taken")
}

func TestABodyThatEndsEarlyIsRefused(t *testing.T) {
	n := single(t, nil)
	conn, err := net.Dial("tcp", n.address)
	require.NoError(t, err)
	defer conn.Close()
	text := post("secrets/createSecret", n.admin, `{"path":"/a/b"}`)
	_, err = conn.Write([]byte(text[:len(text)-1]))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	r := read(t, conn)
	require.Equal(t, 400, r.status)
	require.Contains(t, r.failed(t).Message, "body: ended before Content-Length")
	require.Equal(t, 404, n.call("secrets/describeSecret", `{"path":"/a/b"}`).status, "half a request does nothing")
}

// TestWhatIsNotHTTPIsRefusedByTheLibrary: these never reach a handler; they
// must end the connection and say nothing of what was sent.
func TestWhatIsNotHTTPIsRefusedByTheLibrary(t *testing.T) {
	n := single(t, nil)
	const good = "GET /api/v1/health/live HTTP/1.1\r\nHost: localhost\r\n"
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		// As many bytes as the server takes before it gives up, so that none is
		// left unread, which would reset the connection under the answer.
		"headers that are too large": {(good + "X: " + strings.Repeat(mark, 4096))[:16<<10+4096], 431},
		"two hosts":                  {good + "Host: localhost\r\n\r\n", 400},
		"no host in 1.1":             {"GET /api/v1/health/live HTTP/1.1\r\n\r\n", 400},
		"a space before the colon":   {good + "X : " + mark + "\r\n\r\n", 400},
		"two lengths":                {good + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
		"a negative length":          {good + "Content-Length: -1\r\n\r\n", 400},
		"a length with a sign":       {good + "Content-Length: +2\r\n\r\n{}", 400},
		"an unknown encoding":        {good + "Transfer-Encoding: " + mark + "\r\n\r\n", 501},
		"a zero byte in a header":    {good + "X: a\x00" + mark + "\r\n\r\n", 400},
		"a bad escape in the URL":    {"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
		"no HTTP at all":             {mark + "\r\n\r\n", 400},
		"another version":            {"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.send(c.text)
			require.Equal(t, c.status, r.status, r.body)
			require.NotContains(t, r.body, mark)
		})
	}
	require.NotContains(t, n.logged.String(), mark)
}

// TestConnectionsAreBounded holds one connection open where one is allowed:
// the next is served once the first is gone.
func TestConnectionsAreBounded(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxConnections = 1 })
	const live = "GET /api/v1/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
	first, err := net.Dial("tcp", n.address)
	require.NoError(t, err)
	defer first.Close()
	require.Equal(t, 200, exchange(t, first, live).status)

	second, err := net.Dial("tcp", n.address)
	require.NoError(t, err)
	defer second.Close()
	_, err = second.Write([]byte(live))
	require.NoError(t, err)
	require.NoError(t, second.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = second.Read(make([]byte, 1))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "it waits for its turn")

	require.NoError(t, first.Close())
	require.NoError(t, second.SetReadDeadline(time.Now().Add(30*time.Second)))
	require.Equal(t, http.StatusOK, read(t, second).status)
}
