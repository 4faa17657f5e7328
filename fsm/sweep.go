package fsm

import (
	"encoding/binary"

	"github.com/strongroom/strongroom/internal/names"
)

// maxSweep bounds the items of one Sweep, whatever its Limit says: Apply
// must not hold up the log.
const maxSweep = 10_000

// dueKind orders the work that is due at one time.
type dueKind byte

const (
	dueDestroy dueKind = 1
	duePurge   dueKind = 2
	dueToken   dueKind = 3
	dueKey     dueKind = 4
	dueJob     dueKind = 5
	dueKeep    dueKind = 6
	dueWalk    dueKind = 7
)

// dueItem is work that a Sweep will do when its time has come.
type dueItem struct {
	at     int64
	kind   dueKind
	path   names.Path // dueDestroy, duePurge, dueKeep
	number uint64     // dueDestroy
	id     string     // dueToken, dueKey, dueJob; dueWalk: the prefix of a rule
}

// key orders by time, so that a Sweep looks only at what is due:
//
//	time uint64 | kind uint8 | path 0 number, or path, or id of a token, a key or a job, or prefix
func (d dueItem) key() []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 64), uint64(d.at))
	out = append(out, byte(d.kind))
	switch d.kind {
	case dueDestroy:
		return append(out, versionKey(d.path, d.number)...)
	case duePurge, dueKeep:
		return append(out, d.path...)
	default:
		return append(out, d.id...)
	}
}

// Due reports whether a Sweep at now, in milliseconds since the Unix epoch,
// has work worth a log entry. Remembered writes wait an hour longer than
// they must, so that many are forgotten by one entry.
func (s *State) Due(now int64) bool {
	if _, d, ok := s.due.Root().Minimum(); ok && d.at <= now {
		return true
	}
	_, w, ok := s.writeIndexes.Root().Minimum()
	return ok && w.Time+rememberFor+forgetSlack <= now
}

// sweep does what is due at the command's time, oldest first. Nothing but
// the state says what is due, so two leaders in a hand-over cannot do it
// twice.
func sweep(t *txn, c Sweep) (Result, *Refusal) {
	if c.Limit < 1 {
		return Result{}, invalid("limit", "must be at least 1")
	}
	limit := min(c.Limit, maxSweep)
	done := 0
	var kept []Kept
	for done < limit {
		_, d, ok := t.due.root().Minimum()
		if !ok || d.at > t.now {
			break
		}
		if d.kind == dueKeep {
			gone, cost := t.keepLast(d.path, limit-done)
			kept, done = append(kept, gone...), done+cost
			continue
		}
		done += t.perform(d)
	}
	for done < limit {
		_, w, ok := t.writeIndexes.root().Minimum()
		if !ok || w.Time+rememberFor > t.now {
			break
		}
		t.forget(w)
		done++
	}
	return Result{Done: done, More: t.moreDue(), Kept: kept}, nil
}

func (t *txn) moreDue() bool {
	if _, d, ok := t.due.root().Minimum(); ok && d.at <= t.now {
		return true
	}
	_, w, ok := t.writeIndexes.root().Minimum()
	return ok && w.Time+rememberFor <= t.now
}

// perform does one item and answers what it counts for. The item itself is
// always gone afterwards, so a Sweep comes to an end. A purge is not split:
// a secret is either whole or gone.
func (t *txn) perform(d dueItem) int {
	t.unschedule(d)
	switch d.kind {
	case dueDestroy:
		secret, v := t.secrets.value([]byte(d.path)), t.versions.value(versionKey(d.path, d.number))
		s, next := *secret, *v
		t.erase(&s, v, &next)
		s.UpdatedAt = t.now
		t.putSecret(&s)
	case duePurge:
		s := *t.secrets.value([]byte(d.path))
		s.UpdatedAt = t.now
		return max(1, t.purge(&s, VersionChange{By: s.DeletedBy, RequestID: s.DeleteRequest, Reason: s.DeleteReason}))
	case dueToken:
		t.removeToken(t.tokens.value([]byte(d.id)))
	case dueKey:
		t.destroyKey(t.keys.value([]byte(d.id)))
	case dueJob:
		t.jobs.remove([]byte(d.id))
	case dueWalk:
		return t.walkRule(d.id)
	}
	return 1
}
