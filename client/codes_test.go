package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
)

func TestTheLeaderThatIsNamedIsAskedNext(t *testing.T) {
	c := connect(t, Config{}, serve(t, nil), serve(t, nil), serve(t, nil))
	hint := func(to string) error {
		return &Error{Code: "NoLeader", Details: map[string]any{"leader": to}}
	}
	require.Equal(t, 2, c.next(0, hint(c.addresses[2])))
	require.Equal(t, 2, c.next(0, hint(c.addresses[2]+"/")))
	require.Equal(t, 1, c.next(0, hint("https://elsewhere:7400")), "a token goes nowhere that is not configured")
	require.Equal(t, 1, c.next(0, hint(c.addresses[0])), "not the one that just said no")
	require.Equal(t, 1, c.next(0, &Error{Code: "Internal", Details: map[string]any{"leader": c.addresses[2]}}))
	require.Equal(t, 1, c.next(0, &Error{Code: "NoLeader", Details: map[string]any{"leader": 7}}))
}

func TestRetryAfterOfA503IsObeyed(t *testing.T) {
	c := connect(t, Config{}, serve(t, nil))
	for _, code := range []string{"HsmUnavailable", "AuditUnavailable", ""} {
		again, pause := c.again(&Error{Code: code, Status: 503, RetryAfter: 7 * time.Second}, 0, 0)
		require.True(t, again)
		require.Equal(t, 7*time.Second, pause, code)
	}
	_, pause := c.again(&Error{Code: "NoLeader", Status: 503, RetryAfter: 7 * time.Second}, 0, 0)
	require.LessOrEqual(t, pause, time.Second, "an election is sooner over")
}

func TestTypedOperationsSpeakTheSameWire(t *testing.T) {
	n := serve(t, func(_ int, w http.ResponseWriter) {
		_, _ = io.WriteString(w, `{"path":"/a","value":"Zmlyc3Q=","version":3}`)
	})
	got, err := connect(t, Config{}, n).Secrets().GetSecretValue(context.Background(), wire.GetSecretValueRequest{Path: "/a"})
	require.NoError(t, err)
	defer got.Value.Wipe()
	require.Equal(t, "first", string(got.Value.Expose()))
	require.Equal(t, []string{"POST /api/v1/secrets/getSecretValue"}, n.paths)

	n = serve(t, func(_ int, w http.ResponseWriter) { fail(w, 404, "NotFound") })
	_, err = connect(t, Config{}, n).Secrets().DescribeSecret(context.Background(), wire.PathRequest{Path: "/a"})
	require.True(t, IsCode(fmt.Errorf("at start: %w", err), CodeNotFound))
}

func TestATokenFileIsReadForEachAttempt(t *testing.T) {
	name := filepath.Join(t.TempDir(), "token")
	read := TokenFile(name)
	_, err := read()
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, token := range []string{"srt_1", "srt_2"} {
		require.NoError(t, os.WriteFile(name, []byte(" "+token+"\n"), 0o600))
		got, err := read()
		require.NoError(t, err)
		require.Equal(t, token, string(got.Expose()))
	}
	require.NoError(t, os.WriteFile(name, []byte("\n"), 0o600))
	_, err = read()
	require.ErrorContains(t, err, "empty")

	raw := []byte("srt_MARKED")
	_, err = TokenFunc(func() ([]byte, error) { return raw, errors.New("half read") })()
	require.ErrorContains(t, err, "half read")
	require.Equal(t, make([]byte, len(raw)), raw)
}
