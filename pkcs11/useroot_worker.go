package pkcs11

import (
	"bytes"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"
)

// useRoot finds the root key in the token, checks that it is the one that r
// means and that the HSM keeps it in, and starts to serve with it. Where the
// caller allows it, an HSM that has the transport key but not yet the root
// imports it from its copy; the answer then says so, and nothing is served
// before a fresh worker has found and checked the objects.
//
// What met an error of the device is done again. An import starts with
// another look then: the one that failed may have left an object, and there
// must not be two.
func (w *worker) useRoot(d *decoder, e *encoder) error {
	allowImport, r := d.flag(), getRoot(d)
	if err := d.done(); err != nil {
		return err
	}
	if w.root.Load() != nil {
		return fail(statusSick, nil, "this worker has a root in use already")
	}
	root := &rootKeys{version: r.Version, checkValue: r.CheckValue, macCheck: r.MACCheck, canaryIV: r.CanaryIV, canaryBox: r.CanaryBox}
	imported := false
	err := w.repeated(func(session uint) (err error) {
		id := rootID(r.MACCheck)
		if root.key, err = w.findOne(session, rootLabel(r.Version), id); err != nil {
			return err
		}
		if root.mac, err = w.findOne(session, macLabel(r.Version), id); err != nil {
			return err
		}
		switch {
		case root.key != 0 && root.mac != 0 && imported:
			return syncTree(w.config.syncDir)
		case root.key != 0 && root.mac != 0:
			return nil
		}
		if !allowImport {
			return fail(statusRefused, nil, "the root key v%d is not in the HSM token %q; nothing was created", r.Version, w.token.info.Label)
		}
		imported = true
		return w.importRoot(session, r, id, root.key == 0, root.mac == 0)
	})
	if err == nil && !imported {
		err = w.proveRoot(root, r)
	}
	if err != nil {
		return err
	}
	if !imported {
		w.root.Store(root)
	}
	e.flag(imported)
	return nil
}

// findOne answers the one secret key with this label and id, 0 for none.
// PKCS#11 reserves 0 as the handle that is never valid.
func (w *worker) findOne(session uint, label string, id []byte) (uint, error) {
	found, err := w.mod.find(w.token, session, ckoSecretKey, label, id)
	if err != nil {
		return 0, err
	}
	switch len(found) {
	case 0:
		return 0, nil
	case 1:
		return found[0], nil
	default:
		return 0, fail(statusRefused, nil, "the HSM has %d keys labelled %q with one id; remove the wrong ones", len(found), label)
	}
}

// importRoot unwraps our copy into token objects.
func (w *worker) importRoot(session uint, r Root, id []byte, needKey, needMAC bool) error {
	own, err := w.findPair(session)
	if err != nil {
		return err
	}
	var copied *RootCopy
	for i := range r.Copies {
		if bytes.Equal(r.Copies[i].Fingerprint, own.key.Fingerprint) {
			copied = &r.Copies[i]
		}
	}
	if copied == nil {
		return fail(statusAbsent, nil, "the root key v%d was not wrapped to this HSM's transport key", r.Version)
	}
	how, known := oaepBy(copied.Wrap)
	if !known {
		return fail(statusRefused, nil, "the copy of the root key is wrapped by %q, which this version does not know", copied.Wrap)
	}
	take := func(blob []byte, t template, label string) error {
		_, err := w.mod.unwrap(session, how, own.private, blob, t.raw(ckaLabel, []byte(label)).raw(ckaID, id))
		if err != nil {
			return fail(statusRefused, err, "the HSM does not take its copy of the root key v%d", r.Version)
		}
		return nil
	}
	if needKey {
		if err := take(copied.RootKey, w.rootImport(), rootLabel(r.Version)); err != nil {
			return err
		}
	}
	if needMAC {
		if err := take(copied.MACKey, w.macImport(true), macLabel(r.Version)); err != nil {
			return err
		}
	}
	return syncTree(w.config.syncDir)
}

// proveRoot is the known-answer test: right keys, kept in by the HSM itself,
// and a canary that only they open. It loads the canary on the anchor.
func (w *worker) proveRoot(root *rootKeys, r Root) error {
	err := w.repeated(func(session uint) error { return w.keptIn(session, root) })
	if err != nil {
		return err
	}
	if err := w.repeated(func(session uint) error { return w.checkRoot(session, root) }); err != nil {
		return fail(statusRefused, err, "the root key v%d in the HSM does not pass its check", r.Version)
	}
	err = w.repeated(func(session uint) error { return w.refusesReadable(session, root.key, r.Canary.Blob) })
	if err != nil {
		return err
	}
	err = w.repeated(func(session uint) error {
		kind, _, err := w.checkKey(session, root, r.Canary)
		if err != nil {
			return err
		}
		return w.anchor.do(func(anchored uint) error {
			root.canary, err = w.unwrapChecked(anchored, root, kind, r.Canary)
			return err
		})
	})
	if err == nil {
		err = w.renewable(func(s *hotSession) error { return s.canary(root) })
	}
	if err != nil {
		return fail(statusRefused, err, "the canary of the root key v%d does not open", r.Version)
	}
	return nil
}

