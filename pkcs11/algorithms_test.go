package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// The tables of wrapped and of this package say the same.
func TestTablesAgree(t *testing.T) {
	for row, kind := range specs {
		require.True(t, wrapped.Allowed(row.spec, row.usage) || row.usage == wrapped.Import, row)
		require.Equal(t, wrapped.IsPair(row.spec), kind.pair(), row)
		for _, algorithm := range wrapped.SignAlgorithms(row.spec) {
			how, known := signings[algorithm]
			require.True(t, known, algorithm)
			require.Equal(t, wrapped.DigestBytes(algorithm), how.hash.Size(), algorithm)
		}
	}
	for _, spec := range []string{wrapped.AES256, wrapped.HMAC256, wrapped.RSA2048, wrapped.RSA3072, wrapped.RSA4096, wrapped.ECP256, wrapped.ECP384} {
		for _, usage := range []string{wrapped.Encrypt, wrapped.Sign, wrapped.MAC} {
			_, known := specs[specUsage{spec, usage}]
			require.Equal(t, wrapped.Allowed(spec, usage), known, "%s %s", spec, usage)
		}
	}
}

// Numbers of the standard, against miekg/pkcs11.
func TestNumbersOfTheStandard(t *testing.T) {
	for ours, theirs := range map[int]int{
		ckmRSAPKCS: p11.CKM_RSA_PKCS, ckmRSAPSS: p11.CKM_RSA_PKCS_PSS, ckmECKeyPairGen: p11.CKM_EC_KEY_PAIR_GEN, ckmECDSA: p11.CKM_ECDSA,
		ckmSHA384: p11.CKM_SHA384, ckmSHA512: p11.CKM_SHA512, ckmAESKeyWrapPad: p11.CKM_AES_KEY_WRAP_PAD,
		ckaECParams: p11.CKA_EC_PARAMS, ckaECPoint: p11.CKA_EC_POINT, ckaPrivateExponent: p11.CKA_PRIVATE_EXPONENT, ckaPrime1: p11.CKA_PRIME_1,
		ckaPrime2: p11.CKA_PRIME_2, ckaExponent1: p11.CKA_EXPONENT_1, ckaExponent2: p11.CKA_EXPONENT_2, ckaCoefficient: p11.CKA_COEFFICIENT,
	} {
		require.Equal(t, theirs, ours)
	}
	for mgf, theirs := range map[uint64]int{ckgMGF1SHA1: p11.CKG_MGF1_SHA1, ckgMGF1SHA256: p11.CKG_MGF1_SHA256,
		ckgMGF1SHA384: p11.CKG_MGF1_SHA384, ckgMGF1SHA512: p11.CKG_MGF1_SHA512} {
		require.EqualValues(t, theirs, mgf)
	}
}

// DigestInfo is what Go's own PKCS #1 v1.5 puts there.
func TestDigestInfoIsThatOfTheStandard(t *testing.T) {
	k, err := knownPair()
	require.NoError(t, err, "the pair that everybody knows is one")
	for _, algorithm := range []string{wrapped.RSAPKCS1SHA256, wrapped.RSAPKCS1SHA384, wrapped.RSAPKCS1SHA512} {
		how, digest := signings[algorithm], make([]byte, wrapped.DigestBytes(algorithm))
		sig, err := rsa.SignPKCS1v15(nil, k, how.hash, digest)
		require.NoError(t, err)
		raw, err := rsa.SignPKCS1v15(nil, k, 0, how.input(digest)) // no hash: the input as it is
		require.NoError(t, err)
		require.Equal(t, sig, raw)
		require.True(t, how.verify(&k.PublicKey, digest, sig))
		sig[9] ^= 1
		require.False(t, how.verify(&k.PublicKey, digest, sig))
	}
}

