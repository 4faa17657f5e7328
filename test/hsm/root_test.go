package hsm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
)

func TestRootMovesBetweenTokens(t *testing.T) {
	ctx := context.Background()
	boxA, boxB := newBox(t), newBox(t)
	a, b := open(t, boxA), open(t, boxB)
	keyA, err := a.CreateTransportKey(ctx)
	require.NoError(t, err)
	keyB, err := b.CreateTransportKey(ctx)
	require.NoError(t, err)
	require.NotEqual(t, keyA.Fingerprint, keyB.Fingerprint)
	root, err := a.CreateRoot(ctx, 1, []pkcs11.Recipient{
		{NodeID: "a", PublicDER: keyA.PublicDER, Wrap: keyA.Wrap}, {NodeID: "b", PublicDER: keyB.PublicDER, Wrap: keyB.Wrap}})
	require.NoError(t, err)
	require.Len(t, root.Copies, 2)
	require.NoError(t, b.UseRoot(ctx, root))

	k := newKey(t, a, "k1")
	iv, sealed := seal(t, a, k, "from a", "aad")
	got, err := unseal(b, k, iv, sealed, "aad")
	require.NoError(t, err)
	require.Equal(t, "from a", got)
	macA, err := a.MAC(ctx, []byte("m"))
	require.NoError(t, err)
	macB, err := b.MAC(ctx, []byte("m"))
	require.NoError(t, err)
	require.Equal(t, macA, macB)

	// A third HSM that nobody wrapped the root to cannot get it, and says so.
	c := open(t, newBox(t))
	_, err = c.CreateTransportKey(ctx)
	require.NoError(t, err)
	require.Equal(t, fault.NotFound, fault.KindOf(c.UseRoot(ctx, root)))
}

func TestRootStaysInside(t *testing.T) {
	b := newBox(t)
	rooted(t, b)
	out := tool(t, b, "--list-objects", "--type", "secrkey")
	require.Contains(t, out, "strongroom root v1")
	for object := range strings.SplitSeq(out, "Secret Key Object") {
		if !strings.Contains(object, "label:") {
			continue
		}
		require.Contains(t, object, "sensitive")
		require.NotContains(t, strings.ReplaceAll(object, "never extractable", ""), "extractable")
		if strings.Contains(object, "strongroom root v1") {
			require.Contains(t, object, "Usage:      wrap, unwrap")
		}
	}
	require.Equal(t, 2, strings.Count(out, "label:"), "no leftovers: %s", out)
	private := tool(t, b, "--list-objects", "--type", "privkey")
	require.Contains(t, private, "Usage:      unwrap")
	require.Contains(t, private, "never extractable")
}

func TestInitTokenLeavesATokenAlone(t *testing.T) {
	b := newBox(t)
	err := pkcs11.InitToken(context.Background(), b.cfg, filepath.Join(b.dir, "so-pin"))
	require.Equal(t, fault.AlreadyExists, fault.KindOf(err))
	entries, err := os.ReadDir(b.tokens())
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestTransportKeyIsMadeOnce(t *testing.T) {
	ctx := context.Background()
	d := open(t, newBox(t))
	_, err := d.TransportKey(ctx)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	made, err := d.CreateTransportKey(ctx)
	require.NoError(t, err)
	_, err = d.CreateTransportKey(ctx)
	require.Equal(t, fault.AlreadyExists, fault.KindOf(err))
	found, err := d.TransportKey(ctx)
	require.NoError(t, err)
	require.Equal(t, made, found)
}

func TestRootOfAnotherClusterIsRefused(t *testing.T) {
	ctx := context.Background()
	d, root := rooted(t, newBox(t))
	k := newKey(t, d, "k1")
	other := root
	other.MACCheck = make([]byte, 32)
	require.Error(t, d.UseRoot(ctx, other))
	iv, sealed := seal(t, d, k, "still here", "")
	got, err := unseal(d, k, iv, sealed, "")
	require.NoError(t, err)
	require.Equal(t, "still here", got)
}
