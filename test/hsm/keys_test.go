package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// rows is every spec and usage that there is.
var rows = [][2]string{
	{wrapped.AES256, wrapped.Encrypt}, {wrapped.HMAC256, wrapped.MAC},
	{wrapped.ECP256, wrapped.Sign}, {wrapped.ECP384, wrapped.Sign},
	{wrapped.RSA2048, wrapped.Sign}, {wrapped.RSA2048, wrapped.Encrypt},
	{wrapped.RSA3072, wrapped.Sign}, {wrapped.RSA3072, wrapped.Encrypt},
	{wrapped.RSA4096, wrapped.Sign}, {wrapped.RSA4096, wrapped.Encrypt},
}

func keyOf(t testing.TB, d *pkcs11.Device, spec, usage string) wrapped.Key {
	t.Helper()
	k, err := d.GenerateKey(context.Background(), spec+" "+usage, 1, spec, usage)
	require.NoError(t, err)
	return k
}

// verifies is Go's cryptography, which shares nothing with the HSM.
func verifies(t testing.TB, k wrapped.Key, algorithm string, digest, sig []byte) bool {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(k.Public)
	require.NoError(t, err)
	hash := map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}[len(digest)]
	switch public := parsed.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, sig)
	case *rsa.PublicKey:
		if strings.HasPrefix(algorithm, "rsa-pss-") {
			return rsa.VerifyPSS(public, hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, digest, sig) == nil
	}
	return false
}

func digestFor(t testing.TB, algorithm string) []byte {
	t.Helper()
	digest := make([]byte, wrapped.DigestBytes(algorithm))
	_, err := rand.Read(digest)
	require.NoError(t, err)
	return digest
}

// Every key that there is, used in every way that there is, on one device;
// after all that the token holds what it held before.
func TestKeysOfEverySpec(t *testing.T) {
	b := newBox(t)
	d, _ := rooted(t, b)
	before := tool(t, b, "--list-objects")
	keys := map[[2]string]wrapped.Key{}
	for _, row := range rows {
		k := keyOf(t, d, row[0], row[1])
		require.Equal(t, wrapped.IsPair(k.Spec), len(k.Public) != 0)
		require.Len(t, k.MAC, 32)
		keys[row] = k
	}
	importer, err := d.CreateImportKey(context.Background(), "import")
	require.NoError(t, err)
	require.Equal(t, wrapped.Import, importer.Usage)
	keys[[2]string{wrapped.RSA3072, wrapped.Import}] = importer

	t.Run("what is signed verifies", func(t *testing.T) { everyAlgorithmVerifies(t, d, keys) })
	t.Run("what does not fit is refused", func(t *testing.T) { unfitIsRefused(t, d, keys) })
	t.Run("a key serves its own usage only", func(t *testing.T) { onlyOwnUsage(t, d, keys) })
	t.Run("nothing tampered with is used", func(t *testing.T) { nothingTamperedIsUsed(t, d, keys) })
	t.Run("what was encrypted in Go opens", func(t *testing.T) { rsaOpens(t, d, keys) })

	require.Equal(t, pkcs11.HealthOK, d.Health().State)
	require.Equal(t, uint64(2), generationsSince(d), "none of this may cost a worker")
	require.Equal(t, before, tool(t, b, "--list-objects"), "nothing was left in the token")
	require.Equal(t, 4, strings.Count(before, "label:"), "the root, its MAC key, the transport pair: %s", before)
}

func everyAlgorithmVerifies(t *testing.T, d *pkcs11.Device, keys map[[2]string]wrapped.Key) {
	for row, k := range keys {
		if row[1] != wrapped.Sign {
			continue
		}
		for _, algorithm := range wrapped.SignAlgorithms(k.Spec) {
			require.Contains(t, d.Health().Profile.Sign, algorithm)
			digest := digestFor(t, algorithm)
			rounds := 1
			if strings.HasPrefix(algorithm, "ecdsa") {
				rounds = 300 // r and s with leading zeros and high bits among them
			}
			for range rounds {
				sig, err := d.Sign(context.Background(), k, algorithm, digest)
				require.NoError(t, err, "%s %s", k.Spec, algorithm)
				require.True(t, verifies(t, k, algorithm, digest, sig), "%s %s", k.Spec, algorithm)
			}
			sig, err := d.Sign(context.Background(), k, algorithm, digest)
			require.NoError(t, err)
			digest[0] ^= 1
			require.False(t, verifies(t, k, algorithm, digest, sig), "the control")
		}
	}
}

// refused is InvalidRequest and not one word of the HSM's code names.
func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "%v", err)
	var public *fault.Error
	require.ErrorAs(t, err, &public)
	for _, word := range words {
		require.Contains(t, public.Message, word)
	}
}

func unfitIsRefused(t *testing.T, d *pkcs11.Device, keys map[[2]string]wrapped.Key) {
	ctx := context.Background()
	for row, k := range keys {
		if row[1] != wrapped.Sign {
			continue
		}
		fitting := wrapped.SignAlgorithms(k.Spec)
		for _, algorithm := range []string{wrapped.RSAPSSSHA256, wrapped.RSAPKCS1SHA512, wrapped.ECDSASHA256, wrapped.ECDSASHA384,
			wrapped.RSAOAEPSHA1, "rsa-pss-sha1", ""} {
			if !slices.Contains(fitting, algorithm) {
				_, err := d.Sign(ctx, k, algorithm, make([]byte, 32))
				refused(t, err, k.Spec, fitting[0])
			}
		}
		for _, n := range []int{0, 20, 31, 33, 64, 65} {
			if n != wrapped.DigestBytes(fitting[0]) {
				_, err := d.Sign(ctx, k, fitting[0], make([]byte, n))
				refused(t, err, "digest")
			}
		}
	}
	for _, row := range [][2]string{{wrapped.RSA2048, wrapped.MAC}, {wrapped.ECP256, wrapped.Encrypt}, {wrapped.AES256, wrapped.Sign},
		{wrapped.HMAC256, wrapped.Encrypt}, {wrapped.RSA3072, wrapped.Import}, {"rsa-1024", wrapped.Sign}, {"ec-p521", wrapped.Sign}} {
		_, err := d.GenerateKey(ctx, "k", 1, row[0], row[1])
		refused(t, err, row[0], row[1])
	}
}

