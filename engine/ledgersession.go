package engine

import (
	"context"
	"time"
)

// open lets values be handed out in a session. Its command was applied after
// every destruction that this node ever proposed, so none is unsure any more.
// It answers false if somebody settled the session already, or if a later one
// was opened: what is closed since then knows nothing of this one.
func (l *ledger) open(session uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if session <= l.fenced || session <= l.highest {
		return false
	}
	l.highest = session
	if l.opened != nil {
		close(l.opened)
		l.opened = nil
	}
	l.session = session
	for v, c := range l.closed {
		c.doubt = 0
		l.lift(v, c)
	}
	return true
}

// shut ends the session: nothing is handed out until open.
func (l *ledger) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = 0
}

// end is shut, if the session is still that one.
func (l *ledger) end(session uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == session {
		l.session = 0
	}
}

// fence ends session, and those before it, for good.
func (l *ledger) fence(session uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fenced = max(l.fenced, session)
	if l.session <= l.fenced {
		l.session = 0
	}
}

// current answers the open session, 0 if there is none.
func (l *ledger) current() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

// await waits until a session is open.
func (l *ledger) await(ctx context.Context) bool {
	l.mu.Lock()
	if l.session != 0 {
		l.mu.Unlock()
		return true
	}
	if l.opened == nil {
		l.opened = make(chan struct{})
	}
	opened := l.opened
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	select {
	case <-opened:
		return true
	case <-ctx.Done():
		return false
	}
}

// openPatience is for how long a request waits for a new leader to open its
// session. It takes one commit.
const openPatience = 2 * time.Second
