package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"iter"
)

// Cosignature is the newest checkpoint of a chain that a witness cosigned and
// handed in: a signed note with two signatures, the cluster's and the
// witness's. Whether they are good is for the engine, which knows the keys.
type Cosignature struct {
	Node    string `cbor:"1,keyasint,omitempty"` // whose chain it is
	Chain   []byte `cbor:"2,keyasint,omitempty"` // its id: SHA-256 of its first event
	Witness string `cbor:"3,keyasint,omitempty"`
	Size    uint64 `cbor:"4,keyasint,omitempty"` // events that it is over
	Note    []byte `cbor:"5,keyasint,omitempty"`
	At      int64  `cbor:"6,keyasint,omitempty"` // when it was handed in
}

// AddCosignature takes one in. At is the command's time.
type AddCosignature struct {
	Meta        Meta        `cbor:"1,keyasint,omitempty"`
	Cosignature Cosignature `cbor:"2,keyasint,omitempty"`
}

// Bounds of cosignatures.
const (
	// MaxCosignedNote is how many bytes a note may have.
	MaxCosignedNote = 4096
	maxWitnessName  = 128
	// maxCosignatures bounds those of all chains and witnesses. The one that
	// was handed in before all others makes room for another.
	maxCosignatures = 1024
)

func cosignatureKey(node string, chain []byte, witness string) []byte {
	return append(anchorKey(node, chain), witness...)
}

// CosignaturesOf answers what witnesses handed in of one chain, in order of
// their names.
func (s *State) CosignaturesOf(node string, chain [sha256.Size]byte) iter.Seq[*Cosignature] {
	return values(scan(s.cosignatures.Root(), anchorKey(node, chain[:]), nil))
}

func (s *State) allCosignatures() iter.Seq[*Cosignature] {
	return values(scan(s.cosignatures.Root(), nil, nil))
}

// addCosignature keeps the newest of each chain and witness: one over fewer
// events than what is kept says nothing.
func addCosignature(t *txn, c AddCosignature) (Result, *Refusal) {
	if r := checkName("node", c.Cosignature.Node); r != nil {
		return Result{}, r
	}
	if !validCosignature(&c.Cosignature) {
		return Result{}, invalid("note", "must be of a chain with at least one event, by a witness with a name of 1 to %d characters, and have 1 to %d bytes", maxWitnessName, MaxCosignedNote)
	}
	key := cosignatureKey(c.Cosignature.Node, c.Cosignature.Chain, c.Cosignature.Witness)
	old := t.cosignatures.value(key)
	if old != nil && old.Size >= c.Cosignature.Size {
		return Result{Unchanged: true}, nil
	}
	if old == nil {
		t.makeRoomForCosignature()
	}
	next := c.Cosignature
	next.At = t.now
	t.cosignatures.put(key, &next)
	return Result{}, nil
}

// validCosignature holds for all but the node.
func validCosignature(c *Cosignature) bool {
	plain := !bytes.ContainsFunc([]byte(c.Witness), func(r rune) bool { return r <= ' ' || r > '~' })
	return len(c.Chain) == sha256.Size && c.Size > 0 && plain &&
		len(c.Witness) >= 1 && len(c.Witness) <= maxWitnessName && len(c.Note) >= 1 && len(c.Note) <= MaxCosignedNote
}

func (t *txn) makeRoomForCosignature() {
	all := t.cosignatures.collect(nil, 0)
	if len(all) < maxCosignatures {
		return
	}
	oldest := all[0]
	for _, c := range all {
		if c.At < oldest.At {
			oldest = c
		}
	}
	t.cosignatures.remove(cosignatureKey(oldest.Node, oldest.Chain, oldest.Witness))
}

var errBadCosignature = errors.New("a cosignature is of no checkpoint of a chain")

func (t *txn) restoreCosignature(c *Cosignature) (string, error) {
	if !validNames([]string{c.Node}) || !validCosignature(c) || c.At < 0 || c.At > maxTime {
		return "", errBadCosignature
	}
	key := cosignatureKey(c.Node, c.Chain, c.Witness)
	t.cosignatures.put(key, c)
	return string(key), nil
}
