package kms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // OAEP does not rest on collision resistance
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// RSA-OAEP (RFC 8017) has no associated data, and HSMs take no label. What
// Encrypt makes under an RSA key carries the SHA-256 of the associated data
// in front of the plaintext, inside the encryption: a wrong context or an
// altered header opens to another digest and is refused like a bad padding.
//
// What others encrypt to the public key, without Strongroom, has no digest
// and no header; DecryptRaw opens it.

// oaepOf maps the algorithm byte of a blob to the name, and back.
var oaepNames = map[byte]string{algorithmOAEP1: wrapped.RSAOAEPSHA1, algorithmOAEP2: wrapped.RSAOAEPSHA256}

func oaepHash(algorithm string) hash.Hash {
	if algorithm == wrapped.RSAOAEPSHA256 {
		return sha256.New()
	}
	return sha1.New() //nolint:gosec // see the import
}

// encryptRSA needs the HSM only to vouch for the public half, once.
func (s *Service) encryptRSA(ctx context.Context, key *fsm.Key, plain secret.Bytes, context map[string]string) ([]byte, uint32, error) {
	if err := CheckProtect(key); err != nil {
		return nil, 0, err
	}
	if err := checkUsage(key, UsageEncrypt); err != nil {
		return nil, 0, err
	}
	material, err := version(key, key.Current)
	if err != nil {
		return nil, 0, err
	}
	if err := s.trust(ctx, material); err != nil {
		return nil, 0, err
	}
	public, err := rsaPublic(material)
	if err != nil {
		return nil, 0, err
	}
	id, err := uuid.Parse(key.ID)
	if err != nil {
		return nil, 0, fmt.Errorf("kms: key id: %w", err)
	}
	code, err := s.bestOAEP(ctx)
	if err != nil {
		return nil, 0, err
	}
	h := oaepHash(oaepNames[code])
	room := public.Size() - 2*h.Size() - 2 - sha256.Size
	if plain.Len() > room {
		return nil, 0, fault.New(fault.TooLarge, "plaintext: has %d bytes; at most %d go under a key of spec %s, encrypt more under a data key", plain.Len(), room, key.Spec)
	}
	bound := s.header(kindCaller, code, id, key.Current)
	digest := sha256.Sum256(associated(bound, context))
	message := secret.New(append(append(make([]byte, 0, sha256.Size+plain.Len()), digest[:]...), plain.Expose()...))
	defer message.Wipe()
	box, err := rsa.EncryptOAEP(h, rand.Reader, public, message.Expose(), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("kms: RSA-OAEP: %w", err)
	}
	return append(append(bound, 0), box...), key.Current, nil
}

func (s *Service) bestOAEP(ctx context.Context) (byte, error) {
	can, err := s.token.OAEP(ctx)
	if err != nil {
		return 0, err
	}
	for _, name := range can {
		for code, known := range oaepNames {
			if known == name {
				return code, nil
			}
		}
	}
	return 0, fault.Invalid("keyId", "the HSM of this node does no RSA-OAEP; use a key of spec %s", wrapped.AES256)
}

func (s *Service) openRSA(ctx context.Context, material wrapped.Key, c ciphertext, context map[string]string) (secret.Bytes, uint32, error) {
	message, err := s.token.DecryptRSA(ctx, material, oaepNames[c.algorithm], c.box)
	if fault.Is(err, fault.InvalidRequest) {
		return secret.Bytes{}, 0, ErrOpen()
	}
	if err != nil {
		return secret.Bytes{}, 0, err
	}
	defer message.Wipe()
	digest := sha256.Sum256(associated(c.bound, context))
	text := message.Expose()
	if len(text) < sha256.Size || subtle.ConstantTimeCompare(text[:sha256.Size], digest[:]) != 1 {
		return secret.Bytes{}, 0, ErrOpen()
	}
	return secret.Copy(text[sha256.Size:]), c.KeyVersion, nil
}

// DecryptRaw opens what somebody encrypted to the public half of an RSA key
// by OAEP, with algorithm and an empty label. number names the version, 0 the
// current one.
func (s *Service) DecryptRaw(ctx context.Context, key *fsm.Key, number uint32, algorithm string, box []byte) (secret.Bytes, uint32, error) {
	if err := CheckOpen(key); err != nil {
		return secret.Bytes{}, 0, err
	}
	if err := checkUsage(key, UsageEncrypt, wrapped.RSA2048, wrapped.RSA3072, wrapped.RSA4096); err != nil {
		return secret.Bytes{}, 0, err
	}
	if number == 0 {
		number = key.Current
	}
	material, err := namedVersion(key, number)
	if err != nil {
		return secret.Bytes{}, 0, err
	}
	can, err := s.token.OAEP(ctx)
	if err != nil {
		return secret.Bytes{}, 0, err
	}
	if !slices.Contains(can, algorithm) {
		return secret.Bytes{}, 0, fault.Invalid("algorithm", "the HSM does %s", strings.Join(can, " and "))
	}
	plain, err := s.token.DecryptRSA(ctx, material, algorithm, box)
	if fault.Is(err, fault.InvalidRequest) {
		return secret.Bytes{}, 0, ErrOpen()
	}
	return plain, number, err
}

func rsaPublic(material wrapped.Key) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(material.Public)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the public half of key %s cannot be read", material.ID)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fault.New(fault.Internal, "the public half of key %s is not RSA", material.ID)
	}
	return public, nil
}
