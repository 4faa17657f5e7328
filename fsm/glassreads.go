package fsm

import (
	"cmp"
	"slices"

	"github.com/strongroom/strongroom/internal/names"
)

// GlassRead is what was read of one secret in a break-glass session. It is
// also a duty: to rotate the secret. The duty is done once a version newer
// than all of Versions was made current, or they are destroyed, or the secret
// is purged.
type GlassRead struct {
	Session  string         `cbor:"1,keyasint,omitempty"`
	Path     names.Path     `cbor:"2,keyasint,omitempty"`
	SecretID string         `cbor:"3,keyasint,omitempty"`
	Versions []GlassVersion `cbor:"4,keyasint,omitempty"` // rising
	DoneAt   int64          `cbor:"5,keyasint,omitempty"` // 0: it is a duty
}

// GlassVersion is a version that was read, and when first.
type GlassVersion struct {
	Version uint64 `cbor:"1,keyasint,omitempty"`
	At      int64  `cbor:"2,keyasint,omitempty"`
}

// Has reports whether the version was read.
func (r *GlassRead) Has(version uint64) bool {
	return r != nil && slices.ContainsFunc(r.Versions, func(v GlassVersion) bool { return v.Version == version })
}

// GlassCount is how much there is of a session.
type GlassCount struct {
	Reads  int // versions that were read
	Duties int // secrets to be rotated
}

// NoteGlassRead says that a version is about to be read by the principal of
// Meta because of its session. It comes before the value is opened, so nothing
// that was read and is still there is missing here.
type NoteGlassRead struct {
	Meta     Meta   `cbor:"1,keyasint,omitempty"`
	ID       string `cbor:"2,keyasint,omitempty"`
	Path     string `cbor:"3,keyasint,omitempty"`
	SecretID string `cbor:"4,keyasint,omitempty"`
	Version  uint64 `cbor:"5,keyasint,omitempty"`
}

func noteGlassRead(t *txn, c NoteGlassRead) (Result, *Refusal) {
	s, r := t.glassSession(c.ID)
	if r != nil {
		return Result{}, r
	}
	secret, v, r := t.version(c.Path, c.Version)
	switch {
	case r != nil:
		return Result{}, r
	case s.Principal != t.by:
		return Result{}, notFound("breakGlassId: there is no such session of yours")
	case s.EndedAt(t.now) != 0:
		return Result{}, conflict("breakGlassId: the session %s has ended; openBreakGlass opens another one", s.ID)
	case secret.ID != c.SecretID:
		return Result{}, race("path: is another secret by now; retry")
	case v.State == VersionDestroyed:
		return Result{}, notActive(v, "version: %d is destroyed", v.Number)
	}
	old := t.glassReads.value(pair(s.ID, c.Path))
	// The secret may have been purged since, and the path be another one's.
	again := old != nil && old.SecretID == secret.ID
	if again && old.Has(v.Number) {
		return Result{Name: s.ID, Version: v.Number, Unchanged: true}, nil
	}
	if t.glassCounts.value([]byte(s.ID)).Reads >= MaxGlassReads {
		return Result{}, conflict("breakGlassId: %d versions were read in the session, which is the most allowed; close it and open another one", MaxGlassReads)
	}
	next := &GlassRead{Session: s.ID, Path: secret.Path, SecretID: secret.ID}
	if again {
		next.Versions = slices.Clone(old.Versions)
	}
	next.Versions = append(next.Versions, GlassVersion{Version: v.Number, At: t.now})
	slices.SortFunc(next.Versions, func(a, b GlassVersion) int { return cmp.Compare(a.Version, b.Version) })
	if t.glassDone(next) {
		next.DoneAt = t.now
	}
	t.putGlassRead(old, next)
	return Result{Name: s.ID, Version: v.Number}, nil
}

// putGlassRead stores r in place of old, nil if there was none, and keeps what
// is counted in step.
func (t *txn) putGlassRead(old, r *GlassRead) {
	count := t.glassCounts.value([]byte(r.Session))
	if old != nil {
		count.Reads -= len(old.Versions)
		if old.DoneAt == 0 {
			count.Duties--
			t.glassDuties.remove(pair(string(old.Path), old.Session))
		}
	}
	count.Reads += len(r.Versions)
	if r.DoneAt == 0 {
		count.Duties++
		t.glassDuties.put(pair(string(r.Path), r.Session), r.Session)
	}
	t.glassCounts.put([]byte(r.Session), count)
	t.glassReads.put(pair(r.Session, string(r.Path)), r)
}

// glassDone reports whether nobody needs what was read any more.
func (t *txn) glassDone(r *GlassRead) bool {
	s := t.secrets.value([]byte(r.Path))
	if s == nil || s.State == SecretPurged || s.ID != r.SecretID || s.Current > r.Versions[len(r.Versions)-1].Version {
		return true
	}
	for _, read := range r.Versions {
		if v := t.versions.value(versionKey(r.Path, read.Version)); v != nil && v.State != VersionDestroyed {
			return false
		}
	}
	return true
}

// rotatedGlass ends the duties about a secret that was rotated or is gone. It
// costs a look for a secret that nobody has read so.
func (t *txn) rotatedGlass(path names.Path) {
	for _, id := range t.glassDuties.collect(pair(string(path), ""), 0) {
		r := t.glassReads.value(pair(id, string(path)))
		if !t.glassDone(r) {
			continue
		}
		next := *r
		next.DoneAt = t.now
		t.putGlassRead(r, &next)
		t.settleGlass(id)
	}
}
