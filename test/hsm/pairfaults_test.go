package hsm

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// users are operations whose answers are checked: each knows what is right.
func users(t *testing.T, d *pkcs11.Device) []func() error {
	ctx := context.Background()
	s := newSealer(t, d)
	sign, open := keyOf(t, d, wrapped.ECP256, wrapped.Sign), keyOf(t, d, wrapped.RSA2048, wrapped.Encrypt)
	rsaSign := keyOf(t, d, wrapped.RSA2048, wrapped.Sign)
	box := oaepIn(t, open, crypto.SHA1, []byte("hunter2"), nil)
	importer, err := d.CreateImportKey(ctx, "i")
	require.NoError(t, err)
	secretKey := randomBytes(t, 32)
	mac, err := d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, sealedFor(t, importer, randomBytes(t, 32), secretKey),
		into([2]string{wrapped.HMAC256, wrapped.MAC}, nil))
	require.NoError(t, err)
	h := hmac.New(sha256.New, secretKey)
	h.Write([]byte("message"))
	sum := h.Sum(nil)
	signing := func(k wrapped.Key, algorithm string) func() error {
		digest := digestFor(t, algorithm)
		return func() error {
			sig, err := d.Sign(ctx, k, algorithm, digest)
			if err == nil && !verifies(t, k, algorithm, digest, sig) {
				return errors.New("a signature that does not verify")
			}
			return err
		}
	}
	return []func() error{
		func() error { return s.open(ctx) },
		signing(sign, wrapped.ECDSASHA256),
		signing(rsaSign, wrapped.RSAPSSSHA256),
		func() error {
			got, err := d.KeyMAC(ctx, mac, []byte("message"))
			if err == nil && !hmac.Equal(got, sum) {
				return errors.New("a wrong MAC")
			}
			return err
		},
		func() error {
			out, err := d.DecryptRSA(ctx, open, wrapped.RSAOAEPSHA1, box)
			defer out.Wipe()
			if err == nil && string(out.Expose()) != "hunter2" {
				return fmt.Errorf("decrypted to something else")
			}
			return err
		},
	}
}

// storm runs many callers while one call in n of each function fails; of
// ckFunctions, one in n of all together, by chance.
func storm(f faults, code uint32, n int32, use []func() error, callers, rounds int, functions ...int) []error {
	for _, function := range functions {
		f.failEach(function, code, n)
	}
	var mu sync.Mutex
	var out []error
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			for round := range rounds {
				if err := use[(caller+round)%len(use)](); err != nil {
					mu.Lock()
					out = append(out, err)
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	for _, function := range functions {
		f.failEach(function, code, 0)
	}
	return out
}

// Sessions and handles that go bad now and then are replaced without anybody
// noticing, and none is left behind.
func TestNowAndThenASessionOrHandleIsBad(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = 100 * time.Millisecond
	d, _ := rooted(t, b)
	use := users(t, d)
	for _, one := range use {
		require.NoError(t, one())
	}
	pid := d.Health().WorkerPID
	sessions := func() int { return f.calls(ckOpenSession) - f.calls(ckCloseSession) }
	objects := func() int { return f.calls(ckUnwrapKey) - f.calls(ckDestroyObject) }
	for name, c := range map[string]struct {
		code     uint32
		function int
	}{
		"session of a sign": {ckrSessionHandleInvalid, ckSign}, "session of a decrypt": {ckrSessionHandleInvalid, ckDecrypt},
		"handle of a sign": {ckrObjectHandleInvalid, ckSign}, "handle of a decrypt": {ckrObjectHandleInvalid, ckDecrypt},
	} {
		openSessions, liveObjects, opened, unwrapped := sessions(), objects(), f.calls(ckOpenSession), f.calls(ckUnwrapKey)
		require.NoError(t, errors.Join(storm(f, c.code, 50, use, 16, 60, c.function)...), name)
		require.Equal(t, pid, d.Health().WorkerPID, name)
		require.Equal(t, openSessions, sessions(), "%s: a session was left open", name)
		require.Greater(t, f.calls(ckOpenSession), opened, "%s: the faults hit", name)
		require.LessOrEqual(t, objects()-liveObjects, len(use), "%s: loaded keys were left behind", name)
		if c.code == ckrObjectHandleInvalid {
			require.Greater(t, f.calls(ckUnwrapKey), unwrapped, "the faults hit")
		}
	}
}

// A worker that is lost while a pair is made costs nobody anything: the pair
// is made once more. An import is not: it may be what the worker died of.
func TestWorkerLostWhileAKeyIsMade(t *testing.T) {
	ctx := context.Background()
	_, f, d := openRooted(t)
	// during makes a function hang, kills the worker there, and lets go.
	during := func(function int, do func() error) error {
		pid, calls := d.Health().WorkerPID, f.calls(function)
		f.set(function, wordHang, 1)
		done := make(chan error, 1)
		go func() { done <- do() }()
		require.Eventually(t, func() bool { return f.calls(function) > calls }, patient, ping)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		f.set(function, wordHang, 0)
		err := <-done
		require.Eventually(t, func() bool { p := d.Health().WorkerPID; return p != 0 && p != pid }, patient, ping)
		return err
	}
	var k wrapped.Key
	err := during(ckGenerateKeyPair, func() (err error) {
		k, err = d.GenerateKey(ctx, "k", 1, wrapped.ECP256, wrapped.Sign)
		return err
	})
	require.NoError(t, err)
	_, err = d.Sign(ctx, k, wrapped.ECDSASHA256, make([]byte, 32))
	require.NoError(t, err)

	importer, err := d.CreateImportKey(ctx, "i")
	require.NoError(t, err)
	blob := sealedFor(t, importer, randomBytes(t, 32), randomBytes(t, 32))
	err = during(ckUnwrapKey, func() error {
		_, err := d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, blob, into([2]string{wrapped.AES256, wrapped.Encrypt}, nil))
		return err
	})
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	_, err = d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, blob, into([2]string{wrapped.AES256, wrapped.Encrypt}, nil))
	require.NoError(t, err, "the caller may")
}

