package hsm

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// pairOfTokens answers two HSMs that share root v1, and their transport keys.
func pairOfTokens(t *testing.T) (a, b *pkcs11.Device, boxA, boxB box, root pkcs11.Root, to []pkcs11.Recipient) {
	t.Helper()
	ctx := context.Background()
	boxA, boxB = newBox(t), newBox(t)
	a, b = open(t, boxA), open(t, boxB)
	for name, d := range map[string]*pkcs11.Device{"a": a, "b": b} {
		key, err := d.CreateTransportKey(ctx)
		require.NoError(t, err)
		to = append(to, pkcs11.Recipient{NodeID: name, PublicDER: key.PublicDER, Wrap: key.Wrap})
	}
	root, err := a.CreateRoot(ctx, 1, to)
	require.NoError(t, err)
	require.NoError(t, b.UseRoot(ctx, root))
	return a, b, boxA, boxB, root, to
}

// TestKeysMoveToANewRoot: every kind of key, with both HSMs, without one call
// that fails on the way, and afterwards the old root is gone from the tokens
// and the keys live on.
func TestKeysMoveToANewRoot(t *testing.T) {
	ctx := context.Background()
	a, b, boxA, boxB, first, to := pairOfTokens(t)
	var old []wrapped.Key
	for _, row := range [][2]string{{wrapped.AES256, wrapped.Encrypt}, {wrapped.HMAC256, wrapped.MAC},
		{wrapped.RSA2048, wrapped.Sign}, {wrapped.RSA2048, wrapped.Encrypt}, {wrapped.ECP256, wrapped.Sign}, {wrapped.ECP384, wrapped.Sign}} {
		old = append(old, keyOf(t, a, row[0], row[1]))
	}
	importKey, err := a.CreateImportKey(ctx, "waits for material")
	require.NoError(t, err)
	old = append(old, importKey)
	iv, sealed := seal(t, a, old[0], "before", "aad")
	mac, err := a.KeyMAC(ctx, old[1], []byte("m"))
	require.NoError(t, err)

	// Somebody reads all the while.
	reading, stop := context.WithCancel(ctx)
	var readers sync.WaitGroup
	for _, d := range []*pkcs11.Device{a, b} {
		readers.Go(func() {
			for reading.Err() == nil {
				got, err := unseal(d, old[0], iv, sealed, "aad")
				if err != nil || got != "before" {
					t.Errorf("a reader got %q, %v", got, err)
					return
				}
			}
		})
	}
	second, err := a.MakeRoot(ctx, 2, to)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(tool(t, boxA, "--list-objects", "--type", "secrkey"), "label:"), "making leaves nothing behind")
	both := []pkcs11.Root{first, second}
	for _, d := range []*pkcs11.Device{a, b} {
		require.NoError(t, d.UseRoots(ctx, both, 1))
		checks, making := d.RootsInUse()
		require.ElementsMatch(t, [][]byte{first.MACCheck, second.MACCheck}, checks)
		require.EqualValues(t, 1, making)
	}
	require.EqualValues(t, 1, newKey(t, a, "under the first").Root)
	for _, d := range []*pkcs11.Device{a, b} {
		generation := d.Health().Generation
		require.NoError(t, d.UseRoots(ctx, both, 2))
		require.Equal(t, generation, d.Health().Generation, "a change of the root that keys are made under costs no worker")
	}
	require.EqualValues(t, 2, newKey(t, b, "under the second").Root)
	moved, err := b.Rewrap(ctx, old)
	require.NoError(t, err)
	require.Len(t, moved, len(old))
	stop()
	readers.Wait()
	for i, k := range moved {
		require.EqualValues(t, 2, k.Root)
		require.NotEqual(t, old[i].Blob, k.Blob)
		require.Equal(t, old[i].Public, k.Public)
		require.Equal(t, []any{old[i].ID, old[i].Version, old[i].Spec, old[i].Usage}, []any{k.ID, k.Version, k.Spec, k.Usage})
	}
	_, err = a.Rewrap(ctx, moved[:1])
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "it is there already")

	// The first root goes; it must not while it is in use.
	require.Equal(t, fault.Conflict, fault.KindOf(a.RemoveRoot(ctx, first)))
	for d, box := range map[*pkcs11.Device]box{a: boxA, b: boxB} {
		require.NoError(t, d.UseRoots(ctx, []pkcs11.Root{second}, 2))
		require.NoError(t, d.RemoveRoot(ctx, first))
		require.NoError(t, d.RemoveRoot(ctx, first), "it is gone already")
		require.Equal(t, fault.Conflict, fault.KindOf(d.RemoveRoot(ctx, second)))
		objects := tool(t, box, "--list-objects", "--type", "secrkey")
		require.Contains(t, objects, "strongroom root v2")
		require.NotContains(t, objects, "root v1")
		require.Equal(t, 2, strings.Count(objects, "label:"), "no passing object stayed: %s", objects)
		got, err := unseal(d, moved[0], iv, sealed, "aad")
		require.NoError(t, err)
		require.Equal(t, "before", got)
		again, err := d.KeyMAC(ctx, moved[1], []byte("m"))
		require.NoError(t, err)
		require.Equal(t, mac, again)
		_, err = unseal(d, old[0], iv, sealed, "aad")
		require.Error(t, err, "the old form is dead")
	}
}

