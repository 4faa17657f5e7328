package pkcs11

import (
	"bytes"
	"path/filepath"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"
)

// module is one loaded and initialised PKCS#11 library. Sessions are numbers
// here; whoever opened one is the only one to use it.
type module struct {
	ctx  *p11.Ctx
	hot  functions
	lock sync.Locker // a mutex for modules that cannot lock for themselves

	sessions sync.Mutex // held while one is opened or closed

	// state is what a session is in that has its log-in: the user's, or in a
	// process of his own the security officer's. Set before any find.
	state uint

	// Set before the sessions start, never changed.
	own map[uint64]uint64 // the module's numbers where they are not the standard's
	gcm gcmWay            // how it does AES-GCM; set by the probe
	ivs lastIV
}

// number answers the module's own number of a mechanism that we call by the
// standard's.
func (m *module) number(standard uint64) uint64 {
	if own, ok := m.own[standard]; ok {
		return own
	}
	return standard
}

// noLock is the Locker of modules that lock for themselves, which is all but
// the oddest.
type noLock struct{}

func (noLock) Lock()   {}
func (noLock) Unlock() {}

// loadModule loads the library at path and initialises it for many threads,
// or for one at a time where it says that it cannot lock. initArgs goes to
// C_Initialize as it is.
func loadModule(path, initArgs string) (*module, error) {
	if !filepath.IsAbs(path) {
		return nil, fail(statusRefused, nil, "hsm.module: %q is not an absolute path", path)
	}
	ctx := p11.New(path)
	if ctx == nil {
		return nil, fail(statusRefused, nil, "hsm.module: %s cannot be loaded; is the HSM's PKCS#11 library installed there?", path)
	}
	hot, rc := findFunctions(path)
	if rc != rvOK {
		return nil, fail(statusRefused, failed("C_GetFunctionList", rc, forUse), "hsm.module: %s has no function list", path)
	}
	m := &module{ctx: ctx, hot: hot, lock: noLock{}, state: p11.CKS_RW_USER_FUNCTIONS}
	rc = hot.initialize(p11.CKF_OS_LOCKING_OK, initArgs)
	if rc == rvCantLock {
		m.lock = &sync.Mutex{}
		rc = hot.initialize(0, initArgs)
	}
	if rc != rvOK {
		return nil, fail(statusRefused, failed("C_Initialize", rc, forUse), "hsm.module: %s does not initialise%s", path, withArgs(initArgs))
	}
	return m, nil
}

func withArgs(initArgs string) string {
	if initArgs == "" {
		return "; does it want hsm.initArgs or hsm.env?"
	}
	return " with what hsm.initArgs says"
}

// token is one token as C_GetTokenInfo describes it.
type token struct {
	slot uint
	info p11.TokenInfo
}

func (m *module) tokens() ([]token, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, failed("C_GetSlotList", code(err), forUse)
	}
	var out []token
	for _, slot := range slots {
		var info p11.TokenInfo
		err := persist(tries, time.Now().Add(loginTimeout/patience), func() (err error) {
			info, err = m.ctx.GetTokenInfo(slot)
			return failed("C_GetTokenInfo", code(err), forUse)
		})
		if err != nil {
			continue // another slot's token may be away; ours is looked for by name
		}
		out = append(out, token{slot: slot, info: info})
	}
	return out, nil
}

// findToken finds the one token with this label, and serial when one is
// given. Slot numbers change, so they are never used; two tokens that both
// fit are refused, because taking the wrong one could look like a lost root.
func (m *module) findToken(label, serial string) (token, error) {
	all, err := m.tokens()
	if err != nil {
		return token{}, err
	}
	var found []token
	for _, t := range all {
		if t.info.Flags&p11.CKF_TOKEN_INITIALIZED != 0 && t.info.Label == label &&
			(serial == "" || t.info.SerialNumber == serial) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return token{}, fail(statusAway, nil, "hsm.token: no token labelled %q is there%s", label, ofSerial(serial))
	case 1:
		return found[0], nil
	default:
		return token{}, fail(statusRefused, nil, "hsm.token: %d tokens are labelled %q; set hsm.serial to choose one", len(found), label)
	}
}

