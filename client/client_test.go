package client

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// node is a server that answers as a script says and keeps what it was asked.
type node struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []map[string]any
	header []http.Header
	paths  []string
}

func serve(t *testing.T, answer func(n int, w http.ResponseWriter)) *node {
	t.Helper()
	n := &node{}
	n.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		body := map[string]any{}
		if err := json.Unmarshal(raw, &body); err != nil {
			panic(http.ErrAbortHandler)
		}
		n.mu.Lock()
		n.bodies = append(n.bodies, body)
		n.header = append(n.header, r.Header)
		n.paths = append(n.paths, r.Method+" "+r.URL.Path)
		count := len(n.bodies)
		n.mu.Unlock()
		answer(count, w)
	}))
	n.Config.ErrorLog = nil
	t.Cleanup(n.Close)
	return n
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%q,"message":"told by a test","requestId":"r-1","details":{"field":"path"}}}`, code)
}

func connect(t *testing.T, cfg Config, nodes ...*node) *Client {
	t.Helper()
	cfg.CAs = x509.NewCertPool()
	for _, n := range nodes {
		cfg.CAs.AddCert(n.Certificate())
		cfg.Addresses = append(cfg.Addresses, n.URL)
	}
	c, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

const put = `{"path":"/a/b","version":7,"versionId":"x","labels":["current"],"newMember":1}`

func TestARetryCarriesTheSameClientToken(t *testing.T) {
	n := serve(t, func(count int, w http.ResponseWriter) {
		switch count {
		case 1:
			fail(w, 503, "NoLeader")
		case 2:
			fail(w, 503, "Uncertain")
		case 3:
			panic(http.ErrAbortHandler) // the connection breaks in the middle
		case 4:
			fail(w, 503, "HsmUnavailable")
		default:
			_, _ = io.WriteString(w, put)
		}
	})
	c := connect(t, Config{}, n)
	value := wire.NewValue([]byte("first"))
	req := &wire.PutSecretValueRequest{Path: "/a/b", Value: value}
	var resp wire.PutSecretValueResponse
	require.NoError(t, c.Do(context.Background(), "secrets", "putSecretValue", req, &resp))
	require.Equal(t, uint64(7), resp.Version)
	require.Empty(t, req.ClientToken, "the caller's request is the caller's")
	require.Equal(t, "first", string(value.Expose()))
	require.Len(t, n.bodies, 5)
	for i, body := range n.bodies {
		require.Equal(t, n.bodies[0], body, "attempt %d", i+1)
		require.Equal(t, "POST /api/v1/secrets/putSecretValue", n.paths[i])
	}
	token, _ := n.bodies[0]["clientToken"].(string)
	require.GreaterOrEqual(t, len(token), 32)
	require.LessOrEqual(t, len(token), 64)

	require.NoError(t, c.Do(context.Background(), "secrets", "putSecretValue", req, &resp))
	require.NotEqual(t, token, n.bodies[5]["clientToken"], "another write, another token")
	req.ClientToken = "mine"
	require.NoError(t, c.Do(context.Background(), "secrets", "putSecretValue", req, &resp))
	require.Equal(t, "mine", n.bodies[6]["clientToken"])
}

func TestARefusalIsNotRepeated(t *testing.T) {
	for code, status := range map[string]int{"AccessDenied": 403, "Conflict": 409, "NotFound": 404, "Internal": 500, "InvalidRequest": 400} {
		n := serve(t, func(_ int, w http.ResponseWriter) { fail(w, status, code) })
		err := connect(t, Config{}, n).Do(context.Background(), "secrets", "describeSecret", &wire.PathRequest{Path: "/a"}, nil)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, Error{Code: code, Message: "told by a test", RequestID: "r-1", Details: map[string]any{"field": "path"}, Status: status}, *e)
		require.True(t, IsCode(err, fault.Kind(code)))
		require.Len(t, n.bodies, 1, code)
	}
}

func TestReadsCarryNoClientToken(t *testing.T) {
	n := serve(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{"value":"Zmlyc3Q=","path":"/a"}`) })
	var resp wire.GetSecretValueResponse
	require.NoError(t, connect(t, Config{}, n).Do(context.Background(), "secrets", "getSecretValue", &wire.GetSecretValueRequest{Path: "/a"}, &resp))
	require.Equal(t, map[string]any{"path": "/a"}, n.bodies[0])
	require.Equal(t, "first", string(resp.Value.Expose()))
}

func TestAnotherNodeIsTriedWhenOneIsDown(t *testing.T) {
	down := serve(t, nil)
	down.Close()
	up := serve(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) })
	c := connect(t, Config{RetryConnect: 3 * time.Second}, down, up)
	for range 3 {
		require.NoError(t, c.Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil))
	}
	require.Len(t, up.bodies, 3)
	require.Equal(t, int64(1), c.preferred.Load(), "the node that answered is asked first from then on")
}

