package kms

import (
	"context"
	"encoding/pem"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// MaxImport bounds wrapped material, in bytes: RSA-4096 in PKCS #8 is 2.4 KB.
const MaxImport = 8 << 10

// CreateImportKey makes the one-time key that the material of key is to be
// wrapped to.
func (s *Service) CreateImportKey(ctx context.Context, key *fsm.Key) (wrapped.Key, error) {
	if err := check(key, fsm.KeyImport); err != nil {
		return wrapped.Key{}, err
	}
	return s.token.CreateImportKey(ctx, key.ID)
}

// ImportKey unwraps material for key inside the HSM. publicPEM is needed for
// EC keys: an HSM does not tell the public half of a private one.
func (s *Service) ImportKey(ctx context.Context, key *fsm.Key, algorithm string, blob []byte, publicPEM string) (wrapped.Key, error) {
	if err := check(key, fsm.KeyImport); err != nil {
		return wrapped.Key{}, err
	}
	if key.ImportKey == nil {
		return wrapped.Key{}, fault.New(fault.Conflict, "keyId: there is no import key yet; getImportParameters makes one")
	}
	into := wrapped.Key{ID: key.ID, Version: 1, Spec: key.Spec, Usage: key.Usage}
	if publicPEM != "" {
		block, rest := pem.Decode([]byte(publicPEM))
		if block == nil || block.Type != "PUBLIC KEY" || len(rest) != 0 {
			return wrapped.Key{}, fault.Invalid("publicKey", "must be one PEM block of type PUBLIC KEY")
		}
		into.Public = block.Bytes
	}
	return s.token.ImportKey(ctx, *key.ImportKey, algorithm, blob, into)
}
