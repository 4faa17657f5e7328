package kms

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// MaxPlaintext is what kms/encrypt takes at most; larger data wants a data
// key.
const MaxPlaintext = 4096

// maxTrusted bounds the public halves that are known to be the HSM's.
const maxTrusted = 10_000

// Service seals and opens for one cluster. It is safe for concurrent use.
type Service struct {
	token   Token
	cluster uuid.UUID
	trusted *lru.Cache[[sha256.Size]byte, struct{}] // see trust

	dataKeys *DataKeyCache // nil: each read asks the HSM
}

// New makes a Service. clusterID is a UUID; it is bound into every
// ciphertext.
func New(token Token, clusterID string) (*Service, error) {
	id, err := uuid.Parse(clusterID)
	if err != nil {
		return nil, fmt.Errorf("kms: cluster id: %w", err)
	}
	trusted, err := lru.New[[sha256.Size]byte, struct{}](maxTrusted)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return &Service{token: token, cluster: id, trusted: trusted}, nil
}

// CacheDataKeys has OpenCached keep data keys in c. It must be called before
// the Service is used.
func (s *Service) CacheDataKeys(c *DataKeyCache) { s.dataKeys = c }

// DataKeys answers the cache of data keys, nil if there is none.
func (s *Service) DataKeys() *DataKeyCache { return s.dataKeys }

// HSM answers the HSM itself, for what seals by keys that are not KMS keys.
func (s *Service) HSM() Token { return s.token }

// GenerateKey makes version version of the key id in the HSM.
func (s *Service) GenerateKey(ctx context.Context, id string, version uint32, spec, usage string) (wrapped.Key, error) {
	if err := CheckSpec(spec, usage); err != nil {
		return wrapped.Key{}, err
	}
	return s.token.GenerateKey(ctx, id, version, spec, usage)
}

// GenerateFingerprintKey makes the key of fingerprints and request hashes. It
// is not a KMS key: nobody can name it in a request.
func (s *Service) GenerateFingerprintKey(ctx context.Context) (wrapped.Key, error) {
	return GenerateFingerprintKey(ctx, s.token)
}

// GenerateFingerprintKey is the method, for init, which has no Service yet.
func GenerateFingerprintKey(ctx context.Context, token Token) (wrapped.Key, error) {
	return token.GenerateKey(ctx, "fingerprint", 1, wrapped.HMAC256, wrapped.MAC)
}

// Random answers n bytes of the HSM's generator.
func (s *Service) Random(ctx context.Context, n int) ([]byte, error) { return s.token.Random(ctx, n) }

// Encrypt seals plain under the current version of key, which must be
// active. The blob names cluster, key and version and binds context.
func (s *Service) Encrypt(ctx context.Context, key *fsm.Key, plain secret.Bytes, context map[string]string) ([]byte, uint32, error) {
	if isRSA(key.Spec) {
		return s.encryptRSA(ctx, key, plain, context)
	}
	return s.seal(ctx, kindCaller, key, plain, context)
}

// Decrypt opens what Encrypt made under key. Any version of the key opens.
func (s *Service) Decrypt(ctx context.Context, key *fsm.Key, blob []byte, context map[string]string) (secret.Bytes, uint32, error) {
	return s.open(ctx, kindCaller, key, blob, context)
}

func (s *Service) seal(ctx context.Context, kind blobKind, key *fsm.Key, plain secret.Bytes, context map[string]string) ([]byte, uint32, error) {
	if err := CheckProtect(key); err != nil {
		return nil, 0, err
	}
	if err := checkUsage(key, UsageEncrypt, wrapped.AES256); err != nil {
		return nil, 0, err
	}
	id, err := uuid.Parse(key.ID)
	if err != nil {
		return nil, 0, fmt.Errorf("kms: key id: %w", err)
	}
	material, err := version(key, key.Current)
	if err != nil {
		return nil, 0, err
	}
	bound := s.header(kind, algorithmGCM, id, key.Current)
	iv, box, err := s.token.Seal(ctx, material, plain, associated(bound, context))
	if err != nil {
		return nil, 0, err
	}
	if len(iv) == 0 || len(iv) > ivBytesMax {
		// SoftHSM takes an empty IV and silently uses zeros: never store such a seal.
		return nil, 0, fault.New(fault.Internal, "the HSM answered an IV of %d bytes", len(iv))
	}
	blob := append(bound, byte(len(iv)))
	blob = append(blob, iv...)
	return append(blob, box...), key.Current, nil
}

func (s *Service) open(ctx context.Context, kind blobKind, key *fsm.Key, blob []byte, context map[string]string) (secret.Bytes, uint32, error) {
	if err := CheckOpen(key); err != nil {
		return secret.Bytes{}, 0, err
	}
	c, err := s.parse(blob, kind)
	if err != nil {
		return secret.Bytes{}, 0, err
	}
	if c.KeyID != key.ID {
		return secret.Bytes{}, 0, ErrOpen()
	}
	material, err := version(key, c.KeyVersion)
	if err != nil || (c.algorithm == algorithmGCM) != (key.Spec == wrapped.AES256) {
		return secret.Bytes{}, 0, ErrOpen()
	}
	if c.algorithm != algorithmGCM {
		return s.openRSA(ctx, material, c, context)
	}
	plain, err := s.token.Open(ctx, material, c.iv, c.box, associated(c.bound, context))
	if fault.Is(err, fault.InvalidRequest) {
		return secret.Bytes{}, 0, ErrOpen()
	}
	return plain, c.KeyVersion, err
}

// version answers the wrapped material of one version of key.
func version(key *fsm.Key, number uint32) (wrapped.Key, error) {
	if number == 0 || int(number) > len(key.Versions) {
		return wrapped.Key{}, fault.New(fault.Internal, "key %s has no version %d", key.ID, number)
	}
	return key.Versions[number-1].Wrapped, nil
}
