package api

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// retryPause is how long a request waits before it looks for the leader
// again. An election takes some hundred milliseconds.
const retryPause = 25 * time.Millisecond

// serveOperation serves here if this node leads, and hands the untouched
// request to the leader otherwise, until there is an answer or time is up.
func (s *Server) serveOperation(w http.ResponseWriter, r *http.Request, o *engine.Operation) {
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	token, err := bearer(r)
	if err != nil {
		s.fail(w, err, false)
		return
	}
	body, err := s.readBody(w, r)
	if err != nil {
		s.fail(w, err, false)
		return
	}
	defer clear(body)
	from := engine.Caller{RequestID: w.Header().Get(headerID), Token: token, Source: sourceOf(r)}
	for {
		done, err := s.attempt(ctx, w, o, from, body)
		if done {
			return
		}
		if err != nil && !fault.Is(err, fault.NoLeader) {
			s.fail(w, err, o.Write)
			return
		}
		select {
		case <-ctx.Done():
			s.fail(w, fault.New(fault.NoLeader, "no leader could serve the request in time; nothing was done, retry"), false)
			return
		case <-time.After(retryPause):
		}
	}
}

// attempt serves once. It answers done when a response was written, and
// NoLeader when surely nothing happened and another attempt may be made.
func (s *Server) attempt(ctx context.Context, w http.ResponseWriter, o *engine.Operation, from engine.Caller, body []byte) (done bool, err error) {
	leader, self, known := s.Cluster.Leader()
	switch {
	case self:
		return s.serveHere(ctx, w, o, from, body)
	case known && leader != s.NodeID:
		return s.link.forward(ctx, w, leader, o, from, body)
	}
	return false, fault.New(fault.NoLeader, "no leader is known")
}

// serveHere runs the operation on this node.
func (s *Server) serveHere(ctx context.Context, w http.ResponseWriter, o *engine.Operation, from engine.Caller, body []byte) (done bool, err error) {
	answer, err := s.Engine.Do(ctx, o, from, body)
	defer answer.Wipe()
	if answer.Index != 0 {
		w.Header().Set(headerIndex, strconv.FormatUint(answer.Index, 10))
	}
	if fault.Is(err, fault.NoLeader) {
		return false, err
	}
	if err != nil {
		s.fail(w, err, o.Write)
		return true, nil
	}
	var buf buffer
	defer buf.wipe()
	if err := wire.Encode(&buf, answer.Response); err != nil {
		s.fail(w, err, o.Write)
		return true, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(buf.b)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(buf.b) // a client that hangs up is no news
	return true, nil
}

// readBody reads the whole body into a buffer of its own, which the caller
// wipes.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > s.MaxBodyBytes {
		w.Header().Set("Connection", "close")
		return nil, fault.New(fault.TooLarge, "body: has %d bytes; at most %d are allowed", r.ContentLength, s.MaxBodyBytes)
	}
	if r.ContentLength <= 0 {
		return nil, nil
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		clear(body)
		return nil, fault.Wrap(fault.InvalidRequest, err, "body: ended before Content-Length was reached")
	}
	return body, nil
}

// fail writes an error response. Causes go to the log, under the request id.
func (s *Server) fail(w http.ResponseWriter, err error, write bool) {
	f := public(err, write)
	id := w.Header().Get(headerID)
	switch f.Kind {
	case fault.Internal, fault.Uncertain, fault.HsmUnavailable, fault.AuditUnavailable:
		s.Logger.Warn("a request failed", "requestId", id, "code", string(f.Kind), "error", err)
	}
	if retryable(f.Kind) {
		w.Header().Set("Retry-After", "1")
	}
	if f.Kind == fault.Unauthenticated {
		w.Header().Set("WWW-Authenticate", `Bearer realm="strongroom"`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statuses[f.Kind])
	_ = wire.Encode(w, wire.Error{Error: wire.ErrorBody{Code: string(f.Kind), Message: f.Message, RequestID: id, Details: f.Details}})
}

// buffer wipes the pieces that it outgrew, and itself.
type buffer struct{ b []byte }

func (b *buffer) Write(p []byte) (int, error) {
	if need := len(b.b) + len(p); need > cap(b.b) {
		grown := make([]byte, len(b.b), max(2*need, 1024))
		copy(grown, b.b)
		clear(b.b)
		b.b = grown
	}
	b.b = append(b.b, p...)
	return len(p), nil
}

func (b *buffer) wipe() { clear(b.b[:cap(b.b)]) }
