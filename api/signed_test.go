package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/sigv4"
)

func signedRequest(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "https://node:7400/api/v1/iam/whoAmI", strings.NewReader(`{}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	require.NoError(t, sigv4.Sign(r, "SRAKABCDEFGHIJKLMNOP", []byte("secret"), []byte(`{}`), time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)))
	r.RequestURI = r.URL.Path
	return r
}

// What a follower hands on is what it read, byte for byte.
func TestASignatureIsHandedOnWhole(t *testing.T) {
	_, signed, err := credential(signedRequest(t))
	require.NoError(t, err)
	h := http.Header{}
	require.NoError(t, handOnSigned(h, signed))
	back, err := handedOnSigned(h)
	require.NoError(t, err)
	require.Equal(t, signed, back)
	require.True(t, back.SignedBy(sigv4.DateKey([]byte("secret"), back.Date()), []byte(`{}`)))

	none, err := handedOnSigned(http.Header{})
	require.NoError(t, err)
	require.Nil(t, none)
	for name, h := range map[string]http.Header{
		"no base64": {headerSigned: {"?"}}, "no JSON": {headerSigned: {"eHg="}}, "nothing": {headerSigned: {""}},
		"empty": {headerSigned: {"e30="}}, "twice": {headerSigned: {h.Get(headerSigned), h.Get(headerSigned)}},
	} {
		_, err := handedOnSigned(h)
		require.Equal(t, fault.Unauthenticated, fault.KindOf(err), name)
	}
}

func TestWhatIsNoSignatureIsRefusedBeforeTheBodyIsRead(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *http.Request)
		kind   fault.Kind
	}{
		"unsigned payload":  {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, fault.InvalidRequest},
		"another algorithm": {func(r *http.Request) { r.Header.Set("Authorization", "AWS4-X Credential=a") }, fault.Unauthenticated},
		"no date":           {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, fault.Unauthenticated},
	} {
		r := signedRequest(t)
		c.change(r)
		_, signed, err := credential(r)
		require.Nil(t, signed, name)
		require.Equal(t, c.kind, fault.KindOf(err), name)
	}
}
