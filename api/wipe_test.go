package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
)

// spy is a request body that keeps the buffer it was read into, and a
// response writer that keeps the buffers it was given: after the request all
// of them must be wiped. It stands in for the connection, which copies.
type spy struct {
	io.Reader
	header  http.Header
	status  int
	read    [][]byte
	written [][]byte
	copied  bytes.Buffer
}

func (s *spy) Read(p []byte) (int, error) {
	s.read = append(s.read, p)
	return s.Reader.Read(p)
}

func (s *spy) Close() error        { return nil }
func (s *spy) Header() http.Header { return s.header }
func (s *spy) WriteHeader(status int) {
	s.status = status
}

func (s *spy) Write(p []byte) (int, error) {
	s.written = append(s.written, p)
	return s.copied.Write(p)
}

func spyOn(n *node, operation, body string, handler http.Handler, headers map[string]string) *spy {
	s := &spy{Reader: strings.NewReader(body), header: http.Header{}}
	r := httptest.NewRequest(http.MethodPost, operation, s)
	r.ContentLength = int64(len(body))
	r.Header.Set("Authorization", "Bearer "+n.admin)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	handler.ServeHTTP(s, r)
	return s
}

func (s *spy) requireWiped(t *testing.T, what string) {
	t.Helper()
	require.NotEmpty(t, s.read, what)
	for _, p := range append(s.read, s.written...) {
		require.Equal(t, make([]byte, len(p)), p, "%s: a buffer keeps what was in it", what)
	}
}

func TestBuffersOfRequestsAndAnswersAreWiped(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.ok("secrets/createSecret", `{"path":"/a/b"}`)
	for name, n := range map[string]*node{"here": leader, "handed on": follower} {
		put := spyOn(n, prefix+"secrets/putSecretValue", `{"path":"/a/b","value":"`+mark+`"}`, n.server.public.Handler, nil)
		require.Equal(t, 200, put.status, put.copied.String())
		put.requireWiped(t, name)
		get := spyOn(n, prefix+"secrets/getSecretValue", `{"path":"/a/b"}`, n.server.public.Handler, nil)
		require.Equal(t, 200, get.status)
		require.Contains(t, get.copied.String(), mark)
		require.NotEmpty(t, get.written)
		get.requireWiped(t, name)

		refused := spyOn(n, prefix+"secrets/putSecretValue", `{"path":"/a/b","value":"`+mark+`","x":1}`, n.server.public.Handler, nil)
		require.Equal(t, 400, refused.status)
		for _, p := range refused.read {
			require.Equal(t, make([]byte, len(p)), p)
		}
	}

	// What another member handed on, seen from the leader's side.
	peers := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leader.server.peers.Handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, "n2")))
	})
	s := spyOn(leader, linkForward+"secrets/putSecretValue", `{"path":"/a/b","value":"`+mark+`"}`, peers, map[string]string{headerSource: "10.0.0.1"})
	require.Equal(t, 200, s.status, s.copied.String())
	s.requireWiped(t, "on the link")
}

func TestABodyThatEndsEarlyIsWiped(t *testing.T) {
	n := single(t, nil)
	s := &spy{Reader: strings.NewReader(mark), header: http.Header{}}
	r := httptest.NewRequest(http.MethodPost, prefix+"secrets/putSecretValue", s)
	r.ContentLength = 1000
	n.server.serveOperation(s, r, engine.Find("secrets", "putSecretValue"))
	require.Equal(t, 400, s.status)
	for _, p := range s.read {
		require.NotContains(t, string(p[:cap(p)]), mark)
	}
}

func TestABufferIsWipedWithThePiecesThatItOutgrew(t *testing.T) {
	var b buffer
	var pieces [][]byte
	for range 50 {
		_, err := b.Write(bytes.Repeat([]byte("x"), 100))
		require.NoError(t, err)
		pieces = append(pieces, b.b[:cap(b.b)])
	}
	require.Len(t, b.b, 5000)
	b.wipe()
	for i, piece := range pieces {
		require.NotContains(t, string(piece), "x", "piece %d", i)
	}
}
