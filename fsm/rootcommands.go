package fsm

import "github.com/strongroom/strongroom/internal/wrapped"

// The commands of the life of the root key.

// StartRootRotation makes a new root known to all nodes, and starts the job
// that brings everything under it. Until every HSM has it nothing is wrapped
// under it.
type StartRootRotation struct {
	Meta Meta `cbor:"1,keyasint,omitempty"`
	Root Root `cbor:"2,keyasint,omitempty"` // version: the next one
	Job  Job  `cbor:"3,keyasint,omitempty"` // ID, Rate
	// FingerprintKey is for a cluster that has none: those made by early
	// builds keyed fingerprints by the root itself, which now ends.
	FingerprintKey *wrapped.Key `cbor:"4,keyasint,omitempty"`
}

// SwitchRoot makes the next root the current one: from this index on new key
// material is wrapped under it. Whoever proposes it has seen that every
// member's HSM serves with it.
type SwitchRoot struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	JobID   string `cbor:"2,keyasint,omitempty"`
	Version uint32 `cbor:"3,keyasint,omitempty"`
}

// RewrapKeys puts key material that was wrapped anew in place of the old
// form. It is a step of a job; the one after which nothing is under the
// previous root ends the job, and that root.
type RewrapKeys struct {
	Meta  Meta           `cbor:"1,keyasint,omitempty"`
	JobID string         `cbor:"2,keyasint,omitempty"`
	Items []RewrappedKey `cbor:"3,keyasint,omitempty"`
}

// RewrappedKey is one piece of key material in its new form. It goes to the
// place that held the form with the sum Old: if another one is there by now,
// the item is left out.
type RewrappedKey struct {
	Place   Place       `cbor:"1,keyasint,omitempty"`
	Old     []byte      `cbor:"2,keyasint,omitempty"` // wrapped.Key.Sum of what it replaces
	Wrapped wrapped.Key `cbor:"3,keyasint,omitempty"`
}

// Place is where the state keeps a piece of key material.
type Place string

// The places.
const (
	PlaceVersion     Place = "version"     // Key.Versions, by the number in the material
	PlaceImport      Place = "import"      // Key.ImportKey
	PlaceFingerprint Place = "fingerprint" // Genesis.FingerprintKey
)

// RemoveRoot says that the objects of a root that has been replaced are to go
// from every HSM.
type RemoveRoot struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	Version uint32 `cbor:"2,keyasint,omitempty"`
}
