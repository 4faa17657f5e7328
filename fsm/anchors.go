package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"iter"
)

// Anchor is how far a chain of an audit trail was known to a leader: an event
// of it and its hash. Who writes or holds the chain cannot change anything
// before that event without parting from it.
type Anchor struct {
	Node     string `cbor:"1,keyasint,omitempty"` // whose chain it is
	Chain    []byte `cbor:"2,keyasint,omitempty"` // its id: SHA-256 of its first event
	Sequence uint64 `cbor:"3,keyasint,omitempty"`
	Hash     []byte `cbor:"4,keyasint,omitempty"` // SHA-256 of the line of that event
	FirstAt  int64  `cbor:"5,keyasint,omitempty"` // when the chain was first seen
	At       int64  `cbor:"6,keyasint,omitempty"` // when it last moved
	// Conflict is the first head that contradicted it; nil: none did.
	Conflict *AnchorConflict `cbor:"7,keyasint,omitempty"`
}

// AnchorConflict is a head of a chain that has another hash than the one at
// the same event which was anchored.
type AnchorConflict struct {
	Sequence uint64 `cbor:"1,keyasint,omitempty"`
	Hash     []byte `cbor:"2,keyasint,omitempty"`
	At       int64  `cbor:"3,keyasint,omitempty"`
}

// TrailHead is the newest event of a chain that the leader knows.
type TrailHead struct {
	Node     string `cbor:"1,keyasint,omitempty"`
	Chain    []byte `cbor:"2,keyasint,omitempty"`
	Sequence uint64 `cbor:"3,keyasint,omitempty"`
	Hash     []byte `cbor:"4,keyasint,omitempty"`
}

// AnchorHeads moves anchors to heads that the leader knows.
type AnchorHeads struct {
	Meta  Meta        `cbor:"1,keyasint,omitempty"`
	Heads []TrailHead `cbor:"2,keyasint,omitempty"`
}

// Bounds of anchors.
const (
	// MaxAnchorHeads is how many heads one command may carry.
	MaxAnchorHeads = 256
	// MaxAnchoredChains is how many chains of one node are anchored. The one
	// that has not moved for longest makes room for another.
	MaxAnchoredChains = 16
	// maxAnchors bounds those of all nodes, in the same way.
	maxAnchors = 1024
)

func anchorKey(node string, chain []byte) []byte { return append(pair(node, ""), chain...) }

// Anchors answers all anchors, in order of node and chain.
func (s *State) Anchors() iter.Seq[*Anchor] { return values(scan(s.anchors.Root(), nil, nil)) }

// AnchorsOf answers the anchors of the chains of one node.
func (s *State) AnchorsOf(node string) iter.Seq[*Anchor] {
	return values(scan(s.anchors.Root(), pair(node, ""), nil))
}

// Anchor answers the anchor of a chain, nil if there is none.
func (s *State) Anchor(node string, chain [sha256.Size]byte) *Anchor {
	return at(s.anchors, anchorKey(node, chain[:]))
}

// AnchorsAsWhole stands for all anchors: two states for which it is equal have
// the same. It is comparable.
func (s *State) AnchorsAsWhole() any { return s.anchors }

// anchorHeads moves anchors forward. A lower event than the one that is
// anchored says nothing: a leader may know less than the one before. Another
// hash at the same event is kept as a conflict, and moves nothing.
func anchorHeads(t *txn, c AnchorHeads) (Result, *Refusal) {
	if len(c.Heads) < 1 || len(c.Heads) > MaxAnchorHeads {
		return Result{}, invalid("heads", "must be 1 to %d", MaxAnchorHeads)
	}
	for _, h := range c.Heads {
		if r := checkName("node", h.Node); r != nil {
			return Result{}, r
		}
		if len(h.Chain) != sha256.Size || len(h.Hash) != sha256.Size || h.Sequence == 0 {
			return Result{}, invalid("heads", "must have a chain, a sequence from 1 and a hash each")
		}
	}
	done := 0
	for _, h := range c.Heads {
		if t.anchor(h) {
			done++
		}
	}
	return Result{Done: done, Unchanged: done == 0}, nil
}

// anchor takes one head in, and answers whether that changed anything.
func (t *txn) anchor(h TrailHead) bool {
	key := anchorKey(h.Node, h.Chain)
	old := t.anchors.value(key)
	switch {
	case old == nil:
		t.makeRoomForAnchor(h.Node)
		t.anchors.put(key, &Anchor{Node: h.Node, Chain: h.Chain, Sequence: h.Sequence, Hash: h.Hash, FirstAt: t.now, At: t.now})
		return true
	case h.Sequence > old.Sequence:
		next := *old
		next.Sequence, next.Hash, next.At = h.Sequence, h.Hash, t.now
		t.anchors.put(key, &next)
		return true
	case h.Sequence == old.Sequence && !bytes.Equal(h.Hash, old.Hash) && old.Conflict == nil:
		next := *old
		next.Conflict = &AnchorConflict{Sequence: h.Sequence, Hash: h.Hash, At: t.now}
		t.anchors.put(key, &next)
		return true
	}
	return false
}

// makeRoomForAnchor forgets the anchors that have not moved for longest where
// there would be too many, of the node or of all.
func (t *txn) makeRoomForAnchor(node string) {
	for range max(0, len(t.anchors.collect(pair(node, ""), 0))-MaxAnchoredChains+1) {
		t.forgetAnchor(pair(node, ""))
	}
	if len(t.anchors.collect(nil, 0)) >= maxAnchors {
		t.forgetAnchor(nil)
	}
}

func (t *txn) forgetAnchor(prefix []byte) {
	var oldest *Anchor
	for _, a := range t.anchors.collect(prefix, 0) {
		if oldest == nil || a.At < oldest.At {
			oldest = a
		}
	}
	if oldest != nil {
		t.anchors.remove(anchorKey(oldest.Node, oldest.Chain))
	}
}

var errBadAnchor = errors.New("an anchor is of no event of a chain")

func (t *txn) restoreAnchor(a *Anchor) (string, error) {
	bad := !validNames([]string{a.Node}) || len(a.Chain) != sha256.Size || len(a.Hash) != sha256.Size || a.Sequence == 0 ||
		a.FirstAt < 0 || a.At < a.FirstAt || a.At > maxTime
	if c := a.Conflict; bad || c != nil && (len(c.Hash) != sha256.Size || c.Sequence == 0 || c.At < 0 || c.At > maxTime) {
		return "", errBadAnchor
	}
	key := anchorKey(a.Node, a.Chain)
	t.anchors.put(key, a)
	return string(key), nil
}
