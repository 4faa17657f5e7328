package matrix_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// tricks are ways to write a path that is not the path, and that some program
// between a client and a value may take for it.
func tricks(path string) map[string]string {
	segments := strings.Split(path[1:], "/")
	last := segments[len(segments)-1]
	front := strings.TrimSuffix(path, last)
	return map[string]string{
		"double slash": strings.Replace(path, "/web", "//web", 1), "leading double slash": "/" + path, "trailing slash": path + "/",
		"dot segment": strings.Replace(path, "/web", "/./web", 1), "dot at the end": path + "/.", "up and down": front + "x/../" + last,
		"up from outside": "/app/dev/free/../web/" + last, "up at the end": path + "/..", "no leading slash": path[1:],
		"%2e": front + "%2e/" + last, "%2e%2e": "/app/dev/free/%2e%2e/web/" + last, "%2F": strings.Replace(path, "/web", "%2Fweb", 1),
		"%2f at the end": path + "%2f", "%00": path + "%00", "NUL": path + "\x00", "NUL and more": path + "\x00.txt", "escaped escape": front + "%25" + last,
		"backslash": strings.ReplaceAll(path, "/", "\\"), "one backslash": front + "\\" + last, "semicolon": path + ";x", "query": path + "?x", "fragment": path + "#x",
		"mixed case": strings.ToUpper(path), "case of one letter": strings.Replace(path, "web", "Web", 1),
		"fullwidth slash": strings.Replace(path, "/web", "／web", 1), "division slash": strings.Replace(path, "/web", "∕web", 1),
		"cyrillic e": strings.Replace(path, "web", "wеb", 1), "fullwidth letters": strings.Replace(path, "web", "ｗｅｂ", 1),
		"long s": strings.Replace(path, "secret", "ſecret", 1) + "ſ", "kelvin sign": front + "\u212aey", "combining mark": path + "\u0301",
		"zero-width space": path + "\u200b", "zero-width joiner inside": strings.Replace(path, "web", "we\u200db", 1), "byte order mark": "\ufeff" + path,
		"right-to-left override": path + "\u202e", "soft hyphen": strings.Replace(path, "web", "w\u00adeb", 1),
		"space at the end": path + " ", "space in front": " " + path, "tab": path + "\t", "newline": path + "\n", "carriage return": path + "\r",
		"star": front + "*", "two stars": front + "**", "star in part": path[:len(path)-1] + "*", "tilde": path + "~", "overlong segment": front + strings.Repeat("x", 129),
		"overlong path": "/" + strings.Repeat("abcdefg/", 70) + "x", "too many segments": path + strings.Repeat("/x", 16), "empty": "", "root": "/",
	}
}

// attempt is one answer, with all that it holds.
func attempt(c *localcluster.Cluster, node int, token, operation, body string) (code, text string) {
	r := c.Send(node, token, operation, "%s", body)
	return r.Code(), string(r.Body)
}

