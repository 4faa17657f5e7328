package pkcs11

import (
	"bytes"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// Profile is what the start-up probe found out by doing, not by asking:
// mechanism lists lie.
type Profile struct {
	Module string // manufacturer and version as the module states them
	Token  string // label
	Serial string
	// IVMode says who makes the IV of AES-GCM and where it is found: one of
	// dialect.IVModes, never auto. IVBytes is its length, 12 or 16.
	IVMode  string
	IVBytes uint32
	// TokenSessions is how many sessions the token says that it allows, 0
	// where it does not say.
	TokenSessions uint32
	// Wrap is the key wrap of secret keys, by meaning (wrapped.RFC3394).
	Wrap string
	// PadWrap is the mechanism number of the key wrap of private keys
	// (wrapped.RFC5649), 0 where the module has none: it differs.
	PadWrap uint64
	// ValueLen: C_UnwrapKey wants CKA_VALUE_LEN in its template (Luna does,
	// SoftHSM refuses it).
	ValueLen bool
	// CheckValue: CKA_CHECK_VALUE of a key can be read.
	CheckValue bool
	// Specs, Sign and OAEP are what this module was seen to do with keys:
	// specs of keys, signature algorithms, and encryption to RSA pairs. Lacks
	// says of each that is missing why, for a person.
	Specs, Sign, OAEP, Lacks []string
}

// TransportKey is the public half of the pair through which this HSM receives
// a root key. The private half was made inside and never leaves.
type TransportKey struct {
	PublicDER   []byte // PKIX, DER
	Fingerprint []byte // SHA-256 over PublicDER
	// Wrap is the best wrap that this HSM was found to do with the pair:
	// "rsa-oaep-sha256" or "rsa-oaep-sha1".
	Wrap string
	// Profile says whether a root key that came in by the pair may ever leave
	// again: Strict or Flexible, as this HSM was found to enforce it.
	Profile string
}

// Recipient is a node that shall receive the root key.
type Recipient struct {
	NodeID    string
	PublicDER []byte // of its TransportKey
	Wrap      string // of its TransportKey; empty means "rsa-oaep-sha1", which every module has
}

// Root describes one version of the root key: never the key itself, only what
// lets an HSM recognise it and receive it. It holds nothing secret and is
// kept in the replicated state.
type Root struct {
	Version uint32
	// CheckValue is CKA_CHECK_VALUE of the root key (the first three bytes of
	// a zero block encrypted under it), empty where the HSM that made the
	// root cannot tell it. MACCheck is the HMAC of a fixed text under the
	// root MAC key; it also names the objects (CKA_ID), so two roots in one
	// token are never taken for each other.
	CheckValue []byte
	MACCheck   []byte
	// Canary is a wrapped key that serves no other purpose, and a text sealed
	// under it: opening it proves that the HSM holds this root.
	Canary    wrapped.Key
	CanaryIV  []byte
	CanaryBox []byte
	Copies    []RootCopy
}

// copyFor answers the copy that is wrapped to the transport key with this
// fingerprint, nil if there is none.
func (r Root) copyFor(fingerprint []byte) *RootCopy {
	for i := range r.Copies {
		if bytes.Equal(r.Copies[i].Fingerprint, fingerprint) {
			return &r.Copies[i]
		}
	}
	return nil
}

// RootCopy is the root key and the root MAC key on their way into one HSM.
type RootCopy struct {
	NodeID      string
	Fingerprint []byte // of the transport key that both are wrapped to
	Wrap        string // "rsa-oaep-sha1" or "rsa-oaep-sha256"
	RootKey     []byte
	MACKey      []byte
}
