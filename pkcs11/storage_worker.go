package pkcs11

import (
	"bytes"
	"errors"
)

const storageLabel = "strongroom storage"

// storageTemplate is a storage root: it seals and opens by AES-GCM, and does
// nothing else.
func storageTemplate(id []byte) template {
	return stay().number(ckaClass, ckoSecretKey).number(ckaKeyType, ckkAES).number(ckaValueLen, 32).
		flag(ckaToken, true).flag(ckaPrivate, true).
		flag(ckaEncrypt, true).flag(ckaDecrypt, true).
		flag(ckaWrap, false).flag(ckaUnwrap, false).
		flag(ckaSign, false).flag(ckaVerify, false).flag(ckaDerive, false).
		raw(ckaLabel, []byte(storageLabel)).raw(ckaID, id)
}

// createStorage makes a storage root. Where an attempt that failed has left
// one, the next finds it: whoever asked hears that it is there.
func (w *worker) createStorage(d *decoder) error {
	id := bytes.Clone(d.bytes())
	if err := d.done(); err != nil {
		return err
	}
	return w.ceremony(func(session uint) error {
		there, err := w.findOne(session, storageLabel, id)
		if err != nil {
			return err
		}
		if there != 0 {
			return fail(statusExists, nil, "the HSM has this storage root already")
		}
		made, err := w.mod.generate(session, ckmAESKeyGen, storageTemplate(id))
		if err != nil {
			return err
		}
		if err := w.storageStays(session, made); err != nil {
			return errors.Join(err, w.mod.destroy(session, made), syncTree(w.config.syncDir))
		}
		return syncTree(w.config.syncDir)
	})
}

// storageStays fails unless the HSM says that the storage root cannot leave.
func (w *worker) storageStays(session, object uint) error {
	for attribute, want := range map[uint64]bool{ckaSensitive: true, ckaExtractable: false, ckaWrap: false, ckaUnwrap: false} {
		has, err := w.mod.hasFlag(session, object, attribute, want)
		if err != nil {
			return err
		}
		if !has {
			return fail(statusRefused, nil, "the storage root in the HSM does not have attribute 0x%x set to %v", attribute, want)
		}
	}
	return nil
}

// storageRoot answers the storage root, proven to stay in the HSM.
func (w *worker) storageRoot(session uint, id []byte) (uint, error) {
	object, err := w.findOne(session, storageLabel, id)
	if err != nil {
		return 0, err
	}
	if object == 0 {
		return 0, fail(statusAbsent, nil, "the HSM token %q has no such storage root", w.token.info.Label)
	}
	return object, w.storageStays(session, object)
}

func (w *worker) sealStorage(d *decoder, e *encoder) error {
	id, key, aad := d.bytes(), d.bytes(), d.bytes()
	if err := d.done(); err != nil {
		return err
	}
	var iv, box []byte
	err := w.repeated(func(session uint) error {
		root, err := w.storageRoot(session, id)
		if err != nil {
			return err
		}
		iv, box, err = w.mod.seal(session, root, aad, key)
		return err
	})
	if err != nil {
		return err
	}
	e.bytes(iv)
	e.bytes(box)
	return nil
}

func (w *worker) openStorage(d *decoder, e *encoder) error {
	id, iv, box, aad := d.bytes(), d.bytes(), d.bytes(), d.bytes()
	if err := d.done(); err != nil {
		return err
	}
	out := make([]byte, len(box))
	defer clear(out)
	var plain []byte
	err := w.repeated(func(session uint) error {
		root, err := w.storageRoot(session, id)
		if err != nil {
			return err
		}
		plain, err = w.mod.open(session, root, iv, aad, box, out)
		return err
	})
	if err != nil {
		return err
	}
	e.bytes(plain)
	return nil
}

// removeStorage destroys a storage root. One that was destroyed by a call that
// failed is not found the next time.
func (w *worker) removeStorage(d *decoder) error {
	id := d.bytes()
	if err := d.done(); err != nil {
		return err
	}
	err := w.repeated(func(session uint) error {
		object, err := w.findOne(session, storageLabel, id)
		if err != nil || object == 0 {
			return err
		}
		return w.mod.destroy(session, object)
	})
	if err != nil {
		return err
	}
	return syncTree(w.config.syncDir)
}
