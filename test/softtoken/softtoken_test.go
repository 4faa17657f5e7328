package softtoken

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// What the token makes is what it uses, by the public half that it says.
func TestPairsSignAndOpen(t *testing.T) {
	ctx, token := context.Background(), New()
	for _, spec := range []string{wrapped.ECP256, wrapped.ECP384, wrapped.RSA2048} {
		k, err := token.GenerateKey(ctx, "k", 1, spec, wrapped.Sign)
		require.NoError(t, err)
		public, err := x509.ParsePKIXPublicKey(k.Public)
		require.NoError(t, err)
		for _, algorithm := range wrapped.SignAlgorithms(spec) {
			digest := make([]byte, wrapped.DigestBytes(algorithm))
			sig, err := token.Sign(ctx, k, algorithm, digest)
			require.NoError(t, err)
			require.True(t, verifies(public, algorithm, digest, sig), algorithm)
			_, err = token.Sign(ctx, k, algorithm, digest[1:])
			require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
		}
		_, err = token.KeyMAC(ctx, k, nil)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
		k.Public[len(k.Public)-1] ^= 1
		_, err = token.Sign(ctx, k, wrapped.SignAlgorithms(spec)[0], make([]byte, wrapped.DigestBytes(wrapped.SignAlgorithms(spec)[0])))
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
	}
}

func verifies(public crypto.PublicKey, algorithm string, digest, sig []byte) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, sig)
	case *rsa.PublicKey:
		hash := hashes[len(digest)]
		if algorithm[:7] == "rsa-pss" {
			return rsa.VerifyPSS(p, hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(p, hash, digest, sig) == nil
	}
	return false
}

func TestImportedSecretIsUsed(t *testing.T) {
	ctx, token := context.Background(), New()
	importer, err := token.CreateImportKey(ctx, "i")
	require.NoError(t, err)
	public, err := x509.ParsePKIXPublicKey(importer.Public)
	require.NoError(t, err)
	kek, material := make([]byte, 32), make([]byte, 32)
	_, _ = rand.Read(kek)
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), kek, nil)
	require.NoError(t, err)
	blob, err := WrapPad(kek, material)
	require.NoError(t, err)
	into := wrapped.Key{ID: "k", Version: 1, Spec: wrapped.HMAC256, Usage: wrapped.MAC}
	k, err := token.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, append(sealed, blob...), into)
	require.NoError(t, err)
	_, err = token.KeyMAC(ctx, k, []byte("m"))
	require.NoError(t, err)
	sealed[0] ^= 1
	_, err = token.ImportKey(ctx, importer, wrapped.RSAOAEPSHA1, append(sealed, blob...), into)
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
}
