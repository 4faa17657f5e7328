package kms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"fmt"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// probe is what keys are tried on. Nothing else starts with it, so no check
// makes a signature or a MAC that means something to anybody.
var probe = []byte("strongroom/key-check/v1")

// Check makes the HSM use the current version of key once, whatever the
// key's state: it tells whether the material can be used here, now. It
// answers fault.NotFound for a key without material.
func (s *Service) Check(ctx context.Context, key *fsm.Key) error {
	if key.Current == 0 || key.State == fsm.KeyDestroyed {
		return fault.New(fault.NotFound, "keyId: the key has no material")
	}
	material, err := version(key, key.Current)
	if err != nil {
		return err
	}
	return s.prove(ctx, material)
}

// prove uses material once and compares what comes back.
func (s *Service) prove(ctx context.Context, material wrapped.Key) error {
	switch {
	case material.Usage == UsageMAC:
		_, err := s.token.KeyMAC(ctx, material, probe)
		return err
	case material.Usage == UsageSign:
		return s.proveSign(ctx, material)
	case isRSA(material.Spec):
		return s.proveRSA(ctx, material)
	}
	iv, box, err := s.token.Seal(ctx, material, secret.Copy(probe), probe)
	if err != nil {
		return err
	}
	plain, err := s.token.Open(ctx, material, iv, box, probe)
	if err != nil {
		return err
	}
	return proved(plain)
}

func (s *Service) proveSign(ctx context.Context, material wrapped.Key) error {
	algorithm := wrapped.SignAlgorithms(material.Spec)[0]
	digest, err := DigestOf(algorithm, probe, nil)
	if err != nil {
		return err
	}
	signature, err := s.token.Sign(ctx, material, algorithm, digest)
	if err != nil {
		return err
	}
	if ok, err := verify(material, algorithm, digest, signature); err != nil || !ok {
		return fault.Wrap(fault.Internal, err, "the HSM made a signature that does not verify")
	}
	return nil
}

func (s *Service) proveRSA(ctx context.Context, material wrapped.Key) error {
	public, err := rsaPublic(material)
	if err != nil {
		return err
	}
	code, err := s.bestOAEP(ctx)
	if err != nil {
		return err
	}
	box, err := rsa.EncryptOAEP(oaepHash(oaepNames[code]), rand.Reader, public, probe, nil)
	if err != nil {
		return fmt.Errorf("kms: RSA-OAEP: %w", err)
	}
	plain, err := s.token.DecryptRSA(ctx, material, oaepNames[code], box)
	if err != nil {
		return err
	}
	return proved(plain)
}

func proved(plain secret.Bytes) error {
	defer plain.Wipe()
	if subtle.ConstantTimeCompare(plain.Expose(), probe) != 1 {
		return fault.New(fault.Internal, "the HSM opened its own seal to something else")
	}
	return nil
}

// trust answers nil once the HSM has checked the MAC of material, which covers
// the public half too. So nobody who can write to the store can have a public
// key of his own handed out, encrypted to, or verified with. Each version
// costs one call of the HSM in the life of this process.
func (s *Service) trust(ctx context.Context, material wrapped.Key) error {
	sum := material.Sum()
	if s.trusted.Contains(sum) {
		return nil
	}
	err := s.token.CheckKey(ctx, material)
	if fault.Is(err, fault.InvalidRequest) {
		return fault.Wrap(fault.Internal, err, "the stored material of key %s is not what the HSM made; the store may have been altered", material.ID)
	}
	if err == nil {
		s.trusted.Add(sum, struct{}{})
	}
	return err
}
