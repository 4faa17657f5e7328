package hsm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
)

// started opens a device that has a root in its token and answers what the
// probe found. No log-in may have been repeated: two workers start, as each
// change of the root wants a fresh one.
func started(t *testing.T, b box, f faults, root pkcs11.Root, what string) pkcs11.Profile {
	t.Helper()
	logins := f.calls(ckLogin)
	d, err := pkcs11.Open(context.Background(), b.cfg)
	require.NoError(t, err)
	require.NoError(t, d.UseRoot(context.Background(), root), what)
	h := d.Health()
	require.NoError(t, d.Close())
	require.Equal(t, pkcs11.HealthOK, h.State, what)
	require.Equal(t, logins+2, f.calls(ckLogin), what)
	return h.Profile
}

// The first, the last and some call between, of each function that a start
// calls, meets one error of the device: the start succeeds, and no lack is
// remembered that is none.
func TestStartMeetsADeviceError(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = time.Hour
	d, root := rooted(t, b)
	require.NoError(t, d.Close())
	var calls [ckFunctions]int
	for function := range calls {
		calls[function] = -f.calls(function)
	}
	want := started(t, b, f, root, "no fault")
	for function := range calls {
		calls[function] += f.calls(function)
	}
	for function, n := range calls {
		if n == 0 || function == ckInitialize || function == ckLogin { // both are done once
			continue
		}
		for i, k := range slices.Compact([]int{1, (n + 1) / 2, n}) {
			code := []uint32{ckrDeviceError, ckrGeneralError, ckrUserNotLoggedIn}[(i+function)%3]
			what := fmt.Sprintf("0x%x of call %d of %d of function %d", code, k, n, function)
			f.set(function, wordPass, int32(k-1))
			f.fail(function, code, 1)
			require.Equal(t, want, started(t, b, f, root, what), what)
			require.Zero(t, f.left(function), "%s: the fault hit", what)
		}
	}
}

// An error of the device is no refusal where the module must refuse: one that
// would hand out readable keys does not pass for its bad moment.
func TestDeviceErrorIsNoRefusal(t *testing.T) {
	for _, code := range []uint32{ckrDeviceError, ckrGeneralError} {
		b := newBox(t)
		f := faulty(t, &b)
		f.set(ckFunctions, wordCalls, forgetUnwrapTemplate)
		f.set(ckUnwrapKey, wordPass, 1) // the key that stays in; the readable one comes next
		f.fail(ckUnwrapKey, code, 1)
		d := open(t, b)
		require.Zero(t, f.left(ckUnwrapKey))
		require.Equal(t, pkcs11.HealthDown, d.Health().State)
		require.Contains(t, d.Health().Reason, "enforcement of CKA_UNWRAP_TEMPLATE")
	}
}

// Where one call in fifty of all functions fails, starts succeed, but for
// those that fail in what is done once: the supervisor repeats them.
func TestStartWhereOneCallInFiftyFails(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = time.Hour
	d, root := rooted(t, b)
	want := d.Health().Profile
	require.NoError(t, d.Close())
	const starts = 20
	logins := f.calls(ckLogin)
	f.byChance(ckrDeviceError, 50)
	for range starts / 2 {
		d, err := pkcs11.Open(context.Background(), b.cfg)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			return d.UseRoot(context.Background(), root) == nil
		}, patient, ping)
		require.Equal(t, want, d.Health().Profile)
		require.NoError(t, d.Close())
	}
	logins = f.calls(ckLogin) - logins
	t.Logf("%d starts took %d log-ins and met some %d errors", starts, logins, f.left(ckFunctions)/50)
	require.LessOrEqual(t, logins, 2*starts)
}

// An error around the log-in, or of it, is no reason to try the PIN again in
// the same worker; and one that was refused is not tried again by anybody.
func TestDeviceErrorCostsNoTryOfThePIN(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = 50 * time.Millisecond
	write(t, b.cfg.PINFile, "not-the-pin")
	for _, function := range []int{ckGetSlotList, ckGetTokenInfo, ckOpenSession} {
		f.fail(function, ckrDeviceError, 2)
	}
	d := open(t, b)
	require.Contains(t, d.Health().Reason, "until a person acts")
	require.Equal(t, 1, f.calls(ckLogin))
	f.byChance(ckrDeviceError, 2)
	for range 5 {
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(d.UseRoot(context.Background(), aRoot())))
	}
	require.Equal(t, 1, f.calls(ckLogin))
	f.byChance(0, 0)

	// An error of the log-in itself ends that start, and is no refusal.
	f.fail(ckLogin, ckrDeviceError, 1)
	write(t, b.cfg.PINFile, userPIN)
	require.Eventually(t, func() bool { return d.Health().WorkerPID != 0 }, patient, ping)
	require.Equal(t, 3, f.calls(ckLogin))
	require.EqualValues(t, 1, d.Health().Generation)
}

// Ceremonies meet errors, each in the call that matters. What a call made
// that says it made nothing is found and not made twice.
func TestCeremoniesMeetDeviceErrors(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = time.Hour
	d := open(t, b)
	probed := f.calls(ckUnwrapKey) // by each start, the first call of an import comes after
	own, err := d.CreateTransportKey(ctx)
	require.NoError(t, err)
	pid := d.Health().WorkerPID
	for _, function := range []int{ckFindObjects, ckGetAttributeValue, ckGenerateKey, ckWrapKey, ckUnwrapKey} {
		f.fail(function, ckrDeviceError, 1)
		found, err := d.TransportKey(ctx)
		require.NoError(t, err)
		require.Equal(t, own, found)
		require.Zero(t, f.left(function))
	}
	require.Equal(t, pid, d.Health().WorkerPID)

	version := uint32(0)
	for name, c := range map[string]struct {
		function, pass int
		code           uint32
	}{
		"making the root":         {ckGenerateKey, 0, ckrDeviceError},
		"made the MAC key":        {ckGenerateKey, 1, ckrDeviceError | late},
		"a copy of the root":      {ckWrapKey, 1, ckrDeviceError},
		"looking for the root":    {ckFindObjects, 2, ckrDeviceError},
		"looking for the MAC key": {ckFindObjects, 3, ckrDeviceError},
		"taking the root in":      {ckUnwrapKey, 1 + probed, ckrDeviceError},
		"took the root in":        {ckUnwrapKey, 1 + probed, ckrDeviceError | late},
		"took the MAC key in":     {ckUnwrapKey, 2 + probed, ckrDeviceError | late},
	} {
		version++
		f.set(c.function, wordPass, int32(c.pass))
		f.fail(c.function, c.code, 1)
		_, err := d.CreateRoot(ctx, version, nil)
		require.NoError(t, err, name)
		require.Zero(t, f.left(c.function), "%s: the fault hit", name)
		require.NoError(t, newSealer(t, d).open(ctx), name)
	}
	require.NoError(t, d.Close())
	objects := tool(t, b, "--list-objects", "--type", "secrkey")
	for v := range version {
		for _, label := range []string{"root v%d\n", "root mac v%d\n"} {
			require.Equal(t, 1, strings.Count(objects, fmt.Sprintf(label, v+1)), objects)
		}
	}
}
