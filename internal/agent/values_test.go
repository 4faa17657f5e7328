package agent

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/client"
)

// sourceOf is a Source of a server that has these values, and refuses the rest.
func sourceOf(t *testing.T, values map[string]string) *Source {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct{ Path string }
		_ = json.NewDecoder(r.Body).Decode(&req)
		value, there := values[req.Path]
		switch {
		case r.URL.Path == "/api/v1/secrets/getSecretValue" && there:
			_ = json.NewEncoder(w).Encode(map[string]any{"path": req.Path, "version": 1, "versionId": "id", "value": []byte(value), "cache": map[string]any{"maxAge": "300s"}})
		case r.URL.Path == "/api/v1/secrets/waitForChange":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": "AccessDenied", "message": "no", "requestId": "r1", "details": map[string]any{"decisionId": "d1"}}})
		}
	}))
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	c, err := client.New(client.Config{Addresses: []string{server.URL}, CAs: pool})
	require.NoError(t, err)
	s, err := NewSource(c, client.CacheConfig{Instance: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close(); server.Close() })
	return s
}

func collect(t *testing.T, values map[string]string) Snapshot {
	t.Helper()
	var paths []string
	for path := range values {
		paths = append(paths, path)
	}
	snap, err := sourceOf(t, values).Collect(context.Background(), paths)
	require.NoError(t, err)
	t.Cleanup(snap.Wipe)
	return snap
}

func TestMembersOfJSON(t *testing.T) {
	const hidden = "hunter2"
	snap := collect(t, map[string]string{
		"/o": `{"s":"a\nb","n":-1.50,"t":true,"z":null,"l":["hunter2"],"o":{"x":"hunter2"},"":"e"}`,
		"/t": "hunter2", "/twice": `{"a":"hunter2","a":"x"}`, "/null": "null", "/list": `["hunter2"]`,
	})
	for field, want := range map[string]string{"s": "a\nb", "n": "-1.50", "t": "true"} {
		got, err := Ref{"/o", field}.of(snap["/o"])
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for _, r := range []Ref{{"/o", "z"}, {"/o", "l"}, {"/o", "o"}, {"/o", "none"}, {"/t", "a"}, {"/twice", "a"}, {"/null", "a"}, {"/list", "a"}} {
		_, err := r.of(snap[r.Path])
		require.ErrorContains(t, err, r.Path, r)
		require.NotContains(t, err.Error(), hidden)
	}
}

func TestADenialNamesThePathAndTheRight(t *testing.T) {
	_, err := sourceOf(t, map[string]string{"/a": "x"}).Collect(context.Background(), []string{"/a", "/b", "/c"})
	require.True(t, IsRefused(err))
	for _, want := range []string{"/b", "/c", "secrets:getSecretValue", "secrets-value-access", "d1", "r1"} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "/a:")
}

func TestVariables(t *testing.T) {
	snap := collect(t, map[string]string{"/a": "x y", "/zero": "hunter2\x00", "/long": longText()})
	env, err := environment([]string{"P=1", "A=old"}, []Binding{{Name: "A", Ref: Ref{Path: "/a"}}, {Name: "F", Ref: Ref{Path: "/zero"}, File: true}}, snap, &privateDir{path: "/d"})
	require.NoError(t, err)
	require.Equal(t, []string{"P=1", "A=x y", "F=/d/F"}, env)
	for _, path := range []string{"/zero", "/long"} {
		_, err = environment(nil, []Binding{{Name: "A", Ref: Ref{Path: path}}}, snap, nil)
		require.ErrorContains(t, err, "--file A="+path)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func longText() string {
	out := make([]byte, maxVariable)
	for i := range out {
		out[i] = 'x'
	}
	return string(out)
}