// TestNoTrickReachesANeighbour has somebody who may do everything below
// /app/dev/free, and everything about one path next to it except to read the
// value, try every way to write that path.
func TestNoTrickReachesANeighbour(t *testing.T) {
	c := suite.Shared(t)
	const guarded = "/app/dev/web/secret"
	value := localcluster.B64("the neighbour's value")
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, guarded, value)
	c.OK(1, "secrets/createSecret", `{"path":"/app/dev/free/mine","value":%q}`, localcluster.B64("mine"))
	mallory := c.Principal("mallory", `[{"effect":"allow","roles":["secrets-full-access"],"paths":["/app/dev/free/**"]}]`)
	all := c.Principal("everywhere", `[{"effect":"allow","roles":["secrets-full-access"],"paths":["/**"]},
		{"effect":"deny","actions":["secrets:*"],"paths":["`+guarded+`"]}]`)
	for name, path := range tricks(guarded) {
		quoted, err := json.Marshal(path)
		require.NoError(t, err)
		for i, operation := range []string{"secrets/getSecretValue", "secrets/describeSecret", "secrets/listSecretVersions", "secrets/destroyVersion", "secrets/deleteSecret"} {
			body := `{"path":` + string(quoted) + `}`
			if operation == "secrets/destroyVersion" {
				body = `{"path":` + string(quoted) + `,"version":1}`
			}
			code, text := attempt(c, 1+i%3, mallory, operation, body)
			require.Contains(t, []string{"InvalidRequest", "AccessDenied"}, code, "%s: %s: %s", name, operation, text)
			// Whoever may go everywhere but there finds nothing at other names.
			code, text = attempt(c, 1+i%3, all, operation, body)
			require.Contains(t, []string{"InvalidRequest", "NotFound", "AccessDenied"}, code, "%s: %s: %s", name, operation, text)
			require.NotContains(t, text, value, name)
			require.NotContains(t, text, "secretId", name)
		}
		code, text := attempt(c, 2, mallory, "secrets/listSecrets", `{"recursive":true,"prefix":`+string(quoted)+`}`)
		require.NotContains(t, text, guarded, "%s: %s", name, code)
		code, text = attempt(c, 3, mallory, "secrets/batchGetSecretValue", `{"items":[{"path":"/app/dev/free/mine"},{"path":`+string(quoted)+`}]}`)
		require.NotContains(t, text, value, "%s: %s", name, code)
		code, _ = attempt(c, 1, mallory, "secrets/copySecret", `{"path":`+string(quoted)+`,"toPath":"/app/dev/free/copy"}`)
		require.Contains(t, []string{"InvalidRequest", "AccessDenied"}, code, name)
	}
	require.Equal(t, value, c.OK(1, "secrets/getSecretValue", `{"path":%q}`, guarded)["value"], "and it is still there")
}

// A pattern is law, so one that is not plain is refused, where it could be
// read as another.
func TestPatternsAreExactOrRefused(t *testing.T) {
	c := suite.Shared(t)
	for name, pattern := range tricks("/app/dev/web/secret") {
		switch name {
		case "star", "two stars", "star in part", "mixed case", "case of one letter":
			continue // these are patterns
		}
		quoted, err := json.Marshal(pattern)
		require.NoError(t, err)
		for operation, body := range map[string]string{
			"iam/putPolicy":       `{"name":"trick","statements":[{"effect":"allow","actions":["secrets:getSecretValue"],"paths":[` + string(quoted) + `]}]}`,
			"iam/putAccessPolicy": `{"name":"trick","sourceCidrs":["127.0.0.0/8"],"paths":[` + string(quoted) + `]}`,
		} {
			r := c.Send(1, c.Token, operation, "%s", body)
			require.Equal(t, "InvalidRequest", r.Code(), "%s: %s", name, r.Body)
			require.Contains(t, r.Message(), "paths[0]: ", name)
		}
	}
}

// Routes are a table: what is not written as in it is not there, and nothing
// is redirected.
func TestURLsAreExactOrNotThere(t *testing.T) {
	c := suite.Shared(t)
	for _, path := range []string{
		"/api/v1//secrets/getSecretValue", "/api/v1/secrets//getSecretValue", "//api/v1/secrets/getSecretValue", "/api/v1/secrets/getSecretValue/",
		"/api/v1/./secrets/getSecretValue", "/api/v1/iam/../secrets/getSecretValue", "/api/v1/secrets/%67etSecretValue", "/api/v1/secrets%2FgetSecretValue",
		"/api/v1/secrets/getSecretValue%00", "/api/v1/secrets/getSecretValue;x", "/API/v1/secrets/getSecretValue", "/api/v1/Secrets/getSecretValue",
		"/api/v1/secrets/GetSecretValue", "/api/v1/secrets/getsecretvalue", "/api/v1/secrets/getSecretValue%20", "/link/v1/forward/secrets/getSecretValue",
	} {
		text := raw(t, c, "POST "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "+c.Token+"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
		require.Contains(t, text, "HTTP/1.1 404", path)
		require.NotContains(t, strings.ToLower(text), "location:", path)
	}
}

// raw sends bytes that no HTTP client would.
func raw(t *testing.T, c *localcluster.Cluster, request string) string {
	t.Helper()
	config := c.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.Addr(1), "https://"), config)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }() // the server closes it
	_, err = fmt.Fprint(conn, request)
	require.NoError(t, err)
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(text)
}
