package softtoken

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"sync"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// generate makes the material of a key of any spec.
func (t *Token) generate(k wrapped.Key) (wrapped.Key, error) {
	if !wrapped.IsPair(k.Spec) {
		material := make([]byte, 32)
		_, _ = rand.Read(material)
		return t.wrap(k, material), nil
	}
	private, err := newPrivate(k.Spec)
	if err != nil {
		return wrapped.Key{}, err
	}
	return t.adopt(k, private)
}

func newPrivate(spec string) (crypto.Signer, error) {
	switch spec {
	case wrapped.ECP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case wrapped.ECP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		return rsaPool.take(rsaBits[spec])
	}
}

// rsaPool hands out few RSA keys over and over: tests make hundreds, and to
// generate one takes longer than all that they do with it. Those of one size
// that follow each other differ.
var rsaPool = pool{keys: map[int][]*rsa.PrivateKey{}, next: map[int]int{}}

const poolSize = 4

type pool struct {
	mu   sync.Mutex
	keys map[int][]*rsa.PrivateKey
	next map[int]int
}

func (p *pool) take(bits int) (*rsa.PrivateKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.keys[bits]) < poolSize {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err == nil {
			p.keys[bits] = append(p.keys[bits], key)
		}
		return key, err
	}
	p.next[bits]++
	return p.keys[bits][p.next[bits]%poolSize], nil
}

var rsaBits = map[string]int{wrapped.RSA2048: 2048, wrapped.RSA3072: 3072, wrapped.RSA4096: 4096}

func (t *Token) adopt(k wrapped.Key, private crypto.Signer) (wrapped.Key, error) {
	material, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return wrapped.Key{}, err
	}
	if k.Public, err = x509.MarshalPKIXPublicKey(private.Public()); err != nil {
		return wrapped.Key{}, err
	}
	return t.wrap(k, material), nil
}

func (t *Token) private(k wrapped.Key, usage string) (crypto.Signer, error) {
	material, err := t.material(k, usage, true)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil {
		return nil, err
	}
	return parsed.(crypto.Signer), nil
}

// CheckKey refuses what is not ours, whole.
func (t *Token) CheckKey(_ context.Context, k wrapped.Key) error {
	_, err := t.material(k, k.Usage, wrapped.IsPair(k.Spec))
	return err
}

var hashes = map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}

// Sign signs a digest as *pkcs11.Device does.
func (t *Token) Sign(_ context.Context, k wrapped.Key, algorithm string, digest []byte) ([]byte, error) {
	if !slices.Contains(wrapped.SignAlgorithms(k.Spec), algorithm) {
		return nil, fault.New(fault.InvalidRequest, "a key of spec %q does not sign by %q", k.Spec, algorithm)
	}
	if len(digest) != wrapped.DigestBytes(algorithm) {
		return nil, fault.New(fault.InvalidRequest, "the digest has %d bytes", len(digest))
	}
	private, err := t.private(k, wrapped.Sign)
	if err != nil {
		return nil, err
	}
	t.Signs.Add(1)
	hash := hashes[len(digest)]
	if strings.HasPrefix(algorithm, "rsa-pss-") {
		return private.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	}
	return private.Sign(rand.Reader, digest, hash)
}

// KeyMAC is HMAC-SHA-256 under k.
func (t *Token) KeyMAC(_ context.Context, k wrapped.Key, message []byte) ([]byte, error) {
	material, err := t.material(k, wrapped.MAC, false)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, material)
	h.Write(message)
	return h.Sum(nil), nil
}

// DecryptRSA opens OAEP; like SoftHSM 2.6 it knows SHA-1 only.
func (t *Token) DecryptRSA(_ context.Context, k wrapped.Key, algorithm string, ciphertext []byte) (secret.Bytes, error) {
	if algorithm != wrapped.RSAOAEPSHA1 {
		return secret.Bytes{}, fault.New(fault.InvalidRequest, "the HSM of this node does not do %q; it does %s", algorithm, wrapped.RSAOAEPSHA1)
	}
	private, err := t.private(k, wrapped.Encrypt)
	if err != nil {
		return secret.Bytes{}, err
	}
	out, err := rsa.DecryptOAEP(sha1.New(), nil, private.(*rsa.PrivateKey), ciphertext, nil)
	if err != nil {
		return secret.Bytes{}, fault.New(fault.InvalidRequest, "does not open")
	}
	t.Opens.Add(1)
	return secret.New(out), nil
}

// OAEP answers what DecryptRSA takes.
func (t *Token) OAEP(context.Context) ([]string, error) {
	return []string{wrapped.RSAOAEPSHA1}, t.up()
}

// CreateImportKey makes the pair that receives key material.
func (t *Token) CreateImportKey(_ context.Context, id string) (wrapped.Key, error) {
	if err := t.up(); err != nil {
		return wrapped.Key{}, err
	}
	return t.generate(wrapped.Key{ID: id, Version: 1, Spec: wrapped.RSA3072, Usage: wrapped.Import})
}

// ImportKey takes in key material as *pkcs11.Device does.
func (t *Token) ImportKey(_ context.Context, importKey wrapped.Key, algorithm string, blob []byte, into wrapped.Key) (wrapped.Key, error) {
	if !wrapped.Allowed(into.Spec, into.Usage) {
		return wrapped.Key{}, fault.Invalid("spec", "there are no keys of spec %q for %q", into.Spec, into.Usage)
	}
	if algorithm != wrapped.RSAOAEPSHA1 {
		return wrapped.Key{}, fault.New(fault.InvalidRequest, "the HSM of this node does not do %q; it does %s", algorithm, wrapped.RSAOAEPSHA1)
	}
	importer, err := t.private(importKey, wrapped.Import)
	if err != nil {
		return wrapped.Key{}, err
	}
	refused := fault.New(fault.InvalidRequest, "the key material cannot be imported")
	if len(blob) <= 384 {
		return wrapped.Key{}, refused
	}
	kek, err := rsa.DecryptOAEP(sha1.New(), nil, importer.(*rsa.PrivateKey), blob[:384], nil)
	if err != nil || len(kek) != 32 {
		return wrapped.Key{}, refused
	}
	material, err := UnwrapPad(kek, blob[384:])
	if err != nil {
		return wrapped.Key{}, refused
	}
	k := wrapped.Key{ID: into.ID, Version: into.Version, Spec: into.Spec, Usage: into.Usage}
	if !wrapped.IsPair(into.Spec) {
		if len(material) != 32 || len(into.Public) != 0 {
			return wrapped.Key{}, refused
		}
		return t.wrap(k, material), nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil || !fits(into.Spec, parsed) {
		return wrapped.Key{}, refused
	}
	out, err := t.adopt(k, parsed.(crypto.Signer))
	wantsPublic := rsaBits[into.Spec] == 0 || len(into.Public) != 0
	if err != nil || wantsPublic && !bytes.Equal(out.Public, into.Public) {
		return wrapped.Key{}, refused
	}
	return out, nil
}

func fits(spec string, private any) bool {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		return k.N.BitLen() == rsaBits[spec] && k.E == 65537
	case *ecdsa.PrivateKey:
		return spec == wrapped.ECP256 && k.Curve == elliptic.P256() || spec == wrapped.ECP384 && k.Curve == elliptic.P384()
	default:
		return false
	}
}
