package kms

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/strongroom/strongroom/internal/fault"
)

const seedBytes = 32

// RandomStream answers a stream of random bytes: this machine's, each byte XORed
// with one of AES-256 in counter mode under a key of 32 bytes that the HSM
// drew for this stream.
//
// It is as good as the better of the two. The machine's bytes and the key are
// drawn independently, and XOR with something independent leaves uniform bytes
// uniform: if the machine's generator is good, nothing that the HSM says can
// harm it; if the HSM's is good, the key stream cannot be told from uniform
// bytes by whoever does not know the key, however bad the machine's generator
// is. In that case the stream is as hard to guess as the key: 256 bits.
//
// It is for one value, on one goroutine: a key is never used for two.
func (s *Service) RandomStream(ctx context.Context) (io.Reader, error) {
	seed, err := s.token.Random(ctx, seedBytes)
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	if len(seed) != seedBytes {
		return nil, fault.New(fault.Internal, "the HSM answered %d random bytes, not %d", len(seed), seedBytes)
	}
	block, err := aes.NewCipher(seed)
	if err != nil {
		return nil, fmt.Errorf("random: %w", err)
	}
	return mixed{cipher.NewCTR(block, make([]byte, aes.BlockSize))}, nil
}

type mixed struct{ stream cipher.Stream }

// Read fills p, always.
func (m mixed) Read(p []byte) (int, error) {
	if _, err := rand.Read(p); err != nil {
		return 0, fmt.Errorf("random: %w", err)
	}
	m.stream.XORKeyStream(p, p)
	return len(p), nil
}
