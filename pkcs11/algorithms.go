package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"

	// The hashes that signatures name.
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// oaep is one way to encrypt to an RSA pair.
type oaep struct {
	name string
	how  wrapping
	hash crypto.Hash
}

// oaeps lists them best first. OAEP does not rest on collision resistance:
// SHA-1 is what SoftHSM 2.6 has, and it is sound here.
var oaeps = []oaep{
	{wrapped.RSAOAEPSHA256, wrapping{ckmRSAOAEP, ckmSHA256, ckgMGF1SHA256}, crypto.SHA256},
	{wrapped.RSAOAEPSHA1, wrapping{ckmRSAOAEP, ckmSHA1, ckgMGF1SHA1}, crypto.SHA1},
}

func oaepBy(name string) (wrapping, bool) {
	for _, o := range oaeps {
		if o.name == name {
			return o.how, true
		}
	}
	return wrapping{}, false
}

// signing is how one signature algorithm is made in the HSM. The hash is the
// caller's work.
type signing struct {
	how    signature
	hash   crypto.Hash
	prefix []byte // PKCS #1 v1.5: the DER of DigestInfo before the digest (RFC 8017, 9.2)
}

var signings = map[string]signing{
	wrapped.RSAPSSSHA256: {how: signature{ckmRSAPSS, ckmSHA256, ckgMGF1SHA256, 32}, hash: crypto.SHA256},
	wrapped.RSAPSSSHA384: {how: signature{ckmRSAPSS, ckmSHA384, ckgMGF1SHA384, 48}, hash: crypto.SHA384},
	wrapped.RSAPSSSHA512: {how: signature{ckmRSAPSS, ckmSHA512, ckgMGF1SHA512, 64}, hash: crypto.SHA512},

	wrapped.RSAPKCS1SHA256: {how: signature{mechanism: ckmRSAPKCS}, hash: crypto.SHA256, prefix: digestInfo(0x01, 32)},
	wrapped.RSAPKCS1SHA384: {how: signature{mechanism: ckmRSAPKCS}, hash: crypto.SHA384, prefix: digestInfo(0x02, 48)},
	wrapped.RSAPKCS1SHA512: {how: signature{mechanism: ckmRSAPKCS}, hash: crypto.SHA512, prefix: digestInfo(0x03, 64)},

	wrapped.ECDSASHA256: {how: signature{mechanism: ckmECDSA}, hash: crypto.SHA256},
	wrapped.ECDSASHA384: {how: signature{mechanism: ckmECDSA}, hash: crypto.SHA384},
}

// digestInfo is SEQUENCE { SEQUENCE { OID 2.16.840.1.101.3.4.2.arc, NULL },
// OCTET STRING } up to the digest.
func digestInfo(arc, size byte) []byte {
	return []byte{0x30, 17 + size, 0x30, 13, 0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, arc, 0x05, 0, 0x04, size}
}

// input is what the HSM's mechanism takes.
func (a signing) input(digest []byte) []byte { return append(bytes.Clone(a.prefix), digest...) }

// verify checks by Go's cryptography, which shares no code with the HSM.
func (a signing) verify(public crypto.PublicKey, digest, sig []byte) bool {
	switch p := public.(type) {
	case *rsa.PublicKey:
		if a.how.mechanism == ckmRSAPSS {
			return rsa.VerifyPSS(p, a.hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(p, a.hash, digest, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, sig)
	default:
		return false
	}
}

// signatureDER makes r‖s, each as long as the order of the curve, into the
// SEQUENCE of two minimal integers that everybody else takes.
func signatureDER(curve elliptic.Curve, raw []byte) ([]byte, error) {
	size := (curve.Params().BitSize + 7) / 8
	if len(raw) != 2*size {
		return nil, fmt.Errorf("an ECDSA signature of %d bytes; it must have %d", len(raw), 2*size)
	}
	order := curve.Params().N
	pair := struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])}
	for _, n := range []*big.Int{pair.R, pair.S} {
		if n.Sign() == 0 || n.Cmp(order) >= 0 {
			return nil, fmt.Errorf("an ECDSA signature out of range")
		}
	}
	return asn1.Marshal(pair)
}
