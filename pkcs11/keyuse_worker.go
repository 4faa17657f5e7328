package pkcs11

import (
	"crypto/elliptic"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// sign signs a digest by a pair. What an RSA key signed is verified before it
// leaves: a signature that went wrong in one half of the CRT gives away the
// key (Boneh, DeMillo, Lipton 1997), and looking costs next to nothing beside
// making it. An ECDSA signature is only checked to be one.
func (s *hotSession) sign(d *decoder, e *encoder) error {
	m := getKeyRequest(d)
	if err := d.done(); err != nil {
		return err
	}
	kind, err := s.w.kindFor(m.key, wrapped.Sign, true)
	if err != nil {
		return err
	}
	how, err := s.w.signingFor(m.key.Spec, m.algorithm, m.input)
	if err != nil {
		return err
	}
	return s.withKey(m.key, func(h *keyHandle) error {
		out, err := s.w.mod.signWith(s.handle, h.object, how, kind.curve, m.input)
		if err != nil {
			return err
		}
		if kind.curve == nil && !how.verify(h.public, m.input, out) {
			return fail(statusSick, nil, "the HSM made a signature that does not verify")
		}
		e.bytes(out)
		return nil
	})
}

// signingFor answers how to sign, or refuses in words: an algorithm that
// does not fit the key, one that this module was not seen to do, a digest of
// another length.
func (w *worker) signingFor(spec, algorithm string, digest []byte) (signing, error) {
	if fitting := wrapped.SignAlgorithms(spec); !slices.Contains(fitting, algorithm) {
		return signing{}, fail(statusInvalid, nil, "a key of spec %q does not sign by %q; it signs by %s", spec, algorithm, strings.Join(fitting, ", "))
	}
	if !slices.Contains(w.profile.Sign, algorithm) {
		return signing{}, fail(statusInvalid, nil, "the HSM of this node does not sign by %q; it signs by %s", algorithm, strings.Join(w.profile.Sign, ", "))
	}
	if want := wrapped.DigestBytes(algorithm); len(digest) != want {
		return signing{}, fail(statusInvalid, nil, "the digest has %d bytes; %s signs one of %d", len(digest), algorithm, want)
	}
	return signings[algorithm], nil
}

// signWith answers a signature in the form that everybody else takes: DER on
// a curve (nil for RSA), the bytes of the modulus' length for RSA.
func (m *module) signWith(session, key uint, how signing, curve elliptic.Curve, digest []byte) ([]byte, error) {
	out, err := m.sign(session, how.how, key, how.input(digest))
	if err != nil || curve == nil {
		return out, err
	}
	der, err := signatureDER(curve, out)
	if err != nil {
		return nil, fail(statusSick, err, "the HSM made no signature")
	}
	return der, nil
}

// keyMAC is HMAC-SHA-256 as everybody computes it: no domain of ours.
func (s *hotSession) keyMAC(d *decoder, e *encoder) error {
	m := getKeyRequest(d)
	if err := d.done(); err != nil || m.algorithm != "" {
		return errPayload
	}
	if _, err := s.w.kindFor(m.key, wrapped.MAC, false); err != nil {
		return err
	}
	return s.withKey(m.key, func(h *keyHandle) error {
		sum, err := s.w.mod.hmac(s.handle, h.object, m.input)
		if err == nil {
			e.bytes(sum)
		}
		return err
	})
}

// decryptRSA opens what was encrypted to the public half of a pair. After the
// checks that look at the request only, all that can go wrong is one text.
func (s *hotSession) decryptRSA(d *decoder, e *encoder) error {
	m := getKeyRequest(d)
	if err := d.done(); err != nil {
		return err
	}
	kind, err := s.w.kindFor(m.key, wrapped.Encrypt, true)
	if err != nil {
		return err
	}
	how, err := s.w.oaepFor(m.algorithm)
	if err != nil {
		return err
	}
	if len(m.input) != kind.bits/8 {
		return errCannotOpen()
	}
	out := make([]byte, len(m.input))
	defer clear(out)
	return onlyCannotOpen(s.withKey(m.key, func(h *keyHandle) error {
		plaintext, err := s.w.mod.decrypt(s.handle, how, h.object, m.input, out)
		if err == nil {
			e.bytes(plaintext)
		}
		return err
	}))
}

// oaepFor answers how to open, or says what this module can do.
func (w *worker) oaepFor(algorithm string) (wrapping, error) {
	how, known := oaepBy(algorithm)
	if !known || !slices.Contains(w.profile.OAEP, algorithm) {
		return wrapping{}, fail(statusInvalid, nil, "the HSM of this node does not do %q; it does %s", algorithm, orNothing(w.profile.OAEP))
	}
	return how, nil
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "no encryption to RSA keys"
	}
	return strings.Join(names, ", ")
}

// check loads nothing: it is for those who want to know that what the store
// says of a key, its public half above all, is what the HSM once said.
func (s *hotSession) check(root *rootKeys, d *decoder) error {
	k := getKey(d)
	if err := d.done(); err != nil {
		return err
	}
	return s.again(func() error {
		_, _, err := s.w.checkKey(s.handle, root, k)
		return err
	}, func() {})
}
