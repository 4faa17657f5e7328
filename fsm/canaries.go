package fsm

import (
	"errors"
	"iter"

	"github.com/strongroom/strongroom/internal/names"
)

// CanaryMark says that nobody has a reason to read a secret. Whoever may look
// at secrets must not see it: it is told by Canaries alone.
type CanaryMark struct {
	At     int64  `cbor:"1,keyasint,omitempty"`
	By     string `cbor:"2,keyasint,omitempty"`
	Reason string `cbor:"3,keyasint,omitempty"`
}

// SetCanary marks a secret as a canary, or takes the mark away.
type SetCanary struct {
	Meta   Meta   `cbor:"1,keyasint,omitempty"`
	Path   string `cbor:"2,keyasint,omitempty"`
	Canary bool   `cbor:"3,keyasint,omitempty"`
	Reason string `cbor:"4,keyasint,omitempty"`
}

// maxCanaries bounds the canaries of a cluster.
const maxCanaries = 10_000

// IsCanary reports whether the secret at path is a canary.
func (s *State) IsCanary(path names.Path) bool {
	_, is := s.canaries.Get([]byte(path))
	return is
}

// CanaryMark answers the mark of the secret at path, nil if it has none.
func (s *State) CanaryMark(path names.Path) *CanaryMark { return at(s.canaries, []byte(path)) }

// Canaries answers the canaries with paths greater than after, in order.
func (s *State) Canaries(after string) iter.Seq2[names.Path, *CanaryMark] {
	return func(yield func(names.Path, *CanaryMark) bool) {
		for path, mark := range scan(s.canaries.Root(), nil, following(after)) {
			if !yield(names.Path(path), mark) {
				return
			}
		}
	}
}

// setCanary leaves the record of the secret alone: who watches the secret, or
// reads when it was changed, would learn that somebody did something to it.
func setCanary(t *txn, c SetCanary) (Result, *Refusal) {
	s, r := t.liveSecret(c.Path)
	if r == nil {
		r = checkReason(c.Reason)
	}
	if r != nil {
		return Result{}, r
	}
	_, is := t.canaries.get([]byte(s.Path))
	switch {
	case is == c.Canary:
		return Result{Path: c.Path, Unchanged: true}, nil
	case !c.Canary:
		t.canaries.remove([]byte(s.Path))
		return Result{Path: c.Path}, nil
	case t.canaries.tree.Len() >= maxCanaries:
		return Result{}, conflict("path: there are %d canaries, the most that there can be; take the mark from another one", maxCanaries)
	}
	t.canaries.put([]byte(s.Path), &CanaryMark{At: t.now, By: t.by, Reason: c.Reason})
	return Result{Path: c.Path}, nil
}

// canaryRecord is a mark with the path that it is on.
type canaryRecord struct {
	Path names.Path  `cbor:"1,keyasint,omitempty"`
	Mark *CanaryMark `cbor:"2,keyasint,omitempty"`
}

func (s *State) canaryRecords() iter.Seq[*canaryRecord] {
	return func(yield func(*canaryRecord) bool) {
		for path, mark := range s.Canaries("") {
			if !yield(&canaryRecord{path, mark}) {
				return
			}
		}
	}
}

func (t *txn) restoreCanary(r *canaryRecord) (string, error) {
	s := t.secrets.value([]byte(r.Path))
	if s == nil || s.State == SecretPurged || r.Mark == nil || r.Mark.At <= 0 || r.Mark.At > maxTime || len(r.Mark.Reason) > maxWhy {
		return "", errors.New("a canary is no secret, or of no time")
	}
	t.canaries.put([]byte(r.Path), r.Mark)
	return string(r.Path), nil
}
