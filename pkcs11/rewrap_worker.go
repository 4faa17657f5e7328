package pkcs11

import (
	"errors"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// rewrap takes keys from the roots that they are under to root.
//
// A root in use makes the HSM keep in what it unwraps (CKA_UNWRAP_TEMPLATE),
// so nothing that it let in could be wrapped anew. The old root is therefore
// taken in once more from its copy, as a passing object of this session that
// makes no such demand, and each key goes through it as it went when it was
// made: extractable on this session, for two calls, never readable.
func (s *hotSession) rewrap(root *rootKeys, d *decoder, e *encoder) error {
	keys := getKeys(d)
	if err := d.done(); err != nil {
		return err
	}
	for _, k := range keys {
		if k.Root == root.version {
			return fail(statusInvalid, nil, "the key %s is under root key v%d already", k.ID, root.version)
		}
	}
	var out []wrapped.Key
	err := s.again(func() error {
		out = out[:0]
		passing := map[uint32]uint{}
		for _, k := range keys {
			next, err := s.rewrapOne(root, k, passing)
			if err != nil {
				return err
			}
			out = append(out, next)
		}
		for _, object := range passing {
			if err := s.w.mod.destroy(s.handle, object); err != nil {
				return err
			}
		}
		return nil
	}, func() {})
	if err != nil {
		return err
	}
	putKeys(e, out)
	return nil
}

func (s *hotSession) rewrapOne(root *rootKeys, k wrapped.Key, passing map[uint32]uint) (wrapped.Key, error) {
	kind, _, err := s.w.checkKey(s.handle, root, k)
	if err != nil {
		return wrapped.Key{}, err
	}
	from := root.of(k.Root)
	if passing[k.Root] == 0 {
		if passing[k.Root], err = s.passingRoot(from); err != nil {
			return wrapped.Key{}, err
		}
	}
	how := s.w.profile.wrapping(kind)
	material, err := s.w.mod.unwrap(s.handle, how, passing[k.Root], k.Blob, kind.importTemplate(s.w.profile.ValueLen))
	if err != nil {
		return wrapped.Key{}, retold(err, forUse) // its MAC was right: the blob is ours
	}
	next := k
	next.Root, next.Blob, next.MAC = root.version, nil, nil
	if err := s.takeOut(root, &next, kind, material); err != nil {
		return wrapped.Key{}, err
	}
	if kind.pair() {
		err = s.prove(root, next, kind)
	} else {
		err = s.proveSecret(root, next, kind, material)
	}
	if err != nil {
		return wrapped.Key{}, retoldSick(retold(err, forUse), "the HSM wrapped a key anew to something else")
	}
	return next, s.w.mod.destroy(s.handle, material)
}

// passingRoot takes in a root from our copy as a session object that unwraps
// and does nothing else.
func (s *hotSession) passingRoot(from *rootKeys) (uint, error) {
	if from.copied == nil {
		return 0, fail(statusAbsent, nil, "this HSM has no copy of the root key v%d that it could wrap keys anew from", from.version)
	}
	how, known := oaepBy(from.copied.Wrap)
	if !known {
		return 0, fail(statusRefused, nil, "the copy of the root key is wrapped by %q, which this version does not know", from.copied.Wrap)
	}
	own, err := s.w.findPair(s.handle)
	if err != nil {
		return 0, err
	}
	if err := s.w.examine(s.handle, &own); err != nil {
		return 0, err
	}
	object, err := s.w.mod.unwrap(s.handle, how, own.private, from.copied.RootKey, s.w.received(passingTemplate(), kept(own.key.Profile)))
	var call *callError
	if errors.As(err, &call) && classes[call.code] == classCapability {
		return 0, fail(statusRefused, err, "this HSM does not take in a root key to wrap keys anew from; its keys cannot leave the root key v%d", from.version)
	}
	return object, retold(err, forUse)
}

// passingTemplate is the old root but for its secrecy and length.
func passingTemplate() template {
	return template{}.number(ckaClass, ckoSecretKey).number(ckaKeyType, ckkAES).
		flag(ckaToken, false).flag(ckaPrivate, true).
		flag(ckaUnwrap, true).flag(ckaWrap, false).
		flag(ckaSign, false).flag(ckaVerify, false).flag(ckaDerive, false)
}
