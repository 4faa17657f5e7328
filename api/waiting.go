package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

const (
	// maxWaitBody bounds the body of a request that waits: it is held for as
	// long as that.
	maxWaitBody = 64 << 10
	// maxLooks is how many waits of this node look at the state, which may
	// mean at the leader, at the same time. A change that wakes thousands must
	// not take the connections between the nodes away from Raft.
	maxLooks = 32
	// fruitlessPause comes after a look for which there was no reason that the
	// caller may know of: who watches much and may see little must not look
	// with each write of others.
	fruitlessPause = 100 * time.Millisecond
	// waitRound is how long a wait relies on what this node applies. A node
	// that has fallen behind learns of news that late, and no later.
	waitRound = 20 * time.Second
)

// serveWaiting serves an operation that waits. The wait takes place here, on
// the node that the client is connected to, and costs what an idle connection
// costs: no request is open at the leader, and no lock or slot is held. Each
// look at the state is an ordinary request, authorised anew; that there is
// news to look for is seen in what this node applies. So the wait goes on
// wherever leadership goes.
func (s *Server) serveWaiting(w http.ResponseWriter, r *http.Request, o *engine.Operation, from engine.Caller, body []byte) {
	if s.waits.Add(1) > int64(s.MaxConnections/2) {
		s.waits.Add(-1)
		s.fail(w, fault.New(fault.RateLimited, "as many requests wait on this node as may; ask another one"), false)
		return
	}
	defer s.waits.Add(-1)
	wait := engine.NewWait(body)
	began := time.Now()
	end := began.Add(wait.Timeout)
	longer(w, end.Add(s.Timeout+writeTime))

	ctx, stop := s.untilDrained(r.Context())
	defer stop()
	giveUp := began.Add(s.Timeout) // for want of a leader
	for woken := false; ; {
		from.Patient = time.Now().Before(end) && ctx.Err() == nil
		done, err := s.look(r.Context(), w, o, from, body)
		var not *engine.NotYet
		switch {
		case done:
			return
		case errors.As(err, &not):
			if woken {
				pause(ctx, min(fruitlessPause, time.Until(end)))
			}
			woken = true
			s.Engine.Await(ctx, wait, not.Index, min(time.Until(end), not.For, waitRound))
			giveUp = time.Now().Add(s.Timeout)
			continue
		case err != nil && !fault.Is(err, fault.NoLeader):
			s.fail(w, err, o.Write)
			return
		case time.Now().After(giveUp) || r.Context().Err() != nil:
			s.fail(w, fault.New(fault.NoLeader, "no leader could serve the request in time; nothing was missed, retry with the same afterIndex"), false)
			return
		}
		pause(r.Context(), retryPause)
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// look is one attempt. It does not end with a client that hangs up, so that
// the wait still becomes an event.
func (s *Server) look(ctx context.Context, w http.ResponseWriter, o *engine.Operation, from engine.Caller, body []byte) (done bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timeout)
	defer cancel()
	select {
	case s.looks <- struct{}{}:
		defer func() { <-s.looks }()
	case <-ctx.Done():
		return false, fault.New(fault.NoLeader, "too many look at the same time")
	}
	return s.attempt(ctx, w, o, from, body)
}

// untilDrained answers a context that also ends when the server drains.
func (s *Server) untilDrained(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.draining, cancel)
	return ctx, func() { stop(); cancel() }
}

// longer gives a connection until end for one answer, and takes away the bound
// on reading: Go would end the request at it, though the body is read.
func longer(w http.ResponseWriter, end time.Time) {
	c := http.NewResponseController(w)
	// A writer that has no deadlines needs none lifted.
	_, _ = c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(end)
}

// Drain ends what waits for something to happen: it is answered now, with
// nothing if there is nothing. What else is in flight goes on. New requests
// are still served, without waiting.
func (s *Server) Drain() { s.drain() }
