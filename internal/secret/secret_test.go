package secret_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/secret"
)

func TestNewOwnsAndCopyDoesNot(t *testing.T) {
	plain := []byte("hunter2")
	owned, copied := secret.New(plain), secret.Copy(plain)
	plain[0] = 'H'
	require.Equal(t, "Hunter2", string(owned.Expose()))
	require.Equal(t, "hunter2", string(copied.Expose()))
	require.Equal(t, 7, owned.Len())
}

// A value is passed by value all over the engine: whoever wipes one copy
// wipes the buffer, not a header of it.
func TestCopiesShareOneBuffer(t *testing.T) {
	buffer := append(make([]byte, 0, 32), "hunter2"...)
	all := buffer[:cap(buffer)]
	copy(all[7:], "left behind by an append") // beyond the length, and the caller's no less
	a := secret.New(buffer)
	b := a
	exposed := b.Expose()
	a.Wipe()
	require.Equal(t, make([]byte, len(all)), all, "zeros up to the capacity")
	require.Equal(t, make([]byte, 7), exposed)
	require.Nil(t, b.Expose())
	require.Zero(t, b.Len())
	b.Wipe()
	a.Wipe()
}

func TestZeroValueIsEmptyAndWiped(t *testing.T) {
	var zero secret.Bytes
	require.Nil(t, zero.Expose())
	require.Zero(t, zero.Len())
	zero.Wipe()
	require.True(t, zero.Equal(secret.New(nil)))
	require.True(t, zero.Equal(secret.Copy(nil)))
	require.False(t, zero.Equal(secret.Copy([]byte("x"))))
	require.Equal(t, "[secret]", zero.String())
}

func TestEqualComparesBytes(t *testing.T) {
	a := secret.Copy([]byte("hunter2"))
	require.True(t, a.Equal(a))
	require.True(t, a.Equal(secret.Copy([]byte("hunter2"))))
	for _, other := range []string{"", "hunter", "hunter22", "hunter3", "Hunter2"} {
		require.False(t, a.Equal(secret.Copy([]byte(other))), other)
		require.False(t, secret.Copy([]byte(other)).Equal(a), other)
	}
	a.Wipe()
	require.False(t, a.Equal(secret.Copy([]byte("hunter2"))), "a wiped value is no longer what it was")
}

// Several requests may hold one cached value. The race detector is the judge.
func TestConcurrentUse(t *testing.T) {
	b := secret.Copy(bytes.Repeat([]byte("x"), 64))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if b.Len() != 64 || !b.Equal(b) {
					t.Error("changed under a reader")
				}
			}
		})
	}
	wg.Wait()
	for range 8 {
		wg.Go(b.Wipe)
	}
	wg.Wait()
	require.Zero(t, b.Len())
}
