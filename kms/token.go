// Package kms is envelope encryption: KMS keys that only an HSM can use, data
// keys sealed under them, values sealed under data keys. It decides for each
// use whether the key's state allows it, and it holds no state and no key.
package kms

import (
	"context"

	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Token is what kms needs of an HSM. *pkcs11.Device satisfies it.
//
// A method answers fault.HsmUnavailable when the device cannot be used now
// (the call may be repeated: none has an effect beyond its answer), and
// fault.InvalidRequest, with one text, for whatever does not open.
type Token interface {
	// GenerateKey makes a key inside the HSM and answers it wrapped under
	// the current root key; nothing stays behind in the HSM.
	GenerateKey(ctx context.Context, id string, version uint32, spec, usage string) (wrapped.Key, error)
	// Seal is AES-256-GCM inside the HSM with a fresh 96-bit random IV and a
	// 128-bit tag, which ends box.
	Seal(ctx context.Context, k wrapped.Key, plaintext secret.Bytes, aad []byte) (iv, box []byte, err error)
	// Open is the inverse of Seal.
	Open(ctx context.Context, k wrapped.Key, iv, box, aad []byte) (secret.Bytes, error)
	// MAC is HMAC-SHA-256 under the cluster's root MAC key, in a domain of
	// its own.
	MAC(ctx context.Context, message []byte) ([]byte, error)
	// Random answers n bytes from the HSM's generator.
	Random(ctx context.Context, n int) ([]byte, error)
}
