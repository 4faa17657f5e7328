package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// Paths and headers of the node link. Only members get there: the link is
// mutual TLS and its listener hands over verified connections. So what a
// member says about the caller's address is believed, there and nowhere
// else.
const (
	linkForward   = "/link/v1/forward/"
	linkTrail     = "/link/v1/trail"
	linkChains    = "/link/v1/chains"
	linkChain     = "/link/v1/chain"
	linkKeys      = "/link/v1/keys"
	linkRoots     = "/link/v1/roots"
	linkLedger    = "/link/v1/ledger"
	linkClock     = "/link/v1/clock"
	headerSource  = "Strongroom-Source-Address"
	headerTimeout = "Strongroom-Timeout-Ms"
	headerNotDone = "Strongroom-Not-Leader"
	// A patient request, and the answer to it that there is no news yet: the
	// index that was looked at, and for how many milliseconds to wait at most.
	headerPatient = "Strongroom-Patient"
	// How far the node that a request came to had heard of the leader's ledger:
	// session and stamp. Only where it had tried to serve the request itself.
	headerHeard     = "Strongroom-Heard"
	headerNotYet    = "Strongroom-Not-Yet"
	headerNotYetFor = "Strongroom-Not-Yet-For-Ms"
	// The signature of a request that is signed, with all that it is of but the
	// body.
	headerSigned = "Strongroom-Signed"
	// The certificates that a client showed to the node it reached: base64 of
	// DER, one header each. Believed as the source address is.
	headerCertificate = "Strongroom-Client-Certificate"
)

// Link is this node's side of requests to other members.
type Link struct {
	client *http.Client
}

// NewLink makes a Link that reaches members with dial.
func NewLink(dial func(ctx context.Context, node string) (net.Conn, error)) *Link {
	return &Link{client: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				node, _, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				return dial(ctx, node)
			},
			MaxIdleConnsPerHost: 128,
			IdleConnTimeout:     60 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close lets go of idle connections.
func (l *Link) Close() { l.client.CloseIdleConnections() }

// forward hands a request on and copies the answer. If the leader surely did
// nothing it answers NoLeader; if the connection broke after the request was
// on its way, a write answers Uncertain, because it may have been committed.
func (l *Link) forward(ctx context.Context, w http.ResponseWriter, leader string, o *engine.Operation, from engine.Caller, body []byte) (done bool, err error) {
	sending := newSendingBody(body)
	var remaining time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		remaining = max(time.Until(deadline), time.Millisecond)
	}
	ctx, stop := withGrace(ctx)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+leader+linkForward+o.Path(), sending)
	if err != nil {
		return false, errors.Join(fmt.Errorf("forward to %s: %w", leader, err), sending.Close())
	}
	req.ContentLength = int64(len(body))
	if len(body) == 0 {
		req.Body = nil
		sending.sent.Store(true)
	}
	if from.Token != "" {
		req.Header.Set("Authorization", "Bearer "+from.Token)
	}
	if from.Signed != nil {
		if err := handOnSigned(req.Header, from.Signed); err != nil {
			return false, errors.Join(err, sending.Close())
		}
	}
	for _, der := range from.Certificates {
		req.Header.Add(headerCertificate, base64.StdEncoding.EncodeToString(der))
	}
	req.Header.Set(headerID, from.RequestID)
	handOnOrigin(req.Header, from)
	if remaining > 0 {
		req.Header.Set(headerTimeout, strconv.FormatInt(remaining.Milliseconds(), 10))
	}
	if from.Patient {
		req.Header.Set(headerPatient, "1")
	}
	if from.Heard != nil {
		req.Header.Set(headerHeard, fmt.Sprintf("%d %d", from.Heard.Session, from.Heard.Stamp))
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return false, broken(ctx, o, sending.sent.Load(), err)
	}
	defer resp.Body.Close()
	if not := notYetOf(resp.Header); not != nil {
		return false, not
	}
	if resp.Header.Get(headerNotDone) != "" {
		return false, notDone(leader, resp.Body)
	}
	if o.Streams && resp.StatusCode == http.StatusOK {
		handOnStream(ctx, w, resp)
		return true, nil
	}
	var buf buffer
	defer buf.wipe()
	if _, err := io.Copy(&buf, resp.Body); err != nil {
		return false, broken(ctx, o, true, err)
	}
	copyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(buf.b)
	return true, nil
}

// notYetOf answers the NotYet in the headers of an answer, nil if there is
// none.
func notYetOf(h http.Header) *engine.NotYet {
	index, err := strconv.ParseUint(h.Get(headerNotYet), 10, 64)
	if err != nil {
		return nil
	}
	// One that says nothing about time is asked again at once, by the next round.
	ms, _ := strconv.ParseInt(h.Get(headerNotYetFor), 10, 64)
	return &engine.NotYet{Index: index, For: time.Duration(ms) * time.Millisecond}
}

