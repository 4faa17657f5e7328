package fsm

import (
	"encoding/binary"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

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

	dueAttachment dueKind = 8
	dueMembership dueKind = 9
	dueAccessKey  dueKind = 17

	dueApproval dueKind = 20

	dueGlassEnd    dueKind = 21
	dueGlassForget dueKind = 22
)

// dueItem is work that a Sweep will do when its time has come.
type dueItem struct {
	at     int64
	kind   dueKind
	path   names.Path // dueDestroy, duePurge, dueKeep
	number uint64     // dueDestroy
	id     string     // dueToken, dueKey, dueJob; dueWalk: the prefix of a rule; dueAttachment: a holder; dueMembership: group 0 principal; dueApproval, dueGlass…: its id
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
	if r := t.decides(c.Session, c.Observed); r != nil {
		return Result{}, r
	}
	limit := min(c.Limit, maxSweep)
	closed := closedOf(c)
	done := 0
	var kept []Kept
	for _, d := range dueNow(t.due.root(), t.now, limit) {
		if done >= limit {
			break
		}
		if _, there := t.due.get(d.key()); !there {
			continue // a purge takes other items along
		}
		if d.kind == dueKeep {
			gone, cost := t.keepLast(d.path, limit-done, c, closed)
			kept, done = append(kept, gone...), done+cost
			continue
		}
		done += t.perform(d, c, closed)
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

// dueNow answers up to limit items that are due, oldest first.
func dueNow(root *iradix.Node[dueItem], now int64, limit int) []dueItem {
	var out []dueItem
	for _, d := range scan(root, nil, nil) {
		if d.at > now || len(out) == limit {
			break
		}
		out = append(out, d)
	}
	return out
}

// DueDestructions answers the versions that a Sweep at now with this limit
// would destroy.
func (s *State) DueDestructions(now int64, limit int) []ClosedVersion {
	var out []ClosedVersion
	for _, d := range dueNow(s.due.Root(), now, limit) {
		switch d.kind {
		case dueDestroy:
			out = append(out, ClosedVersion{Path: string(d.path), Version: d.number})
		case dueKeep:
			out = append(out, s.keepable(d.path, now, limit)...)
		}
		if len(out) >= limit {
			return out[:limit]
		}
	}
	return out
}

// closedOf answers which versions the Sweep may destroy; nil: all of them,
// because there is no ledger yet.
func closedOf(c Sweep) map[ClosedVersion]bool {
	if c.Session == 0 {
		return nil
	}
	out := make(map[ClosedVersion]bool, len(c.Closed))
	for _, v := range c.Closed {
		out[v] = true
	}
	return out
}

// heldUpFor is how long a destruction waits, at most, before it is tried
// again.
const heldUpFor = 60 * 1000

// destroyDue destroys a version whose delay has passed, or puts it off while
// consumers may hold it.
func (t *txn) destroyDue(d dueItem, c Sweep, closed map[ClosedVersion]bool) int {
	if closed != nil && !closed[ClosedVersion{Path: string(d.path), Version: d.number}] {
		return 0 // became due since the node looked: the next Sweep has it
	}
	secret, v := t.secrets.value([]byte(d.path)), t.versions.value(versionKey(d.path, d.number))
	s, next := *secret, *v
	s.UpdatedAt = t.now
	if until, count := t.heldUntil(d.path, v, c.Session, t.own(c.Meta)); count > 0 && !v.Forced {
		if v.HeldUpAt == 0 {
			next.HeldUpAt = t.now
			t.remark(&next, VersionChange{By: v.DestroyedBy, RequestID: v.DestroyRequest, What: ChangeHeldUp, Reason: v.Reason})
		}
		next.DestroyAt = max(t.now+1, min(until, t.now+heldUpFor))
		t.putVersion(d.path, v, &next)
	} else {
		t.unschedule(d)
		t.erase(&s, v, &next)
	}
	t.putSecret(&s)
	return 1
}

// perform does one item and answers what it counts for. The item itself is
// gone afterwards, or later. A purge is not split: a secret is either whole or
// gone.
func (t *txn) perform(d dueItem, c Sweep, closed map[ClosedVersion]bool) int {
	if d.kind == dueDestroy {
		return t.destroyDue(d, c, closed)
	}
	t.unschedule(d)
	switch d.kind {
	case duePurge:
		s := *t.secrets.value([]byte(d.path))
		s.UpdatedAt = t.now
		return max(1, t.purge(&s, VersionChange{By: s.DeletedBy, RequestID: s.DeleteRequest, Reason: s.DeleteReason}))
	case dueToken:
		t.removeToken(t.tokens.value([]byte(d.id)))
	case dueAccessKey:
		t.removeAccessKey(t.accessKeys.value([]byte(d.id)))
	case dueKey:
		t.destroyKey(t.keys.value([]byte(d.id)))
	case dueJob:
		t.jobs.remove([]byte(d.id))
	case dueWalk:
		return t.walkRule(d.id)
	case dueAttachment:
		t.endAttachments(d.id)
	case dueApproval:
		t.approvalDue(d.id)
	case dueGlassEnd:
		return t.glassEnd(d.id)
	case dueGlassForget:
		return t.glassForget(d.id)
	case dueMembership:
		t.removeMembership(t.members.value([]byte(d.id)))
	}
	return 1
}
