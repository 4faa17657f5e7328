package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/console"
)

func withConsole(t *testing.T) func(*Config) {
	files, err := console.Files()
	require.NoError(t, err)
	return func(c *Config) { c.Console = files }
}

func request(method, path, body string, headers ...string) string {
	h := ""
	for _, line := range headers {
		h += line + "\r\n"
	}
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s", method, path, len(body), h, body)
}

const asJSON = "Content-Type: application/json"

// signedIn answers the headers that a page of the console sends.
func (n *node) signedIn(token string) (cookie, csrf string) {
	n.t.Helper()
	r := n.send(request("POST", "/console/session", fmt.Sprintf(`{"token":%q}`, token), asJSON))
	require.Equal(n.t, http.StatusOK, r.status, r.body)
	require.Contains(n.t, r.body, `"principal":"admin"`)
	set := r.header.Get("Set-Cookie")
	require.Equal(n.t, "__Host-strongroom="+token+"; Path=/; HttpOnly; Secure; SameSite=Strict", set)
	cookie, _, _ = strings.Cut(set, ";")
	return "Cookie: " + cookie, "Strongroom-Csrf: " + r.header.Get("Strongroom-Csrf")
}

func TestConsoleServesItsFiles(t *testing.T) {
	n := single(t, withConsole(t))
	r := n.get("/console/")
	require.Equal(t, http.StatusOK, r.status)
	require.Equal(t, "text/html; charset=utf-8", r.header.Get("Content-Type"))
	require.NotContains(t, r.body, "://", "nothing is loaded from elsewhere")
	for name, want := range map[string]string{
		"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-cache",
	} {
		require.Equal(t, want, r.header.Get(name))
	}
	policy := r.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "trusted-types 'none'"} {
		require.Contains(t, policy, part)
	}
	require.NotContains(t, policy, "unsafe")

	script := n.get("/console/static/app.js")
	require.Equal(t, "text/javascript; charset=utf-8", script.header.Get("Content-Type"))
	again := n.send(request("GET", "/console/static/app.js", "", "If-None-Match: "+script.header.Get("ETag")))
	require.Equal(t, http.StatusNotModified, again.status)
	require.Equal(t, "GET", n.send(request("POST", "/console/", "{}")).header.Get("Allow"))
	for _, path := range []string{"/console", "/console/index.html", "/console/static/", "/console/static/../static/app.js", "/console/static/%61pp.js", "/console//static/app.js", "/console/static/app.js/", "/console/api/iam/nothing", "/console/api/health/ready"} {
		require.Equal(t, "NotFound", n.get(path).failed(t).Code, path)
	}
}

func TestThereIsNoConsoleWhereItIsSwitchedOff(t *testing.T) {
	n := single(t, nil)
	for _, path := range []string{"/console/", "/console/static/app.js", "/console/session"} {
		require.Equal(t, "NotFound", n.get(path).failed(t).Code, path)
	}
}

func TestASessionActsWithTheRightsOfItsToken(t *testing.T) {
	n := single(t, withConsole(t))
	cookie, csrf := n.signedIn(n.admin)
	r := n.send(request("POST", "/console/api/secrets/createSecret", `{"path":"/a/b","value":"eA=="}`, cookie, csrf, asJSON, "Sec-Fetch-Site: same-origin"))
	require.Equal(t, http.StatusOK, r.status, r.body)
	require.NotContains(t, r.header, "Set-Cookie")
	shown := n.send(request("GET", "/console/session", "", cookie))
	require.Equal(t, http.StatusOK, shown.status)
	require.Equal(t, csrf, "Strongroom-Csrf: "+shown.header.Get("Strongroom-Csrf"))

	// The token is revoked: the session is worth nothing at once, and goes.
	require.Equal(t, http.StatusOK, n.send(request("POST", "/console/api/iam/logout", `{}`, cookie, csrf, asJSON)).status)
	shown = n.send(request("GET", "/console/session", "", cookie))
	require.Equal(t, http.StatusUnauthorized, shown.status)
	require.Contains(t, shown.header.Get("Set-Cookie"), "__Host-strongroom=; Path=/; Max-Age=0")
	require.Equal(t, "Unauthenticated", n.send(request("POST", "/console/api/iam/whoAmI", `{}`, cookie, csrf, asJSON)).failed(t).Code)
}

func TestSigningOutEndsTheSessionAndNotTheToken(t *testing.T) {
	n := single(t, withConsole(t))
	cookie, csrf := n.signedIn(n.admin)
	require.Equal(t, "AccessDenied", n.send(request("DELETE", "/console/session", "", cookie)).failed(t).Code, "another site must not sign anybody out")
	r := n.send(request("DELETE", "/console/session", "", cookie, csrf))
	require.Equal(t, http.StatusNoContent, r.status)
	require.Contains(t, r.header.Get("Set-Cookie"), "Max-Age=0")
	n.ok("iam/whoAmI", `{}`)
}