// answerNotYet writes what notYetOf reads.
func answerNotYet(w http.ResponseWriter, not *engine.NotYet) {
	w.Header().Set(headerNotYet, strconv.FormatUint(not.Index, 10))
	// At least one: a wait of no time at all would not be one.
	w.Header().Set(headerNotYetFor, strconv.FormatInt(max(1, not.For.Milliseconds()), 10))
	w.WriteHeader(http.StatusNoContent)
}

// broken decides what a failed exchange means. A read may always be asked
// again; a write only if not one byte of it can have arrived.
func broken(ctx context.Context, o *engine.Operation, sent bool, err error) error {
	if o.Write && sent {
		return fault.Wrap(fault.Uncertain, err, "the leader was lost while it worked on the request; the write may have been done: retry with the same clientToken, or read first")
	}
	if errors.Is(context.Cause(ctx), errAnotherLeads) {
		return fault.Wrap(fault.NoLeader, err, "another node leads by now")
	}
	if ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return fault.Wrap(fault.NoLeader, err, "the leader could not be reached")
}

// linkGrace is how much longer than the request's time its leader is waited
// for.
const linkGrace = 500 * time.Millisecond

// withGrace answers a context that ends when ctx does, but that much later
// where ctx ends because its time is up. The leader is told the same time and
// knows what became of the request; to hang up at that very moment would turn
// its "nothing was done" into our "it may have been done".
func withGrace(ctx context.Context) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if errors.Is(cause, context.DeadlineExceeded) {
			time.AfterFunc(linkGrace, func() { cancel(cause) })
			return
		}
		cancel(cause)
	})
	return longer, func() { stop(); cancel(nil) }
}

func copyHeader(to, from http.Header) {
	for _, name := range []string{"Content-Type", headerIndex, "Retry-After", "WWW-Authenticate"} {
		if v := from.Get(name); v != "" {
			to.Set(name, v)
		}
	}
}

// sendingBody is a copy of a request's body on its way to the leader. The
// transport may go on reading it after the exchange has failed, so the copy is
// its own to wipe, when it is closed. sent notes that the transport began to
// read it, which it does only to send it.
type sendingBody struct {
	sent atomic.Bool
	mu   sync.Mutex
	b    []byte
	at   int
}

func newSendingBody(body []byte) *sendingBody { return &sendingBody{b: bytes.Clone(body)} }

// Read implements io.Reader.
func (s *sendingBody) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at >= len(s.b) {
		return 0, io.EOF
	}
	s.sent.Store(true)
	n := copy(p, s.b[s.at:])
	s.at += n
	return n, nil
}

// Close implements io.Closer.
func (s *sendingBody) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.b)
	s.b = nil
	return nil
}

// Events asks another member for events of its own trail.
func (l *Link) Events(ctx context.Context, node string, q engine.TrailQuery) (engine.TrailPage, error) {
	return askPeer[engine.TrailPage](ctx, l, node, linkTrail, q)
}

// Keys asks another member whether its HSM can use keys.
func (l *Link) Keys(ctx context.Context, node string, keyIDs []string) ([]engine.KeyUsable, error) {
	return askPeer[[]engine.KeyUsable](ctx, l, node, linkKeys, keyIDs)
}

// Roots asks another member about its HSM's root keys.
func (l *Link) Roots(ctx context.Context, node string, q engine.RootQuery) (engine.RootStatus, error) {
	return askPeer[engine.RootStatus](ctx, l, node, linkRoots, q)
}

// Ledger asks another member for what it handed out in a session.
func (l *Link) Ledger(ctx context.Context, node string, q engine.LedgerQuery) (engine.LedgerPage, error) {
	return askPeer[engine.LedgerPage](ctx, l, node, linkLedger, q)
}

// Clock asks another member what time it is.
func (l *Link) Clock(ctx context.Context, node string, q engine.ClockQuery) (engine.ClockReading, error) {
	return askPeer[engine.ClockReading](ctx, l, node, linkClock, q)
}

// maxPeerAnswer bounds what a member may answer to such a question.
const maxPeerAnswer = 16 << 20

