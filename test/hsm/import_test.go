package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/test/softtoken"
)

// sealedFor is what a person does who imports material, in Go.
func sealedFor(t testing.TB, importer wrapped.Key, kek, material []byte) []byte {
	t.Helper()
	blob, err := softtoken.WrapPad(kek, material)
	require.NoError(t, err)
	return append(oaepIn(t, importer, crypto.SHA1, kek, nil), blob...)
}

func randomBytes(t testing.TB, n int) []byte {
	t.Helper()
	out := make([]byte, n)
	_, err := rand.Read(out)
	require.NoError(t, err)
	return out
}

// outside is a key that was made outside: its material, and the public half.
func outside(t testing.TB, spec string) (material, public []byte, private crypto.Signer) {
	t.Helper()
	var err error
	switch spec {
	case wrapped.ECP256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case wrapped.ECP384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case wrapped.RSA2048, wrapped.RSA3072, wrapped.RSA4096:
		private, err = rsa.GenerateKey(rand.Reader, map[string]int{wrapped.RSA2048: 2048, wrapped.RSA3072: 3072, wrapped.RSA4096: 4096}[spec])
	default:
		return randomBytes(t, 32), nil, nil
	}
	require.NoError(t, err)
	material, err = x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	public, err = x509.MarshalPKIXPublicKey(private.Public())
	require.NoError(t, err)
	return material, public, private
}

func into(row [2]string, public []byte) wrapped.Key {
	return wrapped.Key{ID: "imported", Version: 1, Spec: row[0], Usage: row[1], Public: public}
}

// Material made in Go, used in the HSM, and checked in Go, for every spec.
func TestImportedKeysAreTheOnesThatWereMade(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	d, _ := rooted(t, b)
	before := tool(t, b, "--list-objects")
	importer, err := d.CreateImportKey(ctx, "import")
	require.NoError(t, err)
	for _, row := range rows {
		t.Run(row[0]+" "+row[1], func(t *testing.T) {
			material, public, private := outside(t, row[0])
			k, err := d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, sealedFor(t, importer, randomBytes(t, 32), material), into(row, public))
			require.NoError(t, err)
			require.Equal(t, public, k.Public)
			require.Equal(t, [3]string{"imported", row[0], row[1]}, [3]string{k.ID, k.Spec, k.Usage})
			usedInBoth(t, d, k, material, private)
			if row[0] == wrapped.RSA2048 {
				k, err := d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, sealedFor(t, importer, randomBytes(t, 32), material), into(row, nil))
				require.NoError(t, err, "the public half of RSA is read from the private")
				require.Equal(t, public, k.Public)
			}
		})
	}
	require.Equal(t, uint64(2), generationsSince(d))
	require.Equal(t, before, tool(t, b, "--list-objects"), "nothing was left in the token")
}

// usedInBoth: what the HSM makes Go takes, and the other way round.
func usedInBoth(t *testing.T, d *pkcs11.Device, k wrapped.Key, material []byte, private crypto.Signer) {
	ctx := context.Background()
	switch k.Usage {
	case wrapped.Sign:
		algorithm := wrapped.SignAlgorithms(k.Spec)[0]
		digest := digestFor(t, algorithm)
		sig, err := d.Sign(ctx, k, algorithm, digest)
		require.NoError(t, err)
		require.True(t, verifies(t, k, algorithm, digest, sig))
	case wrapped.MAC:
		for _, message := range [][]byte{nil, []byte("m"), make([]byte, 100_000)} {
			got, err := d.KeyMAC(ctx, k, message)
			require.NoError(t, err)
			h := hmac.New(sha256.New, material)
			h.Write(message)
			require.Equal(t, h.Sum(nil), got)
		}
	default:
		if private != nil {
			out, err := d.DecryptRSA(ctx, k, wrapped.RSAOAEPSHA1, oaepIn(t, k, crypto.SHA1, []byte("hunter2"), nil))
			require.NoError(t, err)
			require.Equal(t, "hunter2", string(out.Expose()))
			return
		}
		block, err := aes.NewCipher(material)
		require.NoError(t, err)
		gcm, err := cipher.NewGCM(block)
		require.NoError(t, err)
		iv, box, err := d.Seal(ctx, k, secret.Copy([]byte("from the HSM")), []byte("aad"))
		require.NoError(t, err)
		plain, err := gcm.Open(nil, iv, box, []byte("aad"))
		require.NoError(t, err)
		require.Equal(t, "from the HSM", string(plain))
		got, err := unseal(d, k, iv, gcm.Seal(nil, iv, []byte("from Go"), []byte("aad")), "aad")
		require.NoError(t, err)
		require.Equal(t, "from Go", got)
	}
}

