package pkcs11

import (
	"errors"

	p11 "github.com/miekg/pkcs11"

	"github.com/strongroom/strongroom/internal/dialect"
)

// openSession opens a session to work with, logged in where the module wants
// that of each one.
func (w *worker) openSession() (uint, error) {
	session, err := w.mod.openSession(w.token.slot)
	var call *callError
	if errors.As(err, &call) && call.code == rvSessionCount {
		return 0, fail(statusBusy, err, "the HSM gives no more sessions; this worker may need %d: lower hsm.sessions, "+
			"or end what else holds sessions of this token", dialect.NeededSessions(int(w.config.sessions)))
	}
	if err != nil || !w.config.dialect.LoginPerSession {
		return session, err
	}
	if err := w.sessionLogin(session); err != nil {
		w.mod.closeSession(session)
		return 0, err
	}
	return session, nil
}

// sessionLogin logs in one more session of a worker that is logged in.
//
// The PIN is not kept for it: it is read from its file again, used and wiped.
// Only the very file that the worker logged in with will do. Another one has
// not proven itself, and is for a fresh worker to try, whose supervisor counts
// that try. Where the HSM refuses the PIN that it took before, somebody has
// changed it there: this worker logs in nowhere any more, and says so to
// every request that fails, until its supervisor ends it and waits for a
// person. So a wrong PIN costs one try here too.
func (w *worker) sessionLogin(session uint) error {
	w.logins.Lock() // one log-in at a time, and none after a refusal
	defer w.logins.Unlock()
	if refused := w.pinRefused.Load(); refused != nil {
		return refused
	}
	found, err := w.mod.ctx.GetTokenInfo(w.token.slot)
	if err != nil {
		return failed("C_GetTokenInfo", code(err), forUse)
	}
	err = w.pinAllowed(found.Flags, w.lastTry)
	if err == nil {
		err = w.loginWithFile(session, &w.pinFile)
	}
	if err == nil {
		return nil
	}
	failure := asOpError(err)
	if failure.status == statusCredential {
		w.pinRefused.Store(failure)
	}
	return failure
}

// pinAllowed refuses to try a PIN where the token says that it is locked, or
// that this would be the last try and no person wants it.
func (w *worker) pinAllowed(flags uint, lastTry bool) error {
	if flags&p11.CKF_USER_PIN_LOCKED != 0 {
		return fail(statusCredential, nil, "the PIN of token %q is locked; the security officer has to set it anew", w.token.info.Label)
	}
	if flags&p11.CKF_USER_PIN_FINAL_TRY != 0 && !lastTry {
		return fail(statusCredential, nil, "token %q gives the PIN one last try; put the right PIN into %s", w.token.info.Label, w.config.pinFile)
	}
	return nil
}

// loginWithFile tries the PIN of the PIN file, once. Where only names a file,
// any other than that is refused before it is tried; else only is told which
// file it was.
func (w *worker) loginWithFile(session uint, only *fileState) error {
	pin, state, err := readPINFile(w.config.pinFile)
	if err != nil {
		return err
	}
	defer clear(pin[:cap(pin)])
	if *only == (fileState{}) {
		*only = state
	} else if *only != state {
		return fail(statusSick, nil, "the PIN file %s has changed since this worker logged in; a fresh worker tries it", w.config.pinFile)
	}
	err = notAlready(w.mod.login(session, p11.CKU_USER, pin))
	if call, ok := err.(*callError); ok && call.code == rvPINNotInitialised {
		// No PIN was compared, so no try was spent, and a machine may ask
		// again. It has to: SoftHSM says this while another process that
		// shares the token is half-way through writing down its own log-in.
		return fail(statusAway, err, "token %q says that it has no user PIN", w.token.info.Label)
	}
	return err
}

// notAlready forgives CKR_USER_ALREADY_LOGGED_IN: log-in is per process.
func notAlready(err error) error {
	if call, ok := err.(*callError); ok && call.code == rvAlreadyLoggedIn {
		return nil
	}
	return err
}

// told is the failure of a request as the parent shall see it: once the HSM
// has refused the PIN, that is what matters.
func (w *worker) told(err error) *opError {
	if refused := w.pinRefused.Load(); refused != nil {
		return refused
	}
	return asOpError(err)
}

// tokenSessions answers how many sessions the token allows, 0 for unknown. All
// of ours are read/write, so both bounds hold.
func tokenSessions(info p11.TokenInfo) uint64 {
	limit := uint64(0)
	for _, n := range []uint64{uint64(info.MaxSessionCount), uint64(info.MaxRwSessionCount)} {
		if countKnown(n) && (limit == 0 || n < limit) {
			limit = n
		}
	}
	return limit
}

// countKnown: 0 is CK_EFFECTIVELY_INFINITE, all ones are
// CK_UNAVAILABLE_INFORMATION, and openCryptoki says all ones less one. Modules
// that are reached over a network have both in 32 bits.
func countKnown(n uint64) bool {
	const unavailable32 = 1<<32 - 1
	return n != 0 && n < unavailable32-1
}

// fits refuses a configuration that needs more sessions than the token has,
// before any is opened.
func (w *worker) fits() error {
	limit := tokenSessions(w.token.info)
	if limit == 0 {
		return nil
	}
	if text := dialect.TooFew(int(limit), int(w.config.sessions), "the token says (C_GetTokenInfo) that it allows"); text != "" {
		return fail(statusRefused, nil, "hsm.sessions: %s", text)
	}
	return nil
}
