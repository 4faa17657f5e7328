package hsm

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// Places in CK_FUNCTION_LIST.
const (
	ckOpenSession     = 12
	ckCloseSession    = 13
	ckLogin           = 18
	ckCreateObject    = 20
	ckDestroyObject   = 22
	ckEncryptInit     = 29
	ckEncrypt         = 30
	ckDecryptInit     = 33
	ckDecrypt         = 34
	ckSign            = 43
	ckGenerateKey     = 58
	ckGenerateKeyPair = 59
	ckWrapKey         = 60
	ckUnwrapKey       = 61
	ckFunctions       = 68
)

// Quirks of the module.
const (
	forgetUnwrapTemplate = 1
	noPadWrap            = 2
	padWrapIsKWP         = 4
	padWrapIsPKCS7       = 8
	badSignature         = 16
	ivWriteback          = 0x20
	ivAppended           = 0x40
	ivPrepended          = 0x80
	ivShort              = 0x100
	ivNull               = 0x200
	ivConstant           = 0x400
	ivZero               = 0x800
	forgetAAD            = 0x1000
	opensAnything        = 0x2000
	ownNumbers           = 0x4000
	loginPerSession      = 0x8000
	ivMasked             = 0x10000
	cloudHSMWraps        = 0x20000
	forgetPairTemplate   = 0x40000
	forgetTrusted        = 0x80000
)

// ownNumber is what the module calls a mechanism with the quirk ownNumbers.
const ownNumber = 0xA0000000

// faults steers the module of testdata/faulty.c.
type faults struct{ table []byte }

type word int

const (
	wordCalls word = iota
	wordPass
	wordFail
	wordRV
	wordHang
	wordEvery
	words
)

func (f faults) at(function int, w word) *int32 {
	return (*int32)(unsafe.Pointer(&f.table[(function*int(words)+int(w))*4]))
}

func (f faults) set(function int, w word, value int32) { atomic.StoreInt32(f.at(function, w), value) }

func (f faults) calls(function int) int { return int(atomic.LoadInt32(f.at(function, wordCalls))) }

// fail makes the next n calls (-1: all) of function answer code.
func (f faults) fail(function int, code uint32, n int32) {
	f.set(function, wordRV, int32(code))
	f.set(function, wordFail, n)
}

// quirks has the module do what it does otherwise.
func (f faults) quirks(q int32) { f.set(ckFunctions, wordCalls, q) }

// sessions bounds how many may be open, and has the token tell how many (in
// all, and read/write); 0 leaves each to the real module, -1 and -2 tell that
// it is not known, as some modules do.
func (f faults) sessions(open, told, toldRW int32) {
	f.set(ckFunctions, wordPass, open)
	f.set(ckFunctions, wordFail, told)
	f.set(ckFunctions, wordRV, toldRW)
}

// hangAfter lets n calls of function pass and has the next ones hang.
func (f faults) hangAfter(function int, n int32) {
	f.set(function, wordPass, n)
	f.set(function, wordHang, 1)
}

// failAfter lets n calls of function pass, and has the next one answer code.
func (f faults) failAfter(function int, n int32, code uint32) {
	f.set(function, wordPass, n)
	f.fail(function, code, 1)
}

// failEach makes each call of function whose number n divides answer code;
// 0 ends that.
func (f faults) failEach(function int, code uint32, n int32) {
	f.set(function, wordRV, int32(code))
	f.set(function, wordEvery, n)
}

// faulty puts the faulty module before b's real one. It must come before the
// device is opened.
func faulty(t *testing.T, b *box) faults {
	t.Helper()
	library, control := filepath.Join(b.dir, "faulty.so"), filepath.Join(b.dir, "control")
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-I", "../../pkcs11", "-o", library, "testdata/faulty.c", "-ldl", "-lpthread").CombinedOutput()
	require.NoError(t, err, string(out))
	const size = (ckFunctions + 1) * int(words) * 4
	require.NoError(t, os.WriteFile(control, make([]byte, size), 0o600))
	file, err := os.OpenFile(control, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	table, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Munmap(table)) })
	b.cfg.Env = append(b.cfg.Env, "FAULTY_REAL="+b.cfg.Module, "FAULTY_CONTROL="+control)
	b.cfg.Module = library
	return faults{table: table}
}
