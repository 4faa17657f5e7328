package pkcs11

/*
#cgo CFLAGS: -O2 -Wall -Werror
#cgo linux LDFLAGS: -ldl
#include <stdlib.h>
#include "ck.h"
*/
import "C"

import "unsafe"

// functions is a module's CK_FUNCTION_LIST, for the calls that miekg/pkcs11
// does not make well (DESIGN.md, "Two ways into one library").
type functions struct{ list *C.ck_function_list }

// findFunctions looks up the list in the library instance that is already
// loaded from path.
func findFunctions(path string) (functions, rv) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var list *C.ck_function_list
	if code := rv(C.sr_functions(name, &list)); code != rvOK {
		return functions{}, code
	}
	return functions{list: list}, rvOK
}

// initialize runs C_Initialize with initArgs in pReserved. The string is never
// freed: what a module keeps of it is not said anywhere, and this is once in
// the life of a worker.
func (f functions) initialize(flags uint64, initArgs string) rv {
	var reserved *C.char
	if initArgs != "" {
		reserved = C.CString(initArgs)
	}
	return rv(C.sr_initialize(f.list, C.ck_ulong(flags), reserved))
}

func (f functions) login(session uint, user uint64, pin []byte) rv {
	return rv(C.sr_login(f.list, C.ck_ulong(session), C.ck_ulong(user), bytePointer(pin), C.ck_ulong(len(pin))))
}

// gcm seals or opens in one call, by mechanism. out must have room for the
// result. A module that makes the IV itself may write it into iv.
//
// An empty IV passes only where withoutIV says that the module wants none:
// SoftHSM takes an empty IV for sixteen zero bytes, the same keystream for
// every message.
func (f functions) gcm(mechanism uint64, encrypt, withoutIV bool, session, key uint, iv, aad, in, out []byte) (int, rv) {
	if (len(iv) == 0) != withoutIV {
		return 0, rvMechanismParamInvalid
	}
	var direction C.int
	if encrypt {
		direction = 1
	}
	n := C.ck_ulong(len(out))
	code := rv(C.sr_gcm(f.list, direction, C.ck_ulong(mechanism), C.ck_ulong(session), C.ck_ulong(key),
		bytePointer(iv), C.ck_ulong(len(iv)), optionalPointer(aad), C.ck_ulong(len(aad)),
		bytePointer(in), C.ck_ulong(len(in)), bytePointer(out), &n))
	return length(n, out, code)
}

// signature is a mechanism for sign; hash 0 means no parameter, else it is
// RSA-PSS.
type signature struct{ mechanism, hash, mgf, salt uint64 }

func (f functions) sign(session uint, how signature, key uint, in, out []byte) (int, rv) {
	n := C.ck_ulong(len(out))
	code := rv(C.sr_sign(f.list, C.ck_ulong(session), C.ck_ulong(how.mechanism), C.ck_ulong(how.hash),
		C.ck_ulong(how.mgf), C.ck_ulong(how.salt), C.ck_ulong(key),
		bytePointer(in), C.ck_ulong(len(in)), bytePointer(out), &n))
	return length(n, out, code)
}

// wrapping is a mechanism for wrap, unwrap and decrypt; hash 0 means no
// parameter, else it is RSA-OAEP.
type wrapping struct{ mechanism, hash, mgf uint64 }

func (f functions) decrypt(session uint, how wrapping, key uint, in, out []byte) (int, rv) {
	n := C.ck_ulong(len(out))
	code := rv(C.sr_decrypt(f.list, C.ck_ulong(session), C.ck_ulong(how.mechanism), C.ck_ulong(how.hash),
		C.ck_ulong(how.mgf), C.ck_ulong(key),
		bytePointer(in), C.ck_ulong(len(in)), bytePointer(out), &n))
	return length(n, out, code)
}

func (f functions) wrap(session uint, how wrapping, with, key uint, out []byte) (int, rv) {
	n := C.ck_ulong(len(out))
	code := rv(C.sr_wrap(f.list, C.ck_ulong(session), C.ck_ulong(how.mechanism), C.ck_ulong(how.hash),
		C.ck_ulong(how.mgf), C.ck_ulong(with), C.ck_ulong(key), bytePointer(out), &n))
	return length(n, out, code)
}

func (f functions) unwrap(session uint, how wrapping, with uint, blob []byte, t template) (uint, rv) {
	if len(blob) == 0 {
		return 0, rvWrappedKeyLenRange
	}
	var object C.ck_ulong
	code := rv(C.sr_unwrap(f.list, C.ck_ulong(session), C.ck_ulong(how.mechanism), C.ck_ulong(how.hash),
		C.ck_ulong(how.mgf), C.ck_ulong(with), bytePointer(blob), C.ck_ulong(len(blob)),
		words(t), C.size_t(len(t)), &object))
	return uint(object), code
}

func (f functions) generate(session uint, mechanism uint64, t template) (uint, rv) {
	var object C.ck_ulong
	code := rv(C.sr_generate(f.list, C.ck_ulong(session), C.ck_ulong(mechanism), words(t), C.size_t(len(t)), &object))
	return uint(object), code
}

func (f functions) generatePair(session uint, mechanism uint64, public, private template) (uint, uint, rv) {
	var pub, priv C.ck_ulong
	code := rv(C.sr_generate_pair(f.list, C.ck_ulong(session), C.ck_ulong(mechanism),
		words(public), C.size_t(len(public)), words(private), C.size_t(len(private)), &pub, &priv))
	return uint(pub), uint(priv), code
}

func (f functions) create(session uint, t template) (uint, rv) {
	var object C.ck_ulong
	code := rv(C.sr_create(f.list, C.ck_ulong(session), words(t), C.size_t(len(t)), &object))
	return uint(object), code
}

// length guards against a module that reports more than it was given.
func length(n C.ck_ulong, out []byte, code rv) (int, rv) {
	if code != rvOK {
		return 0, code
	}
	if uint64(n) > uint64(len(out)) {
		return 0, rvGeneralError
	}
	return int(n), rvOK
}

func words(t template) *C.uint64_t { return (*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(t))) }

// bytePointer is never NULL: as an output buffer NULL would ask for the size
// only, as an input SoftHSM refuses it even with length 0.
func bytePointer(p []byte) *C.uint8_t {
	if cap(p) == 0 {
		p = make([]byte, 1)
	}
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(p)))
}

func optionalPointer(p []byte) *C.uint8_t {
	if len(p) == 0 {
		return nil
	}
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(p)))
}
