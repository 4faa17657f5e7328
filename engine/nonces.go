package engine

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
)

// The window in which a signed request is accepted, about the leader's clock.
const (
	signedFor   = 5 * time.Minute // how old its date may be
	signedAhead = 5 * time.Second // how far in the future
)

// Bounds of what is remembered of signatures. At the most it takes some
// 150 MiB: a million signatures within their window.
const (
	maxNonces = 1 << 20
	// maxKeyNonces bounds those of one access key in one minute of dates, so
	// that one client cannot shut out all others.
	maxKeyNonces = maxNonces / 16
)

// nonces remembers the signatures that were accepted, so that each is accepted
// once. DESIGN.md argues why a change of leader opens no gap.
type nonces struct {
	mu      sync.Mutex
	session uint64    // of the ledger, in which all of this was seen
	began   time.Time // when it was opened, by the clock and by the state
	latest  time.Time // the clock's, of what was accepted: it does not go back
	count   int
	minutes map[int64]*minute // by the minute of the dates
}

// minute holds what was accepted of the requests of one minute.
type minute struct {
	seen  map[[sha256.Size]byte][16]byte // signature → the request it came with
	byKey map[string]int
}

// sighting is one signed request that arrives.
type sighting struct {
	session   uint64
	key       string
	date      time.Time
	signature [sha256.Size]byte
	request   string // its id, which this cluster gave it
}

// beginSigned starts what is remembered of signatures in a session that was
// opened. Whatever an earlier leader accepted is dated before this moment, or
// ahead of it by as little as its clock allowed.
func (e *Engine) beginSigned(session uint64) {
	at := e.Now()
	if applied := time.UnixMilli(e.Log.Local().Time()); applied.After(at) {
		at = applied
	}
	e.nonces.begin(session, at)
}

// begin forgets everything and starts with a session.
func (n *nonces) begin(session uint64, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.session, n.began, n.latest = session, at, at
	n.count, n.minutes = 0, map[int64]*minute{}
}

// look answers whether take would accept, before the signature is known to be
// good. It changes nothing.
func (n *nonces) look(s sighting, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, err := n.decide(s, now)
	return err
}

// take uses up a signature that is good. The request that did comes again
// under its own id where it is tried anew, or looks again while it waits.
func (n *nonces) take(s sighting, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	known, err := n.decide(s, now)
	if err != nil || known {
		return err
	}
	if now.After(n.latest) {
		n.latest = now
	}
	n.expire()
	m := n.minutes[minuteOf(s.date)]
	if m == nil {
		m = &minute{seen: map[[sha256.Size]byte][16]byte{}, byKey: map[string]int{}}
		n.minutes[minuteOf(s.date)] = m
	}
	if n.count >= maxNonces || m.byKey[s.key] >= maxKeyNonces {
		return &signedRefusal{fault.New(fault.RateLimited, "more signed requests than can be told from repeated ones; sign again in a minute, or use a token"), signedMemory}
	}
	m.seen[s.signature] = requestOf(s.request)
	m.byKey[s.key]++
	n.count++
	return nil
}

// decide answers known for a request that has been accepted already and comes
// again under its own id. The caller holds the lock.
func (n *nonces) decide(s sighting, now time.Time) (known bool, err error) {
	if s.session != n.session || s.session == 0 {
		return false, fault.New(fault.NoLeader, "this node has only begun to lead; retry")
	}
	if m := n.minutes[minuteOf(s.date)]; m != nil {
		if request, seen := m.seen[s.signature]; seen {
			if s.request == "" || request != requestOf(s.request) {
				return false, refuseSigned(signedReplayed)
			}
			return true, nil
		}
	}
	if n.latest.After(now) {
		now = n.latest
	}
	switch {
	case s.request == "":
		return false, errSignature() // no front end sends it so
	case s.date.Before(now.Add(-signedFor)):
		return false, refuseSigned(signedLate)
	case s.date.After(now.Add(signedAhead)):
		return false, refuseSigned(signedEarly)
	case !s.date.After(n.began.Add(signedAhead)):
		return false, &signedRefusal{errSignAgain(), signedBefore}
	}
	return false, nil
}

// expire forgets the minutes of which nothing is accepted any more, nor looks
// again. The caller holds the lock.
func (n *nonces) expire() {
	for at, m := range n.minutes {
		end := time.Unix(60*(at+1), 0)
		if end.Add(signedFor + MaxWait + time.Minute).Before(n.latest) {
			n.count -= len(m.seen)
			delete(n.minutes, at)
		}
	}
}

// errSignAgain is for what an earlier leader may have accepted. The front end
// must not try again with the same signature: it would be as old then.
func errSignAgain() error {
	return fault.New(fault.NoLeader, "Authorization: the request was signed before this node led, and may have been served then; sign it again").With(signAgain, true)
}

const signAgain = "signAgain"

// SignAgain reports whether err says that another signature is needed.
func SignAgain(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Details[signAgain] == true
}

func minuteOf(date time.Time) int64 { return date.Unix() / 60 }

func requestOf(id string) [16]byte {
	sum := sha256.Sum256([]byte(id))
	return [16]byte(sum[:16])
}