// askPeer sends a question of the link's own, and reads the answer.
func askPeer[A any](ctx context.Context, l *Link, node, path string, question any) (answer A, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return answer, fmt.Errorf("%s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+node+path, bytes.NewReader(body))
	if err != nil {
		return answer, fmt.Errorf("%s to %s: %w", path, node, err)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return answer, fmt.Errorf("%s to %s: %w", path, node, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s to %s: status %d", path, node, resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPeerAnswer)).Decode(&answer); err != nil {
		return answer, fmt.Errorf("%s to %s: %w", path, node, err)
	}
	return answer, nil
}

type peerKey struct{}

// withPeer keeps which member a connection is from.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if p, ok := conn.(interface{ PeerID() string }); ok {
		return context.WithValue(ctx, peerKey{}, p.PeerID())
	}
	return ctx
}

// servePeer serves what other members ask.
func (s *Server) servePeer(w http.ResponseWriter, r *http.Request) {
	peer, _ := r.Context().Value(peerKey{}).(string)
	if peer == "" || r.Method != http.MethodPost {
		s.fail(w, fault.New(fault.NotFound, "there is nothing here"), false)
		return
	}
	switch r.RequestURI {
	case linkTrail:
		answerPeer(s, w, r, s.Engine.LocalEvents)
		return
	case linkChains:
		answerPeer(s, w, r, s.Engine.LocalChains)
		return
	case linkChain:
		s.answerChain(w, r, peer)
		return
	case linkKeys:
		answerPeer(s, w, r, s.Engine.LocalKeys)
		return
	case linkRoots:
		answerPeer(s, w, r, s.Engine.LocalRoots)
		return
	case linkLedger:
		answerPeer(s, w, r, s.Engine.LocalLedger)
		return
	case linkClock:
		answerPeer(s, w, r, s.Engine.LocalClock)
		return
	}
	o := lookup(r.RequestURI, linkForward)
	if o == nil {
		// A newer member may know operations that this one does not.
		s.fail(w, fault.New(fault.NotFound, "this node does not know the operation"), false)
		return
	}
	s.serveForwarded(w, r, o, peer)
}

// serveForwarded serves a request that another member handed on. It is never
// handed on again: a member that does not lead says so, and the first one
// looks for the leader anew.
func (s *Server) serveForwarded(w http.ResponseWriter, r *http.Request, o *engine.Operation, peer string) {
	w.Header().Set(headerID, r.Header.Get(headerID))
	timeout := s.Timeout
	if ms, err := strconv.ParseInt(r.Header.Get(headerTimeout), 10, 64); err == nil && ms > 0 {
		timeout = min(timeout, time.Duration(ms)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	if o.Streams {
		cancel()
		ctx, cancel = s.timed(r.Context(), o)
	}
	defer cancel()
	body, err := s.readBody(w, r, s.MaxBodyBytes)
	defer body.release()
	if err != nil {
		s.fail(w, err, false)
		return
	}
	certificates, err := handedCertificates(r)
	if err != nil {
		s.fail(w, err, false)
		return
	}
	from := engine.Caller{
		RequestID: r.Header.Get(headerID), Member: peer, Certificates: certificates,
		Token:   strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
		Patient: r.Header.Get(headerPatient) != "",
	}
	if text := r.Header.Get(headerHeard); text != "" {
		from.Heard = &engine.Heard{} // one that cannot be read counts as none
		_, _ = fmt.Sscanf(text, "%d %d", &from.Heard.Session, &from.Heard.Stamp)
	}
	if err := handedOnOrigin(r.Header, &from); err != nil {
		s.fail(w, err, false)
		return
	}
	if from.Signed, err = handedOnSigned(r.Header); err != nil {
		s.fail(w, err, false)
		return
	}
	if _, self, _ := s.Cluster.Leader(); self {
		var done bool
		if done, err = s.serveHere(ctx, w, o, from, body.b, s.Engine.Do); done {
			return
		}
		if not := (*engine.NotYet)(nil); errors.As(err, &not) {
			answerNotYet(w, not)
			return
		}
	}
	w.Header().Set(headerNotDone, "1")
	if err == nil {
		err = fault.New(fault.NoLeader, "this node does not lead")
	}
	s.fail(w, err, false)
}

// notDone is the word of a leader that surely did nothing.
func notDone(leader string, body io.Reader) error {
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(body, 4<<10)).Decode(&said); err != nil || said.Error.Message == "" {
		said.Error.Message = "it does not lead"
	}
	return fault.New(fault.NoLeader, "%s: %s", leader, said.Error.Message)
}

// answerPeer serves a question of the link's own.
func answerPeer[Q, A any](s *Server, w http.ResponseWriter, r *http.Request, answer func(context.Context, Q) (A, error)) {
	var q Q
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&q); err != nil {
		s.fail(w, fault.Invalid("body", "is not what is asked at %s", r.RequestURI), false)
		return
	}
	a, err := answer(r.Context(), q)
	if err != nil {
		s.fail(w, err, false)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a)
}
