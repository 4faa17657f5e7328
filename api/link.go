package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
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
	headerSource  = "Strongroom-Source-Address"
	headerTimeout = "Strongroom-Timeout-Ms"
	headerNotDone = "Strongroom-Not-Leader"
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
	var sent atomic.Bool
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+leader+linkForward+o.Path(), &countingBody{Reader: bytes.NewReader(body), sent: &sent})
	if err != nil {
		return false, fmt.Errorf("forward to %s: %w", leader, err)
	}
	req.ContentLength = int64(len(body))
	if len(body) == 0 {
		req.Body = nil
		sent.Store(true)
	}
	if from.Token != "" {
		req.Header.Set("Authorization", "Bearer "+from.Token)
	}
	req.Header.Set(headerID, from.RequestID)
	req.Header.Set(headerSource, from.Source.String())
	if deadline, ok := ctx.Deadline(); ok {
		req.Header.Set(headerTimeout, strconv.FormatInt(time.Until(deadline).Milliseconds(), 10))
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return false, broken(o, sent.Load(), err)
	}
	defer resp.Body.Close()
	if resp.Header.Get(headerNotDone) != "" {
		return false, fault.New(fault.NoLeader, "%s does not lead", leader)
	}
	var buf buffer
	defer buf.wipe()
	if _, err := io.Copy(&buf, resp.Body); err != nil {
		return false, broken(o, true, err)
	}
	copyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(buf.b)
	return true, nil
}

// broken decides what a failed exchange means. A read may always be asked
// again; a write only if not one byte of it can have arrived.
func broken(o *engine.Operation, sent bool, err error) error {
	if o.Write && sent {
		return fault.Wrap(fault.Uncertain, err, "the leader was lost while it worked on the request; the write may have been done: retry with the same clientToken, or read first")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return fault.Wrap(fault.NoLeader, err, "the leader could not be reached")
}

func copyHeader(to, from http.Header) {
	for _, name := range []string{"Content-Type", headerIndex, "Retry-After", "WWW-Authenticate"} {
		if v := from.Get(name); v != "" {
			to.Set(name, v)
		}
	}
}

// countingBody notes that the transport began to read the body, which it
// does only to send it.
type countingBody struct {
	*bytes.Reader
	sent *atomic.Bool
}

func (b *countingBody) Read(p []byte) (int, error) {
	b.sent.Store(true)
	return b.Reader.Read(p)
}

func (b *countingBody) WriteTo(w io.Writer) (int64, error) {
	b.sent.Store(true)
	return b.Reader.WriteTo(w)
}

// Events asks another member for events of its own trail.
func (l *Link) Events(ctx context.Context, node string, q engine.TrailQuery) (engine.TrailPage, error) {
	var page engine.TrailPage
	body, err := json.Marshal(q)
	if err != nil {
		return page, fmt.Errorf("trail query: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+node+linkTrail, bytes.NewReader(body))
	if err != nil {
		return page, fmt.Errorf("trail query to %s: %w", node, err)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return page, fmt.Errorf("trail query to %s: %w", node, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return page, fmt.Errorf("trail query to %s: status %d", node, resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return page, fmt.Errorf("trail query to %s: %w", node, err)
	}
	return page, nil
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
	if r.RequestURI == linkTrail {
		s.serveTrail(w, r)
		return
	}
	o := lookup(r.RequestURI, linkForward)
	if o == nil {
		// A newer member may know operations that this one does not.
		s.fail(w, fault.New(fault.NotFound, "this node does not know the operation"), false)
		return
	}
	s.serveForwarded(w, r, o)
}

// serveForwarded serves a request that another member handed on. It is never
// handed on again: a member that does not lead says so, and the first one
// looks for the leader anew.
func (s *Server) serveForwarded(w http.ResponseWriter, r *http.Request, o *engine.Operation) {
	w.Header().Set(headerID, r.Header.Get(headerID))
	timeout := s.Timeout
	if ms, err := strconv.ParseInt(r.Header.Get(headerTimeout), 10, 64); err == nil && ms > 0 {
		timeout = min(timeout, time.Duration(ms)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	source, err := netip.ParseAddr(r.Header.Get(headerSource))
	if err != nil && r.Header.Get(headerSource) != (netip.Addr{}).String() {
		s.fail(w, fault.New(fault.Internal, "a member sent no source address"), false)
		return
	}
	body, err := s.readBody(w, r)
	if err != nil {
		s.fail(w, err, false)
		return
	}
	defer clear(body)
	from := engine.Caller{
		RequestID: r.Header.Get(headerID), Source: source,
		Token: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
	}
	if _, self, _ := s.Cluster.Leader(); self {
		var done bool
		if done, err = s.serveHere(ctx, w, o, from, body); done {
			return
		}
	}
	w.Header().Set(headerNotDone, "1")
	s.fail(w, fault.Wrap(fault.NoLeader, err, "this node does not lead"), false)
}

func (s *Server) serveTrail(w http.ResponseWriter, r *http.Request) {
	var q engine.TrailQuery
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&q); err != nil {
		s.fail(w, fault.Invalid("body", "is not a trail query"), false)
		return
	}
	page, err := s.Engine.LocalEvents(r.Context(), q)
	if err != nil {
		s.fail(w, err, false)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(page)
}
