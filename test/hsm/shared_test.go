package hsm

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
)

// The tests here have three devices on one token, as three nodes have on one
// network HSM. SoftHSM makes that hard: each log-in of one process rewrites a
// file that the others read.

// openThree opens three devices on b at the same time.
func openThree(t *testing.T, b box) [3]*pkcs11.Device {
	t.Helper()
	var out [3]*pkcs11.Device
	var errs [3]error
	var opening sync.WaitGroup
	for n := range out {
		opening.Go(func() { out[n], errs[n] = pkcs11.Open(context.Background(), b.cfg) })
	}
	opening.Wait()
	for n, d := range out {
		require.NoError(t, errs[n])
		t.Cleanup(func() { require.NoError(t, d.Close()) })
	}
	return out
}

// use makes d use root, again and again as a server does.
func use(t *testing.T, d *pkcs11.Device, root pkcs11.Root) {
	t.Helper()
	var last error
	require.Eventually(t, func() bool { last = d.UseRoot(context.Background(), root); return last == nil }, patient, ping, "%v", last)
}

// Of sixteen starts at the same time about one meets the token half-written.
// No person is needed then, no root key is taken for a lost one, and none is
// brought in a second time.
func TestThreeWorkersStartOnOneToken(t *testing.T) {
	b := newBox(t)
	d, root := rooted(t, b)
	k := newKey(t, d, "k1")
	iv, sealed := seal(t, d, k, "hunter2", "")
	require.NoError(t, d.Close())
	before := tool(t, b, "--list-objects", "--type", "secrkey")
	for range 12 {
		devices := openThree(t, b)
		var using sync.WaitGroup
		for _, d := range devices {
			using.Go(func() { use(t, d, root) })
		}
		using.Wait()
		for _, d := range devices {
			got, err := unseal(d, k, iv, sealed, "")
			require.NoError(t, err)
			require.Equal(t, "hunter2", got)
			require.NoError(t, d.Close())
		}
	}
	require.Equal(t, before, tool(t, b, "--list-objects", "--type", "secrkey"))
	require.Equal(t, 2, strings.Count(before, "label:"))
}

// SoftHSM says CKR_USER_PIN_NOT_INITIALIZED of a token that another process is
// writing down. No PIN was compared, so it is no wrong PIN, and not a reason to
// wait for a person; nor is it the last word on whether the HSM can be used.
func TestATokenThatHasNoPINForAMomentIsAskedAgain(t *testing.T) {
	for name, code := range map[string]uint32{"no PIN": 0x102, "general error": 0x5} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			f := faulty(t, &b)
			f.fail(ckLogin, code, 1)
			h := open(t, b).Health()
			require.NotZero(t, h.WorkerPID, h.Reason)
			require.Equal(t, 2, f.calls(ckLogin))
		})
	}
}

// One that stays without says so, and is asked ever less often.
func TestATokenWithoutAPINSaysSo(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	f.fail(ckLogin, 0x102, -1)
	d := open(t, b)
	require.Equal(t, pkcs11.HealthDown, d.Health().State)
	require.Contains(t, d.Health().Reason, "has no user PIN")
	f.fail(ckLogin, 0, 0)
	require.Eventually(t, func() bool { return d.Health().WorkerPID != 0 }, patient, ping)
}

// Of nodes that share an HSM one brings a new root in. The others neither
// make one of their own nor lose a moment while it is not there yet.
func TestARootThatIsForOthersToBringInIsWaitedFor(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	one, first := rooted(t, b)
	other := open(t, b)
	require.NoError(t, other.UseFoundRoots(ctx, []pkcs11.Root{first}, 1))
	own, err := one.TransportKey(ctx)
	require.NoError(t, err)
	second, err := one.MakeRoot(ctx, 2, []pkcs11.Recipient{{NodeID: "both", PublicDER: own.PublicDER, Wrap: own.Wrap}})
	require.NoError(t, err)
	both := []pkcs11.Root{first, second}

	worker := other.Health().WorkerPID
	for range 3 {
		err := other.UseFoundRoots(ctx, both, 1)
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
		require.ErrorContains(t, err, "the root key v2 is not in the HSM token")
	}
	require.Equal(t, worker, other.Health().WorkerPID, "it serves on")
	require.Equal(t, pkcs11.HealthOK, other.Health().State)
	require.Equal(t, 2, strings.Count(tool(t, b, "--list-objects", "--type", "secrkey"), "label:"))

	require.NoError(t, one.UseRoots(ctx, both, 2))
	var last error
	require.Eventually(t, func() bool { last = other.UseFoundRoots(ctx, both, 2); return last == nil }, patient, ping, "%v", last)
	require.Equal(t, 4, strings.Count(tool(t, b, "--list-objects", "--type", "secrkey"), "label:"))
	k := newKey(t, one, "k1")
	require.EqualValues(t, 2, k.Root)
	iv, sealed := seal(t, one, k, "under the second", "")
	got, err := unseal(other, k, iv, sealed, "")
	require.NoError(t, err)
	require.Equal(t, "under the second", got)
}

// An HSM that has lost its root stays without for who may not import.
func TestNothingIsImportedByWhoMayNot(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	d := open(t, b)
	own, err := d.CreateTransportKey(ctx)
	require.NoError(t, err)
	root, err := d.MakeRoot(ctx, 1, []pkcs11.Recipient{{NodeID: "one", PublicDER: own.PublicDER, Wrap: own.Wrap}})
	require.NoError(t, err)
	require.ErrorContains(t, d.UseFoundRoots(ctx, []pkcs11.Root{root}, 1), "nothing was created")
	require.NotContains(t, tool(t, b, "--list-objects"), "strongroom root")
	require.NoError(t, d.UseRoot(ctx, root))
}