// While pairs are made, one after the other, the calls that serve go on; and
// a caller who leaves lets the next one in, in turn.
func TestMakingPairsHoldsNobodyUp(t *testing.T) {
	b := newBox(t)
	d, _ := rooted(t, b)
	s := newSealer(t, d)
	pid := d.Health().WorkerPID
	ctx, cancel := context.WithCancel(context.Background())
	const makers = 6
	errs := make(chan error, makers)
	for range makers {
		go func() {
			_, err := d.GenerateKey(ctx, "k", 1, wrapped.RSA4096, wrapped.Sign)
			errs <- err
		}()
	}
	require.NoError(t, <-errs)
	for range 200 {
		require.NoError(t, s.open(context.Background()))
	}
	cancel()
	for range makers - 1 {
		if err := <-errs; err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
	}
	require.NoError(t, s.open(context.Background()))
	require.Equal(t, pid, d.Health().WorkerPID)
}

// reopened brings a root into b's token by the real module, then opens it by
// the faulty one: faults hit the probe.
func reopened(t *testing.T, spoil func(f faults)) *pkcs11.Device {
	t.Helper()
	b := newBox(t)
	d, root := rooted(t, b)
	require.NoError(t, d.Close())
	spoil(faulty(t, &b))
	d = open(t, b)
	require.NotEqual(t, pkcs11.HealthDown, d.Health().State, d.Health().Reason)
	require.NoError(t, d.UseRoot(context.Background(), root))
	return d
}

// A module that lacks what pairs need serves secret keys, and refuses the
// others in words.
func TestModulesWithoutPairsServeSecretKeys(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(f faults)
		lacks string
	}{
		"no padding wrap": {func(f faults) { f.set(ckFunctions, wordCalls, noPadWrap) }, "RFC 5649"},
		"PKCS7 for RFC 5649": {func(f faults) { f.set(ckFunctions, wordCalls, padWrapIsPKCS7) },
			"RFC 5649"},
		"no key pairs": {func(f faults) { f.fail(ckGenerateKeyPair, ckrMechanismInvalid, -1) }, "ec-p256"},
	} {
		t.Run(name, func(t *testing.T) {
			d := reopened(t, c.spoil)
			ctx := context.Background()
			require.Equal(t, pkcs11.HealthOK, d.Health().State)
			require.NoError(t, newSealer(t, d).open(ctx))
			_, err := d.KeyMAC(ctx, keyOf(t, d, wrapped.HMAC256, wrapped.MAC), []byte("m"))
			require.NoError(t, err)
			for _, row := range rows[2:] {
				_, err := d.GenerateKey(ctx, "k", 1, row[0], row[1])
				refused(t, err, row[0])
			}
			_, err = d.GenerateKey(ctx, "k", 1, wrapped.ECP256, wrapped.Sign)
			refused(t, err, c.lacks)
			require.Equal(t, pkcs11.HealthOK, d.Health().State)
		})
	}
}

// The number of the wrap is the module's, its meaning ours: a key that one
// module wrapped opens in another that calls the wrap otherwise.
func TestPadWrapUnderTheOtherNumber(t *testing.T) {
	b := newBox(t)
	d, root := rooted(t, b)
	require.EqualValues(t, 0x210A, d.Health().Profile.PadWrap)
	k := keyOf(t, d, wrapped.ECP256, wrapped.Sign)
	require.NoError(t, d.Close())
	f := faulty(t, &b)
	f.set(ckFunctions, wordCalls, padWrapIsKWP)
	d = open(t, b)
	require.NoError(t, d.UseRoot(context.Background(), root))
	require.EqualValues(t, 0x210B, d.Health().Profile.PadWrap)
	_, err := d.Sign(context.Background(), k, wrapped.ECDSASHA256, make([]byte, 32))
	require.NoError(t, err)
	keyOf(t, d, wrapped.ECP384, wrapped.Sign)
}

// A module that takes no private key from outside is probed with one that it
// makes.
func TestProbeMakesItsPairWhereItMust(t *testing.T) {
	d := reopened(t, func(f faults) { f.fail(ckCreateObject, ckrMechanismInvalid, -1) })
	require.Contains(t, d.Health().Profile.Specs, wrapped.RSA4096)
	require.Equal(t, []string{wrapped.RSAOAEPSHA1}, d.Health().Profile.OAEP)
}

// A signature that went wrong gives away an RSA key: it never leaves the
// worker, and the next one finds out that this module cannot sign.
func TestWrongSignatureStaysInside(t *testing.T) {
	ctx := context.Background()
	_, f, d := openRooted(t)
	k := keyOf(t, d, wrapped.RSA2048, wrapped.Sign)
	pid := d.Health().WorkerPID
	f.set(ckFunctions, wordCalls, badSignature)
	sig, err := d.Sign(ctx, k, wrapped.RSAPKCS1SHA256, make([]byte, 32))
	refused(t, err, "lacks")
	require.Empty(t, sig)
	require.NotEqual(t, pid, d.Health().WorkerPID)
	f.set(ckFunctions, wordCalls, 0)
}
