package hsm

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSealedTextComesBack(t *testing.T) {
	d, _ := rooted(t, newBox(t))
	k := newKey(t, d, "k1")
	for _, text := range []string{"", "x", "hunter2", string(make([]byte, 64<<10))} {
		iv, sealed := seal(t, d, k, text, "context")
		require.Len(t, iv, 12)
		require.Len(t, sealed, len(text)+16)
		got, err := unseal(d, k, iv, sealed, "context")
		require.NoError(t, err)
		require.Equal(t, text, got)
	}
}
