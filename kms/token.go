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
	// Seal is AES-256-GCM inside the HSM with a fresh random IV, of 96 bits or,
	// where the HSM makes it so, of 128, and a 128-bit tag, which ends box.
	Seal(ctx context.Context, k wrapped.Key, plaintext secret.Bytes, aad []byte) (iv, box []byte, err error)
	// Open is the inverse of Seal.
	Open(ctx context.Context, k wrapped.Key, iv, box, aad []byte) (secret.Bytes, error)
	// Sign signs a digest under a key for sign. algorithm is one of
	// wrapped.SignAlgorithms of its spec; ECDSA signatures are DER.
	Sign(ctx context.Context, k wrapped.Key, algorithm string, digest []byte) ([]byte, error)
	// KeyMAC is HMAC-SHA-256 under a key for mac.
	KeyMAC(ctx context.Context, k wrapped.Key, message []byte) ([]byte, error)
	// DecryptRSA opens what was encrypted to the public half of an RSA key
	// by OAEP.
	DecryptRSA(ctx context.Context, k wrapped.Key, algorithm string, ciphertext []byte) (secret.Bytes, error)
	// CheckKey answers nil when k is one that an HSM of the cluster wrapped,
	// and nothing of it was changed, its public half included.
	CheckKey(ctx context.Context, k wrapped.Key) error
	// OAEP answers the algorithms that DecryptRSA takes here, best first.
	OAEP(ctx context.Context) ([]string, error)
	// CreateImportKey makes a one-time RSA pair that somebody may wrap the
	// material of key id to, itself wrapped under the root key.
	CreateImportKey(ctx context.Context, id string) (wrapped.Key, error)
	// ImportKey unwraps material that was wrapped to importKey, inside the
	// HSM, and answers it as version into.Version of key into.ID.
	ImportKey(ctx context.Context, importKey wrapped.Key, algorithm string, blob []byte, into wrapped.Key) (wrapped.Key, error)
	// MAC is HMAC-SHA-256 under the cluster's root MAC key, in a domain of
	// its own. A rotation of the root ends it.
	MAC(ctx context.Context, message []byte) ([]byte, error)
	// Random answers n bytes from the HSM's generator.
	Random(ctx context.Context, n int) ([]byte, error)
}
