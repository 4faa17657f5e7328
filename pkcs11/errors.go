package pkcs11

import (
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// rv is a CK_RV.
type rv uint64

// The codes that code of ours makes or asks for by name; the table below has
// the rest.
const (
	rvOK                      rv = 0x000
	rvHostMemory              rv = 0x002
	rvGeneralError            rv = 0x005
	rvCantLock                rv = 0x00A
	rvAttributeReadOnly       rv = 0x010
	rvAttributeInvalid        rv = 0x012
	rvKeyFunctionNotPermitted rv = 0x068
	rvMechanismInvalid        rv = 0x070
	rvMechanismParamInvalid   rv = 0x071
	rvSessionCount            rv = 0x0B1
	rvTemplateIncomplete      rv = 0x0D0
	rvTemplateInconsistent    rv = 0x0D1
	rvAlreadyLoggedIn         rv = 0x100
	rvNotLoggedIn             rv = 0x101
	rvPINNotInitialised       rv = 0x102
	rvWrappedKeyLenRange      rv = 0x112
	rvBufferTooSmall          rv = 0x150
)

// class says what a failed call means for us.
type class uint8

const (
	// classDevice: the token or the way to it is broken, or had a bad moment.
	// The canary tells which: the same again, or the worker ends and a new one
	// starts with a fresh instance of the module.
	classDevice class = iota
	// classSession: this session is gone; the same again on a new one.
	classSession
	// classGeneration: handles are stale; load the key again. If that does not
	// help it is classDevice.
	classGeneration
	// classInput: the caller's bytes do not open.
	classInput
	// classCapacity: too many sessions or objects, no memory; not now.
	classCapacity
	// classCredential: the PIN. Nobody tries again but a person.
	classCredential
	// classCapability: the module cannot do this at all.
	classCapability
)

// purpose is what a call was for: one code means different things.
type purpose uint8

const (
	forUse    purpose = iota // sealing, signing, making keys
	forOpen                  // opening a ciphertext, unwrapping a blob
	forLoad                  // unwrapping a blob that its MAC says is ours
	forImport                // anything with key material that a stranger made
)

// classes is the one table of error classes. A code that is not here is
// classDevice: what we do not understand is not the caller's fault, and the
// canary decides what becomes of the worker.
var classes = map[rv]class{
	0x0B3: classSession, // SESSION_HANDLE_INVALID
	0x0B0: classSession, // SESSION_CLOSED
	0x090: classSession, // OPERATION_ACTIVE
	0x091: classSession, // OPERATION_NOT_INITIALIZED

	0x082: classGeneration, // OBJECT_HANDLE_INVALID
	0x060: classGeneration, // KEY_HANDLE_INVALID
	0x068: classGeneration, // KEY_FUNCTION_NOT_PERMITTED: transient while an object is destroyed

	// These are the device's beyond doubt, whatever the call was for.
	0x030: classDevice, // DEVICE_ERROR
	0x032: classDevice, // DEVICE_REMOVED
	0x0E0: classDevice, // TOKEN_NOT_PRESENT
	0x0E1: classDevice, // TOKEN_NOT_RECOGNIZED
	0x101: classDevice, // USER_NOT_LOGGED_IN: the log-in of this process is gone
	0x190: classDevice, // CRYPTOKI_NOT_INITIALIZED

	0x040: classInput, // ENCRYPTED_DATA_INVALID
	0x041: classInput, // ENCRYPTED_DATA_LEN_RANGE
	0x020: classInput, // DATA_INVALID
	0x021: classInput, // DATA_LEN_RANGE
	0x0C0: classInput, // SIGNATURE_INVALID
	0x0C1: classInput, // SIGNATURE_LEN_RANGE
	0x110: classInput, // WRAPPED_KEY_INVALID
	0x112: classInput, // WRAPPED_KEY_LEN_RANGE

	0x0B1: classCapacity, // SESSION_COUNT
	0x031: classCapacity, // DEVICE_MEMORY
	0x002: classCapacity, // HOST_MEMORY

	0x0A0: classCredential, // PIN_INCORRECT
	0x0A1: classCredential, // PIN_INVALID
	0x0A2: classCredential, // PIN_LEN_RANGE
	0x0A3: classCredential, // PIN_EXPIRED
	0x0A4: classCredential, // PIN_LOCKED
	0x102: classCredential, // USER_PIN_NOT_INITIALIZED: see loginWithFile

	0x007: classCapability, // ARGUMENTS_BAD: what SoftHSM 2.6 says to OAEP with SHA-256
	0x070: classCapability, // MECHANISM_INVALID
	0x071: classCapability, // MECHANISM_PARAM_INVALID
	0x012: classCapability, // ATTRIBUTE_TYPE_INVALID
	0x013: classCapability, // ATTRIBUTE_VALUE_INVALID
	0x0D0: classCapability, // TEMPLATE_INCOMPLETE
	0x0D1: classCapability, // TEMPLATE_INCONSISTENT
	0x054: classCapability, // FUNCTION_NOT_SUPPORTED
}

// classify reads the table. ambiguous is set for CKR_GENERAL_ERROR and
// CKR_FUNCTION_FAILED while opening: SoftHSM 2.6 says the first for a bad
// tag, so only the canary, and the same answer a second time, can tell a bad
// ciphertext from a device that failed.
// With a stranger's key material it is set for every code but those that
// speak of device, session or room: there are as many ways to refuse a bad
// key as there are modules, and none may cost a worker.
//
// A blob that is ours must load: what the module says against it is the
// device's fault.
func classify(code rv, why purpose) (c class, ambiguous bool) {
	if why == forOpen && (code == rvGeneralError || code == 0x006) {
		return classInput, true
	}
	c, known := classes[code]
	if why == forImport && (!known || c == classInput || c == classCapability) {
		return classInput, true
	}
	if !known || why == forLoad && (c == classInput || c == classCapability) {
		return classDevice, false
	}
	return c, false
}

// code finds the CK_RV in an error of miekg/pkcs11.
func code(err error) rv {
	if err == nil {
		return rvOK
	}
	var e p11.Error
	if errors.As(err, &e) {
		return rv(e)
	}
	return rvGeneralError
}

// callError is a failed C_ call: it names function and code, never data.
type callError struct {
	function string
	code     rv
	why      purpose
}

// retold is err as the failure of work for another purpose.
func retold(err error, why purpose) error {
	var call *callError
	if !errors.As(err, &call) {
		return err
	}
	return &callError{function: call.function, code: call.code, why: why}
}

func failed(function string, code rv, why purpose) error {
	if code == rvOK {
		return nil
	}
	return &callError{function: function, code: code, why: why}
}

func (e *callError) Error() string {
	return fmt.Sprintf("%s: %v", e.function, p11.Error(e.code))
}

// status is the first byte of an answer of the worker.
type status uint8

const (
	statusOK         status = iota
	statusInvalid           // the request's own fault
	statusSick              // the device or this worker: replace the worker
	statusCredential        // the PIN: wait for a person
	statusRefused           // this module, token or root cannot serve us; the text says why
	statusAway              // the token is not there, or not whole, for now
	statusAbsent            // no such object
	statusExists            // such an object is there already
	statusBusy              // out of sessions or memory, for now
	statusFailed            // it failed time and again on a device that is well; the worker stays
)

// opError is how the worker half fails a request.
type opError struct {
	status status
	text   string
	cause  error
}

func fail(s status, cause error, format string, args ...any) *opError {
	return &opError{status: s, text: fmt.Sprintf(format, args...), cause: cause}
}

func (e *opError) Error() string {
	if e.cause != nil {
		return e.text + ": " + e.cause.Error()
	}
	return e.text
}

func (e *opError) Unwrap() error { return e.cause }

// cannotOpen is the one text for everything that does not open: which part
// was wrong would be an oracle.
const cannotOpen = "the ciphertext cannot be opened: it is damaged, or it belongs to another key or another context"

func errCannotOpen() *opError { return &opError{status: statusInvalid, text: cannotOpen} }

// onlyCannotOpen gives every refusal of err that one text.
func onlyCannotOpen(err error) error {
	var op *opError
	if errors.As(err, &op) && op.status == statusInvalid {
		return errCannotOpen()
	}
	return err
}

// cannotUse is the one text for a wrapped key that is not ours, whole.
const cannotUse = "the key cannot be used: its stored form is damaged, or it is another cluster's or another key's"

func errCannotUse() *opError { return &opError{status: statusInvalid, text: cannotUse} }

// cannotImport is the one text for everything that is wrong with imported
// material: which part was wrong would be an oracle on what is inside.
const cannotImport = "the key material cannot be imported: it is damaged, not encrypted to this import key as the algorithm says, " +
	"or not a key of this spec that belongs to the public half"

func errCannotImport() *opError { return &opError{status: statusInvalid, text: cannotImport} }

// asOpError finds or makes the answer for err, which came from work for why.
func asOpError(err error) *opError {
	var op *opError
	if errors.As(err, &op) {
		return op
	}
	var call *callError
	if !errors.As(err, &call) {
		return fail(statusSick, err, "the HSM worker failed")
	}
	c, _ := classify(call.code, call.why)
	switch c {
	case classInput:
		return fail(statusInvalid, err, "%s", cannotOpen)
	case classCapacity:
		return fail(statusBusy, err, "the HSM is out of sessions or memory")
	case classCredential:
		return fail(statusCredential, err, "the HSM refused the PIN")
	case classCapability:
		return fail(statusRefused, err, "the HSM module cannot do this")
	default:
		return fail(statusSick, err, "the HSM failed")
	}
}