// Whatever is wrong with a blob, it is one text, and it costs no worker.
func TestNothingElseIsImported(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	d, _ := rooted(t, b)
	before := tool(t, b, "--list-objects")
	importer, err := d.CreateImportKey(ctx, "import")
	require.NoError(t, err)
	stranger, err := d.CreateImportKey(ctx, "import")
	require.NoError(t, err)
	var texts []string
	bad := func(what string, blob []byte, to wrapped.Key) {
		t.Helper()
		k, err := d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, blob, to)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "%s: %v", what, err)
		require.Empty(t, k.Blob, what)
		texts = append(texts, publicText(t, err))
	}
	rowOf := map[string][2]string{wrapped.AES256: {wrapped.AES256, wrapped.Encrypt}, wrapped.HMAC256: {wrapped.HMAC256, wrapped.MAC},
		wrapped.ECP256: {wrapped.ECP256, wrapped.Sign}, wrapped.ECP384: {wrapped.ECP384, wrapped.Sign},
		wrapped.RSA2048: {wrapped.RSA2048, wrapped.Sign}, wrapped.RSA3072: {wrapped.RSA3072, wrapped.Encrypt}}
	materials, publics := map[string][]byte{}, map[string][]byte{}
	kek := randomBytes(t, 32)
	for spec := range rowOf {
		materials[spec], publics[spec], _ = outside(t, spec)
	}
	for spec, row := range rowOf {
		material, to := materials[spec], into(row, publics[spec])
		good := sealedFor(t, importer, kek, material)
		for _, i := range []int{0, 100, 383, 384, 391, 392, len(good) - 1} {
			flipped := bytes.Clone(good)
			flipped[i] ^= 1
			bad(fmt.Sprint(spec, " byte ", i), flipped, to)
		}
		for _, n := range []int{0, 1, 383, 384, 385, 392, 400, len(good) - 8, len(good) - 1} {
			bad(fmt.Sprint(spec, " cut to ", n), good[:n], to)
		}
		bad(spec+" extended", append(bytes.Clone(good), 0), to)
		bad(spec+" extended by a block", append(bytes.Clone(good), make([]byte, 8)...), to)
		bad(spec+" for another import key", sealedFor(t, stranger, kek, material), to)
		bad(spec+" under another AES key", append(bytes.Clone(good[:384]), sealedFor(t, importer, randomBytes(t, 32), material)[384:]...), to)
		for _, n := range []int{5, 33, 64} {
			bad(fmt.Sprint(spec, " under an AES key of ", n), append(oaepIn(t, importer, crypto.SHA1, randomBytes(t, n), nil), good[384:]...), to)
		}
		bad(spec+" by the other hash", append(oaepIn(t, importer, crypto.SHA256, kek, nil), good[384:]...), to)
		for other := range rowOf {
			// 32 bytes are an AES key as well as an HMAC key.
			if other != spec && publics[spec] != nil || publics[other] != nil {
				if other != spec {
					bad("material of "+other+" as "+spec, sealedFor(t, importer, kek, materials[other]), to)
				}
			}
		}
		for _, n := range []int{1, 8, 16, 24, 31, 33, 40, 48, 64, 1000} {
			bad(fmt.Sprint(spec, ": ", n, " random bytes"), sealedFor(t, importer, kek, randomBytes(t, n)), to)
		}
		if to.Public != nil {
			bad(spec+" cut PKCS#8", sealedFor(t, importer, kek, material[:len(material)-1]), to)
			_, another, _ := outside(t, spec)
			bad(spec+" with another's public half", good, into(row, another))
			bad(spec+" with a public half that is none", good, into(row, another[:len(another)-1]))
			bad(spec+" with the public half of another spec", good, into(row, publics[map[bool]string{true: wrapped.ECP256, false: wrapped.ECP384}[spec == wrapped.ECP384]]))
		}
	}
	bad("small exponent", sealedFor(t, importer, kek, oddRSA(t, 2048, 3)), into(rowOf[wrapped.RSA2048], nil))
	bad("small modulus", sealedFor(t, importer, kek, oddRSA(t, 1024, 65537)), into(rowOf[wrapped.RSA2048], nil))
	slices.Sort(texts)
	require.Len(t, slices.Compact(texts), 1, "one text for all: %v", slices.Compact(texts))
	require.Equal(t, uint64(2), generationsSince(d), "no bad material may cost a worker")
	require.Equal(t, pkcs11.HealthOK, d.Health().State)
	require.Equal(t, before, tool(t, b, "--list-objects"), "nothing was left in the token")
}