func ofSerial(serial string) string {
	if serial == "" {
		return ""
	}
	return " with serial " + serial
}

// openSession opens a read/write session: some HSMs know no other.
func (m *module) openSession(slot uint) (uint, error) {
	m.sessions.Lock()
	defer m.sessions.Unlock()
	m.lock.Lock()
	defer m.lock.Unlock()
	h, err := m.ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	return uint(h), failed("C_OpenSession", code(err), forUse)
}

// closeSession lets a session go, with some patience: one left open would
// stay for as long as the worker does. The close that failed may have worked,
// so nobody opens a session meanwhile, who might be given the same number.
// After the last try there is nothing to tell: the session is not used again
// either way, and an HSM that runs out of them gets a new worker.
func (m *module) closeSession(session uint) {
	m.sessions.Lock()
	defer m.sessions.Unlock()
	m.lock.Lock()
	defer m.lock.Unlock()
	for range tries {
		code := code(m.ctx.CloseSession(p11.SessionHandle(session)))
		if code == rvOK || classes[code] == classSession {
			return
		}
	}
}

func (m *module) login(session uint, user uint64, pin []byte) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	return failed("C_Login", m.hot.login(session, user, pin), forUse)
}

func (m *module) destroy(session, object uint) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	return failed("C_DestroyObject", code(m.ctx.DestroyObject(p11.SessionHandle(session), p11.ObjectHandle(object))), forUse)
}

// attribute reads one attribute: one that is missing would fail all others
// asked for with it.
func (m *module) attribute(session, object uint, kind uint64) ([]byte, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	got, err := m.ctx.GetAttributeValue(p11.SessionHandle(session), p11.ObjectHandle(object),
		[]*p11.Attribute{p11.NewAttribute(uint(kind), nil)})
	if err != nil {
		return nil, failed("C_GetAttributeValue", code(err), forUse)
	}
	if len(got) != 1 {
		return nil, failed("C_GetAttributeValue", rvGeneralError, forUse)
	}
	return got[0].Value, nil
}

// hasFlag reports whether a boolean attribute is readable and equals want. It
// fails when the device did.
func (m *module) hasFlag(session, object uint, kind uint64, want bool) (bool, error) {
	var value []byte
	refusal, err := verdict(func() (err error) {
		value, err = m.attribute(session, object, kind)
		return err
	})
	return refusal == nil && len(value) == 1 && (value[0] != 0) == want, err
}

// find answers the token objects with this class, label and id (nil: any).
//
// An empty answer alone proves nothing: a session that lost its log-in and a
// token that went away find nothing too, with CKR_OK. So it is believed only
// from a session that is logged in, on a token that still answers.
func (m *module) find(t token, session uint, class uint64, label string, id []byte) ([]uint, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	query := []*p11.Attribute{
		p11.NewAttribute(ckaClass, uint(class)),
		p11.NewAttribute(ckaToken, true),
		p11.NewAttribute(ckaLabel, label),
	}
	if id != nil {
		query = append(query, p11.NewAttribute(ckaID, id))
	}
	handle := p11.SessionHandle(session)
	if err := m.ctx.FindObjectsInit(handle, query); err != nil {
		return nil, failed("C_FindObjectsInit", code(err), forUse)
	}
	objects, _, err := m.ctx.FindObjects(handle, 8)
	if final := m.ctx.FindObjectsFinal(handle); err == nil {
		err = final
	}
	if err != nil {
		return nil, failed("C_FindObjects", code(err), forUse)
	}
	out := make([]uint, len(objects))
	for i, o := range objects {
		out[i] = uint(o)
	}
	if len(out) == 0 {
		return nil, m.believeAbsence(t, handle)
	}
	return out, nil
}

