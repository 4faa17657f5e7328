package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// MaxMessage is what sign, verify and the MACs take at most; of something
// longer, send the digest.
const MaxMessage = 64 << 10

// maxTries bounds how many versions of a key verify tries when nobody says
// which one signed.
const maxTries = 32

// DigestOf answers the digest that algorithm signs: of message, or digest
// itself, if its length is right. Exactly one of the two is given.
func DigestOf(algorithm string, message, digest []byte) ([]byte, error) {
	h, err := hashOf(algorithm)
	if err != nil {
		return nil, err
	}
	switch {
	case (message == nil) == (digest == nil):
		return nil, fault.Invalid("message", "or digest is to be given, one of the two")
	case len(message) > MaxMessage:
		return nil, fault.New(fault.TooLarge, "message: has %d bytes; at most %d are allowed, of something longer send the digest", len(message), MaxMessage)
	case digest != nil && len(digest) != h.Size():
		return nil, fault.Invalid("digest", "has %d bytes; %s signs %d", len(digest), algorithm, h.Size())
	case digest != nil:
		return digest, nil
	}
	sum := h.New()
	sum.Write(message)
	return sum.Sum(nil), nil
}

func hashOf(algorithm string) (crypto.Hash, error) {
	switch {
	case strings.HasSuffix(algorithm, "-sha256"):
		return crypto.SHA256, nil
	case strings.HasSuffix(algorithm, "-sha384"):
		return crypto.SHA384, nil
	case strings.HasSuffix(algorithm, "-sha512"):
		return crypto.SHA512, nil
	}
	return 0, fault.Invalid("algorithm", "must name a signature and its hash, such as ecdsa-sha256 or rsa-pss-sha256")
}

// checkAlgorithm refuses an algorithm that the spec of key does not do.
func checkAlgorithm(key *fsm.Key, algorithm string) error {
	if can := wrapped.SignAlgorithms(key.Spec); !slices.Contains(can, algorithm) {
		return fault.Invalid("algorithm", "a key of spec %s signs by %s", key.Spec, strings.Join(can, ", "))
	}
	return nil
}

// Sign signs a digest under the current version of key, which must be active.
func (s *Service) Sign(ctx context.Context, key *fsm.Key, algorithm string, digest []byte) ([]byte, uint32, error) {
	if err := CheckProtect(key); err != nil {
		return nil, 0, err
	}
	if err := checkUsage(key, UsageSign); err != nil {
		return nil, 0, err
	}
	if err := checkAlgorithm(key, algorithm); err != nil {
		return nil, 0, err
	}
	material, err := version(key, key.Current)
	if err != nil {
		return nil, 0, err
	}
	signature, err := s.token.Sign(ctx, material, algorithm, digest)
	return signature, key.Current, err
}

// Verify reports whether signature is of digest under key, and under which
// version. number names the version; with 0 the newest ones are tried. It
// needs the HSM only to vouch for the public half, once.
func (s *Service) Verify(ctx context.Context, key *fsm.Key, number uint32, algorithm string, digest, signature []byte) (bool, uint32, error) {
	if err := CheckOpen(key); err != nil {
		return false, 0, err
	}
	if err := checkUsage(key, UsageSign); err != nil {
		return false, 0, err
	}
	if err := checkAlgorithm(key, algorithm); err != nil {
		return false, 0, err
	}
	return overVersions(key, number, func(material wrapped.Key) (bool, error) {
		if err := s.trust(ctx, material); err != nil {
			return false, err
		}
		return verify(material, algorithm, digest, signature)
	})
}

// overVersions asks of one version, or of the newest ones.
func overVersions(key *fsm.Key, number uint32, ask func(wrapped.Key) (bool, error)) (bool, uint32, error) {
	if number != 0 {
		material, err := namedVersion(key, number)
		if err != nil {
			return false, 0, err
		}
		ok, err := ask(material)
		return ok, number, err
	}
	for n := key.Current; n > 0 && key.Current-n < maxTries; n-- {
		material, err := version(key, n)
		if err != nil {
			return false, 0, err
		}
		if ok, err := ask(material); err != nil || ok {
			return ok, n, err
		}
	}
	return false, 0, nil
}

// namedVersion is version for a number that the caller has sent.
func namedVersion(key *fsm.Key, number uint32) (wrapped.Key, error) {
	if number == 0 || int(number) > len(key.Versions) {
		return wrapped.Key{}, fault.New(fault.NotFound, "keyVersion: the key has no version %d; its newest is %d", number, key.Current)
	}
	return version(key, number)
}

func verify(material wrapped.Key, algorithm string, digest, signature []byte) (bool, error) {
	h, err := hashOf(algorithm)
	if err != nil {
		return false, err
	}
	parsed, err := x509.ParsePKIXPublicKey(material.Public)
	if err != nil {
		return false, fault.Wrap(fault.Internal, err, "the public half of key %s cannot be read", material.ID)
	}
	switch public := parsed.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature), nil
	case *rsa.PublicKey:
		if strings.HasPrefix(algorithm, "rsa-pss-") {
			return rsa.VerifyPSS(public, h, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil, nil
		}
		return rsa.VerifyPKCS1v15(public, h, digest, signature) == nil, nil
	}
	return false, fault.New(fault.Internal, "the public half of key %s is of an unknown kind", material.ID)
}

// PublicKey answers the public half of a version as PEM (PKIX,
// SubjectPublicKeyInfo). number 0 is the current version.
func (s *Service) PublicKey(ctx context.Context, key *fsm.Key, number uint32) (string, uint32, error) {
	if err := CheckOpen(key); err != nil {
		return "", 0, err
	}
	if number == 0 {
		number = key.Current
	}
	material, err := namedVersion(key, number)
	if err != nil {
		return "", 0, err
	}
	if len(material.Public) == 0 {
		return "", 0, fault.Invalid("keyId", "a key of spec %s has no public half", key.Spec)
	}
	if err := s.trust(ctx, material); err != nil {
		return "", 0, err
	}
	return PublicPEM(material), number, nil
}

// PublicPEM writes the public half of material as PEM.
func PublicPEM(material wrapped.Key) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: material.Public}))
}

// GenerateMAC is HMAC-SHA-256 of message under the current version of key.
func (s *Service) GenerateMAC(ctx context.Context, key *fsm.Key, message []byte) ([]byte, uint32, error) {
	if err := CheckProtect(key); err != nil {
		return nil, 0, err
	}
	if err := checkUsage(key, UsageMAC); err != nil {
		return nil, 0, err
	}
	material, err := version(key, key.Current)
	if err != nil {
		return nil, 0, err
	}
	mac, err := s.token.KeyMAC(ctx, material, message)
	return mac, key.Current, err
}

// VerifyMAC reports whether mac is of message under key, and under which
// version, compared in constant time.
func (s *Service) VerifyMAC(ctx context.Context, key *fsm.Key, number uint32, message, mac []byte) (bool, uint32, error) {
	if err := CheckOpen(key); err != nil {
		return false, 0, err
	}
	if err := checkUsage(key, UsageMAC); err != nil {
		return false, 0, err
	}
	return overVersions(key, number, func(material wrapped.Key) (bool, error) {
		want, err := s.token.KeyMAC(ctx, material, message)
		return err == nil && hmac.Equal(want, mac), err
	})
}
