// Package softtoken is kms.Token in Go's own cryptography, for tests of the
// floors above the HSM. It is test code: no command of the product links it.
// What depends on a real device is tested in test/hsm against SoftHSM.
package softtoken

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"sync/atomic"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Token holds root keys in memory. Down makes every call fail as a device
// that is away does.
type Token struct {
	mu     sync.Mutex
	roots  map[uint32]rootKey
	making uint32 // version of the root that new keys are wrapped under

	Down atomic.Bool
	// Opens, Seals and Signs count calls that reached the "device".
	Opens, Seals, Signs atomic.Int64
}

type rootKey struct{ key, mac [32]byte }

// New makes a token with a fresh root key, version 1.
func New() *Token {
	t := &Token{roots: map[uint32]rootKey{}}
	t.AddRoot(1)
	t.MakeUnder(1)
	return t
}

// AddRoot makes a root key of this version beside those that there are.
func (t *Token) AddRoot(version uint32) {
	var r rootKey
	_, _ = rand.Read(r.key[:])
	_, _ = rand.Read(r.mac[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roots[version] = r
}

// MakeUnder chooses the root that new keys are wrapped under.
func (t *Token) MakeUnder(version uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.making = version
}

// RemoveRoot forgets a root.
func (t *Token) RemoveRoot(version uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.roots, version)
}

func (t *Token) current() (uint32, rootKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.making, t.roots[t.making]
}

func (t *Token) rootOf(version uint32) (rootKey, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.roots[version]
	return r, ok
}

// Rewrap wraps keys anew under the root that new keys are made under.
func (t *Token) Rewrap(_ context.Context, keys []wrapped.Key) ([]wrapped.Key, error) {
	out := make([]wrapped.Key, 0, len(keys))
	for _, k := range keys {
		material, err := t.material(k, k.Usage, wrapped.IsPair(k.Spec))
		if err != nil {
			return nil, err
		}
		k.Blob, k.MAC = nil, nil
		out = append(out, t.wrap(k, material))
	}
	return out, nil
}

func (t *Token) up() error {
	if t.Down.Load() {
		return fault.New(fault.HsmUnavailable, "the HSM cannot be used now; retry")
	}
	return nil
}

// GenerateKey makes a key and wraps it by sealing it under the root.
func (t *Token) GenerateKey(_ context.Context, id string, version uint32, spec, usage string) (wrapped.Key, error) {
	if err := t.up(); err != nil {
		return wrapped.Key{}, err
	}
	if !wrapped.Allowed(spec, usage) {
		return wrapped.Key{}, fault.Invalid("spec", "there are no keys of spec %q for %q", spec, usage)
	}
	return t.generate(wrapped.Key{ID: id, Version: version, Spec: spec, Usage: usage})
}

// wrap completes k with material under the root.
func (t *Token) wrap(k wrapped.Key, material []byte) wrapped.Key {
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	version, root := t.current()
	k.Root, k.Wrap = version, wrapped.RFC3394
	if wrapped.IsPair(k.Spec) {
		k.Wrap = wrapped.RFC5649
	}
	k.Blob = gcm(root.key[:]).Seal(nonce, nonce, material, nil)
	k.MAC = root.sum(k.Authenticated())
	return k
}

// material opens k if it is ours, whole, for usage, and a pair or none.
func (t *Token) material(k wrapped.Key, usage string, pair bool) ([]byte, error) {
	if err := t.up(); err != nil {
		return nil, err
	}
	if k.Usage != usage || wrapped.IsPair(k.Spec) != pair {
		return nil, fault.New(fault.InvalidRequest, "a key of spec %q for %q does not serve this operation", k.Spec, k.Usage)
	}
	root, ok := t.rootOf(k.Root)
	if !ok || !hmac.Equal(k.MAC, root.sum(k.Authenticated())) || len(k.Blob) < 12 || (len(k.Public) != 0) != pair {
		return nil, fault.New(fault.InvalidRequest, "does not open")
	}
	return gcm(root.key[:]).Open(nil, k.Blob[:12], k.Blob[12:], nil)
}

// Seal seals under k.
func (t *Token) Seal(_ context.Context, k wrapped.Key, plaintext secret.Bytes, aad []byte) (iv, box []byte, err error) {
	material, err := t.material(k, wrapped.Encrypt, false)
	if err != nil {
		return nil, nil, err
	}
	t.Seals.Add(1)
	iv = make([]byte, 12)
	_, _ = rand.Read(iv)
	return iv, gcm(material).Seal(nil, iv, plaintext.Expose(), aad), nil
}

// Open opens what Seal made.
func (t *Token) Open(_ context.Context, k wrapped.Key, iv, box, aad []byte) (secret.Bytes, error) {
	material, err := t.material(k, wrapped.Encrypt, false)
	if err != nil {
		if fault.Is(err, fault.InvalidRequest) {
			err = fault.New(fault.InvalidRequest, "does not open")
		}
		return secret.Bytes{}, err
	}
	t.Opens.Add(1)
	if len(iv) != 12 {
		return secret.Bytes{}, fault.New(fault.InvalidRequest, "does not open")
	}
	plain, err := gcm(material).Open(nil, iv, box, aad)
	if err != nil {
		return secret.Bytes{}, fault.New(fault.InvalidRequest, "does not open")
	}
	return secret.New(plain), nil
}

// MAC is HMAC-SHA-256 in a domain of its own.
func (t *Token) MAC(_ context.Context, message []byte) ([]byte, error) {
	if err := t.up(); err != nil {
		return nil, err
	}
	_, root := t.current()
	return root.sum(append([]byte("application\x00"), message...)), nil
}

// Random answers n random bytes.
func (t *Token) Random(_ context.Context, n int) ([]byte, error) {
	if err := t.up(); err != nil {
		return nil, err
	}
	out := make([]byte, n)
	_, err := rand.Read(out)
	return out, err
}

func (r rootKey) sum(message []byte) []byte {
	h := hmac.New(sha256.New, r.mac[:])
	h.Write(message)
	return h.Sum(nil)
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}