// believeAbsence fails unless the token is still there and logged in.
func (m *module) believeAbsence(t token, session p11.SessionHandle) error {
	info, err := m.ctx.GetTokenInfo(t.slot)
	if err != nil {
		return failed("C_GetTokenInfo", code(err), forUse)
	}
	if info.Label != t.info.Label || info.SerialNumber != t.info.SerialNumber {
		return fail(statusSick, nil, "another token took the place of %q", t.info.Label)
	}
	state, err := m.ctx.GetSessionInfo(session)
	if err != nil {
		return failed("C_GetSessionInfo", code(err), forUse)
	}
	if state.State != m.state {
		return fail(statusSick, nil, "the HSM session lost its log-in")
	}
	return nil
}

func (m *module) random(session uint, n int) ([]byte, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	out, err := m.ctx.GenerateRandom(p11.SessionHandle(session), n)
	if err != nil {
		return nil, failed("C_GenerateRandom", code(err), forUse)
	}
	if len(out) != n || n >= 16 && bytes.Count(out, []byte{0}) == n {
		return nil, failed("C_GenerateRandom", rvGeneralError, forUse)
	}
	return out, nil
}

// hmac answers the HMAC-SHA-256 of message.
func (m *module) hmac(session, key uint, message []byte) ([]byte, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	out := make([]byte, 32)
	n, rc := m.hot.sign(session, signature{mechanism: m.number(ckmSHA256HMAC)}, key, message, out)
	if rc == rvOK && n != len(out) {
		rc = rvGeneralError
	}
	return out, failed("C_Sign", rc, forUse)
}

// sign answers the signature of in, which has no more than maxSignature bytes.
func (m *module) sign(session uint, how signature, key uint, in []byte) ([]byte, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	out := make([]byte, maxSignature)
	how.mechanism = m.number(how.mechanism)
	n, rc := m.hot.sign(session, how, key, in, out)
	return out[:n:n], failed("C_Sign", rc, forUse)
}

// decrypt opens what was encrypted to a public key. out holds the result and
// must have room for as much as the ciphertext has.
func (m *module) decrypt(session uint, how wrapping, key uint, in, out []byte) ([]byte, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	how.mechanism = m.number(how.mechanism)
	n, rc := m.hot.decrypt(session, how, key, in, out)
	return out[:n], failed("C_Decrypt", rc, forOpen)
}

// The longest that comes out of a call: an RSA-4096 signature, and the PKCS#8
// form of such a key, wrapped.
const (
	maxSignature = 512
	maxWrapped   = 4096
)

func (m *module) wrap(session uint, how wrapping, with, key uint) ([]byte, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	out := make([]byte, maxWrapped)
	how.mechanism = m.number(how.mechanism)
	n, rc := m.hot.wrap(session, how, with, key, out)
	return out[:n:n], failed("C_WrapKey", rc, forUse)
}

func (m *module) unwrap(session uint, how wrapping, with uint, blob []byte, t template) (uint, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	how.mechanism = m.number(how.mechanism)
	object, rc := m.hot.unwrap(session, how, with, blob, t)
	return object, failed("C_UnwrapKey", rc, forOpen)
}

func (m *module) generate(session uint, mechanism uint64, t template) (uint, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	object, rc := m.hot.generate(session, m.number(mechanism), t)
	return object, failed("C_GenerateKey", rc, forUse)
}

func (m *module) generatePair(session uint, mechanism uint64, public, private template) (pub, priv uint, err error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	pub, priv, rc := m.hot.generatePair(session, m.number(mechanism), public, private)
	return pub, priv, failed("C_GenerateKeyPair", rc, forUse)
}

func (m *module) create(session uint, t template) (uint, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	object, rc := m.hot.create(session, t)
	return object, failed("C_CreateObject", rc, forUse)
}
