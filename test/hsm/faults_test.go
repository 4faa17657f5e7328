package hsm

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// Codes that the faulty module answers.
const (
	ckrGeneralError         = 0x05
	ckrDataLenRange         = 0x21
	ckrDeviceError          = 0x30
	ckrDeviceMemory         = 0x31
	ckrMechanismInvalid     = 0x70
	ckrObjectHandleInvalid  = 0x82
	ckrSessionHandleInvalid = 0xB3
)

// openRooted brings a root into b's token with the real module, then opens b
// through the faulty one: faults hit a device in service.
func openRooted(t *testing.T) (box, faults, *pkcs11.Device) {
	t.Helper()
	b := newBox(t)
	f := faulty(t, &b)
	d, _ := rooted(t, b)
	return b, f, d
}

func TestStaleSessionIsReplaced(t *testing.T) {
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	pid := d.Health().WorkerPID
	f.fail(ckDecryptInit, ckrSessionHandleInvalid, 1)
	require.NoError(t, s.open(context.Background()))
	require.Equal(t, pid, d.Health().WorkerPID)
}

func TestStaleHandleIsLoadedAgain(t *testing.T) {
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	pid, unwraps := d.Health().WorkerPID, f.calls(ckUnwrapKey)
	f.fail(ckDecryptInit, ckrObjectHandleInvalid, 1)
	require.NoError(t, s.open(context.Background()))
	require.Equal(t, unwraps+1, f.calls(ckUnwrapKey))
	require.Equal(t, pid, d.Health().WorkerPID)
	require.NoError(t, s.open(context.Background()))
	require.Equal(t, unwraps+1, f.calls(ckUnwrapKey), "a loaded key is not unwrapped again")
}

// A broken device costs the worker, not the caller: the request is repeated
// on the next one.
func TestDeviceErrorReplacesTheWorker(t *testing.T) {
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	pid := d.Health().WorkerPID
	f.fail(ckDecrypt, ckrDeviceError, 1)
	require.NoError(t, s.open(context.Background()))
	require.NotEqual(t, pid, d.Health().WorkerPID)
}

// CKR_GENERAL_ERROR on decrypt is what SoftHSM says for a bad tag. With a
// device that is really ill the canary fails too, and the caller is not told
// that the ciphertext was bad.
func TestGeneralErrorOnAnIllDevice(t *testing.T) {
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	pid := d.Health().WorkerPID
	f.fail(ckDecrypt, ckrGeneralError, 2) // the request and the canary after it
	require.NoError(t, s.open(context.Background()))
	require.NotEqual(t, pid, d.Health().WorkerPID)

	f.fail(ckDecrypt, ckrGeneralError, 1) // the control: the canary is well
	err := s.open(context.Background())
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
}

func TestDeviceThatStaysIll(t *testing.T) {
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	f.fail(ckSign, ckrDeviceError, -1)
	require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthDown }, patient, ping)
	start := time.Now()
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(s.open(context.Background())))
	require.Less(t, time.Since(start), time.Second, "a device that is down answers at once")
	f.fail(ckSign, 0, 0)
	require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthOK }, patient, ping)
	require.NoError(t, s.open(context.Background()))
}

// A call that hangs inside the module ends with its deadline, and the request
// is answered by the next worker.
func TestHangingCallIsKilled(t *testing.T) {
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	pid := d.Health().WorkerPID
	f.set(ckDecrypt, wordHang, 1)
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- s.open(context.Background()) }()
	require.Eventually(t, func() bool { return d.Health().WorkerPID != pid }, patient, ping)
	require.Less(t, time.Since(start), back)
	f.set(ckDecrypt, wordHang, 0)
	require.NoError(t, <-done)
}

// Callers that queue behind a hanging module can give up.
func TestCallersCanGiveUp(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.OperationTimeout = patient
	d, _ := rooted(t, b)
	s := newSealer(t, d)
	f.set(ckDecrypt, wordHang, 1)
	ctx, cancel := context.WithCancel(context.Background())
	const callers = 40 // many more than the worker holds
	errs := make(chan error, callers)
	for range callers {
		go func() { errs <- s.open(ctx) }()
	}
	require.Eventually(t, func() bool { return f.calls(ckDecrypt) > 0 }, patient, ping)
	cancel()
	for range callers {
		err := <-errs
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
		require.True(t, errors.Is(err, context.Canceled))
	}
	f.set(ckDecrypt, wordHang, 0)
	require.NoError(t, s.open(context.Background()))
}

