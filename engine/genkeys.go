package engine

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// pemType is the media type in use for PEM; none is registered for keys.
const pemType = "application/x-pem-file"

const defaultRSABits = 3072

// rsaStrength is the security strength of NIST SP 800-56B revision 2, table 4,
// in bits, by the length of the modulus.
var rsaStrength = map[int]float64{2048: 112, 3072: 128, 4096: 152}

// rsaRecipe makes keys from crypto/rand alone: since Go 1.26
// rsa.GenerateKey reads no other source, and primes are not a thing to search
// for by ourselves.
func rsaRecipe(spec wire.GenerateSpec, _ int) (recipe, error) {
	bits := orDefault(spec.Bits, defaultRSABits)
	strength, ok := rsaStrength[bits]
	if !ok {
		return recipe{}, fault.Invalid("bits", "must be 2048, 3072 or 4096")
	}
	return keyRecipe(strength, true, func(io.Reader) (crypto.PrivateKey, error) {
		return rsa.GenerateKey(rand.Reader, bits)
	}), nil
}

// maxDraws bounds a loop that ends at its first round but for one time in
// 2^32 (P-256; far more for P-384).
const maxDraws = 16

// ecRecipe draws the private key as FIPS 186-5, A.2.2: numbers of the length
// of the order until one is in its range. ecdsa.GenerateKey would read
// crypto/rand whatever reader it is given.
func ecRecipe(spec wire.GenerateSpec, _ int) (recipe, error) {
	var curve elliptic.Curve
	strength := 128.0
	switch spec.Curve {
	case "", "p256":
		curve = elliptic.P256()
	case "p384":
		curve, strength = elliptic.P384(), 192
	default:
		return recipe{}, fault.Invalid("curve", "must be p256 or p384")
	}
	return keyRecipe(strength, false, func(random io.Reader) (crypto.PrivateKey, error) {
		drawn := make([]byte, curve.Params().BitSize/8)
		defer clear(drawn)
		var last error
		for range maxDraws {
			if _, err := io.ReadFull(random, drawn); err != nil {
				return nil, fmt.Errorf("random bytes: %w", err)
			}
			key, err := ecdsa.ParseRawPrivateKey(curve, drawn)
			if err == nil {
				return key, nil
			}
			last = err
		}
		return nil, fmt.Errorf("private key: %w", last)
	}), nil
}

func ed25519Recipe(wire.GenerateSpec, int) (recipe, error) {
	return keyRecipe(128, false, func(random io.Reader) (crypto.PrivateKey, error) {
		seed := make([]byte, ed25519.SeedSize) // RFC 8032: the private key
		defer clear(seed)
		if _, err := io.ReadFull(random, seed); err != nil {
			return nil, fmt.Errorf("random bytes: %w", err)
		}
		return ed25519.NewKeyFromSeed(seed), nil
	}), nil
}

// keyRecipe encodes private keys as PKCS #8 in PEM. The encodings are wiped;
// the key itself, in the types of the standard library, waits for the
// collector.
func keyRecipe(strength float64, slow bool, draw func(io.Reader) (crypto.PrivateKey, error)) recipe {
	return recipe{bits: strength, contentType: pemType, slow: slow, public: publicKey, make: func(random io.Reader) ([]byte, error) {
		key, err := draw(random)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		defer clear(der)
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}}
}

// publicKey answers the public half of a private key, both PEM. Errors say
// nothing of what they read.
func publicKey(private []byte) (string, error) {
	block, _ := pem.Decode(private)
	if block == nil {
		return "", errors.New("a generated key is not PEM")
	}
	defer clear(block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return "", errors.New("a generated key is not PKCS #8")
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return "", fmt.Errorf("public key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}
