package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/sigv4"
)

const accessKeyID = "SRAKABCDEFGHIJKLMNOP"

func secretOf(text string) func() (secret.Bytes, error) {
	return func() (secret.Bytes, error) { return secret.Copy([]byte(text)), nil }
}

// Each attempt is signed anew, over the bytes that are sent.
func TestEachAttemptIsSignedAnew(t *testing.T) {
	var seen []*sigv4.Request
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		signed, parseErr := sigv4.Parse(r)
		if err != nil || parseErr != nil || !signed.SignedBy(sigv4.DateKey([]byte("s3cret"), signed.Date()), body) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if seen = append(seen, signed); len(seen) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error":{"code":"NoLeader","message":"sign it again"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"principal":"web"}`)
	}))
	t.Cleanup(s.Close)
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	asked := 0
	c, err := client.New(client.Config{Addresses: []string{s.URL}, CAs: roots, RetryFor: 20 * time.Second, AccessKeyID: accessKeyID,
		AccessKeySecret: func() (secret.Bytes, error) { asked++; return secret.Copy([]byte("s3cret")), nil }})
	require.NoError(t, err)
	defer c.Close()
	var who wire.WhoAmIResponse
	require.NoError(t, c.Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, &who))
	require.Equal(t, "web", who.Principal)
	require.Len(t, seen, 2)
	require.Equal(t, 2, asked)
}

func TestHalfAnAccessKeyIsNone(t *testing.T) {
	for name, cfg := range map[string]client.Config{
		"no secret": {AccessKeyID: accessKeyID}, "no id": {AccessKeySecret: secretOf("x")},
		"and a token": {AccessKeyID: accessKeyID, AccessKeySecret: secretOf("x"), Token: secretOf("t")},
		"another id":  {AccessKeyID: "AKIAABCDEFGHIJKLMNOP", AccessKeySecret: secretOf("x")},
	} {
		cfg.Addresses = []string{"https://127.0.0.1:1"}
		_, err := client.New(cfg)
		require.Error(t, err, name)
	}
	broken := errors.New("no such file")
	c, err := client.New(client.Config{Addresses: []string{"https://127.0.0.1:1"}, AccessKeyID: accessKeyID,
		AccessKeySecret: func() (secret.Bytes, error) { return secret.Bytes{}, broken }})
	require.NoError(t, err)
	require.ErrorIs(t, c.Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil), broken)
}
