package pkcs11

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"

	p11 "github.com/miekg/pkcs11"
)

// receiverLabel names the public keys that the security officer trusts for
// the length of one export. All objects of that name are ours to remove.
const receiverLabel = "strongroom receiver"

// trustRequest is the security officer's part of an export: to remove what
// was trusted before, and to trust one key. receiver is empty where there is
// nothing to trust and removing is all.
type trustRequest struct {
	soPINFile string
	receiver  Recipient
}

func (m trustRequest) put(e *encoder) {
	e.text(m.soPINFile)
	putRecipients(e, []Recipient{m.receiver})
}

func getTrustRequest(d *decoder) trustRequest {
	m := trustRequest{soPINFile: d.text()}
	if to := getRecipients(d); len(to) == 1 {
		m.receiver = to[0]
	} else {
		d.failed = true
	}
	return m
}

// trust serves a worker that the user never logs in to: a log-in is per
// process, and that of the security officer excludes the user's. It is as
// well: neither of the two processes can do the other's part.
func (w *worker) trust(d *decoder) error {
	m := getTrustRequest(d)
	if err := d.done(); err != nil {
		return err
	}
	if w.loggedIn != 0 {
		return fail(statusSick, nil, "the user is logged in to this worker")
	}
	found, err := w.mod.findToken(w.config.label, w.config.serial)
	if err != nil {
		return err
	}
	w.token = found
	session, err := w.mod.openSession(found.slot)
	if err != nil {
		return err
	}
	defer w.mod.closeSession(session)
	if err := w.officerLogin(session, m.soPINFile); err != nil {
		return err
	}
	if err := w.removeReceivers(session); err != nil {
		return err
	}
	if len(m.receiver.PublicDER) != 0 {
		err = w.trustReceiver(session, m.receiver)
	}
	if err = errors.Join(err, syncTree(w.config.syncDir)); err != nil {
		return errors.Join(err, w.removeReceivers(session))
	}
	return nil
}

// officerLogin tries the security officer's PIN once. Most HSMs erase
// themselves when that PIN was wrong too often, so the last try is not ours.
func (w *worker) officerLogin(session uint, file string) error {
	flags := w.token.info.Flags
	if flags&p11.CKF_SO_PIN_LOCKED != 0 {
		return fail(statusCredential, nil, "the security officer's PIN of token %q is locked", w.token.info.Label)
	}
	if flags&p11.CKF_SO_PIN_FINAL_TRY != 0 {
		return fail(statusCredential, nil, "token %q gives the security officer's PIN one last try; log in once with the HSM vendor's tool first", w.token.info.Label)
	}
	pin, err := readPIN(file)
	if err != nil {
		return err
	}
	defer clear(pin[:cap(pin)])
	if err := w.mod.login(session, p11.CKU_SO, pin); err != nil {
		var call *callError
		if c := classes[codeOf(err)]; errors.As(err, &call) && c == classCredential {
			return fail(statusCredential, err, "the HSM refused the security officer's PIN in %s; it was tried once", file)
		}
		return err
	}
	w.mod.state = p11.CKS_RW_SO_FUNCTIONS
	return nil
}

// codeOf is the CK_RV of a failed call, rvGeneralError for any other error.
func codeOf(err error) rv {
	var call *callError
	if errors.As(err, &call) {
		return call.code
	}
	return rvGeneralError
}

// removeReceivers ends all trust: that of this export and what one that was
// killed in the middle left behind.
func (w *worker) removeReceivers(session uint) error {
	for {
		found, err := w.mod.find(w.token, session, ckoPublicKey, receiverLabel, nil)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, object := range found {
			if err := w.mod.destroy(session, object); err != nil {
				return err
			}
		}
	}
}

// trustReceiver makes the receiver's public key an object that the HSM trusts.
// It cannot be changed, and where the module knows how to, not be copied:
// trust ends with this one object.
func (w *worker) trustReceiver(session uint, r Recipient) error {
	public, err := receiverKey(r)
	if err != nil {
		return err
	}
	t := template{}.number(ckaClass, ckoPublicKey).number(ckaKeyType, ckkRSA).
		flag(ckaToken, true).flag(ckaPrivate, false).flag(ckaTrusted, true).flag(ckaModifiable, false).
		flag(ckaWrap, true).flag(ckaEncrypt, false).flag(ckaVerify, false).
		raw(ckaLabel, []byte(receiverLabel)).raw(ckaID, sumOf(r.PublicDER)).
		raw(ckaModulus, public.N.Bytes()).raw(ckaPublicExponent, big.NewInt(int64(public.E)).Bytes())
	_, err = w.mod.create(session, t.with(template{}.flag(ckaCopyable, false)))
	if c, known := classes[codeOf(err)]; err != nil && known && c == classCapability {
		_, err = w.mod.create(session, t)
	}
	if err != nil {
		return lacks("public keys that the security officer marks CKA_TRUSTED", err)
	}
	return nil
}

// findReceiver answers the one trusted object of r's key, for the user's half
// of an export: its bytes are r's, and the HSM says that it is trusted.
func (w *worker) findReceiver(session uint, r Recipient) (uint, error) {
	want, err := receiverKey(r)
	if err != nil {
		return 0, err
	}
	found, err := w.mod.find(w.token, session, ckoPublicKey, receiverLabel, sumOf(r.PublicDER))
	if err != nil {
		return 0, err
	}
	trusted := false
	if len(found) == 1 {
		if trusted, err = w.mod.hasFlag(session, found[0], ckaTrusted, true); err != nil {
			return 0, err
		}
	}
	if !trusted {
		return 0, fail(statusRefused, nil, "the HSM does not hold the receiver's public key as a trusted one; somebody removed it")
	}
	modulus, err := w.mod.attribute(session, found[0], ckaModulus)
	if err != nil {
		return 0, err
	}
	exponent, err := w.mod.attribute(session, found[0], ckaPublicExponent)
	if err != nil {
		return 0, err
	}
	if new(big.Int).SetBytes(modulus).Cmp(want.N) != 0 || new(big.Int).SetBytes(exponent).Cmp(big.NewInt(int64(want.E))) != 0 {
		return 0, fail(statusRefused, nil, "the trusted public key in the HSM is not the receiver's")
	}
	return found[0], nil
}

// receiverKey reads a public key that the root key may be wrapped to: RSA,
// 3072 bits or more, in its one encoding, so that its fingerprint is no other's.
func receiverKey(r Recipient) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(r.PublicDER)
	if err != nil {
		return nil, fail(statusInvalid, err, "the transport key of node %q cannot be read", r.NodeID)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok || public.N.BitLen() < transportBits {
		return nil, fail(statusInvalid, nil, "the transport key of node %q is not an RSA key of %d bits or more", r.NodeID, transportBits)
	}
	if again, err := x509.MarshalPKIXPublicKey(public); err != nil || !bytes.Equal(again, r.PublicDER) {
		return nil, fail(statusInvalid, err, "the transport key of node %q has more than one encoding", r.NodeID)
	}
	return public, nil
}
