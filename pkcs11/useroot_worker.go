package pkcs11

import (
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"
)

// useRoot finds the root keys in the token, checks that they are those that
// are meant and that the HSM keeps them in, and starts to serve with them.
// Where the caller allows it, an HSM that has the transport key but not yet a
// root imports it from its copy; the answer then says so, and nothing is
// served before a fresh worker has found and checked the objects.
func (w *worker) useRoot(d *decoder, e *encoder) error {
	allowImport, making, roots := d.flag(), d.u32(), getRoots(d)
	if err := d.done(); err != nil {
		return err
	}
	if w.root.Load() != nil {
		return fail(statusSick, nil, "this worker has a root in use already")
	}
	var all []*rootKeys
	imported := false
	for _, r := range roots {
		root, err := w.findRoot(r, allowImport)
		if err != nil {
			return err
		}
		imported = imported || root == nil
		all = append(all, root)
	}
	e.flag(imported)
	if imported {
		return nil
	}
	first := led(all, making)
	if first == nil {
		return fail(statusSick, nil, "no root of version %d is among those to use", making)
	}
	w.root.Store(first)
	return nil
}

// findRoot answers the root that r means, proven; nil when it was imported
// just now.
func (w *worker) findRoot(r Root, allowImport bool) (*rootKeys, error) {
	root, imported, err := w.bringRoot(r, allowImport)
	if err != nil || imported {
		return nil, err
	}
	// Without a copy everything works but a rotation of the root.
	err = w.repeated(func(session uint) error {
		own, err := w.findPair(session)
		root.copied = r.copyFor(own.key.Fingerprint)
		return err
	})
	if mayPass(err) {
		return nil, err
	}
	return root, w.proveRoot(root, r)
}