func TestNoNodeAtAllIsToldSoon(t *testing.T) {
	down := serve(t, nil)
	down.Close()
	begun := time.Now()
	err := connect(t, Config{RetryConnect: 200 * time.Millisecond}, down).Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil)
	var e *UnreachableError
	require.ErrorAs(t, err, &e)
	require.True(t, e.NotSent)
	require.Less(t, time.Since(begun), DefaultRetryFor/2)
}

func TestASilentNodeIsLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() // it takes connections and never says a word
	up := serve(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) })
	c := connect(t, Config{Addresses: []string{"https://" + l.Addr().String()}, AttemptTimeout: 300 * time.Millisecond}, up)
	require.NoError(t, c.Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil))
	require.Len(t, up.bodies, 1)
}

func TestTheContextEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	n := serve(t, func(count int, w http.ResponseWriter) {
		if count == 2 {
			cancel()
		}
		fail(w, 503, "NoLeader")
	})
	require.Error(t, connect(t, Config{RetryFor: time.Hour}, n).Do(ctx, "iam", "whoAmI", &wire.EmptyRequest{}, nil))
}

func TestRetryForEndsIt(t *testing.T) {
	n := serve(t, func(_ int, w http.ResponseWriter) { fail(w, 503, "NoLeader") })
	err := connect(t, Config{RetryFor: 150 * time.Millisecond}, n).Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil)
	require.True(t, IsCode(err, fault.NoLeader))
	require.GreaterOrEqual(t, len(n.bodies), 2)
}

func TestRetryAfterIsObeyed(t *testing.T) {
	c := connect(t, Config{}, serve(t, nil))
	again, pause := c.again(&Error{Code: "RateLimited", RetryAfter: 5 * time.Second}, 0, 0)
	require.True(t, again)
	require.Equal(t, 5*time.Second, pause)
	again, _ = c.again(&Error{Code: "RateLimited", RetryAfter: time.Hour}, 0, 0)
	require.False(t, again, "longer than RetryFor")
}

func TestTheTokenIsAskedForEachAttemptAndStaysInTheHeader(t *testing.T) {
	n := serve(t, func(count int, w http.ResponseWriter) {
		if count == 1 {
			fail(w, 503, "NoLeader")
			return
		}
		_, _ = io.WriteString(w, `{}`)
	})
	asked := 0
	c := connect(t, Config{Token: func() (secret.Bytes, error) {
		asked++
		return secret.New(fmt.Appendf(nil, "srt_%d", asked)), nil
	}}, n)
	require.NoError(t, c.Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil))
	require.Equal(t, "Bearer srt_1", n.header[0].Get("Authorization"))
	require.Equal(t, "Bearer srt_2", n.header[1].Get("Authorization"))
	require.NotContains(t, fmt.Sprintf("%+v %#v", c.cfg, c), "srt_")
}

func TestAnUnknownAuthorityIsNotRepeatedAndGetsNoToken(t *testing.T) {
	n := serve(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) })
	c, err := New(Config{Addresses: []string{n.URL}, CAs: x509.NewCertPool()})
	require.NoError(t, err)
	var e *UnreachableError
	require.ErrorAs(t, c.Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil), &e)
	require.True(t, e.Permanent)
	require.Empty(t, n.bodies)
}

func TestARedirectIsNotFollowed(t *testing.T) {
	other := serve(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) })
	n := serve(t, func(_ int, w http.ResponseWriter) {
		w.Header().Set("Location", other.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	var e *Error
	require.ErrorAs(t, connect(t, Config{}, n, other).Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil), &e)
	require.Empty(t, e.Code)
	require.Equal(t, http.StatusTemporaryRedirect, e.Status)
	require.Empty(t, other.bodies)
}

func TestAddressesMustBeHTTPS(t *testing.T) {
	for _, a := range []string{"http://127.0.0.1:7400", "127.0.0.1:7400", "https://", "https://u:p@host", "https://host/path", "https://host?x=1", ""} {
		_, err := New(Config{Addresses: []string{a}})
		require.Error(t, err, a)
	}
	_, err := New(Config{})
	require.Error(t, err)
	_, err = New(Config{Addresses: []string{"https://host/"}})
	require.NoError(t, err)
	empty := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err = New(Config{Addresses: []string{"https://host"}, CAFile: empty})
	require.ErrorContains(t, err, "holds no certificate")
}

func TestAnAttemptAtAWaitMayTakeAsLongAsTheWait(t *testing.T) {
	require.Equal(t, time.Minute, mayWait(&wire.WaitForChangeRequest{}))
	require.Zero(t, mayWait(&wire.GetSecretValueRequest{}))
}
