package client

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/secret"
)

func TestALoginIsRenewedBeforeItsTokenEnds(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	logins, refuse := 0, false
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/api/v1/iam/login" || r.Header.Get("Authorization") != "" || !strings.HasSuffix(string(body), `"trust":"ci","jwt":"a.b.c"}`) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		logins++
		if refuse {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":{"code":"Unauthenticated","message":"no","requestId":"r"}}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"token":"srt_%d","tokenId":"t","expiresAt":%q}`, logins, now.Add(time.Hour).Format(time.RFC3339))
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	given := 0
	jwt := func() (secret.Bytes, error) {
		given++
		if given > 5 {
			return secret.Bytes{}, errors.New("no JWT")
		}
		return secret.Copy([]byte("a.b.c\n")), nil // as files have it
	}
	l, err := NewLogin(Config{Addresses: []string{s.URL}, CAs: roots}, "ci", jwt)
	require.NoError(t, err)
	l.now = func() time.Time { return now }
	token := func(want string) {
		t.Helper()
		got, err := l.Token()
		require.NoError(t, err)
		require.Equal(t, want, string(got.Expose()))
		got.Wipe()
	}
	token("srt_1")
	now = now.Add(39 * time.Minute)
	token("srt_1")
	now = now.Add(time.Minute)
	token("srt_2")
	now = now.Add(50 * time.Minute)
	refuse = true
	token("srt_2") // still good, whoever refuses a new one
	token("srt_2")
	require.Equal(t, 3, logins, "not each request tries again")
	now = now.Add(time.Minute)
	token("srt_2")
	require.Equal(t, 4, logins)
	now = now.Add(9 * time.Minute)
	_, err = l.Token()
	require.True(t, IsCode(err, "Unauthenticated"), "%v", err)
	refuse = false
	_, err = l.Token()
	require.ErrorContains(t, err, "no JWT")
	l.Close()
	_, err = NewLogin(Config{}, "ci", jwt)
	require.Error(t, err)
	_, err = NewLogin(Config{Addresses: []string{s.URL}}, "ci", nil)
	require.Error(t, err)
}