// uses is one call of each operation that takes a key.
func uses(d *pkcs11.Device, k wrapped.Key) map[string]error {
	ctx := context.Background()
	out := map[string]error{}
	_, _, out["seal"] = d.Seal(ctx, k, secret.Copy([]byte("x")), nil)
	_, out["open"] = d.Open(ctx, k, make([]byte, 12), make([]byte, 20), nil)
	algorithm := "none"
	if fitting := wrapped.SignAlgorithms(k.Spec); len(fitting) > 0 {
		algorithm = fitting[0]
	}
	_, out["sign"] = d.Sign(ctx, k, algorithm, make([]byte, wrapped.DigestBytes(algorithm)))
	_, out["mac"] = d.KeyMAC(ctx, k, []byte("x"))
	out["check"] = d.CheckKey(ctx, k)
	_, out["decrypt"] = d.DecryptRSA(ctx, k, wrapped.RSAOAEPSHA1, make([]byte, 256))
	_, out["import"] = d.ImportKey(ctx, k, wrapped.RSAOAEPSHA1, make([]byte, 500), wrapped.Key{ID: "i", Version: 1, Spec: wrapped.AES256, Usage: wrapped.Encrypt})
	return out
}

func onlyOwnUsage(t *testing.T, d *pkcs11.Device, keys map[[2]string]wrapped.Key) {
	own := map[string][]string{wrapped.AES256 + wrapped.Encrypt: {"seal"}, wrapped.HMAC256 + wrapped.MAC: {"mac"}}
	for _, row := range rows {
		if row[1] == wrapped.Sign {
			own[row[0]+row[1]] = []string{"sign"}
		}
	}
	for row, k := range keys {
		for what, err := range uses(d, k) {
			if what == "check" || slices.Contains(own[row[0]+row[1]], what) {
				require.NoError(t, err, "%v %s", row, what)
			} else {
				refused(t, err)
			}
		}
	}
}

func nothingTamperedIsUsed(t *testing.T, d *pkcs11.Device, keys map[[2]string]wrapped.Key) {
	flip := func(p []byte, i int) []byte {
		out := bytes.Clone(p)
		out[i%len(out)] ^= 0x10
		return out
	}
	for row, k := range keys {
		changes := map[string]func(*wrapped.Key){
			"id": func(k *wrapped.Key) { k.ID += "x" }, "version": func(k *wrapped.Key) { k.Version++ },
			"root": func(k *wrapped.Key) { k.Root++ }, "wrap": func(k *wrapped.Key) { k.Wrap = "rfc0000" },
			"no mac": func(k *wrapped.Key) { k.MAC = nil }, "long mac": func(k *wrapped.Key) { k.MAC = append(bytes.Clone(k.MAC), 0) },
			"no blob": func(k *wrapped.Key) { k.Blob = nil },
		}
		for _, i := range []int{0, 1, 7, 8, 30, 39} {
			changes["blob"+itoa(i)] = func(k *wrapped.Key) { k.Blob = flip(k.Blob, i) }
			changes["mac"+itoa(i)] = func(k *wrapped.Key) { k.MAC = flip(k.MAC, i) }
			if len(k.Public) != 0 {
				changes["public"+itoa(i)] = func(k *wrapped.Key) { k.Public = flip(k.Public, len(k.Public)-1-i) }
			}
		}
		if len(k.Public) != 0 {
			changes["no public"] = func(k *wrapped.Key) { k.Public = nil }
			// What Sum would take for the key if it put the MAC last.
			changes["public in mac"] = func(k *wrapped.Key) {
				k.MAC = append(append([]byte{0, 0, byte(len(k.Public) >> 8), byte(len(k.Public))}, k.Public...), k.MAC...)
				k.Public = nil
			}
		} else {
			changes["a public"] = func(k *wrapped.Key) { k.Public = keys[[2]string{wrapped.ECP256, wrapped.Sign}].Public }
		}
		for otherRow, other := range keys {
			if otherRow != row {
				changes["blob of "+otherRow[0]+otherRow[1]] = func(k *wrapped.Key) { k.Blob = other.Blob }
				changes["blob and mac of "+otherRow[0]+otherRow[1]] = func(k *wrapped.Key) { k.Blob, k.MAC = other.Blob, other.MAC }
				changes["spec and usage of "+otherRow[0]+otherRow[1]] = func(k *wrapped.Key) { k.Spec, k.Usage = other.Spec, other.Usage }
				if len(other.Public) != 0 {
					changes["public of "+otherRow[0]+otherRow[1]] = func(k *wrapped.Key) { k.Public = other.Public }
				}
			}
		}
		for what, change := range changes {
			bad := k
			change(&bad)
			for use, err := range uses(d, bad) {
				require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "%v with %s for %s: %v", row, what, use, err)
			}
		}
	}
}
