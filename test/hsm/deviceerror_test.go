package hsm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// Codes of a device, beside those of faults_test.go.
const (
	ckrFunctionFailed     = 0x06
	ckrDeviceRemoved      = 0x32
	ckrTokenNotPresent    = 0xE0
	ckrUserNotLoggedIn    = 0x101
	ckrVendor             = 0x80001234 &^ late // no code that anybody knows
	tries, unlucky, stuck = 4, 8, 64           // of pkcs11/tries.go
)

// Whatever call of whatever operation meets one error of the device: the
// answer is right, the worker stays, and nothing is left behind.
func TestOneDeviceErrorIsNotNoticed(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = time.Hour // its canary would take the fault away
	d, _ := rooted(t, b)
	use := users(t, d)
	for _, one := range use {
		require.NoError(t, one())
	}
	importer, err := d.CreateImportKey(ctx, "i")
	require.NoError(t, err)
	blob := sealedFor(t, importer, randomBytes(t, 32), randomBytes(t, 32))
	sealing := newSealer(t, d)
	fresh := func() error { return newSealer(t, d).open(ctx) }
	for name, c := range map[string]struct {
		use       func() error
		functions []int
	}{
		"open": {use[0], []int{ckDecryptInit, ckDecrypt}},
		"ec":   {use[1], []int{ckSign - 1, ckSign}},
		"rsa":  {use[2], []int{ckSign - 1, ckSign}},
		"mac":  {use[3], []int{ckSign - 1, ckSign}},
		"oaep": {use[4], []int{ckDecryptInit, ckDecrypt}},
		"seal": {func() error {
			_, _, err := d.Seal(ctx, sealing.k, secret.Copy([]byte("x")), nil)
			return err
		}, []int{ckEncryptInit, ckEncrypt}},
		"random":              {func() error { _, err := d.Random(ctx, 8); return err }, []int{ckGenerateRandom}},
		"root MAC":            {func() error { _, err := d.MAC(ctx, []byte("m")); return err }, []int{ckSign}},
		"check":               {func() error { return d.CheckKey(ctx, sealing.k) }, []int{ckSign}},
		"make, load, use":     {fresh, []int{ckGenerateKey, ckWrapKey, ckDestroyObject, ckSign, ckUnwrapKey}},
		"a pair":              {func() error { keyOf(t, d, wrapped.ECP256, wrapped.Sign); return nil }, []int{ckGenerateKeyPair, ckWrapKey, ckUnwrapKey, ckGetAttributeValue, ckDestroyObject, ckSign}},
		"closing the session": {use[0], []int{ckCloseSession}},
		"import": {func() error {
			_, err := d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, blob, into([2]string{wrapped.AES256, wrapped.Encrypt}, nil))
			return err
		}, []int{ckUnwrapKey, ckSign, ckDecrypt, ckEncrypt, ckWrapKey, ckGetAttributeValue, ckDestroyObject}},
	} {
		for _, code := range []uint32{ckrDeviceError, ckrDeviceError | late, ckrDeviceRemoved, ckrTokenNotPresent, ckrUserNotLoggedIn,
			ckrFunctionFailed, ckrGeneralError, ckrVendor} {
			for _, function := range c.functions {
				what := fmt.Sprintf("%s: 0x%x of function %d", name, code, function)
				before, open := d.Health(), f.openSessions()
				f.fail(function, code, 1)
				if function == ckCloseSession {
					f.fail(ckDecrypt, ckrDeviceError, 1) // for there to be one to close
				}
				require.NoError(t, c.use(), what)
				require.Zero(t, f.left(function), "%s: the fault hit", what)
				require.Equal(t, before.Generation, d.Health().Generation, what)
				require.Equal(t, open, f.openSessions(), "%s: a session was left open", what)
			}
		}
	}
}

// Many callers on an HSM of which one call in fifty, of any function, fails:
// fewer than one operation in a thousand does, and no answer is wrong.
func TestOneCallInFiftyFails(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = 100 * time.Millisecond
	d, _ := rooted(t, b)
	use := users(t, d)
	for _, one := range use {
		require.NoError(t, one())
	}
	before, open := d.Health(), f.openSessions()
	const clients, rounds = 64, 100
	failed := storm(f, ckrDeviceError, 50, use, clients, rounds, ckFunctions)
	met := f.left(ckFunctions)
	t.Logf("%d of %d operations failed, some %d of %d calls, in %d workers", len(failed), clients*rounds, met/50, met,
		d.Health().Generation-before.Generation+1)
	for _, err := range failed {
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(err), "%v", err)
	}
	require.Less(t, len(failed)*1000, clients*rounds)
	for _, one := range use {
		require.NoError(t, one())
	}
	if d.Health().Generation == before.Generation {
		require.Equal(t, open, f.openSessions(), "a session was left open")
	}
}

// An operation that fails each time on a device that is well fails, and costs
// the worker nothing; until so many do in a row that only another instance of
// the module can help. One success in between says that it is not so.
func TestManyFailuresInARowCostTheWorker(t *testing.T) {
	ctx := context.Background()
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	pid := d.Health().WorkerPID
	failing := func() {
		t.Helper()
		f.fail(ckGenerateRandom, ckrDeviceError, tries)
		_, err := d.Random(ctx, 8)
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
		require.Zero(t, f.left(ckGenerateRandom), "all its tries")
		require.Equal(t, pid, d.Health().WorkerPID)
	}
	for range unlucky - 1 {
		failing()
	}
	require.NoError(t, s.open(ctx))
	for range unlucky - 1 {
		failing()
	}
	f.fail(ckGenerateRandom, ckrDeviceError, tries)
	_, err := d.Random(ctx, 8)
	require.NoError(t, err, "the next worker answers")
	require.NotEqual(t, pid, d.Health().WorkerPID)
}

