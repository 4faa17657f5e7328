package engine

import (
	"context"
	"time"

	"github.com/strongroom/strongroom/fsm"
)

// lent is a delivery by a node that follows. It stays on its way, as this
// ledger knows it, until that node has told of its end.
type lent struct {
	id   uint64
	peer string
	// word is what the consumer said, nil: nothing. It counts once the node has
	// told that the request was allowed.
	word  *fsm.Observation
	until time.Time // the node gives up before that
}

// lentFor is how long a node that follows may take over a request; see
// followedWithin.
const lentFor = 3 * followedWithin

// landPatience is how long a destruction waits for the end of deliveries of
// the path by nodes that follow. They tell of it within endsEvery.
const landPatience = 2 * time.Second

// consumer is who holds versions of a secret.
type consumer struct{ path, secretID, principal, instance string }

func consumerOf(o fsm.Observation) consumer {
	return consumer{o.Path, o.SecretID, o.Principal, o.Instance}
}

// lend is hand for a node that follows. What it is about to hand out must be
// covered: the state alone makes every destruction wait for this consumer for as
// long as it may keep what it is given now, so nothing is lost with this node.
// Otherwise, or if a word of the consumer is not in the state yet, the answer is
// 0, and the request is served here.
func (l *ledger) lend(at mark, seen fsm.Observation, word *fsm.Observation, peer string, state *fsm.State) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.session == 0 || at.session != l.session || l.last[l.stripe(seen.Path)] > at.closings:
		return 0
	case l.closed[fsm.ClosedVersion{Path: seen.Path, Version: seen.Version}] != nil:
		return 0
	case seen.Last != 0 && (!state.Holds(seen) || l.said[consumerOf(seen)] != 0):
		return 0
	}
	l.lents++
	seen.Session = l.session
	if word != nil {
		word.Session, word.Said = l.session, min(word.Said, at.stamp)
	}
	d := &delivery{seen: seen, lent: &lent{id: l.lents, peer: peer, word: word, until: l.now().Add(lentFor)}}
	l.flight[d], l.lentOut[d.lent.id] = struct{}{}, d
	return d.lent.id
}

// landed ends what was lent to peer: done says that it was handed out. It was
// so by now, and perhaps before: what the consumer said in between does not
// count, as it may have been said without this version.
func (l *ledger) landed(peer string, id uint64, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.lentOut[id]; d != nil && d.lent.peer == peer {
		l.land(d, done)
	}
}

// land ends one. The caller holds the lock.
func (l *ledger) land(d *delivery, done bool) {
	delete(l.flight, d)
	delete(l.lentOut, d.lent.id)
	if done && d.seen.Last != 0 {
		d.seen.Stamp = l.next()
		l.add(d.seen)
	}
	if word := d.lent.word; done && word != nil && word.Session == l.session {
		l.add(*word)
		l.tell()
	}
	if l.landing != nil {
		close(l.landing)
		l.landing = nil
	}
}

// overdue ends what its node never told the end of. It may have been handed
// out.
func (l *ledger) overdue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.lentOut {
		if l.now().After(d.lent.until) {
			d.lent.word = nil
			l.land(d, true)
		}
	}
}

// awaitLanding waits, for a while, until nothing of the path is lent, and
// reports whether it had to.
func (l *ledger) awaitLanding(ctx context.Context, paths map[string]bool) bool {
	patience := time.NewTimer(landPatience)
	defer patience.Stop()
	for waited := false; ; waited = true {
		landing := l.lentOf(paths)
		if landing == nil {
			return waited
		}
		select {
		case <-landing:
		case <-ctx.Done():
		case <-patience.C:
			return true
		}
		if ctx.Err() != nil { // also where both had come: a play is what is drawn
			return true
		}
	}
}

// lentOf answers a channel that is closed when something has landed, nil if
// nothing of the paths is lent.
func (l *ledger) lentOf(paths map[string]bool) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.lentOut {
		if paths[d.seen.Path] {
			if l.landing == nil {
				l.landing = make(chan struct{})
			}
			return l.landing
		}
	}
	return nil
}

// closeLanded is close, once what was lent of the paths has landed: nothing
// more is lent of what is closed.
func (l *ledger) closeLanded(ctx context.Context, versions ...fsm.ClosedVersion) (session uint64, observed []fsm.Observation, release func(known bool)) {
	session, observed, release = l.close(versions...)
	paths := map[string]bool{}
	for _, v := range versions {
		paths[v.Path] = true
	}
	if !l.awaitLanding(ctx, paths) {
		return session, observed, release
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session, l.of(paths), release
}
