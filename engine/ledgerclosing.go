package engine

import "github.com/strongroom/strongroom/fsm"

// closing is one version that is not handed out for the moment.
type closing struct {
	users int   // destructions that are on their way
	stamp int64 // when the first of them began
	done  chan struct{}
	// doubt counts up to the last destruction that may still be committed,
	// though nobody waits for it; 0: there is none.
	doubt uint64
}

// doubted is a version that stays closed, and the doubt that keeps it so.
type doubted struct {
	fsm.ClosedVersion
	doubt uint64
}

// close stops handing out versions, and answers the session and all that was
// handed out or said of their paths and is not committed yet. release opens
// them again: known says that the outcome of the destruction is.
func (l *ledger) close(versions ...fsm.ClosedVersion) (session uint64, observed []fsm.Observation, release func(known bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closings++
	paths := map[string]bool{}
	for _, v := range versions {
		c := l.closed[v]
		if c == nil {
			c = &closing{done: make(chan struct{}), stamp: l.next()}
			l.closed[v] = c
		}
		c.users++
		l.last[l.stripe(v.Path)] = l.closings
		paths[v.Path] = true
	}
	return l.session, l.of(paths), func(known bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, v := range versions {
			c := l.closed[v]
			c.users--
			if !known {
				l.doubts++
				c.doubt = l.doubts
			}
			l.lift(v, c)
		}
	}
}

// heardAt answers the stamp of what is said now about a path. While a version
// of it is closed it is as if said before that: a destruction on its way counts
// a delivery that has not ended, whatever its consumer says in another request
// until the destruction is decided. The caller holds the lock.
func (l *ledger) heardAt(path string, said int64) int64 {
	for v, c := range l.closed {
		if v.Path == path {
			said = min(said, c.stamp)
		}
	}
	return said
}

// lift lets a version be handed out again, if nothing keeps it closed. Whoever
// looked at the state while it was closed may not have seen what became of it,
// and must look again.
func (l *ledger) lift(v fsm.ClosedVersion, c *closing) {
	if c.users == 0 && c.doubt == 0 {
		delete(l.closed, v)
		l.closings++
		l.last[l.stripe(v.Path)] = l.closings
		close(c.done)
	}
}

// unsure answers the versions that stay closed until it is known what became
// of their destruction.
func (l *ledger) unsure() []doubted {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []doubted
	for v, c := range l.closed {
		if c.doubt != 0 {
			out = append(out, doubted{v, c.doubt})
		}
	}
	return out
}

// sure opens versions of which the outcome is known by now. A version that
// was doubted again since stays closed: what became known is about the
// destructions before, and the new one may still be committed.
func (l *ledger) sure(versions []doubted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range versions {
		if c := l.closed[v.ClosedVersion]; c != nil && c.doubt == v.doubt {
			c.doubt = 0
			l.lift(v.ClosedVersion, c)
		}
	}
}
