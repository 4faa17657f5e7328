package pkcs11

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"runtime"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// hotSession is one worker session and the one goroutine that uses it, from
// Init to the last call: two goroutines on one session crash SoftHSM.
type hotSession struct {
	w      *worker
	handle uint
}

// run serves until the process ends.
func (s *hotSession) run() {
	runtime.LockOSThread()
	for f := range s.w.hot {
		e := newEncoder(len(f.payload) + 512)
		s.w.answer(f, e, s.do(op(f.kind), &decoder{b: f.payload}, e))
	}
}

// renew replaces the session. After any error: one that was left between Init
// and operation is poisoned for ever, and closing it also destroys what it
// had made.
func (s *hotSession) renew() error {
	s.w.mod.closeSession(s.handle)
	s.handle = 0 // never a session: the number may be another's by now
	handle, err := s.w.openSession()
	if err != nil {
		return fail(statusSick, err, "the HSM gives no new session")
	}
	s.handle = handle
	return nil
}

func (s *hotSession) do(o op, d *decoder, e *encoder) error {
	if o == opRandom {
		return s.random(d, e)
	}
	root := s.w.root.Load()
	if root == nil {
		return fail(statusBusy, nil, "no root key is in use yet")
	}
	switch o {
	case opCanary:
		if err := d.done(); err != nil {
			return err
		}
		defer s.w.putLoad(e)
		return s.canary(root)
	case opGenerateKey:
		return s.generateKey(root, d, e)
	case opSeal:
		return s.seal(d, e)
	case opOpen:
		return s.open(d, e)
	case opMAC:
		return s.mac(root, d, e)
	case opCheckKey:
		return s.check(root, d)
	case opSign:
		return s.sign(d, e)
	case opKeyMAC:
		return s.keyMAC(d, e)
	case opDecryptRSA:
		return s.decryptRSA(d, e)
	default:
		return fail(statusSick, nil, "the worker does not know %v", o)
	}
}

// again runs use and decides what its failure means; it runs it a second time
// where the table of error classes says that this can help. reload is called
// before that when handles are stale.
func (s *hotSession) again(use func() error, reload func()) error {
	for attempt := 0; ; attempt++ {
		err := use()
		var call *callError
		if err == nil || !errors.As(err, &call) {
			return err
		}
		if err := s.renew(); err != nil {
			return err
		}
		c, ambiguous := classify(call.code, call.why)
		switch {
		case ambiguous:
			// Bad bytes or a broken device? The canary knows.
			if err := s.canary(s.w.root.Load()); err != nil {
				return err
			}
			return errCannotOpen()
		case c == classInput && call.why == forOpen:
			return errCannotOpen()
		case c == classInput:
			// Too long for this HSM, say. It is no reason to end the worker:
			// a caller could end one with each request.
			return fail(statusInvalid, err, "the HSM does not take this input")
		case attempt == 0 && c == classSession:
		case attempt == 0 && c == classGeneration:
			reload()
		case c == classCapability || c == classCapacity:
			return err
		default:
			return fail(statusSick, err, "the HSM failed")
		}
	}
}

// withKey runs use with a loaded handle of k. A handle is a hint, the blob is
// the truth: when the module does not know the handle any more, the key is
// unwrapped again, once.
func (s *hotSession) withKey(k wrapped.Key, use func(h *keyHandle) error) error {
	sum := k.Sum()
	return s.again(func() error {
		h, err := s.w.loaded(sum, k)
		if err != nil {
			return err
		}
		defer s.w.keys.release(h)
		return use(h)
	}, func() { s.w.keys.drop(sum) })
}

// kindFor answers the row of k and refuses a key that is not for this use
// before it is loaded: what a module says to an AES call with an RSA key is
// nothing that one could tell from a broken device. It trusts no field: the
// MAC comes when the key is loaded.
func (w *worker) kindFor(k wrapped.Key, usage string, pair bool) (keyKind, error) {
	kind, known := specs[specUsage{k.Spec, k.Usage}]
	if !known || k.Usage != usage || kind.pair() != pair {
		return keyKind{}, fail(statusInvalid, nil, "a key of spec %q for %q does not serve this operation", k.Spec, k.Usage)
	}
	return kind, w.serves(k.Spec, k.Usage)
}

func (s *hotSession) seal(d *decoder, e *encoder) error {
	k, plaintext, aad := getKey(d), d.bytes(), d.bytes()
	if err := d.done(); err != nil {
		return err
	}
	if _, err := s.w.kindFor(k, wrapped.Encrypt, false); err != nil {
		return err
	}
	return s.withKey(k, func(h *keyHandle) error {
		// A fresh IV for each try: an attempt that failed may have used the
		// one before.
		iv, box, err := s.w.mod.seal(s.handle, h.object, aad, plaintext)
		if err != nil {
			return err
		}
		e.bytes(iv)
		e.bytes(box)
		return nil
	})
}

