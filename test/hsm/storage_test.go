package hsm

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// A node opens its log before it knows a root key: the log tells it.
func TestStorageRootServesWithoutARootKey(t *testing.T) {
	b := newBox(t)
	d := open(t, b)
	ctx := context.Background()
	one, two := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)
	key := secret.Copy([]byte("thirty-two bytes of storage key!"))

	_, _, err := d.SealStorage(ctx, one, key, []byte("node"))
	require.Equal(t, fault.NotFound, fault.KindOf(err), "nothing is made that nobody asked for: %v", err)
	require.NoError(t, d.CreateStorageRoot(ctx, one))
	require.Equal(t, fault.AlreadyExists, fault.KindOf(d.CreateStorageRoot(ctx, one)))
	require.NoError(t, d.CreateStorageRoot(ctx, two), "nodes may share an HSM")
	iv, box, err := d.SealStorage(ctx, one, key, []byte("node"))
	require.NoError(t, err)
	require.NotContains(t, string(box), string(key.Expose()))

	again := open(t, b) // another process, as after a restart
	opened, err := again.OpenStorage(ctx, one, iv, box, []byte("node"))
	require.NoError(t, err)
	require.True(t, opened.Equal(key))

	flipped := func(p []byte) []byte { p = bytes.Clone(p); p[0] ^= 1; return p }
	for what, open := range map[string]func() (secret.Bytes, error){
		"other root":    func() (secret.Bytes, error) { return again.OpenStorage(ctx, two, iv, box, []byte("node")) },
		"other context": func() (secret.Bytes, error) { return again.OpenStorage(ctx, one, iv, box, []byte("nodes")) },
		"box":           func() (secret.Bytes, error) { return again.OpenStorage(ctx, one, iv, flipped(box), []byte("node")) },
		"iv":            func() (secret.Bytes, error) { return again.OpenStorage(ctx, one, flipped(iv), box, []byte("node")) },
		"short":         func() (secret.Bytes, error) { return again.OpenStorage(ctx, one, iv, box[:8], []byte("node")) },
		"bad id":        func() (secret.Bytes, error) { return again.OpenStorage(ctx, one[:8], iv, box, []byte("node")) },
	} {
		_, err := open()
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "%s: %v", what, err)
	}

	require.NoError(t, again.RemoveStorageRoot(ctx, one))
	require.NoError(t, again.RemoveStorageRoot(ctx, one), "one that is not there is no error")
	_, err = again.OpenStorage(ctx, one, iv, box, []byte("node"))
	require.Equal(t, fault.NotFound, fault.KindOf(err), "%v", err)
	iv, box, err = again.SealStorage(ctx, two, key, nil)
	require.NoError(t, err)
	opened, err = again.OpenStorage(ctx, two, iv, box, nil)
	require.NoError(t, err)
	require.True(t, opened.Equal(key))
}

// What pkcs11-tool sees of it is a key that never leaves.
func TestStorageRootNeverLeaves(t *testing.T) {
	b := newBox(t)
	d := open(t, b)
	require.NoError(t, d.CreateStorageRoot(context.Background(), bytes.Repeat([]byte{7}, 16)))
	listed := tool(t, b, "--list-objects", "--type", "secrkey")
	require.Contains(t, listed, "strongroom storage")
	lines := strings.Split(listed, "\n")
	access := lines[slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "Access:") })]
	for _, word := range []string{"sensitive", "always sensitive", "never extractable", "local"} {
		require.Contains(t, access, word)
	}
	usage := lines[slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "Usage:") })]
	require.Equal(t, "encrypt, decrypt", strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(usage), "Usage:")))
}
