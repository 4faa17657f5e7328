package fsm

import (
	"encoding/binary"
	"iter"

	"github.com/strongroom/strongroom/internal/names"
)

// maxNotify bounds how long before its end the expiry of a version is told.
const maxNotify = 366 * 24 * hour

// expiring is a version whose expiry is to be told, or was.
type expiring struct {
	path   names.Path
	number uint64
}

// The two parts of the index of expiries.
const (
	expiryUntold = byte(1)
	expiryTold   = byte(2)
)

// expiryKey is where a version stands in the index of expiries, nil for one
// that does not: nobody needs to be told about what is disabled or about to
// be destroyed.
//
//	1 | ExpiresAt − NotifyBefore | path 0 number    until it was told
//	2 | ExpiresAt                | path 0 number    from then on
//
// So what is to be told is at the head of the first part, and what expires
// soon is the tail of the second, whatever has expired long ago.
func expiryKey(path names.Path, v *Version) []byte {
	if v.NotifyBefore == 0 || v.State != VersionActive {
		return nil
	}
	if v.NotifiedAt == 0 {
		return append(expiryAt(expiryUntold, v.noticeAt()), versionKey(path, v.Number)...)
	}
	return append(expiryAt(expiryTold, v.ExpiresAt), versionKey(path, v.Number)...)
}

func expiryAt(part byte, at int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{part}, uint64(at))
}

// noticeAt is when it is to be told that the version expires.
func (v *Version) noticeAt() int64 { return max(0, v.ExpiresAt-v.NotifyBefore) }

// ExpiriesDue answers the versions of which it is to be told at now, in
// milliseconds since the Unix epoch, that they expire, the longest due first.
// Those of a secret in its recovery window wait until it is restored.
func (s *State) ExpiriesDue(now int64) iter.Seq2[*Secret, *Version] {
	return func(yield func(*Secret, *Version) bool) {
		for _, e := range scan(s.expiries.Root(), []byte{expiryUntold}, nil) {
			secret, v := s.Secret(e.path), s.Version(e.path, e.number)
			if v.noticeAt() > now {
				return
			}
			if secret.State == SecretActive && !yield(secret, v) {
				return
			}
		}
	}
}

// ExpiringSoon counts the versions that can be read at now and expire within
// their NotifyBefore. It costs what it counts.
func (s *State) ExpiringSoon(now int64) int {
	count := 0
	for _, v := range s.ExpiriesDue(now) {
		if v.ExpiresAt > now {
			count++
		}
	}
	for _, e := range scan(s.expiries.Root(), []byte{expiryTold}, expiryAt(expiryTold, now+1)) {
		if s.Secret(e.path).State == SecretActive {
			count++
		}
	}
	return count
}

// noteExpiry marks that it is told that a version expires. One command of any
// number is accepted, so two leaders in a hand-over do not tell it twice. The
// secret is left alone: nobody has changed it.
func noteExpiry(t *txn, c NoteExpiry) (Result, *Refusal) {
	s, v, r := t.version(c.Path, c.Version)
	switch {
	case r != nil:
		return Result{}, r
	case s.ID != c.SecretID || v.State != VersionActive || v.NotifyBefore == 0 || v.noticeAt() > t.now:
		return Result{}, conflict("version: there is nothing to tell about the expiry of %d now", v.Number)
	case v.NotifiedAt != 0:
		return Result{}, conflict("version: it was told already that %d expires", v.Number)
	}
	next := *v
	next.NotifiedAt = t.now
	t.putVersion(s.Path, v, &next)
	return versionResult(s, &next), nil
}