func TestRawSignaturesBecomeDER(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		size, order := (curve.Params().BitSize+7)/8, curve.Params().N
		rapid.Check(t, func(t *rapid.T) {
			number := func(name string) *big.Int {
				n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 1, size).Draw(t, name))
				return n.Add(n.Mod(n, new(big.Int).Sub(order, big.NewInt(1))), big.NewInt(1))
			}
			r, s := number("r"), number("s")
			raw := append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
			der, err := signatureDER(curve, raw)
			require.NoError(t, err)
			var back struct{ R, S *big.Int }
			rest, err := asn1.Unmarshal(der, &back) // refuses integers that are not minimal
			require.NoError(t, err)
			require.Empty(t, rest)
			require.Zero(t, back.R.Cmp(r))
			require.Zero(t, back.S.Cmp(s))
		})
		good := append(big.NewInt(1).FillBytes(make([]byte, size)), big.NewInt(1).FillBytes(make([]byte, size))...)
		zero := append(make([]byte, size), good[size:]...)
		high := append(order.FillBytes(make([]byte, size)), good[size:]...)
		for name, raw := range map[string][]byte{"empty": nil, "cut": good[1:], "long": append(good, 0), "r is 0": zero, "r is the order": high} {
			_, err := signatureDER(curve, raw)
			require.Error(t, err, name)
		}
	}
}

// Public halves are refused unless they are exactly what the spec says.
func TestOnlyFittingPublicHalves(t *testing.T) {
	der := func(public any) []byte {
		out, err := x509.MarshalPKIXPublicKey(public)
		require.NoError(t, err)
		return out
	}
	ec := func(curve elliptic.Curve) crypto.PublicKey {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		return &k.PublicKey
	}
	known, err := knownPair()
	require.NoError(t, err)
	p256, good := der(ec(elliptic.P256())), der(&known.PublicKey)
	rsa2048, ecP256 := rsaKind(2048, ckaSign), ecKind(elliptic.P256(), ckaSign)
	_, err = rsa2048.parsePublic(good)
	require.NoError(t, err)
	_, err = ecP256.parsePublic(p256)
	require.NoError(t, err)

	smallExponent, even := known.PublicKey, known.PublicKey
	smallExponent.E = 3
	even.N = new(big.Int).Sub(known.N, big.NewInt(1))
	for name, bad := range map[string][]byte{"none": nil, "EC": p256, "exponent": der(&smallExponent), "even": der(&even), "rest": append(good, 0)} {
		_, err := rsa2048.parsePublic(bad)
		require.Error(t, err, name)
	}
	_, err = rsaKind(3072, ckaSign).parsePublic(good)
	require.Error(t, err, "another size")
	offCurve := append([]byte(nil), p256...)
	offCurve[len(offCurve)-1] ^= 1
	for name, bad := range map[string][]byte{"RSA": good, "P-384": der(ec(elliptic.P384())), "P-521": der(ec(elliptic.P521())), "off the curve": offCurve} {
		_, err := ecP256.parsePublic(bad)
		require.Error(t, err, name)
	}
}

// CKA_EC_POINT comes with and without an OCTET STRING around it.
func TestPointsInBothForms(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		raw, err := k.PublicKey.Bytes()
		require.NoError(t, err)
		wrappedPoint, err := asn1.Marshal(raw)
		require.NoError(t, err)
		require.Equal(t, raw, ecPoint(curve, raw))
		require.Equal(t, raw, ecPoint(curve, wrappedPoint))
		oid, err := asn1.Marshal(map[elliptic.Curve]asn1.ObjectIdentifier{elliptic.P256(): {1, 2, 840, 10045, 3, 1, 7}, elliptic.P384(): {1, 3, 132, 0, 34}}[curve])
		require.NoError(t, err)
		require.Equal(t, oid, curveOID(curve))
	}
}

// With a stranger's key material every code is the material's but those that
// speak of device, session, handle or room.
func TestImportFaultsAreTheMaterials(t *testing.T) {
	for _, code := range []rv{rvGeneralError, p11.CKR_FUNCTION_FAILED, p11.CKR_WRAPPED_KEY_INVALID, p11.CKR_KEY_SIZE_RANGE,
		p11.CKR_KEY_TYPE_INCONSISTENT, p11.CKR_TEMPLATE_INCONSISTENT, p11.CKR_ATTRIBUTE_VALUE_INVALID, p11.CKR_ARGUMENTS_BAD, 0x80001234} {
		got, ambiguous := classify(code, forImport)
		require.Equal(t, classInput, got, p11.Error(code))
		require.True(t, ambiguous, "the canary decides")
	}
	for _, code := range []rv{p11.CKR_DEVICE_ERROR, p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_DEVICE_MEMORY, p11.CKR_USER_NOT_LOGGED_IN} {
		want, _ := classify(code, forUse)
		got, ambiguous := classify(code, forImport)
		require.Equal(t, want, got, p11.Error(code))
		require.False(t, ambiguous)
	}
}
