package softtoken

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The two examples of RFC 5649, section 6.
func TestKeyWrapOfTheStandard(t *testing.T) {
	kek := fromHex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for material, want := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		got, err := WrapPad(kek, fromHex(t, material))
		require.NoError(t, err)
		require.Equal(t, want, hex.EncodeToString(got))
	}
}

func TestKeyWrapComesBackAndNothingElseDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kek := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "kek")
		material := rapid.SliceOfN(rapid.Byte(), 1, 70).Draw(t, "material")
		blob, err := WrapPad(kek, material)
		require.NoError(t, err)
		got, err := UnwrapPad(kek, blob)
		require.NoError(t, err)
		require.Equal(t, material, got)
		blob[rapid.IntRange(0, len(blob)-1).Draw(t, "at")] ^= 1
		_, err = UnwrapPad(kek, blob)
		require.Error(t, err)
		_, err = UnwrapPad(kek, blob[:len(blob)-8])
		require.Error(t, err)
	})
}

func fromHex(t *testing.T, s string) []byte {
	out, err := hex.DecodeString(s)
	require.NoError(t, err)
	return out
}
