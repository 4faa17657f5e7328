package pkcs11

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// importKey takes in key material that was made elsewhere. The blob is that
// of CKM_RSA_AES_KEY_WRAP (PKCS#11 v2.40, 2.1.21), which SoftHSM 2.6 does not
// have, so its steps are taken one by one:
//
//	blob = RSA-OAEP(import key, AES-256 key) | RFC 5649(AES-256 key, material)
//
// where material is 32 bytes or a PKCS#8 private key. Our code never holds
// any of it in the clear. Every object lives on this
// session: whatever happens, closing it destroys them all.
//
// The blob is a stranger's. Whatever is wrong with it is one text, and no
// answer that a module may find for it costs the worker, unless the canary
// says so.
func (s *hotSession) importKey(root *rootKeys, d *decoder, e *encoder) error {
	m := getImportRequest(d)
	if err := d.done(); err != nil {
		return err
	}
	from, err := s.w.kindFor(m.with, wrapped.Import, true)
	if err != nil {
		return err
	}
	how, err := s.w.oaepFor(m.algorithm)
	if err != nil {
		return err
	}
	k, kind, err := s.w.newKey(root, makeRequest{id: m.into.ID, version: m.into.Version, spec: m.into.Spec, usage: m.into.Usage})
	if err != nil {
		return err
	}
	if kind.curve != nil && len(m.into.Public) == 0 || !kind.pair() && len(m.into.Public) != 0 {
		return fail(statusInvalid, nil, "publicKey: an EC key is imported with its public half, a secret key with none")
	}
	k.Public = bytes.Clone(m.into.Public)
	cut := from.bits / 8
	if len(m.blob) <= cut {
		return errCannotImport()
	}
	return onlyCannotImport(s.again(func() error {
		importer, _, err := s.w.unwrapKey(s.handle, root, m.with)
		if err != nil {
			return cannotLoad(err) // nothing of the blob was looked at yet
		}
		material, err := s.unwrapMaterial(importer, how, m.blob[:cut], m.blob[cut:], kind)
		if err != nil {
			return retold(err, forImport)
		}
		if err := s.adopt(root, &k, kind, material); err != nil {
			return retold(err, forImport)
		}
		putKey(e, k)
		return nil
	}, func() {}))
}

// errMaterial is what our own looks at imported material find wrong with it.
var errMaterial = errors.New("the imported material is not the key that it should be")

// onlyCannotImport gives all that is wrong with a blob one text: what we
// found, and what the canary says is not the device's.
func onlyCannotImport(err error) error {
	var op *opError
	if errors.Is(err, errMaterial) || errors.As(err, &op) && op.text == cannotOpen {
		return errCannotImport()
	}
	return err
}

func (s *hotSession) unwrapMaterial(importer uint, how wrapping, sealedKey, sealed []byte, kind keyKind) (uint, error) {
	valueLen := s.w.profile.ValueLen
	transit, err := s.w.mod.unwrap(s.handle, how, importer, sealedKey, transitTemplate(valueLen))
	if err != nil {
		return 0, err
	}
	material, err := s.w.mod.unwrap(s.handle, wrapping{mechanism: s.w.profile.PadWrap}, transit, sealed, kind.importTemplate(valueLen))
	if err != nil {
		return 0, err
	}
	return material, s.w.mod.destroy(s.handle, transit)
}

// adopt checks that material is the key that k says, and makes k complete.
// Its errors are failed calls, and errMaterial.
func (s *hotSession) adopt(root *rootKeys, k *wrapped.Key, kind keyKind, material uint) error {
	if kind.keyType == ckkRSA {
		public, err := s.w.mod.readPublic(s.handle, material, kind)
		if err != nil {
			return orMaterial(err)
		}
		if len(k.Public) != 0 && !bytes.Equal(k.Public, public) {
			return errMaterial
		}
		k.Public = public
	}
	if kind.pair() {
		if _, err := kind.parsePublic(k.Public); err != nil {
			return errMaterial
		}
	}
	if err := s.takeOut(root, k, kind, material); err != nil {
		return err
	}
	if kind.pair() {
		if err := s.prove(root, *k, kind); err != nil {
			return orMaterial(err)
		}
	} else if err := s.proveSecret(root, *k, kind, material); err != nil {
		return orMaterial(err)
	}
	return s.w.mod.destroy(s.handle, material)
}

// orMaterial leaves failed calls to the table of classes.
func orMaterial(err error) error {
	var call *callError
	if errors.As(err, &call) {
		return err
	}
	return errMaterial
}

// proveSecret checks the length of imported material in every way that some
// module answers to, and that what the root key wrapped is the same key. The
// wrap alone does not tell: SoftHSM pads what is no multiple of eight bytes.
// The use does: no module takes an AES key of 31 bytes, and those that take
// an HMAC key of 31 tell its length.
func (s *hotSession) proveSecret(root *rootKeys, k wrapped.Key, kind keyKind, material uint) error {
	if len(k.Blob) != kind.bytes+8 {
		return errMaterial
	}
	value, err := s.w.mod.attribute(s.handle, material, ckaValueLen)
	if err == nil && len(value) == 8 {
		if n := binary.NativeEndian.Uint64(value); n != 0 && n != uint64(kind.bytes) {
			return errMaterial
		}
	}
	again, _, err := s.w.unwrapKey(s.handle, root, k)
	if err != nil {
		return err
	}
	if err := s.w.mod.staysIn(s.handle, again); err != nil {
		return err
	}
	if err := s.w.mod.sameSecret(s.handle, material, again, k.Usage); err != nil {
		return err
	}
	return s.w.mod.destroy(s.handle, again)
}

// sameSecret proves by use that two objects are one key.
func (m *module) sameSecret(session, one, other uint, usage string) error {
	text := []byte("strongroom/import-check/v1")
	if usage == wrapped.MAC {
		a, err := m.hmac(session, one, text)
		if err != nil {
			return err
		}
		b, err := m.hmac(session, other, text)
		if err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return errMaterial
		}
		return nil
	}
	iv, box, err := m.seal(session, one, nil, text)
	if err != nil {
		return err
	}
	back, err := m.open(session, other, iv, nil, box, make([]byte, len(box)))
	if err != nil {
		return err
	}
	if !bytes.Equal(back, text) {
		return errMaterial
	}
	return nil
}
