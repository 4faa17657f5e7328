package pkcs11

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// gcm finds the way in which the module does AES-GCM, or holds it to the one
// that the configuration says. Each way is tried with a key and sessions of
// its own: one that failed leaves nothing behind.
func (p *prober) gcm() error {
	want := p.w.config.dialect.IVMode
	if want == "" {
		want = dialect.IVAuto
	}
	var told []string
	for _, way := range ways {
		if want != dialect.IVAuto && way.mode != want {
			continue
		}
		found, why, err := p.tryWay(way)
		if err != nil {
			return err
		}
		if why == nil {
			p.keep(found)
			return nil
		}
		told = append(told, fmt.Sprintf("%s: %v", way.mode, why))
	}
	if want == dialect.IVAuto {
		return lacks("AES-GCM in any IV mode that is known", errors.New(strings.Join(told, "; ")))
	}
	other, err := p.other(want)
	if err != nil {
		return err
	}
	return fail(statusRefused, errors.New(strings.Join(told, "; ")), "hsm.ivMode: the HSM module does not do AES-GCM in the mode %s; %s", want, other)
}

func (p *prober) keep(way gcmWay) {
	p.w.mod.gcm = way
	p.profile.IVMode, p.profile.IVBytes = way.mode, uint32(way.made)
}

// other says what to set instead of want.
func (p *prober) other(want string) (string, error) {
	for _, way := range ways {
		if way.mode == want {
			continue
		}
		_, why, err := p.tryWay(way)
		if err != nil {
			return "", err
		}
		if why == nil {
			return fmt.Sprintf("it does it in the mode %s: set that, or auto", way.mode), nil
		}
	}
	return "nor in any other that is known", nil
}

// try does with one way all that we need of it. err is the device's, why the
// way's.
func (p *prober) tryWay(way gcmWay) (found gcmWay, why, err error) {
	why = p.w.ceremony(func(session uint) error {
		kind := specs[specUsage{wrapped.AES256, UsageEncrypt}]
		key, err := p.w.mod.generate(session, kind.generate, secretKey(kind.keyType).number(ckaValueLen, 32).with(stay()).with(kind.uses(true)))
		if err != nil {
			return err
		}
		if found, err = p.proveIVs(session, way, key); err != nil {
			return err
		}
		if err := p.proveGCMOpening(session, found, key); err != nil {
			return err
		}
		return p.knownGCM(session, found)
	})
	if ofDevice(why) {
		return gcmWay{}, nil, why
	}
	return found, why, nil
}

var probeText, probeAAD = make([]byte, 32), []byte("strongroom/probe")

// proveIVs: no two seals have one IV; and an IV that the caller chose is used
// as it is, so that the same makes the same. The answer is way with the length
// of its IVs.
func (p *prober) proveIVs(session uint, way gcmWay, key uint) (gcmWay, error) {
	before, err := way.buffer()
	if err != nil {
		return way, err
	}
	iv, box, err := p.w.mod.sealBy(way, session, key, before, probeAAD, probeText)
	if err != nil {
		return way, err
	}
	way.made = len(iv)
	if way.mode == dialect.IVCaller {
		_, same, err := p.w.mod.sealBy(way, session, key, before, probeAAD, probeText)
		if err != nil {
			return way, err
		}
		if !bytes.Equal(box, same) {
			return way, errors.New("it does not use the IV of the caller")
		}
	}
	if before, err = way.buffer(); err != nil {
		return way, err
	}
	other, otherBox, err := p.w.mod.sealBy(way, session, key, before, probeAAD, probeText)
	if err != nil {
		return way, err
	}
	if bytes.Equal(iv, other) || bytes.Equal(box, otherBox) {
		return way, errors.New("two seals have one IV")
	}
	return way, nil
}

// proveGCMOpening: what was sealed opens with the IV that is stored, and with no
// other; the associated data is bound; damage is refused.
func (p *prober) proveGCMOpening(session uint, way gcmWay, key uint) error {
	m := p.w.mod
	before, err := way.buffer()
	if err != nil {
		return err
	}
	iv, box, err := m.sealBy(way, session, key, before, probeAAD, probeText)
	if err != nil {
		return err
	}
	back, err := m.openBy(way, session, key, iv, probeAAD, box, make([]byte, len(box)))
	if err != nil || !bytes.Equal(back, probeText) {
		return fmt.Errorf("it does not open what it sealed: %w", orElse(err, "another text came out"))
	}
	flipped := func(in []byte, at int) []byte {
		out := bytes.Clone(in)
		out[at] ^= 1
		return out
	}
	for _, bad := range []struct {
		what         string
		iv, aad, box []byte
	}{
		{"a damaged ciphertext", iv, probeAAD, flipped(box, 0)},
		{"a damaged tag", iv, probeAAD, flipped(box, len(box)-1)},
		{"other associated data", iv, flipped(probeAAD, 0), box},
		{"no associated data", iv, nil, box},
		{"another IV", flipped(iv, 0), probeAAD, box},
	} {
		// Each on a session of its own: it shall fail, and what a module
		// leaves behind in a session then is no business of the next.
		err := p.w.ceremony(func(session uint) error {
			_, err := m.openBy(way, session, key, bad.iv, bad.aad, bad.box, make([]byte, len(box)))
			if err == nil {
				return errOpens
			}
			return err
		})
		if errors.Is(err, errOpens) {
			return fmt.Errorf("it opens with %s", bad.what)
		}
		if ofDevice(err) {
			return err
		}
	}
	return nil
}

var errOpens = errors.New("it opens what it must not")

func orElse(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

// knownGCM holds the way against Go's AES-GCM, under a key that everybody
// knows. A module that takes no key from outside has been held to itself.
func (p *prober) knownGCM(session uint, way gcmWay) error {
	kind := specs[specUsage{wrapped.AES256, UsageEncrypt}]
	key, err := p.known(kind.keyType, knownKey, kind.uses(true), session)
	if err != nil || key == 0 {
		return err
	}
	block, err := aes.NewCipher(knownKey)
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, way.made)
	if err != nil {
		return err
	}
	before, err := way.buffer()
	if err != nil {
		return err
	}
	iv, box, err := p.w.mod.sealBy(way, session, key, before, probeAAD, probeText)
	var call *callError
	if errors.As(err, &call) {
		return onlyOfDevice(err) // no answer is no wrong answer
	}
	if err != nil {
		return err
	}
	if back, err := gcm.Open(nil, iv, box, probeAAD); err != nil || !bytes.Equal(back, probeText) {
		return errors.New("what it seals is not AES-256-GCM with that IV")
	}
	return nil
}
