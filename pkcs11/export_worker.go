package pkcs11

// exportRequest is the user's part of an export. A rehearsal does all that
// needs no trusted key, so that whatever is wrong is found before the security
// officer's PIN is used.
type exportRequest struct {
	rehearsal bool
	root      Root
	to        Recipient
}

func (m exportRequest) put(e *encoder) {
	e.flag(m.rehearsal)
	m.root.put(e)
	putRecipients(e, []Recipient{m.to})
}

func getExportRequest(d *decoder) exportRequest {
	m := exportRequest{rehearsal: d.flag(), root: getRoot(d)}
	if to := getRecipients(d); len(to) == 1 {
		m.to = to[0]
	} else {
		d.failed = true
	}
	return m
}

// exportRoot takes a copy of the root key out for one receiver. The answer is
// the profile of this HSM, and the copy where it is flexible and this is no
// rehearsal.
//
// The root in use is a token object that is not extractable, and stays so.
// What leaves is its copy from the replicated state, unwrapped once more as an
// object of this session: extractable, but the transport key's
// CKA_UNWRAP_TEMPLATE has CKA_WRAP_WITH_TRUSTED, so the HSM itself lets it out
// under the receiver's key only, and only while the security officer has that
// key marked as trusted. We could not do otherwise if we wanted to, nor can
// who has the PIN and the state.
func (w *worker) exportRoot(session uint, d *decoder, e *encoder) error {
	m := getExportRequest(d)
	if err := d.done(); err != nil {
		return err
	}
	own, err := w.findPair(session)
	if err != nil {
		return err
	}
	if err := w.examine(session, &own); err != nil {
		return err
	}
	e.text(own.key.Profile)
	if own.key.Profile != Flexible {
		e.flag(false)
		return nil
	}
	root, err := w.copyToGive(session, m.root, own)
	if err != nil {
		return err
	}
	how, known := oaepBy(m.to.Wrap)
	if !known {
		return fail(statusInvalid, nil, "the transport key of node %q asks for the unknown wrap %q", m.to.NodeID, m.to.Wrap)
	}
	if m.rehearsal {
		e.flag(false)
		return w.rehearse(session, how, root, m.to)
	}
	public, err := w.findReceiver(session, m.to)
	if err != nil {
		return err
	}
	out := RootCopy{NodeID: m.to.NodeID, Fingerprint: sumOf(m.to.PublicDER), Wrap: m.to.Wrap}
	if out.RootKey, err = w.mod.wrap(session, how, public, root.key); err != nil {
		return err
	}
	if out.MACKey, err = w.mod.wrap(session, how, public, root.mac); err != nil {
		return err
	}
	e.flag(true)
	Root{Copies: []RootCopy{out}}.put(e)
	return nil
}

// copyToGive opens our copy in the form that may leave, after the root in the
// token was found and both were proven to be what r describes: what one HSM
// gives another is the root that it serves with, not one that a file names.
func (w *worker) copyToGive(session uint, r Root, own pair) (*rootKeys, error) {
	id := rootID(r.MACCheck)
	serving := &rootKeys{version: r.Version, checkValue: r.CheckValue, macCheck: r.MACCheck, canaryIV: r.CanaryIV, canaryBox: r.CanaryBox}
	var err error
	if serving.key, err = w.findOne(session, rootLabel(r.Version), id); err != nil {
		return nil, err
	}
	if serving.mac, err = w.findOne(session, macLabel(r.Version), id); err != nil {
		return nil, err
	}
	if serving.key == 0 || serving.mac == 0 {
		return nil, fail(statusRefused, nil, "the root key v%d of this description is not in the HSM token %q; it can only pass on what it has", r.Version, w.token.info.Label)
	}
	if err := w.proveRoot(serving, r); err != nil {
		return nil, err
	}
	return w.openCopy(session, r, own, onlyTrusted().flag(ckaExtractable, true))
}

// rehearse tries the receiver's key as one that nobody trusts. It takes out a
// key that is thrown away, so the wrap is one that this HSM does. That it does
// not take out the root is what the profile promises.
func (w *worker) rehearse(session uint, how wrapping, root *rootKeys, to Recipient) error {
	if _, err := receiverKey(to); err != nil {
		return err
	}
	public, err := w.importPublic(session, to)
	if err != nil {
		return err
	}
	probe, err := w.mod.generate(session, ckmGenericSecretGen, macTemplate(false).number(ckaValueLen, 32).with(leave()))
	if err != nil {
		return err
	}
	if _, err := w.mod.wrap(session, how, public, probe); err != nil {
		return lacks("the wrap "+to.Wrap+" that the receiver's transport key asks for", err)
	}
	for _, key := range []uint{root.key, root.mac} {
		refusal, err := verdict(func() error {
			_, err := w.mod.wrap(session, how, public, key)
			return err
		})
		if err != nil {
			return err
		}
		if refusal == nil {
			return lacks("the enforcement of CKA_WRAP_WITH_TRUSTED: it wraps the root key under a key that nobody trusts", nil)
		}
	}
	return nil
}
