package checkpoint

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"
)

func sample() Checkpoint {
	c := Checkpoint{Cluster: "prod", Node: "n1", Chain: strings.Repeat("ab", 32), Size: 1234, Time: time.Date(2026, 11, 27, 6, 0, 0, 1e6, time.UTC)}
	c.Root[3], c.Head[5] = 7, 9
	return c
}

func newKey(t testing.TB) (*ecdsa.PrivateKey, []byte, Key) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	keys, err := ParseKeys(text)
	require.NoError(t, err)
	return private, text, keys[0]
}

func signed(t testing.TB, c Checkpoint, private *ecdsa.PrivateKey, key Key) []byte {
	digest := c.Digest()
	signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
	require.NoError(t, err)
	text, err := c.Note(key, signature)
	require.NoError(t, err)
	return text
}

func witness(t testing.TB, name string) (ed25519.PrivateKey, Witness) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	w, err := ParseWitness(Witness{name, public}.String())
	require.NoError(t, err)
	return private, w
}

func TestTextHasTheFormOfTheStandard(t *testing.T) {
	c := sample()
	require.Equal(t, `strongroom/prod/n1/`+strings.Repeat("ab", 32)+`
1234
AAAABwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
head 0000000000090000000000000000000000000000000000000000000000000000
time 2026-11-27T06:00:00.001Z
`, c.Text())
	back, err := Parse(c.Text())
	require.NoError(t, err)
	require.Equal(t, c, back)
}

func TestOnlyTheKeyOpensANote(t *testing.T) {
	private, _, key := newKey(t)
	_, _, other := newKey(t)
	text := signed(t, sample(), private, key)
	got, err := Open(text, []Key{other, key})
	require.NoError(t, err)
	require.Equal(t, sample(), got.Checkpoint)
	_, err = Open(text, []Key{other})
	require.ErrorContains(t, err, "no signature in it is of the public key")
	_, err = Open(text, nil)
	require.Error(t, err)
	c := sample()
	_, err = c.Note(other, []byte("nonsense"))
	require.ErrorContains(t, err, "not one of the key")
}

// Every bit of a signed and cosigned note counts.
func TestAnyFlippedBitIsFound(t *testing.T) {
	private, _, key := newKey(t)
	seal, w := witness(t, "witness.example.com/w1")
	text, err := Cosign(signed(t, sample(), private, key), w.Name(), seal, time.Now())
	require.NoError(t, err)
	got, err := Open(text, []Key{key}, w)
	require.NoError(t, err)
	require.Equal(t, []string{w.Name()}, got.Witnesses)
	for i := range text {
		for bit := range 8 {
			text[i] ^= 1 << bit
			again, err := Open(text, []Key{key}, w)
			if err == nil {
				// A name or key id that nobody knows is a signature of somebody else.
				require.Empty(t, again.Witnesses, "bit %d of byte %d in\n%s", bit, i, text)
				require.Equal(t, got.Checkpoint, again.Checkpoint)
			}
			text[i] ^= 1 << bit
		}
	}
	for i := range text {
		if cut, err := Open(text[:i], []Key{key}, w); err == nil {
			require.Empty(t, cut.Witnesses)
		}
	}
}

// A witness speaks for itself, not for the cluster, and not for another text.
func TestAWitnessIsNotTheCluster(t *testing.T) {
	private, _, key := newKey(t)
	seal, w := witness(t, "w1")
	_, err := Cosign([]byte("x"), "strongroom/prod", seal, time.Now())
	require.ErrorContains(t, err, "which is the clusters'")
	c := sample()
	unsigned := c.Text() + "\n"
	only, err := Cosign([]byte(unsigned), "w1", seal, time.Now())
	require.NoError(t, err)
	_, err = Open(only, []Key{key}, w)
	require.ErrorContains(t, err, "no signature in it is of the public key")
	first, err := Cosign(signed(t, sample(), private, key), "w1", seal, time.Now())
	require.NoError(t, err)
	c.Size++
	moved := string(signed(t, c, private, key)) + string(first[strings.LastIndex(string(first), "— "):])
	_, err = Open([]byte(moved), []Key{key}, w)
	require.ErrorContains(t, err, "the signature of w1 is wrong")
}

// The library that others use verifies a cosignature's form as a note of ours.
func TestNotesAreNotesToOthers(t *testing.T) {
	private, _, key := newKey(t)
	n, err := note.Open(signed(t, sample(), private, key), verifiers{keyVerifier{key, KeyName("prod")}})
	require.NoError(t, err)
	c := sample()
	require.Equal(t, c.Text(), n.Text)
}

func TestKeysThatAreNone(t *testing.T) {
	_, good, _ := newKey(t)
	rsa := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	for name, c := range map[string]struct{ text, want string }{
		"nothing":     {"", "there is no public key"},
		"a private":   {string(rsa), "not a PUBLIC KEY"},
		"not DER":     {string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})), "cannot be read"},
		"a rest":      {string(good) + "rest", "something behind"},
		"one of each": {string(good) + string(rsa), "not a PUBLIC KEY"},
	} {
		_, err := ParseKeys([]byte(c.text))
		require.ErrorContains(t, err, c.want, name)
	}
	two, err := ParseKeys(append(good, good...))
	require.NoError(t, err)
	require.Len(t, two, 2)
	for _, text := range []string{"", "w1", "w1+AAAA", "a b+" + strings.Repeat("A", 43) + "=", "strongroom/x+" + strings.Repeat("A", 43) + "="} {
		_, err := ParseWitness(text)
		require.Error(t, err, text)
	}
}

// Parse takes what Text writes, and nothing else.
func TestTextAndParseAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Checkpoint{
			Cluster: rapid.StringMatching(`[a-z][a-z0-9.-]{0,20}`).Draw(t, "cluster"), Node: rapid.StringMatching(`[a-z][a-z0-9.-]{0,20}`).Draw(t, "node"),
			Chain: rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "chain"), Size: rapid.Uint64Range(1, 1<<62).Draw(t, "size"),
			Time: time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "time")).UTC(),
		}
		copy(c.Root[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "root"))
		back, err := Parse(c.Text())
		require.NoError(t, err)
		require.Equal(t, c, back)
	})
}

func FuzzOpen(f *testing.F) {
	private, _, key := newKey(f)
	f.Add(signed(f, sample(), private, key))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Open(text, []Key{key})
		if err == nil {
			body, _, _ := strings.Cut(string(text), "\n\n")
			require.Equal(t, got.Text(), body+"\n")
		}
	})
}