// Modules that lack something are refused in words that name it.
func TestModulesThatCannotServeAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(f faults)
		words string
	}{
		"no GCM":      {func(f faults) { f.fail(ckEncryptInit, ckrMechanismInvalid, -1) }, "AES-GCM"},
		"no HMAC":     {func(f faults) { f.fail(ckSign-1, ckrMechanismInvalid, -1) }, "HMAC-SHA-256"},
		"no wrap":     {func(f faults) { f.fail(ckUnwrapKey-1, ckrMechanismInvalid, -1) }, "RFC 3394"},
		"no generate": {func(f faults) { f.fail(ckGenerateKey, ckrMechanismInvalid, -1) }, "key generation"},
		"ignores UNWRAP_TEMPLATE": {func(f faults) { f.set(ckFunctions, wordCalls, forgetUnwrapTemplate) },
			"enforcement of CKA_UNWRAP_TEMPLATE"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			f := faulty(t, &b)
			c.spoil(f)
			d := open(t, b)
			require.Equal(t, pkcs11.HealthDown, d.Health().State)
			require.Contains(t, d.Health().Reason, "lacks")
			require.Contains(t, d.Health().Reason, c.words)
		})
	}
}

func TestProfileIsKept(t *testing.T) {
	d := open(t, newBox(t))
	p := d.Health().Profile
	require.Contains(t, p.Module, "SoftHSM")
	require.Equal(t, label, p.Token)
	require.Equal(t, dialect.IVCaller, p.IVMode)
	require.Equal(t, wrapped.RFC3394, p.Wrap)
	require.False(t, p.ValueLen)
}

func TestTokenIsChosenBySerial(t *testing.T) {
	b := newBox(t)
	serial := open(t, b).Health().Profile.Serial
	wrong := b
	wrong.cfg.TokenSerial = "0000000000000000"
	require.Contains(t, open(t, wrong).Health().Reason, wrong.cfg.TokenSerial)
	right := b
	right.cfg.TokenSerial = serial
	require.Equal(t, pkcs11.HealthDegraded, open(t, right).Health().State)
}

// The PIN is read by the worker only, and given to nobody by argument,
// environment or log.
func TestWorkerProcessKeepsItsSecrets(t *testing.T) {
	b := newBox(t)
	var log lockedBuffer
	b.cfg.Logger = log.logger()
	d, _ := rooted(t, b)
	s := newSealer(t, d)
	proc := "/proc/" + itoa(d.Health().WorkerPID) + "/"
	environment, err := os.ReadFile(proc + "environ")
	require.NoError(t, err)
	require.Equal(t, strings.Join(b.cfg.Env, "\x00")+"\x00", string(environment))
	arguments, err := os.ReadFile(proc + "cmdline")
	require.NoError(t, err)
	require.NotContains(t, string(arguments), userPIN)
	limits, err := os.ReadFile(proc + "limits")
	require.NoError(t, err)
	require.Regexp(t, `Max core file size +0 +0`, string(limits))
	replaced(t, d, 9, s)
	require.Contains(t, log.String(), "hsm worker ended")
	require.NotContains(t, log.String(), userPIN)
	require.NotContains(t, log.String(), "hunter2")
}

// Input that an HSM does not take costs neither its worker nor the next
// caller.
func TestRefusedInputCostsNoWorker(t *testing.T) {
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	pid := d.Health().WorkerPID
	f.fail(ckEncrypt, ckrDataLenRange, 1)
	_, _, err := d.Seal(context.Background(), s.k, secret.Copy([]byte("x")), nil)
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
	require.NoError(t, s.open(context.Background()))
	require.Equal(t, pid, d.Health().WorkerPID)
}

// A full HSM makes room among the loaded keys before it turns anybody away.
func TestFullHSMMakesRoom(t *testing.T) {
	_, f, d := openRooted(t)
	s, other := newSealer(t, d), newKey(t, d, "k2")
	f.fail(ckUnwrapKey, ckrDeviceMemory, 1)
	_, _, err := d.Seal(context.Background(), other, secret.Copy([]byte("x")), nil)
	require.NoError(t, err)
	f.fail(ckUnwrapKey, ckrDeviceMemory, -1)
	_, _, err = d.Seal(context.Background(), newKey(t, d, "k3"), secret.Copy([]byte("x")), nil)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	f.fail(ckUnwrapKey, 0, 0)
	require.NoError(t, s.open(context.Background()))
}
