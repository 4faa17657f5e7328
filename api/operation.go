package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// retryPause is how long a request waits before it looks for the leader
// again. An election takes some hundred milliseconds.
const retryPause = 25 * time.Millisecond

// leaderWatch is how often a request that was handed on looks whether the
// leader still is one.
const leaderWatch = 50 * time.Millisecond

// serveOperation serves here if this node leads, and hands the untouched
// request to the leader otherwise, until there is an answer or time is up.
func (s *Server) serveOperation(w http.ResponseWriter, r *http.Request, o *engine.Operation) {
	ctx, cancel := s.timed(r.Context(), o)
	defer cancel()
	token, signed, err := credential(r)
	if err != nil {
		s.fail(w, err, false)
		return
	}
	limit := s.MaxBodyBytes
	if o.Wait > 0 {
		limit = min(limit, maxWaitBody)
	}
	body, err := s.readBody(w, r, limit)
	defer body.release()
	if err != nil {
		s.fail(w, err, false)
		return
	}
	from := engine.Caller{RequestID: w.Header().Get(headerID), Token: token, Signed: signed}
	if err := s.locate(r, &from); err != nil {
		s.fail(w, err, false)
		return
	}
	if token == "" && signed == nil {
		if from.Certificates, err = shownCertificates(r); err != nil {
			s.fail(w, err, false)
			return
		}
	}
	if o.Wait > 0 {
		s.serveWaiting(w, r, o, from, body.b)
		return
	}
	from.Heard = s.Engine.Heard(o, from)
	var last error // why it was not served, as far as anybody said
	for {
		done, err := s.attempt(ctx, w, o, from, body.b)
		if done {
			return
		}
		if from.Heard == nil && o.Follows {
			from.Heard = &engine.Heard{} // what it says is old by the next attempt
		}
		if err != nil && !fault.Is(err, fault.NoLeader) {
			s.fail(w, err, o.Write)
			return
		}
		if err != nil && s.Standing() != nil {
			// No leader will be heard of here. The client has other addresses.
			s.fail(w, fault.New(fault.NoLeader, "this node takes no part in the cluster, ask another one; its health/ready says why. Nothing was done"), false)
			return
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			s.fail(w, notServed(last), false)
			return
		case <-time.After(retryPause):
		}
	}
}

// notServed is the answer when the time of a request is over, and no leader
// would take it, with what was said last.
func notServed(last error) error {
	const text = "no leader could serve the request in time; nothing was done, retry"
	var f *fault.Error
	if !errors.As(last, &f) {
		return fault.New(fault.NoLeader, text)
	}
	return fault.Wrap(fault.NoLeader, last, text+" (%s)", f.Message)
}

// attempt serves once. It answers done when a response was written, and
// NoLeader when surely nothing happened and another attempt may be made.
func (s *Server) attempt(ctx context.Context, w http.ResponseWriter, o *engine.Operation, from engine.Caller, body []byte) (done bool, err error) {
	leader, self, known := s.Cluster.Leader()
	switch {
	case self:
		return s.serveHere(ctx, w, o, from, body, s.Engine.Do)
	case known && leader != s.NodeID:
		if s.Engine.Follows(o, from) {
			// What this node cannot serve now, the leader can.
			if done, err := s.serveHere(ctx, w, o, from, body, s.Engine.Follow); done || !fault.Is(err, fault.NoLeader) {
				return done, err
			}
		}
		ctx, stop := s.whileLeading(ctx, leader)
		defer stop()
		return s.link.forward(ctx, w, leader, o, from, body)
	}
	return false, fault.New(fault.NoLeader, "no leader is known")
}

// errAnotherLeads ends the wait for a leader that is none any more.
var errAnotherLeads = errors.New("another node leads by now")

// whileLeading answers a context that ends when this node learns that another
// one leads. A leader that hangs, or whose network is gone, closes no
// connection: without this a request that it was handed would wait for all of
// its time, while the cluster has long gone on.
func (s *Server) whileLeading(ctx context.Context, leader string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var timer atomic.Pointer[time.Timer] // a goroutine only for requests that take long
	timer.Store(time.AfterFunc(leaderWatch, func() {
		if ctx.Err() != nil || begun(ctx) {
			return
		}
		if now, self, known := s.Cluster.Leader(); self || known && now != leader {
			cancel(errAnotherLeads)
		} else if t := timer.Load(); t != nil {
			t.Reset(leaderWatch)
		}
	}))
	return ctx, func() { cancel(nil); timer.Load().Stop() }
}

// doer is Do or Follow of the engine.
type doer func(ctx context.Context, o *engine.Operation, from engine.Caller, body []byte) (engine.Answer, error)

// serveHere runs the operation on this node.
func (s *Server) serveHere(ctx context.Context, w http.ResponseWriter, o *engine.Operation, from engine.Caller, body []byte, do doer) (done bool, err error) {
	answer, err := do(ctx, o, from, body)
	defer answer.Wipe()
	if answer.Index != 0 {
		w.Header().Set(headerIndex, strconv.FormatUint(answer.Index, 10))
	}
	var not *engine.NotYet
	if fault.Is(err, fault.NoLeader) && !engine.SignAgain(err) || errors.As(err, &not) {
		return false, err
	}
	if err != nil {
		s.fail(w, err, o.Write)
		return true, nil
	}
	if answer.Stream != nil {
		s.stream(ctx, w, o.Content, func(w io.Writer) error { return answer.Stream(context.WithoutCancel(ctx), w) })
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

// fail writes an error response. Causes go to the log, under the request id.
func (s *Server) fail(w http.ResponseWriter, err error, write bool) {
	f := public(err, write)
	id := w.Header().Get(headerID)
	switch f.Kind {
	case fault.Internal, fault.Uncertain, fault.HsmUnavailable, fault.AuditUnavailable:
		s.Logger.Warn("a request failed", "requestId", id, "code", string(f.Kind), "error", err)
	}
	if retryable(f.Kind) {
		w.Header().Set("Retry-After", retryAfter(f))
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
