package pkcs11

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// probe does, with keys that live for the length of the probe, each operation
// that we need, and refuses the module in words when one does not work. What
// differs between good modules it finds out and keeps in the profile.
func (w *worker) probe() (Profile, error) {
	info, err := w.mod.ctx.GetInfo()
	if err != nil {
		return Profile{}, failed("C_GetInfo", code(err), forUse)
	}
	w.profile = Profile{
		Module: fmt.Sprintf("%s %d.%d", strings.TrimSpace(info.ManufacturerID), info.LibraryVersion.Major, info.LibraryVersion.Minor),
		Token:  w.token.info.Label,
		Serial: w.token.info.SerialNumber,
		Wrap:   wrapped.RFC3394,

		TokenSessions: uint32(tokenSessions(w.token.info)),

		Specs: []string{wrapped.AES256, wrapped.HMAC256},
	}
	p := &prober{w: w, profile: &w.profile}
	if err := p.secrets(); err != nil {
		return Profile{}, p.namesSetting(err)
	}
	if err := p.pairs(); err != nil {
		return Profile{}, p.namesSetting(err)
	}
	return w.profile, nil
}

// secrets does all that secret keys need, and the module has to have.
func (p *prober) secrets() error {
	if err := p.w.ceremony(p.wrapping); err != nil {
		return err
	}
	if err := p.gcm(); err != nil {
		return err
	}
	for _, step := range []func(session uint) error{p.hmac, p.knownWrapping, p.knownMAC, p.random} {
		if err := p.w.ceremony(step); err != nil {
			return err
		}
	}
	return nil
}

type prober struct {
	w       *worker
	profile *Profile // the worker's: nothing serves before the probe has ended
}

// lacks is the refusal of a module: which capability is missing, and what the
// module said.
func lacks(capability string, cause error) error {
	return fail(statusRefused, cause, "the HSM module cannot serve Strongroom: it lacks %s", capability)
}

// wrapping: generate, wrap by RFC 3394, unwrap under a key whose
// CKA_UNWRAP_TEMPLATE keeps what it unwraps inside. A module that takes the
// template and does not enforce it (NSS softokn) would hand out every KMS key
// to anybody with the PIN.
func (p *prober) wrapping(session uint) error {
	m := p.w.mod
	kek, err := m.generate(session, ckmAESKeyGen, rootTemplate(false).number(ckaValueLen, 32).with(stay()))
	if err != nil {
		return lacks("AES-256 key generation with CKA_UNWRAP_TEMPLATE", err)
	}
	kind := specs[specUsage{wrapped.AES256, UsageEncrypt}]
	key, err := m.generate(session, kind.generate, kind.makeTemplate())
	if err != nil {
		return lacks("generation of extractable AES-256 session keys", err)
	}
	if _, err := m.attribute(session, key, ckaCheckValue); err == nil {
		p.profile.CheckValue = true
	}
	blob, err := m.wrap(session, wrapRFC3394, kek, key)
	if err != nil || len(blob) != kind.bytes+8 {
		return lacks("AES key wrap (RFC 3394, CKM_AES_KEY_WRAP)", err)
	}
	if err := p.unwrapping(session, kek, blob, kind); err != nil {
		return err
	}
	return p.w.refusesReadable(session, kek, blob)
}

// unwrapping tries the variants of the template once and remembers the one
// that works (OpenSC #3198, openCryptoki #897).
func (p *prober) unwrapping(session, kek uint, blob []byte, kind keyKind) error {
	var last error
	for _, valueLen := range []bool{false, true} {
		key, err := p.w.mod.unwrap(session, wrapRFC3394, kek, blob, kind.useTemplate(valueLen))
		if err != nil {
			last = err
			continue
		}
		p.profile.ValueLen = valueLen
		if !p.w.mod.hasFlag(session, key, ckaSensitive, true) || !p.w.mod.hasFlag(session, key, ckaExtractable, false) {
			return lacks("unwrapping to sensitive keys that are not extractable", nil)
		}
		return nil
	}
	return lacks("unwrapping (RFC 3394) to non-extractable session keys", last)
}

// refusesReadable fails unless the HSM itself refuses to unwrap blob under
// kek as a key that could be read.
func (w *worker) refusesReadable(session, kek uint, blob []byte) error {
	readable := secretKey(ckkAES).flag(ckaSensitive, false).flag(ckaExtractable, true).flag(ckaEncrypt, true)
	if w.profile.ValueLen {
		readable = readable.number(ckaValueLen, 32)
	}
	object, err := w.mod.unwrap(session, wrapRFC3394, kek, blob, readable)
	if err != nil {
		return nil
	}
	_ = w.mod.destroy(session, object)
	return lacks("the enforcement of CKA_UNWRAP_TEMPLATE: it unwraps keys to a readable form that the template forbids", nil)
}

func (p *prober) hmac(session uint) error {
	key, err := p.w.mod.generate(session, ckmGenericSecretGen, macTemplate(false).number(ckaValueLen, 32).with(stay()))
	if err != nil {
		return lacks("generation of generic secrets for HMAC", err)
	}
	one, err := p.w.mod.hmac(session, key, []byte("one"))
	if err != nil {
		return lacks("HMAC-SHA-256 (CKM_SHA256_HMAC)", err)
	}
	same, err := p.w.mod.hmac(session, key, []byte("one"))
	if err != nil || !bytes.Equal(one, same) {
		return lacks("HMAC-SHA-256 that answers the same twice", err)
	}
	return nil
}

func (p *prober) random(session uint) error {
	if _, err := p.w.mod.random(session, 32); err != nil {
		return lacks("random numbers (C_GenerateRandom)", err)
	}
	return nil
}