// A page of another site has the browser send the cookie at most; it knows
// nothing else.
func TestForgedRequestsAreRefused(t *testing.T) {
	n := single(t, withConsole(t))
	cookie, csrf := n.signedIn(n.admin)
	const act, body = "/console/api/secrets/createSecret", `{"path":"/forged/secret","value":"eA=="}`
	other := csrfOf("srt_another000000000000000000000000000000000000000")
	for name, headers := range map[string][]string{
		"no header":              {cookie, asJSON},
		"an empty header":        {cookie, asJSON, "Strongroom-Csrf: "},
		"of another session":     {cookie, asJSON, "Strongroom-Csrf: " + other},
		"from another site":      {cookie, csrf, asJSON, "Sec-Fetch-Site: cross-site"},
		"from a sister site":     {cookie, csrf, asJSON, "Sec-Fetch-Site: same-site"},
		"an address bar":         {cookie, csrf, asJSON, "Sec-Fetch-Site: none"},
		"two sessions, one ours": {cookie + "; __Host-strongroom=" + n.admin, "Strongroom-Csrf: " + other, asJSON},
	} {
		require.Equal(t, "AccessDenied", n.send(request("POST", act, body, headers...)).failed(t).Code, name)
	}
	for name, headers := range map[string][]string{
		"no cookie":           {csrf, asJSON},
		"a cookie of garbage": {"Cookie: __Host-strongroom=a b\"c", csrf, asJSON},
		"an empty cookie":     {"Cookie: __Host-strongroom=", "Strongroom-Csrf: " + csrfOf(""), asJSON},
	} {
		require.Equal(t, "Unauthenticated", n.send(request("POST", act, body, headers...)).failed(t).Code, name)
	}
	require.Equal(t, "InvalidRequest", n.send(request("POST", act, body, cookie, csrf, asJSON, "Authorization: Bearer "+n.admin)).failed(t).Code, "two credentials")
	require.Equal(t, "InvalidRequest", n.send(request("GET", act, "", cookie, csrf)).failed(t).Code)
	require.Equal(t, "NotFound", n.call("secrets/describeSecret", `{"path":"/forged/secret"}`).failed(t).Code)

	// The cookie is a credential of the console alone.
	require.Equal(t, "Unauthenticated", n.send(request("POST", "/api/v1/iam/whoAmI", `{}`, cookie, csrf, asJSON)).failed(t).Code)
}

func TestSignInsThatCannotBe(t *testing.T) {
	n := single(t, withConsole(t))
	for body, code := range map[string]string{
		`{"token":"srt_nobody00000000000000000000000000000000000000000"}`: "Unauthenticated",
		`{"token":"a; Path=/x"}`:           "Unauthenticated",
		`{"token":""}`:                     "Unauthenticated",
		`{"token":"x\r\nSet-Cookie: y=z"}`: "Unauthenticated",
		`{}`:                               "Unauthenticated",
		`{"token":"srt_x","more":1}`:       "InvalidRequest",
		`token=srt_x`:                      "InvalidRequest",
		"":                                 "InvalidRequest",
		`"` + strings.Repeat("x", 5<<10):   "TooLarge",
	} {
		r := n.send(request("POST", "/console/session", body, asJSON))
		require.Equal(t, code, r.failed(t).Code, body)
		if set := r.header.Get("Set-Cookie"); set != "" {
			require.Contains(t, set, "__Host-strongroom=; Path=/; Max-Age=0", "a refusal leaves no session: %s", body)
		}
		require.NotContains(t, r.header, "Strongroom-Csrf")
	}
	require.Equal(t, "InvalidRequest", n.send(request("POST", "/console/session", `{"token":"`+n.admin+`"}`, "Content-Type: text/plain")).failed(t).Code, "what a form of another site can send")
	require.Equal(t, "AccessDenied", n.send(request("POST", "/console/session", `{"token":"`+n.admin+`"}`, asJSON, "Sec-Fetch-Site: cross-site")).failed(t).Code, "another site signs somebody in as itself")
	require.Equal(t, "GET, POST, DELETE", n.send(request("PUT", "/console/session", `{}`, asJSON)).header.Get("Allow"))
	require.NotContains(t, n.logged.String(), n.admin)
}

// A session is good on every node, and what it does on one that follows is done
// by the leader.
func TestASessionIsGoodOnEveryNode(t *testing.T) {
	c := newCluster(t)
	leader, follower := c.start("n1", withConsole(t)), c.start("n2", withConsole(t))
	c.lead("n1")
	cookie, csrf := leader.signedIn(c.admin)
	r := follower.send(request("POST", "/console/api/secrets/createSecret", `{"path":"/a/b","value":"eA=="}`, cookie, csrf, asJSON))
	require.Equal(t, http.StatusOK, r.status, r.body)
	follower.signedIn(c.admin)
}