// bringRoot finds both objects of the root in the token, or imports what is
// not there where that is allowed.
//
// What met an error of the device is done again. An import starts with
// another look then: the one that failed may have left an object, and there
// must not be two.
func (w *worker) bringRoot(r Root, allowImport bool) (root *rootKeys, imported bool, err error) {
	root = &rootKeys{version: r.Version, checkValue: r.CheckValue, macCheck: r.MACCheck, canaryIV: r.CanaryIV, canaryBox: r.CanaryBox}
	err = w.repeated(func(session uint) (err error) {
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
	return root, imported, err
}

// importOneRoot takes in a root beside those in use, or only looks whether it
// is there, whole. Whoever asked starts a fresh worker, which finds and checks
// it.
func (w *worker) importOneRoot(d *decoder) error {
	mayImport, r := d.flag(), getRoot(d)
	if err := d.done(); err != nil {
		return err
	}
	root, _, err := w.bringRoot(r, mayImport)
	if err != nil || mayImport {
		return err
	}
	// Another node brought it in, maybe just now: a fresh worker that finds
	// it half-written would cost this node its service for a moment.
	if err := w.repeated(func(session uint) error { return w.checkRoot(session, root) }); err != nil {
		return fail(statusAway, err, "the root key v%d in the HSM token %q is not whole yet", r.Version, w.token.info.Label)
	}
	return nil
}

// makeUnder chooses the root that new keys are wrapped under, among those in
// use.
func (w *worker) makeUnder(d *decoder) error {
	making := d.u32()
	if err := d.done(); err != nil {
		return err
	}
	root := w.root.Load()
	if root == nil {
		return fail(statusBusy, nil, "no root key is in use yet")
	}
	first := led(append([]*rootKeys{root}, root.others...), making)
	if first == nil {
		return fail(statusBusy, nil, "the root key v%d is not in use", making)
	}
	w.root.Store(first)
	return nil
}

// removeRoot destroys both objects of a root that this worker does not use.
// Where one of them is gone already, another node of a shared HSM was first.
func (w *worker) removeRoot(d *decoder) error {
	r := getRoot(d)
	if err := d.done(); err != nil {
		return err
	}
	if root := w.root.Load(); root == nil || root.of(r.Version) != nil {
		return fail(statusBusy, nil, "the root key v%d is in use, or none is", r.Version)
	}
	id := rootID(r.MACCheck)
	for _, label := range []string{rootLabel(r.Version), macLabel(r.Version)} {
		// What was destroyed by a call that failed is not found the next time.
		err := w.repeated(func(session uint) error {
			object, err := w.findOne(session, label, id)
			if err != nil || object == 0 {
				return err
			}
			return w.mod.destroy(session, object)
		})
		if err != nil {
			return err
		}
	}
	return syncTree(w.config.syncDir)
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

// importRoot unwraps our copy into token objects, once it was proven to be
// this root: a wrong key under the right name would be in the way of the
// right one for ever.
func (w *worker) importRoot(session uint, r Root, id []byte, needKey, needMAC bool) error {
	own, err := w.findPair(session)
	if err != nil {
		return err
	}
	if err := w.examine(session, &own); err != nil {
		return err
	}
	copied, how, err := ownCopy(r, own)
	if err != nil {
		return err
	}
	keep := kept(own.key.Profile)
	if _, err := w.openCopy(session, r, own, keep); err != nil {
		return err
	}
	take := func(blob []byte, t template, label string) error {
		_, err := w.mod.unwrap(session, how, own.private, blob, w.received(t, keep).raw(ckaLabel, []byte(label)).raw(ckaID, id))
		if err != nil {
			return cannotTake(r, err)
		}
		return nil
	}
	if needKey {
		if err := take(copied.RootKey, rootTemplate(true), rootLabel(r.Version)); err != nil {
			return err
		}
	}
	if needMAC {
		if err := take(copied.MACKey, macTemplate(true), macLabel(r.Version)); err != nil {
			return err
		}
	}
	return syncTree(w.config.syncDir)
}

// ownCopy answers the copy that was wrapped to our transport key.
func ownCopy(r Root, own pair) (RootCopy, wrapping, error) {
	c := r.copyFor(own.key.Fingerprint)
	if c == nil {
		return RootCopy{}, wrapping{}, fail(statusAbsent, nil, "the root key v%d was not wrapped to this HSM's transport key", r.Version)
	}
	how, known := oaepBy(c.Wrap)
	if !known {
		return *c, how, fail(statusRefused, nil, "the copy of the root key is wrapped by %q, which this version does not know", c.Wrap)
	}
	return *c, how, nil
}

// openCopy unwraps our copy into objects of this session and proves that they
// are the root that r describes: MAC, canary, check value.
func (w *worker) openCopy(session uint, r Root, own pair, keep template) (*rootKeys, error) {
	copied, how, err := ownCopy(r, own)
	if err != nil {
		return nil, err
	}
	root := &rootKeys{version: r.Version, checkValue: r.CheckValue, macCheck: r.MACCheck, canaryIV: r.CanaryIV, canaryBox: r.CanaryBox}
	if root.key, err = w.mod.unwrap(session, how, own.private, copied.RootKey, w.received(rootTemplate(false), keep)); err != nil {
		return nil, cannotTake(r, err)
	}
	if root.mac, err = w.mod.unwrap(session, how, own.private, copied.MACKey, w.received(macTemplate(false), keep)); err != nil {
		return nil, cannotTake(r, err)
	}
	if root.canary, _, err = w.unwrapKey(session, root, r.Canary); err == nil {
		err = w.checkCanary(session, root)
	}
	if err != nil {
		return nil, fail(statusRefused, err, "the copy for this HSM is not the root key v%d that it should be", r.Version)
	}
	return root, nil
}

func cannotTake(r Root, cause error) error {
	return fail(statusRefused, cause, "the HSM does not take its copy of the root key v%d", r.Version)
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

// userLogin logs in with the PIN file, once, and remembers which file it was.
// Flags of the token that say that the PIN is locked, or that this would be
// the last try, stop it before it costs a try; lastTry says that a person
// changed the PIN file since.
func (w *worker) userLogin(session uint, lastTry bool) error {
	w.lastTry = lastTry
	if err := w.pinAllowed(w.token.info.Flags, lastTry); err != nil {
		return err
	}
	return w.loginWithFile(session, &w.pinFile)
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
