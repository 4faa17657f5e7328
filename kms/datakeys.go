package kms

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// MaxDataKey and MaxRandom bound what one call draws, in bytes.
const (
	MaxDataKey = 1024
	MaxRandom  = 4096
)

// GenerateDataKey draws n random bytes and seals them under the current
// version of key, for a caller who encrypts by itself. decrypt opens them.
func (s *Service) GenerateDataKey(ctx context.Context, key *fsm.Key, n int, context map[string]string) (secret.Bytes, []byte, uint32, error) {
	if err := CheckProtect(key); err != nil {
		return secret.Bytes{}, nil, 0, err
	}
	plain, err := s.Draw(ctx, n)
	if err != nil {
		return secret.Bytes{}, nil, 0, err
	}
	blob, version, err := s.seal(ctx, kindCaller, key, plain, context)
	if err != nil {
		plain.Wipe()
		return secret.Bytes{}, nil, 0, err
	}
	return plain, blob, version, nil
}

// Draw answers n random bytes: the HSM's, mixed with this machine's, so that
// one bad generator alone harms nobody.
func (s *Service) Draw(ctx context.Context, n int) (secret.Bytes, error) {
	theirs, err := s.token.Random(ctx, n)
	if err != nil {
		return secret.Bytes{}, err
	}
	if len(theirs) != n {
		return secret.Bytes{}, fault.New(fault.Internal, "the HSM answered %d random bytes, not %d", len(theirs), n)
	}
	ours := secret.New(make([]byte, n))
	defer ours.Wipe()
	if _, err := rand.Read(ours.Expose()); err != nil {
		return secret.Bytes{}, fmt.Errorf("random: %w", err)
	}
	for i, b := range ours.Expose() {
		theirs[i] ^= b
	}
	return secret.New(theirs), nil
}

// ReEncrypt opens blob under from and seals what it held under to. The
// plaintext exists in this process for the length of the call.
func (s *Service) ReEncrypt(ctx context.Context, from, to *fsm.Key, blob []byte, context, toContext map[string]string) ([]byte, uint32, error) {
	if err := CheckProtect(to); err != nil {
		return nil, 0, err
	}
	plain, _, err := s.Decrypt(ctx, from, blob, context)
	if err != nil {
		return nil, 0, err
	}
	defer plain.Wipe()
	return s.Encrypt(ctx, to, plain, toContext)
}

// Rewrap opens the data key of a version under from and seals it again under
// to. The value is not touched: its seal binds path, secret id and version,
// not the key.
func (s *Service) Rewrap(ctx context.Context, from, to *fsm.Key, id Identity, dataKey []byte) ([]byte, uint32, error) {
	if err := CheckProtect(to); err != nil {
		return nil, 0, err
	}
	plain, _, err := s.open(ctx, kindDataKey, from, dataKey, id.context())
	if fault.Is(err, fault.InvalidRequest) {
		return nil, 0, errStored(id, "data key", err)
	}
	if err != nil {
		return nil, 0, err
	}
	defer plain.Wipe()
	return s.seal(ctx, kindDataKey, to, plain, id.context())
}

// OAEP answers the RSA-OAEP algorithms of this node's HSM, best first.
func (s *Service) OAEP(ctx context.Context) ([]string, error) { return s.token.OAEP(ctx) }