// Loading meets an error: the session that all loaded keys belong to is none
// the worse for it, and loads the next.
func TestLoadingMeetsADeviceError(t *testing.T) {
	_, f, d := openRooted(t)
	pid := d.Health().WorkerPID
	for _, function := range []int{ckSign - 1, ckSign, ckUnwrapKey} {
		for _, code := range []uint32{ckrDeviceError, ckrDeviceError | late, ckrGeneralError, ckrSessionHandleInvalid, ckrObjectHandleInvalid} {
			k := newKey(t, d, "k")
			f.fail(function, code, 1)
			seal(t, d, k, "x", "")
			require.Zero(t, f.left(function))
			seal(t, d, newKey(t, d, "next"), "x", "")
			require.Equal(t, pid, d.Health().WorkerPID)
		}
	}
}

// A key that this HSM does not take, though it is ours, is its own trouble:
// others are served by the same worker.
func TestKeyThatDoesNotLoad(t *testing.T) {
	ctx := context.Background()
	_, f, d := openRooted(t)
	s, other := newSealer(t, d), newKey(t, d, "k2")
	pid := d.Health().WorkerPID
	for _, code := range []uint32{ckrDeviceError, ckrMechanismInvalid, ckrDataLenRange, ckrVendor} {
		f.fail(ckUnwrapKey, code, tries)
		_, _, err := d.Seal(ctx, other, secret.Copy([]byte("x")), nil)
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
		require.Zero(t, f.left(ckUnwrapKey))
		require.NoError(t, s.open(ctx))
	}
	require.Equal(t, pid, d.Health().WorkerPID)
}

// What the HSM does not destroy stays in it for as long as the worker does:
// some of it may.
func TestObjectsThatStayAreBounded(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.Handles = 1
	d, _ := rooted(t, b)
	keys := []sealer{newSealer(t, d), newSealer(t, d)}
	keys[0].k = newKey(t, d, "k2")
	keys[0].iv, keys[0].sealed = seal(t, d, keys[0].k, "hunter2", "aad")
	pid := d.Health().WorkerPID
	f.fail(ckDestroyObject, ckrDeviceError, stuck)
	for i := 0; f.left(ckDestroyObject) > 0; i++ {
		require.NoError(t, keys[i%2].open(ctx))
		require.Equal(t, pid, d.Health().WorkerPID)
	}
	require.NoError(t, errors.Join(keys[0].open(ctx), keys[1].open(ctx)))
	require.NotEqual(t, pid, d.Health().WorkerPID)
}

// A device that is really gone is found at once, whatever it says of itself:
// nothing loops, and the caller is told.
func TestDeviceThatIsGoneIsFoundAtOnce(t *testing.T) {
	_, f, d := openRooted(t)
	s := newSealer(t, d)
	for _, code := range []uint32{ckrDeviceError, ckrDeviceRemoved, ckrTokenNotPresent, ckrUserNotLoggedIn, ckrSessionHandleInvalid,
		ckrObjectHandleInvalid, ckrGeneralError} {
		pid := d.Health().WorkerPID
		f.byChance(code, 1)
		start := time.Now()
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(s.open(context.Background())), "0x%x", code)
		require.Less(t, time.Since(start), back)
		require.NotEqual(t, pid, d.Health().WorkerPID)
		f.byChance(0, 0)
		require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthOK }, patient, ping)
		require.NoError(t, s.open(context.Background()))
	}
}

// What was slow to fail is not begun once more, lest the parent give the
// worker up: the device is asked, and the operation fails.
func TestNothingIsBegunLate(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval, b.cfg.OperationTimeout = time.Hour, 3*time.Second
	d, _ := rooted(t, b)
	s := newSealer(t, d)
	pid, calls := d.Health().WorkerPID, f.calls(ckDecrypt)
	f.set(ckDecrypt, wordHang, 1)
	done, start := make(chan error, 1), time.Now()
	go func() { done <- s.open(context.Background()) }()
	require.Eventually(t, func() bool { return time.Since(start) > b.cfg.OperationTimeout/3+ping }, patient, ping)
	f.fail(ckDecrypt, ckrDeviceError, 1)
	f.set(ckDecrypt, wordHang, 0)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(<-done))
	require.Equal(t, calls+3, f.calls(ckDecrypt), "once, and the canary")
	require.NoError(t, s.open(context.Background()))
	require.Equal(t, pid, d.Health().WorkerPID)
}

// The canary of the supervisor is answered by a device that is well, though
// its own calls fail now and then.
func TestCanaryMeetsAnError(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = 50 * time.Millisecond
	d, _ := rooted(t, b)
	pid := d.Health().WorkerPID
	for _, function := range []int{ckSign - 1, ckSign, ckGetAttributeValue, ckDecryptInit, ckDecrypt, ckEncryptInit, ckEncrypt} {
		for _, code := range []uint32{ckrDeviceError, ckrGeneralError, ckrUserNotLoggedIn} {
			open := f.openSessions()
			f.fail(function, code, tries-1)
			require.Eventually(t, func() bool { return f.left(function) == 0 }, patient, ping/4)
			seen := d.Health().LastOK
			require.Eventually(t, func() bool { return d.Health().LastOK.After(seen) }, patient, ping/4)
			require.Equal(t, pid, d.Health().WorkerPID, "0x%x of function %d", code, function)
			require.Equal(t, open, f.openSessions())
		}
	}
	f.fail(ckSign, ckrDeviceError, tries)
	require.Eventually(t, func() bool { p := d.Health().WorkerPID; return p != 0 && p != pid }, patient, ping)
}
