package pkcs11

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// A mechanism number from the configuration may be that of something else
// that looks alike: another MAC of 32 bytes, another wrap of 40. So each is
// held to an answer that is known, where the module takes a key from outside.

// knownKey, knownData and knownWrap are the vector of RFC 3394, 4.6. The key
// protects nothing: it lives in the HSM for the length of a probe.
var (
	knownKey  = []byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1A\x1B\x1C\x1D\x1E\x1F")
	knownData = []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xAA\xBB\xCC\xDD\xEE\xFF\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F")
	knownWrap = []byte("\x28\xC9\xF4\x04\xC4\xB8\x10\xF4\xCB\xCC\xB3\x5C\xFB\x87\xF8\x26\x3F\x57\x86\xE2\xD8\x0E\xD3\x26\xCB\xC7\xF0\xE7\x1A\x99\xF4\x3B\xFB\x98\x8B\x9B\x7A\x02\xDD\x21")
)

// known brings in a secret key as an object of session; 0 where the module
// takes none from outside, as hardware in FIPS mode does not. The attempt is
// made on a session of its own first: one that failed is not used again.
func (p *prober) known(keyType uint64, value []byte, more template, session uint) (uint, error) {
	t := secretKey(keyType).raw(ckaValue, value).with(leave()).with(more)
	err := p.w.ceremony(func(apart uint) error {
		_, err := p.w.mod.create(apart, t)
		return err
	})
	if err != nil {
		if ofDevice(err) {
			return 0, err
		}
		return 0, nil
	}
	return p.w.mod.create(session, t)
}

// knownWrapping checks RFC 3394. A module that takes the keys and does not
// let them wrap has given no wrong answer.
func (p *prober) knownWrapping(session uint) error {
	m := p.w.mod
	kek, err := p.known(ckkAES, knownKey, template{}.flag(ckaWrap, true), session)
	if err != nil || kek == 0 {
		return err
	}
	data, err := p.known(ckkAES, knownData, template{}, session)
	if err != nil || data == 0 {
		return err
	}
	blob, err := m.wrap(session, wrapRFC3394, kek, data)
	if err != nil {
		return onlyOfDevice(err)
	}
	if !bytes.Equal(blob, knownWrap) {
		return lacks("AES key wrap that is RFC 3394", errors.New("its answer to the vector of RFC 3394, 4.6 is another"))
	}
	return nil
}

// knownMAC checks HMAC-SHA-256 against Go's.
func (p *prober) knownMAC(session uint) error {
	key, err := p.known(ckkGenericSecret, knownKey, specs[specUsage{wrapped.HMAC256, wrapped.MAC}].uses(true), session)
	if err != nil || key == 0 {
		return err
	}
	sum, err := p.w.mod.hmac(session, key, probeAAD)
	if err != nil {
		return onlyOfDevice(err)
	}
	h := hmac.New(sha256.New, knownKey)
	h.Write(probeAAD)
	if !hmac.Equal(sum, h.Sum(nil)) {
		return lacks("HMAC-SHA-256 as everybody computes it", errors.New("its answer is another"))
	}
	return nil
}

// onlyOfDevice lets go of what a module merely does not do.
func onlyOfDevice(err error) error {
	if ofDevice(err) {
		return err
	}
	return nil
}

// ofDevice reports whether a step of the probe failed by a code that speaks
// of the device, a session, room or the PIN, rather than of what the module
// can do. It is no verdict on the module, and must not be kept as one.
func ofDevice(err error) bool {
	var call *callError
	if !errors.As(err, &call) {
		return false
	}
	c, known := classes[call.code]
	return known && c != classInput && c != classCapability
}
