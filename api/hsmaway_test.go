package api

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// A node that cannot open its log knows nobody: it looks at no credential and
// at no operation, and says what it waits for.
func TestANodeThatWaitsForItsHSMAnswersOnlyThat(t *testing.T) {
	s := NewWaiting(Config{
		NodeID: "n1", Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), AllowedHosts: []string{"example.com"},
		Ready: func() error { return errors.New("waiting for the HSM") },
	})
	server := httptest.NewServer(s.public.Handler)
	defer server.Close()
	ask := func(method, host, path, body string) (int, string, http.Header) {
		r, err := http.NewRequest(method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Host = host
		resp, err := server.Client().Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text), resp.Header
	}
	for _, c := range []struct {
		method, host, path string
		status             int
		says               string
	}{
		{"GET", "example.com", "/api/v1/health/live", 200, `"live"`},
		{"GET", "example.com", "/api/v1/health/ready", 503, "waiting for the HSM"},
		{"GET", "example.com", "/api/v1/health/leader", 503, "no leader is known"},
		{"GET", "example.com", "/metrics", 200, ""},
		{"POST", "example.com", "/api/v1/health/ready", 400, "must be GET"},
		{"POST", "example.com", "/api/v1/secrets/getSecretValue", 503, "HsmUnavailable"},
		{"POST", "example.com", "/api/v1/no/operation", 503, "HsmUnavailable"},
		{"POST", "example.org", "/api/v1/secrets/getSecretValue", 400, "allowedHosts"},
	} {
		status, body, header := ask(c.method, c.host, c.path, `{"path":"/a"}`)
		require.Equal(t, c.status, status, "%s %s: %s", c.method, c.path, body)
		require.Contains(t, body, c.says)
		if c.says == "HsmUnavailable" {
			require.NotEmpty(t, header.Get("Retry-After"))
			require.NotEmpty(t, header.Get(headerID))
		}
	}
}