// oddRSA is a private key as Go does not make them.
func oddRSA(t *testing.T, bits int, exponent int64) []byte {
	t.Helper()
	one, e := big.NewInt(1), big.NewInt(exponent)
	for {
		p, err := rand.Prime(rand.Reader, bits/2)
		require.NoError(t, err)
		q, err := rand.Prime(rand.Reader, bits/2)
		require.NoError(t, err)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		n := new(big.Int).Mul(p, q)
		if d == nil || n.BitLen() != bits {
			continue
		}
		k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: int(exponent)}, D: d, Primes: []*big.Int{p, q}}
		k.Precompute()
		der, err := x509.MarshalPKCS8PrivateKey(k)
		require.NoError(t, err)
		return der
	}
}

// What is wrong with the request, not with the blob, is said.
func TestImportsThatCannotBeAreRefusedInWords(t *testing.T) {
	ctx := context.Background()
	d, _ := rooted(t, newBox(t))
	importer, err := d.CreateImportKey(ctx, "import")
	require.NoError(t, err)
	aesRow, ecRow := [2]string{wrapped.AES256, wrapped.Encrypt}, [2]string{wrapped.ECP256, wrapped.Sign}
	material, _, _ := outside(t, wrapped.AES256)
	good := sealedFor(t, importer, randomBytes(t, 32), material)
	_, public, _ := outside(t, wrapped.ECP256)
	for words, ask := range map[string]func() (wrapped.Key, error){
		"it does rsa-oaep-sha1": func() (wrapped.Key, error) {
			return d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA256, good, into(aesRow, nil))
		},
		"public half": func() (wrapped.Key, error) {
			return d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, good, into(ecRow, nil))
		},
		"with none": func() (wrapped.Key, error) {
			return d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, good, into(aesRow, public))
		},
		"no keys of spec": func() (wrapped.Key, error) {
			return d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, good, into([2]string{wrapped.RSA3072, wrapped.Import}, nil))
		},
		"cannot be used": func() (wrapped.Key, error) {
			bad := importer
			bad.ID = "another"
			return d.ImportKey(ctx, bad, wrapped.RSAOAEPSHA1, good, into(aesRow, nil))
		},
	} {
		_, err := ask()
		refused(t, err, words)
	}
	k, err := d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, good, into(aesRow, nil))
	require.NoError(t, err, "the control")
	_, err = d.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, sealedFor(t, importer, randomBytes(t, 16), material), into(aesRow, nil))
	require.NoError(t, err, "SoftHSM does not tell that the AES key is a short one")
	require.False(t, strings.Contains(string(k.Blob), string(material)))
}