// keptIn fails unless the HSM says that it keeps both keys of root in, and
// that the root key does nothing but wrap.
func (w *worker) keptIn(session uint, root *rootKeys) error {
	must := []struct {
		object    uint
		attribute uint64
		want      bool
	}{
		{root.key, ckaSensitive, true}, {root.key, ckaExtractable, false},
		{root.key, ckaEncrypt, false}, {root.key, ckaDecrypt, false},
		{root.mac, ckaSensitive, true}, {root.mac, ckaExtractable, false},
	}
	for _, m := range must {
		has, err := w.mod.hasFlag(session, m.object, m.attribute, m.want)
		if err != nil {
			return err
		}
		if !has {
			return fail(statusRefused, nil, "the root key v%d in the HSM does not have attribute 0x%x set to %v", root.version, m.attribute, m.want)
		}
	}
	return nil
}

// userLogin logs in with the PIN file, once. Flags of the token that say that
// the PIN is locked, or that this would be the last try, stop it before it
// costs a try; lastTry says that a person changed the PIN file since.
func (w *worker) userLogin(session uint, lastTry bool) error {
	flags := w.token.info.Flags
	if flags&p11.CKF_USER_PIN_LOCKED != 0 {
		return fail(statusCredential, nil, "the PIN of token %q is locked; the security officer has to set it anew", w.token.info.Label)
	}
	if flags&p11.CKF_USER_PIN_FINAL_TRY != 0 && !lastTry {
		return fail(statusCredential, nil, "token %q gives the PIN one last try; put the right PIN into %s", w.token.info.Label, w.config.pinFile)
	}
	pin, err := readPIN(w.config.pinFile)
	if err != nil {
		return err
	}
	defer clear(pin[:cap(pin)])
	err = w.mod.login(session, p11.CKU_USER, pin)
	return notAlready(err)
}

// notAlready forgives CKR_USER_ALREADY_LOGGED_IN: log-in is per process.
func notAlready(err error) error {
	if call, ok := err.(*callError); ok && call.code == rvAlreadyLoggedIn {
		return nil
	}
	return err
}

// initToken makes a token with our label in a free slot and sets both PINs.
func (w *worker) initToken(d *decoder) error {
	soFile := d.text()
	if err := d.done(); err != nil {
		return err
	}
	soPIN, err := readPIN(soFile)
	if err != nil {
		return err
	}
	defer clear(soPIN)
	userPIN, err := readPIN(w.config.pinFile)
	if err != nil {
		return err
	}
	defer clear(userPIN)
	all, err := w.mod.tokens()
	if err != nil {
		return err
	}
	free, found := uint(0), false
	for _, t := range all {
		initialised := t.info.Flags&p11.CKF_TOKEN_INITIALIZED != 0
		if initialised && t.info.Label == w.config.label {
			return fail(statusExists, nil, "a token labelled %q is there already; it is left alone", w.config.label)
		}
		if !initialised && !found {
			free, found = t.slot, true
		}
	}
	if !found {
		return fail(statusRefused, nil, "the HSM has no slot with an uninitialised token")
	}
	if err := w.mod.initToken(free, soPIN, userPIN, w.config.label); err != nil {
		return err
	}
	return syncTree(w.config.syncDir)
}

// initToken runs C_InitToken and, logged in as security officer, C_InitPIN.
// miekg/pkcs11 copies both PINs; the process that runs this ends right after.
func (m *module) initToken(slot uint, soPIN, userPIN []byte, label string) error {
	if err := m.ctx.InitToken(slot, string(soPIN), label); err != nil {
		return failed("C_InitToken", code(err), forUse)
	}
	session, err := m.openSession(slot)
	if err != nil {
		return err
	}
	defer m.closeSession(session)
	if err := m.login(session, p11.CKU_SO, soPIN); err != nil {
		return err
	}
	return failed("C_InitPIN", code(m.ctx.InitPIN(p11.SessionHandle(session), string(userPIN))), forUse)
}

// detail is the cause for the parent's log: function names and codes.
func (e *opError) detail() string {
	if e.cause == nil {
		return ""
	}
	return strings.ToValidUTF8(fmt.Sprint(e.cause), "?")
}
