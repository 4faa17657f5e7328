package kms

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/fault"
)

// A ciphertext blob, all integers big-endian:
//
//	"SR"  | format 1 | kind | cluster (16) | key (16) | key version (4) | algorithm | IV length | IV | box
//	0       2          3      4              20         36                40            41          42
//
// Everything before the IV is bound as associated data, so a blob cannot be
// moved to another cluster, key or kind. The kind parts data keys of secrets
// from what callers of kms/encrypt made: the API opens only the latter, so
// the right to decrypt under a key is not the right to read the secrets that
// are bound to it.
const (
	magic          = "SR"
	formatVersion  = 1
	algorithmGCM   = 1 // AES-256-GCM, 128-bit tag at the end of box
	algorithmOAEP1 = 2 // RSA-OAEP with SHA-1, no IV; see rsa.go
	algorithmOAEP2 = 3 // RSA-OAEP with SHA-256, no IV
	headerBytes    = 42
	tagBytes       = 16
	ivBytesMax     = 16
	maxContext     = 32
	maxContextSize = 8192
)

type blobKind byte

const (
	kindCaller  blobKind = 1
	kindDataKey blobKind = 2
)

// Header says which key a ciphertext is of. It is not yet authenticated:
// only opening the ciphertext proves it.
type Header struct {
	ClusterID  string
	KeyID      string
	KeyVersion uint32
	kind       blobKind
}

type ciphertext struct {
	Header
	algorithm byte
	bound     []byte // the header bytes that associated data covers
	iv        []byte
	box       []byte
}

// ErrOpen is the one answer to everything that does not open: another
// cluster's blob, a cut or altered one, a wrong context. It says nothing
// about which part was wrong.
func ErrOpen() error {
	return fault.Invalid("ciphertext", "does not open: it is not of this cluster, was altered or cut, or the context is not the one given to encrypt")
}

// ParseHeader reads which key a caller's ciphertext names. It refuses, with
// the same words as a failed decryption, what this cluster cannot have made.
func (s *Service) ParseHeader(blob []byte) (Header, error) {
	c, err := s.parse(blob, kindCaller)
	return c.Header, err
}

func (s *Service) parse(blob []byte, kind blobKind) (ciphertext, error) {
	if len(blob) < headerBytes || string(blob[:2]) != magic || blob[2] != formatVersion ||
		blobKind(blob[3]) != kind || !bytes.Equal(blob[4:20], s.cluster[:]) {
		return ciphertext{}, ErrOpen()
	}
	ivLen := int(blob[41])
	switch blob[40] {
	case algorithmGCM:
		if ivLen == 0 || ivLen > ivBytesMax || len(blob) < headerBytes+ivLen+tagBytes {
			return ciphertext{}, ErrOpen()
		}
	case algorithmOAEP1, algorithmOAEP2:
		if ivLen != 0 || kind != kindCaller {
			return ciphertext{}, ErrOpen()
		}
	default:
		return ciphertext{}, ErrOpen()
	}
	return ciphertext{
		Header: Header{
			ClusterID:  s.cluster.String(),
			KeyID:      uuid.UUID(blob[20:36]).String(),
			KeyVersion: binary.BigEndian.Uint32(blob[36:40]),
			kind:       kind,
		},
		algorithm: blob[40],
		bound:     blob[:41],
		iv:        blob[headerBytes : headerBytes+ivLen],
		box:       blob[headerBytes+ivLen:],
	}, nil
}

// header writes the bound part for a new ciphertext.
func (s *Service) header(kind blobKind, algorithm byte, keyID uuid.UUID, version uint32) []byte {
	out := make([]byte, 0, headerBytes+ivBytesMax+64)
	out = append(out, magic...)
	out = append(out, formatVersion, byte(kind))
	out = append(out, s.cluster[:]...)
	out = append(out, keyID[:]...)
	out = binary.BigEndian.AppendUint32(out, version)
	return append(out, algorithm)
}

// associated joins header and context, each part with its length, the
// context in byte order of its names: one encoding for one meaning.
func associated(bound []byte, context map[string]string) []byte {
	out := appendField(nil, []byte("strongroom/ciphertext/v1"))
	out = appendField(out, bound)
	names := make([]string, 0, len(context))
	for name := range context {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out = appendField(out, []byte(name))
		out = appendField(out, []byte(context[name]))
	}
	return out
}

func appendField(out, field []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(field)))
	return append(out, field...)
}

// CheckContext bounds a caller's context: at most 32 entries and 8 KiB in
// all; HSMs limit associated data.
func CheckContext(context map[string]string) error {
	size := 0
	for name, value := range context {
		if name == "" {
			return fault.Invalid("context", "has an entry without a name")
		}
		size += len(name) + len(value)
	}
	if len(context) > maxContext || size > maxContextSize {
		return fault.Invalid("context", "has %d entries of %d bytes; at most %d entries and %d bytes are allowed",
			len(context), size, maxContext, maxContextSize)
	}
	return nil
}
