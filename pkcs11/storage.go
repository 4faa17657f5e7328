package pkcs11

import (
	"context"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// Bounds of what goes through a storage root: a key, and who it is for.
const (
	storageIDBytes  = 16
	maxStorageKey   = 64
	maxStorageAbout = 4096
)

// CreateStorageRoot makes the key that a node's storage keys are sealed under:
// AES-256, made inside this HSM, never extractable, good for AES-GCM only.
// It needs no root key in use: a node opens its log with it, and the log tells
// the root key. id has 16 bytes and is all that tells storage roots of one
// HSM apart. AlreadyExists when it is there. What it made is found by a fresh
// worker when it returns.
func (d *Device) CreateStorageRoot(ctx context.Context, id []byte) error {
	if err := checkStorageID(id); err != nil {
		return err
	}
	d.ceremonies.Lock()
	defer d.ceremonies.Unlock()
	e := newEncoder(len(id))
	e.bytes(id)
	if err := d.request(ctx, opCreateStorage, e.b, func(*decoder) {}); err != nil {
		return err
	}
	return d.restart(ctx)
}

// SealStorage encrypts a storage key under the storage root id, bound to aad.
// It leaves key to the caller. NotFound when this HSM has no such root.
func (d *Device) SealStorage(ctx context.Context, id []byte, key secret.Bytes, aad []byte) (iv, box []byte, err error) {
	if err := checkStorageID(id); err != nil {
		return nil, nil, err
	}
	if key.Len() > maxStorageKey || len(aad) > maxStorageAbout {
		return nil, nil, fault.New(fault.TooLarge, "a storage key may have %d bytes", maxStorageKey)
	}
	e := newEncoder(len(id) + key.Len() + len(aad))
	e.bytes(id)
	e.bytes(key.Expose())
	e.bytes(aad)
	err = d.request(ctx, opSealStorage, e.b, func(in *decoder) {
		iv, box = append([]byte(nil), in.bytes()...), append([]byte(nil), in.bytes()...)
	})
	return iv, box, err
}

// OpenStorage decrypts what SealStorage made. NotFound when this HSM has no
// such root; whatever does not open is InvalidRequest. The caller wipes the
// result.
func (d *Device) OpenStorage(ctx context.Context, id, iv, box, aad []byte) (secret.Bytes, error) {
	if err := checkStorageID(id); err != nil {
		return secret.Bytes{}, err
	}
	if len(iv) > 64 || len(box) < tagBytes || len(box) > maxStorageKey+tagBytes || len(aad) > maxStorageAbout {
		return secret.Bytes{}, errCannotOpen().fault()
	}
	e := newEncoder(len(id) + len(iv) + len(box) + len(aad))
	e.bytes(id)
	e.bytes(iv)
	e.bytes(box)
	e.bytes(aad)
	var out secret.Bytes
	err := d.request(ctx, opOpenStorage, e.b, func(in *decoder) { out = secret.Copy(in.bytes()) })
	if err != nil {
		out.Wipe()
		return secret.Bytes{}, err
	}
	return out, nil
}

// RemoveStorageRoot destroys a storage root: what was sealed under it can
// never be opened again. One that is not there is no error.
func (d *Device) RemoveStorageRoot(ctx context.Context, id []byte) error {
	if err := checkStorageID(id); err != nil {
		return err
	}
	d.ceremonies.Lock()
	defer d.ceremonies.Unlock()
	e := newEncoder(len(id))
	e.bytes(id)
	return d.request(ctx, opRemoveStorage, e.b, func(*decoder) {})
}

func checkStorageID(id []byte) error {
	if len(id) != storageIDBytes {
		return fault.Invalid("id", "must have %d bytes", storageIDBytes)
	}
	return nil
}