func (s *hotSession) open(d *decoder, e *encoder) error {
	k, iv, box, aad := getKey(d), d.bytes(), d.bytes(), d.bytes()
	if err := d.done(); err != nil {
		return err
	}
	if _, err := s.w.kindFor(k, wrapped.Encrypt, false); err != nil || !ivFits(len(iv)) || len(box) < tagBytes {
		return errCannotOpen()
	}
	out := make([]byte, len(box))
	defer clear(out)
	return onlyCannotOpen(s.withKey(k, func(h *keyHandle) error {
		plaintext, err := s.w.mod.open(s.handle, h.object, iv, aad, box, out)
		if err != nil {
			return err
		}
		if len(plaintext) != len(box)-tagBytes {
			return fail(statusSick, nil, "the HSM opened %d bytes into %d", len(box), len(plaintext))
		}
		e.bytes(plaintext)
		return nil
	}))
}

// macDomain keeps MACs that callers ask for apart from those that bind
// wrapped keys, which start with the zero byte of a length.
const macDomain = "strongroom/mac/v1\x00"

func (s *hotSession) mac(root *rootKeys, d *decoder, e *encoder) error {
	message := d.bytes()
	if err := d.done(); err != nil {
		return err
	}
	in := append([]byte(macDomain), message...)
	defer clear(in)
	return s.again(func() error {
		sum, err := s.w.mod.hmac(s.handle, root.mac, in)
		if err == nil {
			e.bytes(sum)
		}
		return err
	}, func() {})
}

func (s *hotSession) random(d *decoder, e *encoder) error {
	n := d.u32()
	if err := d.done(); err != nil || n > MaxRandom {
		return errPayload
	}
	return s.again(func() error {
		out, err := s.w.mod.random(s.handle, int(n))
		defer clear(out)
		if err == nil {
			e.bytes(out)
		}
		return err
	}, func() {})
}

// canary does what matters with the root: a MAC by the root MAC key and a
// look at the root key, both objects of the token, which fail when the token
// is away; a seal and an open under the canary key. C_OpenSession and
// C_GenerateRandom succeed on a token that is gone, so they prove nothing.
//
// It does not unwrap: SoftHSM keeps some 250 bytes of each object destroyed.
func (s *hotSession) canary(root *rootKeys) error {
	err := s.w.checkCanary(s.handle, root)
	if err == nil {
		return nil
	}
	if again := s.renew(); again != nil {
		err = errors.Join(err, again)
	}
	return fail(statusSick, err, "the HSM's canary failed")
}

// checkCanary looks at each root in use.
func (w *worker) checkCanary(session uint, root *rootKeys) error {
	for _, other := range root.others {
		if err := w.checkOneCanary(session, other); err != nil {
			return err
		}
	}
	return w.checkOneCanary(session, root)
}

func (w *worker) checkOneCanary(session uint, root *rootKeys) error {
	if err := w.checkRoot(session, root); err != nil {
		return err
	}
	text := canaryText(root.version)
	opened, err := w.mod.open(session, root.canary, root.canaryIV, nil, root.canaryBox, make([]byte, len(root.canaryBox)+1))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(opened, text) != 1 {
		return errors.New("the canary opened to something else")
	}
	iv, box, err := w.mod.seal(session, root.canary, nil, text)
	if err != nil {
		return err
	}
	back, err := w.mod.open(session, root.canary, iv, nil, box, make([]byte, len(box)))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(back, text) != 1 {
		return errors.New("the HSM opened its own seal to something else")
	}
	return nil
}

// generateKey makes a key inside the HSM, takes it out under the root key and
// forgets it. While it is extractable it exists on this session only, and
// any failure closes the session, which destroys it.
func (s *hotSession) generateKey(root *rootKeys, d *decoder, e *encoder) error {
	k, kind, err := s.w.newKey(root, getMakeRequest(d))
	if err := errors.Join(d.done(), err); err != nil {
		return err
	}
	return s.again(func() error {
		object, err := s.w.mod.generate(s.handle, kind.generate, kind.makeTemplate())
		if err != nil {
			return err
		}
		if k.Blob, err = s.w.mod.wrap(s.handle, wrapRFC3394, root.key, object); err != nil {
			return err
		}
		if err := s.w.mod.destroy(s.handle, object); err != nil {
			return err
		}
		if len(k.Blob) != kind.bytes+8 {
			return fail(statusSick, nil, "the HSM wrapped %d bytes into %d", kind.bytes, len(k.Blob))
		}
		if k.MAC, err = s.w.mod.hmac(s.handle, root.mac, k.Authenticated()); err != nil {
			return err
		}
		putKey(e, k)
		return nil
	}, func() {})
}

// sumOf is short for the fingerprints that we use.
func sumOf(p []byte) []byte {
	sum := sha256.Sum256(p)
	return sum[:]
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
