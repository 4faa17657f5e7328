package pkcs11

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// newKey starts the wrapped form of a key that is to be made, or refuses it
// in words.
func (w *worker) newKey(root *rootKeys, m makeRequest) (wrapped.Key, keyKind, error) {
	kind, ok := specs[specUsage{m.spec, m.usage}]
	if !ok {
		return wrapped.Key{}, keyKind{}, fail(statusInvalid, nil, "there are no keys of spec %q for %q", m.spec, m.usage)
	}
	k := wrapped.Key{ID: m.id, Version: m.version, Spec: m.spec, Usage: m.usage, Wrap: kind.wrapName(), Root: root.version}
	return k, kind, w.serves(m.spec, m.usage)
}

// generatePair makes a pair inside the HSM, takes the private half out under
// the root key and proves, before anybody gets to know the key, that what was
// taken out comes back, stays in, and belongs to the public half. (FIPS 140-3
// asks this of every new pair.) So generation itself needs no probe.
func (s *hotSession) generatePair(root *rootKeys, d *decoder, e *encoder) error {
	k, kind, err := s.w.newKey(root, getMakeRequest(d))
	if err := errors.Join(d.done(), err); err != nil {
		return err
	}
	return s.again(func() error {
		public, private, err := s.w.mod.generatePair(s.handle, kind.generate, kind.publicTemplate(), kind.makeTemplate())
		var call *callError
		if errors.As(err, &call) && classes[call.code] == classCapability {
			return fail(statusInvalid, err, "the HSM of this node makes no keys of spec %q", k.Spec)
		}
		if err != nil {
			return err
		}
		if k.Public, err = s.w.mod.readPublic(s.handle, public, kind); err != nil {
			return retoldSick(err, "the HSM made a pair with an odd public half")
		}
		if err := s.takeOut(root, &k, kind, private); err != nil {
			return err
		}
		for _, object := range []uint{public, private} {
			if err := s.w.mod.destroy(s.handle, object); err != nil {
				return err
			}
		}
		if err := s.prove(root, k, kind); err != nil {
			return retoldSick(retold(err, forUse), "the HSM made a pair that fails its test")
		}
		putKey(e, k)
		return nil
	}, func() {})
}

// retoldSick leaves failed calls to the table of classes; whatever else was
// found out is the HSM's fault.
func retoldSick(err error, text string) error {
	var call *callError
	var op *opError
	if errors.As(err, &call) || errors.As(err, &op) && op.status != statusInvalid {
		return err
	}
	return fail(statusSick, err, "%s", text)
}

// takeOut wraps object under the root key into k and binds all of k by the
// root MAC key.
func (s *hotSession) takeOut(root *rootKeys, k *wrapped.Key, kind keyKind, object uint) (err error) {
	if k.Blob, err = s.w.mod.wrap(s.handle, s.w.profile.wrapping(kind), root.key, object); err != nil {
		return err
	}
	k.MAC, err = s.w.mod.hmac(s.handle, root.mac, k.Authenticated())
	return err
}

// prove loads k on this session as every use of it will, checks that the HSM
// keeps it in, uses it, and compares with what Go makes of the public half.
func (s *hotSession) prove(root *rootKeys, k wrapped.Key, kind keyKind) error {
	object, public, err := s.w.unwrapKey(s.handle, root, k)
	if err != nil {
		return err
	}
	if err := s.w.mod.staysIn(s.handle, object); err != nil {
		return err
	}
	if err := s.w.provePair(s.handle, object, public, k.Usage, k.Spec, kind); err != nil {
		return err
	}
	return s.w.mod.destroy(s.handle, object)
}

// staysIn fails unless the HSM says that an object is sensitive and not
// extractable.
func (m *module) staysIn(session, object uint) error {
	sensitive, err := m.hasFlag(session, object, ckaSensitive, true)
	if err != nil {
		return err
	}
	kept, err := m.hasFlag(session, object, ckaExtractable, false)
	if err != nil {
		return err
	}
	if !sensitive || !kept {
		return errors.New("the HSM holds an unwrapped key that is readable or extractable")
	}
	return nil
}

// provePair proves that a private key in the HSM belongs to public, by its
// one use.
func (w *worker) provePair(session, object uint, public crypto.PublicKey, usage, spec string, kind keyKind) error {
	switch usage {
	case wrapped.Sign:
		for _, algorithm := range wrapped.SignAlgorithms(spec) {
			if how, err := w.signingFor(spec, algorithm, make([]byte, wrapped.DigestBytes(algorithm))); err == nil {
				return w.mod.proveSigning(session, object, public, how, kind)
			}
		}
		return fail(statusInvalid, nil, "the HSM of this node signs by no algorithm of spec %q", spec)
	default:
		for _, o := range oaeps {
			if _, err := w.oaepFor(o.name); err == nil {
				return w.mod.proveOpening(session, object, public, usage, o, w.profile.ValueLen)
			}
		}
		return fail(statusInvalid, nil, "the HSM of this node opens nothing that is encrypted to RSA keys")
	}
}

func (m *module) proveSigning(session, object uint, public crypto.PublicKey, how signing, kind keyKind) error {
	digest := make([]byte, how.hash.Size())
	if _, err := rand.Read(digest); err != nil {
		return err
	}
	out, err := m.signWith(session, object, how, kind.curve, digest)
	if err != nil {
		return err
	}
	if !how.verify(public, digest, out) {
		return errors.New("the HSM's signature does not verify under the public half")
	}
	return nil
}

// proveOpening encrypts to the public half in Go; the HSM must open it. A
// pair for imports opens it as a key, which it keeps: OAEP has redundancy
// enough for a wrong pair to fail.
func (m *module) proveOpening(session, object uint, public crypto.PublicKey, usage string, o oaep, valueLen bool) error {
	p, ok := public.(*rsa.PublicKey)
	if !ok {
		return errors.New("the public half is not of RSA")
	}
	text := make([]byte, 32)
	if _, err := rand.Read(text); err != nil {
		return err
	}
	box, err := rsa.EncryptOAEP(o.hash.New(), rand.Reader, p, text, nil)
	if err != nil {
		return err
	}
	if usage == wrapped.Import {
		key, err := m.unwrap(session, o.how, object, box, transitTemplate(valueLen))
		if err != nil {
			return err
		}
		return m.destroy(session, key)
	}
	room := make([]byte, len(box))
	defer clear(room)
	got, err := m.decrypt(session, o.how, object, box, room)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, text) != 1 {
		return fmt.Errorf("the HSM opened %s to something else", o.name)
	}
	return nil
}

// transitTemplate is the AES key under which imported material comes: it
// unwraps that, and does nothing else.
func transitTemplate(valueLen bool) template {
	t := secretKey(ckkAES).with(onlyKeep()).flag(ckaUnwrap, true)
	if valueLen {
		t = t.number(ckaValueLen, 32)
	}
	return t
}
