package fsm

import (
	"errors"
	"iter"

	"github.com/strongroom/strongroom/internal/names"
)

// Compromise says that somebody has a version who should not. It can still be
// read: taking it from those who need it is for disableVersion, once they have
// another one.
type Compromise struct {
	At        int64  `cbor:"1,keyasint,omitempty"`
	By        string `cbor:"2,keyasint,omitempty"`
	Reason    string `cbor:"3,keyasint,omitempty"`
	RequestID string `cbor:"4,keyasint,omitempty"`
}

// MarkCompromised marks versions as compromised; Clear takes the marks away.
type MarkCompromised struct {
	Meta     Meta     `cbor:"1,keyasint,omitempty"`
	Path     string   `cbor:"2,keyasint,omitempty"`
	Versions []uint64 `cbor:"3,keyasint,omitempty"` // rising
	Reason   string   `cbor:"4,keyasint,omitempty"`
	Clear    bool     `cbor:"5,keyasint,omitempty"`
}

// What a VersionChange says of it.
const (
	ChangeCompromised = "compromised"
	ChangeCleared     = "compromisedCleared"
)

// maxMarked bounds the versions of one command.
const maxMarked = 100

// Compromised answers the versions, neither destroyed nor of a purged secret,
// that are compromised, in order of paths and numbers, from those greater than
// the version given on.
func (s *State) Compromised(path names.Path, number uint64) iter.Seq2[*Secret, *Version] {
	var from []byte
	if path != "" {
		from = append(versionKey(path, number), 0)
	}
	return func(yield func(*Secret, *Version) bool) {
		for key := range scan(s.compromised.Root(), nil, from) {
			path, number := splitVersionKey(key)
			if !yield(s.Secret(path), s.Version(path, number)) {
				return
			}
		}
	}
}

// CompromisedCount answers how many Compromised answers.
func (s *State) CompromisedCount() int { return s.compromised.Len() }

// Mended reports whether nothing is left to do about v, a compromised version
// of s: readers have a newer one, and nobody can read this one.
func (v *Version) Mended(s *Secret) bool {
	return s.Current > v.Number && (v.State == VersionDestroyed || v.State == VersionDisabled || v.State == VersionPendingDestroy)
}

func markCompromised(t *txn, c MarkCompromised) (Result, *Refusal) {
	s, r := t.liveSecret(c.Path)
	switch {
	case r != nil:
		return Result{}, r
	case len(c.Versions) == 0 || len(c.Versions) > maxMarked:
		return Result{}, invalid("versions", "must have 1 to %d entries", maxMarked)
	case c.Reason == "" || len(c.Reason) > maxWhy:
		return Result{}, invalid("reason", "must have 1 to %d bytes", maxWhy)
	}
	marked := 0
	for i, number := range c.Versions {
		if i > 0 && number <= c.Versions[i-1] {
			return Result{}, invalid("versions", "must rise, each once")
		}
		v := t.versions.value(versionKey(s.Path, number))
		if v == nil {
			return Result{}, notFound("versions[%d]: there is no version %d of %s", i, number, s.Path)
		}
		if (v.Compromised == nil) == c.Clear {
			continue // as asked already
		}
		next, what := *v, ChangeCleared
		next.Compromised = nil
		if !c.Clear {
			next.Compromised, what = &Compromise{At: t.now, By: t.by, Reason: c.Reason, RequestID: c.Meta.RequestID}, ChangeCompromised
		}
		t.note(&next, c.Meta, what, "", c.Reason)
		t.putVersion(s.Path, v, &next)
		marked++
	}
	if marked == 0 {
		return Result{Path: c.Path, SecretID: s.ID, Unchanged: true}, nil
	}
	next := *s
	next.UpdatedAt, next.UpdatedBy = t.now, t.by
	t.putSecret(&next)
	return Result{Path: c.Path, SecretID: s.ID, Done: marked}, nil
}

// sound checks what a snapshot says of a mark.
func (c *Compromise) sound() error {
	if c != nil && (c.At <= 0 || c.At > maxTime || c.Reason == "" || len(c.Reason) > maxWhy) {
		return errors.New("a version was compromised at no time, or for no reason")
	}
	return nil
}

// compromisedKey is where a version stands among those that are compromised,
// nil for one that does not.
func compromisedKey(path names.Path, v *Version) []byte {
	if v.Compromised == nil || v.State == VersionDestroyed {
		return nil
	}
	return versionKey(path, v.Number)
}
