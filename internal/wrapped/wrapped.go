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

// Wrap algorithms, named by meaning: the mechanism number of the same
// algorithm differs between modules.
const (
	// RFC3394 is AES key wrap with the default initial value.
	RFC3394 = "rfc3394"
)

// Specs of keys, in the words of the API.
const (
	AES256  = "aes-256"
	HMAC256 = "hmac-256"
)

// Key is one version of a KMS key outside the HSM.
//
// MAC is HMAC-SHA-256 under the root MAC key over Authenticated(). AES key
// wrap has no associated data: without the MAC, whoever can write to the
// store could put one key's blob under another key's name. The HSM worker
// checks it before it unwraps; a Key that fails is refused.
type Key struct {
	ID      string // KMS key id
	Version uint32 // version of that key, from 1
	Spec    string // AES256, …
	Usage   string // "encrypt", …
	Wrap    string // RFC3394
	Root    uint32 // version of the root key that wraps it
	Blob    []byte
	MAC     []byte
}

// Authenticated answers the bytes that MAC covers: a domain string, then
// every field but MAC, each with its length, so that no two keys share an
// encoding.
func (k Key) Authenticated() []byte {
	out := make([]byte, 0, 160)
	out = appendField(out, []byte("strongroom/wrapped-key/v1"))
	out = appendField(out, []byte(k.ID))
	out = binary.BigEndian.AppendUint32(out, k.Version)
	out = appendField(out, []byte(k.Spec))
	out = appendField(out, []byte(k.Usage))
	out = appendField(out, []byte(k.Wrap))
	out = binary.BigEndian.AppendUint32(out, k.Root)
	return appendField(out, k.Blob)
}

// Sum identifies this exact wrapped key, MAC included. It is the name under
// which a loaded handle is kept: a handle is found again only by bytes that
// were checked when it was made.
func (k Key) Sum() [sha256.Size]byte {
	return sha256.Sum256(append(k.Authenticated(), k.MAC...))
}

func appendField(out, field []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(field)))
	return append(out, field...)
}
