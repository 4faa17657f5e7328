package api

import (
	"errors"
	"io"
	"net/http"

	"github.com/strongroom/strongroom/internal/fault"
)

// Bounds of what strangers can make this node hold: bodies are read before
// anybody is authenticated.
const (
	// firstRead is what a body gets before a byte of it has come.
	firstRead = 16 << 10
	// DefaultMaxBodies bounds all bodies that are held at one time, in bytes.
	DefaultMaxBodies = 256 << 20
)

// requestBody is a body in memory, counted until it is released.
type requestBody struct {
	server *Server
	b      []byte
	held   int64
}

// release wipes the body and gives its place back. It may be called on nil.
func (b *requestBody) release() {
	if b == nil {
		return
	}
	clear(b.b[:cap(b.b)])
	b.server.bodies.Add(-b.held)
	b.b, b.held = nil, 0
}

// grow makes room for n bytes, and wipes the smaller buffer that it leaves.
func (b *requestBody) grow(n int64) error {
	more := n - b.held
	if b.server.bodies.Add(more) > b.server.MaxBodies {
		b.server.bodies.Add(-more)
		return fault.New(fault.RateLimited, "the server holds as many request bodies as it may; retry in a moment")
	}
	b.held = n
	grown := make([]byte, len(b.b), n)
	copy(grown, b.b)
	clear(b.b[:cap(b.b)])
	b.b = grown
	return nil
}

// readBody reads the whole body, which the caller releases, also after an
// error. Memory follows what has arrived, not what was announced: a client
// that says two megabytes and sends nothing holds a small buffer.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64) (*requestBody, error) {
	body := &requestBody{server: s}
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return body, fault.New(fault.TooLarge, "body: has %d bytes; at most %d are allowed", r.ContentLength, limit)
	}
	for want := max(0, r.ContentLength); int64(len(body.b)) < want; {
		if len(body.b) == cap(body.b) {
			if err := body.grow(min(want, max(firstRead, 4*int64(len(body.b))))); err != nil {
				return body, err
			}
		}
		n, err := r.Body.Read(body.b[len(body.b):cap(body.b)])
		body.b = body.b[:len(body.b)+n]
		if err != nil && int64(len(body.b)) < want {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return body, fault.Wrap(fault.InvalidRequest, err, "body: ended before Content-Length was reached")
		}
	}
	return body, nil
}
