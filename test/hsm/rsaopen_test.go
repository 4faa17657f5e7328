package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

func publicRSA(t testing.TB, k wrapped.Key) *rsa.PublicKey {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(k.Public)
	require.NoError(t, err)
	return parsed.(*rsa.PublicKey)
}

// oaepIn is Go's OAEP.
func oaepIn(t testing.TB, k wrapped.Key, hash crypto.Hash, text, label []byte) []byte {
	t.Helper()
	box, err := rsa.EncryptOAEP(hash.New(), rand.Reader, publicRSA(t, k), text, label)
	require.NoError(t, err)
	return box
}

func rsaOpens(t *testing.T, d *pkcs11.Device, keys map[[2]string]wrapped.Key) {
	ctx := context.Background()
	require.Equal(t, []string{wrapped.RSAOAEPSHA1}, d.Health().Profile.OAEP, "what SoftHSM 2.6 does")
	for row, k := range keys {
		if row[1] != wrapped.Encrypt || !wrapped.IsPair(row[0]) {
			continue
		}
		size := publicRSA(t, k).Size()
		for _, n := range []int{0, 1, 32, size - 42} {
			text := make([]byte, n)
			_, _ = rand.Read(text)
			out, err := d.DecryptRSA(ctx, k, wrapped.RSAOAEPSHA1, oaepIn(t, k, crypto.SHA1, text, nil))
			require.NoError(t, err, "%d bytes", n)
			require.True(t, bytes.Equal(text, out.Expose()))
			out.Wipe()
		}
		for _, algorithm := range []string{wrapped.RSAOAEPSHA256, "rsa-pkcs1", ""} {
			_, err := d.DecryptRSA(ctx, k, algorithm, oaepIn(t, k, crypto.SHA256, []byte("x"), nil))
			refused(t, err, "it does "+wrapped.RSAOAEPSHA1)
		}
		rsaOpensNothingElse(t, d, k, keys)
	}
}

// The kinds of ciphertext that Wycheproof tries: one text for all.
func rsaOpensNothingElse(t *testing.T, d *pkcs11.Device, k wrapped.Key, keys map[[2]string]wrapped.Key) {
	public := publicRSA(t, k)
	size := public.Size()
	good := oaepIn(t, k, crypto.SHA1, []byte("hunter2"), nil)
	raw := func(m *big.Int) []byte {
		return new(big.Int).Exp(m, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, size))
	}
	// The padding of PKCS #1 v1.5: 2, bytes that are not zero, 0, text.
	padding := append(bytes.Repeat([]byte{0xA5}, size-3-len("hunter2")), "\x00hunter2"...)
	pkcs1 := raw(new(big.Int).SetBytes(append([]byte{2}, padding...)))
	bad := map[string][]byte{
		"empty": nil, "cut": good[:size-1], "cut in front": good[1:], "extended": append(bytes.Clone(good), 0),
		"extended in front": append([]byte{0}, good...), "zeros": make([]byte, size), "ones": bytes.Repeat([]byte{0xFF}, size),
		"modulus": public.N.FillBytes(make([]byte, size)), "one": raw(big.NewInt(1)),
		"modulus less one": new(big.Int).Sub(public.N, big.NewInt(1)).FillBytes(make([]byte, size)),
		"modulus more":     new(big.Int).Add(new(big.Int).SetBytes(good), public.N).Bytes(),
		"pkcs1 padding":    pkcs1, "with a label": oaepIn(t, k, crypto.SHA1, []byte("hunter2"), []byte("label")),
		"other hash": oaepIn(t, k, crypto.SHA256, []byte("hunter2"), nil), "no padding": raw(new(big.Int).SetBytes([]byte("hunter2"))),
		"first byte not zero": raw(new(big.Int).Lsh(big.NewInt(1), uint(8*size-10))),
	}
	for _, other := range []wrapped.Key{keys[[2]string{wrapped.RSA2048, wrapped.Sign}], keys[[2]string{wrapped.RSA3072, wrapped.Sign}], keys[[2]string{wrapped.RSA4096, wrapped.Sign}]} {
		bad["for another key: "+other.Spec] = oaepIn(t, other, crypto.SHA1, []byte("hunter2"), nil)
	}
	for i := 0; i < size; i += size / 16 {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1
		bad[fmt.Sprint("byte ", i)] = flipped
	}
	var texts []string
	for what, box := range bad {
		out, err := d.DecryptRSA(context.Background(), k, wrapped.RSAOAEPSHA1, box)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "%s: %v", what, err)
		require.Zero(t, out.Len(), what)
		texts = append(texts, publicText(t, err))
	}
	slices.Sort(texts)
	require.Len(t, slices.Compact(texts), 1, "one text for all")
}

func publicText(t testing.TB, err error) string {
	t.Helper()
	var public *fault.Error
	require.ErrorAs(t, err, &public)
	return public.Message
}
