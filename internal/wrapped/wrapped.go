// Package wrapped is the form in which a key leaves an HSM: encrypted under
// the cluster's root key, with the facts that it must not be parted from.
//
// It is a leaf because the kms floor stores such keys and the pkcs11 floor
// uses them, and those two do not know each other.
package wrapped

import (
	"crypto/sha256"
	"encoding/binary"
)

// Key is one version of a KMS key outside the HSM.
//
// MAC is HMAC-SHA-256 under the root MAC key over Authenticated(). AES key
// wrap has no associated data: without the MAC, whoever can write to the
// store could put one key's blob under another key's name, or an own public
// half beside a private one, and read what clients encrypt to it. The HSM
// worker checks it before it unwraps; a Key that fails is refused.
type Key struct {
	ID      string // KMS key id
	Version uint32 // version of that key, from 1
	Spec    string // AES256, …
	Usage   string // Encrypt, …
	Wrap    string // RFC3394, RFC5649
	Root    uint32 // version of the root key that wraps it
	Blob    []byte
	MAC     []byte
	// Public is the public half, PKIX DER: there for a pair, and for no
	// other key. The tag keeps the encoding of the others as it was.
	Public []byte `cbor:",omitempty"`
}

// Authenticated answers the bytes that MAC covers: a domain string, then
// every field but MAC, each with its length, so that no two keys share an
// encoding. Public is one field more where there is one: the MACs of keys
// that have none are those that they always had.
func (k Key) Authenticated() []byte {
	out := make([]byte, 0, 160+len(k.Blob)+len(k.Public))
	out = appendField(out, []byte("strongroom/wrapped-key/v1"))
	out = appendField(out, []byte(k.ID))
	out = binary.BigEndian.AppendUint32(out, k.Version)
	out = appendField(out, []byte(k.Spec))
	out = appendField(out, []byte(k.Usage))
	out = appendField(out, []byte(k.Wrap))
	out = binary.BigEndian.AppendUint32(out, k.Root)
	out = appendField(out, k.Blob)
	if len(k.Public) != 0 {
		out = appendField(out, k.Public)
	}
	return out
}

// Sum identifies this exact wrapped key, MAC included. It is the name under
// which a loaded handle is kept: a handle is found again only by bytes that
// were checked when it was made.
//
// The MAC comes first, with its length: nobody has checked it yet, and at the
// end it could be read as a Public and another MAC.
func (k Key) Sum() [sha256.Size]byte {
	return sha256.Sum256(append(appendField(nil, k.MAC), k.Authenticated()...))
}

func appendField(out, field []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(field)))
	return append(out, field...)
}