// TestRewrapRefusesWhatIsNotOurs: it would launder a forged key.
func TestRewrapRefusesWhatIsNotOurs(t *testing.T) {
	ctx := context.Background()
	a, _, _, _, first, to := pairOfTokens(t)
	k, pair := newKey(t, a, "k"), keyOf(t, a, wrapped.ECP256, wrapped.Sign)
	second, err := a.MakeRoot(ctx, 2, to)
	require.NoError(t, err)
	require.NoError(t, a.UseRoots(ctx, []pkcs11.Root{first, second}, 2))
	stranger := keyOf(t, a, wrapped.ECP256, wrapped.Sign)
	for name, change := range map[string]func(k, pair *wrapped.Key){
		"a blob of another":       func(k, pair *wrapped.Key) { k.Blob = append([]byte{k.Blob[0] ^ 1}, k.Blob[1:]...) },
		"another name":            func(k, pair *wrapped.Key) { k.ID = "other" },
		"another public half":     func(k, pair *wrapped.Key) { pair.Public = stranger.Public },
		"another root":            func(k, pair *wrapped.Key) { k.Root = 3 },
		"claimed for another use": func(k, pair *wrapped.Key) { k.Usage = wrapped.MAC },
	} {
		k, pair := k, pair
		change(&k, &pair)
		_, err := a.Rewrap(ctx, []wrapped.Key{k, pair})
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), name)
	}
	_, err = a.Rewrap(ctx, nil)
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
	_, err = a.Rewrap(ctx, make([]wrapped.Key, pkcs11.MaxRewrap+1))
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
}

// TestAnHSMThatCannotHaveTheNewRootGoesOn: nobody wrapped it to that HSM; it
// is told, and not disturbed.
func TestAnHSMThatCannotHaveTheNewRootGoesOn(t *testing.T) {
	ctx := context.Background()
	a, b, _, _, first, to := pairOfTokens(t)
	var onlyA []pkcs11.Recipient
	for _, r := range to {
		if r.NodeID == "a" {
			onlyA = append(onlyA, r)
		}
	}
	second, err := a.MakeRoot(ctx, 2, onlyA)
	require.NoError(t, err)
	generation := b.Health().Generation
	require.Equal(t, fault.NotFound, fault.KindOf(b.UseRoots(ctx, []pkcs11.Root{first, second}, 1)))
	require.Equal(t, generation, b.Health().Generation)
	checks, making := b.RootsInUse()
	require.Equal(t, [][]byte{first.MACCheck}, checks)
	require.EqualValues(t, 1, making)
	newKey(t, b, "still served")

	for name, bad := range map[string]struct {
		roots  []pkcs11.Root
		making uint32
	}{
		"none": {nil, 1}, "twice": {[]pkcs11.Root{first, first}, 1}, "made under none": {[]pkcs11.Root{first}, 2}, "no root": {[]pkcs11.Root{{}}, 0},
	} {
		require.Equal(t, fault.InvalidRequest, fault.KindOf(b.UseRoots(ctx, bad.roots, bad.making)), name)
	}
}

// TestAWorkerThatIsLostComesBackWithBothRoots.
func TestAWorkerThatIsLostComesBackWithBothRoots(t *testing.T) {
	ctx := context.Background()
	a, _, _, _, first, to := pairOfTokens(t)
	k := newKey(t, a, "k")
	iv, sealed := seal(t, a, k, "text", "")
	second, err := a.MakeRoot(ctx, 2, to)
	require.NoError(t, err)
	require.NoError(t, a.UseRoots(ctx, []pkcs11.Root{first, second}, 2))
	require.NoError(t, syscall.Kill(a.Health().WorkerPID, syscall.SIGKILL))
	got, err := unseal(a, k, iv, sealed, "")
	require.NoError(t, err)
	require.Equal(t, "text", got)
	require.EqualValues(t, 2, newKey(t, a, "k2").Root)
	moved, err := a.Rewrap(ctx, []wrapped.Key{k})
	require.NoError(t, err)
	got, err = unseal(a, moved[0], iv, sealed, "")
	require.NoError(t, err)
	require.Equal(t, "text", got)
}
