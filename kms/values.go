package kms

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// A sealed value: format 1 | nonce (12) | AES-256-GCM box. Each version has
// a data key of its own, so the random nonce never meets another under the
// same key.
const (
	valueFormat  = 1
	nonceBytes   = 12
	dataKeyBytes = 32
)

// Identity names one version of one secret. It is bound into both seals, so
// that whoever can write to the store cannot pass one version's ciphertext
// off as another's.
type Identity struct {
	Path     names.Path
	SecretID string
	Version  uint64
}

func (id Identity) context() map[string]string {
	return map[string]string{
		"path":     string(id.Path),
		"secretId": id.SecretID,
		"version":  strconv.FormatUint(id.Version, 10),
	}
}

func (id Identity) fields(domain string) []byte {
	out := appendField(nil, []byte(domain))
	out = appendField(out, []byte(id.Path))
	out = appendField(out, []byte(id.SecretID))
	return binary.BigEndian.AppendUint64(out, id.Version)
}

// Sealed is a value as the state keeps it.
type Sealed struct {
	Box        []byte
	DataKey    []byte
	KeyVersion uint32
}

// SealValue draws a fresh data key, seals value under it in this process,
// and has the HSM seal the data key under key, which must be active.
func (s *Service) SealValue(ctx context.Context, key *fsm.Key, id Identity, value secret.Bytes) (Sealed, error) {
	dataKey := secret.New(make([]byte, dataKeyBytes))
	defer dataKey.Wipe()
	if _, err := rand.Read(dataKey.Expose()); err != nil {
		return Sealed{}, fmt.Errorf("data key: %w", err)
	}
	blob, version, err := s.seal(ctx, kindDataKey, key, dataKey, id.context())
	if err != nil {
		return Sealed{}, err
	}
	aead, err := newAEAD(dataKey)
	if err != nil {
		return Sealed{}, err
	}
	box := make([]byte, 1+nonceBytes, 1+nonceBytes+value.Len()+aead.Overhead())
	box[0] = valueFormat
	if _, err := rand.Read(box[1:]); err != nil {
		return Sealed{}, fmt.Errorf("nonce: %w", err)
	}
	box = aead.Seal(box, box[1:1+nonceBytes], value.Expose(), id.fields("strongroom/value/v1"))
	return Sealed{Box: box, DataKey: blob, KeyVersion: version}, nil
}

// OpenValue is the inverse of SealValue. The state of key is checked first.
// A stored value that does not open is a fault of ours or tampering with the
// store, never of the caller: Internal.
func (s *Service) OpenValue(ctx context.Context, key *fsm.Key, id Identity, v Sealed) (secret.Bytes, error) {
	dataKey, err := s.openDataKey(ctx, key, id, v)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer dataKey.Wipe()
	return openBox(dataKey, id, v.Box)
}

// openDataKey has the HSM open the data key of a stored value.
func (s *Service) openDataKey(ctx context.Context, key *fsm.Key, id Identity, v Sealed) (secret.Bytes, error) {
	dataKey, _, err := s.open(ctx, kindDataKey, key, v.DataKey, id.context())
	if fault.Is(err, fault.InvalidRequest) {
		return secret.Bytes{}, errStored(id, "data key", err)
	}
	return dataKey, err
}

// openBox opens a stored value by its data key.
func openBox(dataKey secret.Bytes, id Identity, box []byte) (secret.Bytes, error) {
	aead, err := newAEAD(dataKey)
	if err != nil {
		return secret.Bytes{}, err
	}
	if len(box) < 1+nonceBytes+aead.Overhead() || box[0] != valueFormat {
		return secret.Bytes{}, errStored(id, "value", nil)
	}
	plain := make([]byte, 0, len(box))
	plain, err = aead.Open(plain, box[1:1+nonceBytes], box[1+nonceBytes:], id.fields("strongroom/value/v1"))
	if err != nil {
		return secret.Bytes{}, errStored(id, "value", err)
	}
	return secret.New(plain), nil
}

func errStored(id Identity, what string, cause error) error {
	return fault.Wrap(fault.Internal, cause, "the stored %s of version %d does not open; the store may have been altered", what, id.Version)
}

// Fingerprint is a keyed digest of a value, salted by secret and version
// number: whoever holds the state learns nothing from it, also not that two
// versions are equal, and only an HSM of the cluster can compute it. key is
// the cluster's fingerprint key, nil in a cluster that has none yet.
func (s *Service) Fingerprint(ctx context.Context, key *wrapped.Key, id Identity, value secret.Bytes) ([]byte, error) {
	sum := sha256.Sum256(value.Expose())
	defer clear(sum[:])
	return s.digest(ctx, key, append(id.fields("fingerprint/v1"), sum[:]...))
}

// digest is the MAC under key. The root MAC key stands in for it in clusters
// that early builds made; the first rotation of their root gives them one.
func (s *Service) digest(ctx context.Context, key *wrapped.Key, message []byte) ([]byte, error) {
	if key == nil {
		return s.token.MAC(ctx, message)
	}
	return s.token.KeyMAC(ctx, *key, message)
}

// SameValue reports whether value has the fingerprint that version id was
// stored with.
func (s *Service) SameValue(ctx context.Context, key *wrapped.Key, id Identity, stored []byte, value secret.Bytes) (bool, error) {
	if len(stored) == 0 {
		return false, nil
	}
	mac, err := s.Fingerprint(ctx, key, id, value)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(mac, stored) == 1, nil
}

// RequestHash is a keyed digest of a request, for recognising a retry. It is
// keyed because a request may hold a value that could be guessed.
func (s *Service) RequestHash(ctx context.Context, key *wrapped.Key, request []byte) ([]byte, error) {
	sum := sha256.Sum256(request)
	defer clear(sum[:])
	return s.digest(ctx, key, append(appendField(nil, []byte("request/v1")), sum[:]...))
}

// AccessKeySecret answers 32 bytes that only an HSM of the cluster can tell: a
// MAC of an access key's id and generation under the cluster's fingerprint
// key. That key stays the same one when a root key takes the place of another,
// so what was derived stays good. Without it there is no answer: the root MAC
// key, which stands in for it elsewhere, does not stay.
func (s *Service) AccessKeySecret(ctx context.Context, key *wrapped.Key, id string, generation uint32) (secret.Bytes, error) {
	if key == nil {
		return secret.Bytes{}, fault.New(fault.Conflict, "accessKeyId: this cluster was made by an early build and has no key to derive access keys from; rotateRootKey gives it one")
	}
	message := appendField(appendField(nil, []byte("access-key/v1")), []byte(id))
	mac, err := s.digest(ctx, key, binary.BigEndian.AppendUint32(message, generation))
	if err != nil {
		return secret.Bytes{}, err
	}
	if len(mac) != sha256.Size {
		clear(mac)
		return secret.Bytes{}, fault.New(fault.Internal, "the HSM answered a MAC of %d bytes", len(mac))
	}
	return secret.New(mac), nil
}

// CursorSeal answers what cursors of lists are sealed with: AES-256-GCM under
// a MAC of the cluster's fingerprint key, so that every node has the same and
// only an HSM of the cluster can tell it.
func (s *Service) CursorSeal(ctx context.Context, key *wrapped.Key) (cipher.AEAD, error) {
	mac, err := s.digest(ctx, key, appendField(nil, []byte("cursor/v1")))
	if err != nil {
		return nil, err
	}
	derived := secret.New(mac)
	defer derived.Wipe()
	return newAEAD(derived)
}

func newAEAD(key secret.Bytes) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	return cipher.NewGCM(block)
}
