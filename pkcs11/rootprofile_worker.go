package pkcs11

// The profiles of the root key in one HSM. They are a matter of the transport
// key that it comes in by, for as long as that key lives.
const (
	// Strict: what the transport key receives never leaves this HSM again.
	Strict = "strict"
	// Flexible: it leaves under a public key that the security officer has
	// marked CKA_TRUSTED, and under no other. Not even with the user PIN.
	Flexible = "flexible"
)

// onlyTrusted takes the place of onlyKeep in a flexible HSM. It leaves
// CKA_EXTRACTABLE open: our own root keys have it false all the same.
func onlyTrusted() template {
	return template{}.flag(ckaSensitive, true).flag(ckaWrapWithTrusted, true).flag(ckaEncrypt, false).flag(ckaDecrypt, false)
}

// demand is the CKA_UNWRAP_TEMPLATE of a transport key of this profile. What
// is extractable must not derive: CKM_CONCATENATE_BASE_AND_DATA and its like
// hand on CKA_EXTRACTABLE, and not CKA_WRAP_WITH_TRUSTED.
func demand(profile string) template {
	if profile == Flexible {
		return onlyTrusted().flag(ckaDerive, false)
	}
	return onlyKeep()
}

// kept is how a key of the token is received: as the transport key demands,
// all of it repeated (SoftHSM wants that), and not extractable in either
// profile. What leaves is a copy of its own, for one session.
func kept(profile string) template {
	if profile == Flexible {
		return onlyTrusted().flag(ckaExtractable, false)
	}
	return onlyKeep()
}

// received completes the template of a key that a transport key lets in.
func (w *worker) received(t, keep template) template {
	t = t.with(keep)
	if w.profile.ValueLen {
		t = t.number(ckaValueLen, 32)
	}
	return t
}

// examine finds out how the HSM receives keys by the pair, and which profile
// it keeps, by doing it with a key that is thrown away. Neither label nor
// attribute is asked: only what the HSM refuses counts. To take a flexible
// pair for a strict one, as a sick module may make us, refuses an export or an
// import, and harms nothing.
//
// A pair that lets what it received leave under any key is none of ours,
// whatever it is called, and is refused.
func (w *worker) examine(session uint, p *pair) error {
	probe, err := w.mod.generate(session, ckmGenericSecretGen, macTemplate(false).number(ckaValueLen, 32).with(leave()))
	if err != nil {
		return err
	}
	for _, try := range oaeps {
		var blob []byte
		refusal, err := verdict(func() (err error) {
			blob, err = w.mod.wrap(session, try.how, p.public, probe)
			return err
		})
		if err != nil {
			return err
		}
		if refusal != nil {
			continue
		}
		profile, err := w.profileOf(session, p, try.how, blob)
		if err != nil {
			return err
		}
		if profile != "" {
			p.key.Wrap, p.key.Profile = try.name, profile
			return nil
		}
	}
	return lacks("wrapping by RSA-OAEP under the transport key", nil)
}

// profileOf answers the profile of the pair, "" when it does not receive blob
// at all.
func (w *worker) profileOf(session uint, p *pair, how wrapping, blob []byte) (string, error) {
	// There are as many ways to refuse a template as there are modules; but a
	// sick device refuses nothing.
	take := func(keep template) (object uint, err error) {
		refusal, err := verdict(func() (err error) {
			object, err = w.mod.unwrap(session, how, p.private, blob, w.received(macTemplate(false), keep))
			return err
		})
		if refusal != nil || err != nil {
			return 0, err
		}
		return object, nil
	}
	for _, open := range []template{
		leave().flag(ckaWrapWithTrusted, false),
		leave(),
		template{}.flag(ckaSensitive, false).flag(ckaExtractable, false),
		template{}.flag(ckaSensitive, false).flag(ckaExtractable, false).flag(ckaWrapWithTrusted, true),
	} {
		object, err := take(open.flag(ckaEncrypt, false).flag(ckaDecrypt, false))
		if err != nil {
			return "", err
		}
		if object != 0 {
			return "", lacks("the enforcement of CKA_UNWRAP_TEMPLATE on the transport key: a root key that came in by it could leave under any key", nil)
		}
	}
	object, err := take(onlyTrusted().flag(ckaExtractable, true))
	if err != nil {
		return "", err
	}
	if object == 0 {
		return w.strictOrNone(take)
	}
	// An object of this session is trusted by nobody, also where the
	// security officer trusts our own public key.
	untrusted, err := w.importPublic(session, Recipient{PublicDER: p.key.PublicDER})
	if err != nil {
		return "", err
	}
	refusal, err := verdict(func() error {
		_, err := w.mod.wrap(session, how, untrusted, object)
		return err
	})
	if err != nil {
		return "", err
	}
	if refusal == nil {
		return "", lacks("the enforcement of CKA_WRAP_WITH_TRUSTED: it wraps such a key under any other", nil)
	}
	if object, err = take(kept(Flexible)); err != nil || object == 0 {
		return "", err
	}
	return Flexible, nil
}

func (w *worker) strictOrNone(take func(template) (uint, error)) (string, error) {
	object, err := take(kept(Strict))
	if err != nil || object == 0 {
		return "", err
	}
	return Strict, nil
}
