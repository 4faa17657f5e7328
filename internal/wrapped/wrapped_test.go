package wrapped

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var example = Key{ID: "k1", Version: 2, Spec: AES256, Usage: Encrypt, Wrap: RFC3394, Root: 3, Blob: []byte("blob"), MAC: []byte("mac")}

const goldenAuthenticated = "eec98913e13000880630f28f5e9b6501b625aaaefa46007b65b503cc67af0f10"

// Keys that are stored already must go on being what was authenticated: this
// sum was taken before there was a Public.
func TestKeysWithoutPublicStayAsTheyWere(t *testing.T) {
	sum := sha256.Sum256(example.Authenticated())
	require.Equal(t, goldenAuthenticated, hex.EncodeToString(sum[:]))
	encoded, err := cbor.Marshal(example)
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, cbor.Unmarshal(encoded, &fields))
	require.NotContains(t, fields, "Public")
	withPublic := example
	withPublic.Public = []byte("p")
	encoded, err = cbor.Marshal(withPublic)
	require.NoError(t, err)
	require.NoError(t, cbor.Unmarshal(encoded, &fields))
	require.Contains(t, fields, "Public")
}

// No two keys share what is authenticated or what a handle is found by, also
// where one writes into its MAC what looks like another's end.
func TestNoTwoKeysAreTakenForEachOther(t *testing.T) {
	raw := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 4}), 0, 12)
	word := rapid.SampledFrom([]string{"", "a", "aa", "\x00\x00\x00\x01"})
	draw := func(t *rapid.T) Key {
		return Key{ID: word.Draw(t, "id"), Version: rapid.Uint32Max(2).Draw(t, "version"), Spec: word.Draw(t, "spec"),
			Usage: word.Draw(t, "usage"), Wrap: word.Draw(t, "wrap"), Root: rapid.Uint32Max(2).Draw(t, "root"),
			Blob: raw.Draw(t, "blob"), MAC: raw.Draw(t, "mac"), Public: raw.Draw(t, "public")}
	}
	same := func(a, b Key) bool {
		return a.ID == b.ID && a.Version == b.Version && a.Spec == b.Spec && a.Usage == b.Usage && a.Wrap == b.Wrap &&
			a.Root == b.Root && string(a.Blob) == string(b.Blob) && string(a.Public) == string(b.Public)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t), draw(t)
		require.Equal(t, same(a, b), string(a.Authenticated()) == string(b.Authenticated()))
		require.Equal(t, same(a, b) && string(a.MAC) == string(b.MAC), a.Sum() == b.Sum())
	})
	with, without := example, example
	with.Public, with.MAC = []byte("p"), []byte("m")
	without.MAC = []byte("\x00\x00\x00\x01pm")
	require.NotEqual(t, with.Sum(), without.Sum())
}

func TestTableOfSpecs(t *testing.T) {
	usages := []string{Encrypt, Sign, MAC, Import, ""}
	for spec, allowed := range map[string][]string{
		AES256: {Encrypt}, HMAC256: {MAC}, RSA2048: {Encrypt, Sign}, RSA3072: {Encrypt, Sign}, RSA4096: {Encrypt, Sign},
		ECP256: {Sign}, ECP384: {Sign}, "aes-128": nil, "": nil,
	} {
		for _, usage := range usages {
			want := false
			for _, a := range allowed {
				want = want || a == usage
			}
			require.Equal(t, want, Allowed(spec, usage), "%s for %s", spec, usage)
		}
		for _, algorithm := range SignAlgorithms(spec) {
			require.NotZero(t, DigestBytes(algorithm), algorithm)
			require.True(t, IsPair(spec))
			require.True(t, Allowed(spec, Sign))
		}
		require.Equal(t, Allowed(spec, Sign), len(SignAlgorithms(spec)) > 0)
	}
	require.Zero(t, DigestBytes("md5"))
	SignAlgorithms(RSA2048)[0] = "spoilt"
	require.Equal(t, RSAPSSSHA256, SignAlgorithms(RSA2048)[0], "the table is nobody else's to change")
}
