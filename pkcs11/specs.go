package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// specUsage is what a key is and what it is for; each pair is one row of
// specs.
type specUsage struct{ spec, usage string }

// UsageEncrypt is the usage of keys that Seal, Open and DecryptRSA take.
const UsageEncrypt = wrapped.Encrypt

// keyKind is how the HSM makes and holds keys of one row: a secret key of
// bytes, an RSA pair of bits, or an EC pair on curve.
type keyKind struct {
	generate uint64 // mechanism
	keyType  uint64 // CKK_
	bytes    int
	bits     int
	curve    elliptic.Curve
	may      []uint64 // CKA_ flags of its use; of a pair, those of the private half
}

func secretKind(generate, keyType uint64, may ...uint64) keyKind {
	return keyKind{generate: generate, keyType: keyType, bytes: 32, may: may}
}

func rsaKind(bits int, may ...uint64) keyKind {
	return keyKind{generate: ckmRSAKeyPairGen, keyType: ckkRSA, bits: bits, may: may}
}

func ecKind(curve elliptic.Curve, may ...uint64) keyKind {
	return keyKind{generate: ckmECKeyPairGen, keyType: ckkEC, curve: curve, may: may}
}

// specs is the table of the keys that we make and use: that of
// wrapped.Allowed, and the pair that receives imports.
var specs = map[specUsage]keyKind{
	{wrapped.AES256, wrapped.Encrypt}:  secretKind(ckmAESKeyGen, ckkAES, ckaEncrypt, ckaDecrypt),
	{wrapped.HMAC256, wrapped.MAC}:     secretKind(ckmGenericSecretGen, ckkGenericSecret, ckaSign),
	{wrapped.RSA2048, wrapped.Encrypt}: rsaKind(2048, ckaDecrypt),
	{wrapped.RSA3072, wrapped.Encrypt}: rsaKind(3072, ckaDecrypt),
	{wrapped.RSA4096, wrapped.Encrypt}: rsaKind(4096, ckaDecrypt),
	{wrapped.RSA2048, wrapped.Sign}:    rsaKind(2048, ckaSign),
	{wrapped.RSA3072, wrapped.Sign}:    rsaKind(3072, ckaSign),
	{wrapped.RSA4096, wrapped.Sign}:    rsaKind(4096, ckaSign),
	{wrapped.RSA3072, wrapped.Import}:  rsaKind(3072, ckaUnwrap),
	{wrapped.ECP256, wrapped.Sign}:     ecKind(elliptic.P256(), ckaSign),
	{wrapped.ECP384, wrapped.Sign}:     ecKind(elliptic.P384(), ckaSign),
}

// wrapRFC3394 is AES key wrap with the default initial value (RFC 3394,
// NIST SP 800-38F KW): mechanism 0x2109 on every module that has it.
var wrapRFC3394 = wrapping{mechanism: ckmAESKeyWrap}

// pair reports whether the key has a public half.
func (k keyKind) pair() bool { return k.bytes == 0 }

// wrapName is how keys of this kind leave the HSM. A private key in PKCS#8 is
// no multiple of eight bytes, so it needs the wrap that pads.
func (k keyKind) wrapName() string {
	if k.pair() {
		return wrapped.RFC5649
	}
	return wrapped.RFC3394
}

func (p Profile) wrapping(k keyKind) wrapping {
	if k.pair() {
		return wrapping{mechanism: p.PadWrap}
	}
	return wrapRFC3394
}

// makeTemplate is for the moment of making: extractable, so that the root key
// can wrap it, and good for nothing else.
func (k keyKind) makeTemplate() template {
	t := template{}
	if !k.pair() {
		t = secretKey(k.keyType).number(ckaValueLen, uint64(k.bytes))
	} else {
		t = t.flag(ckaToken, false).flag(ckaPrivate, true)
	}
	return t.with(leave()).with(k.uses(false))
}

// publicTemplate is for the public half of a pair that is being made. It is
// read and forgotten.
func (k keyKind) publicTemplate() template {
	t := template{}.flag(ckaToken, false).flag(ckaPrivate, false)
	if k.curve != nil {
		return t.raw(ckaECParams, curveOID(k.curve)).flag(ckaVerify, true)
	}
	return t.number(ckaModulusBits, uint64(k.bits)).raw(ckaPublicExponent, big.NewInt(publicExponent).Bytes()).
		flag(ckaEncrypt, true).flag(ckaVerify, true)
}

// importTemplate is for key material that came from outside, until the root
// key has wrapped it. It may be used as well, so that what it is can be
// proven before that.
func (k keyKind) importTemplate(valueLen bool) template {
	return k.hold(valueLen).with(leave()).with(k.uses(true))
}

// useTemplate is for use: it never leaves again.
func (k keyKind) useTemplate(valueLen bool) template {
	return k.hold(valueLen).with(stay()).with(k.uses(true))
}

// hold starts the template of an unwrapped key that is a session object.
func (k keyKind) hold(valueLen bool) template {
	if k.pair() {
		return privateKey(k.keyType)
	}
	t := secretKey(k.keyType)
	if valueLen {
		t = t.number(ckaValueLen, uint64(k.bytes))
	}
	return t
}

func (k keyKind) uses(on bool) template {
	var t template
	for _, attribute := range k.may {
		t = t.flag(attribute, on)
	}
	if !k.pair() {
		return t
	}
	// What is left out of the template of a private key is on by default in
	// some modules: a key that signs shall not decrypt.
	for _, attribute := range []uint64{ckaDecrypt, ckaSign, ckaUnwrap} {
		if attribute != k.may[0] {
			t = t.flag(attribute, false)
		}
	}
	return t
}

// secretKey starts the template of a secret key that is a session object.
func secretKey(keyType uint64) template {
	return template{}.number(ckaClass, ckoSecretKey).number(ckaKeyType, keyType).
		flag(ckaToken, false).flag(ckaPrivate, true)
}

func privateKey(keyType uint64) template {
	return template{}.number(ckaClass, ckoPrivateKey).number(ckaKeyType, keyType).
		flag(ckaToken, false).flag(ckaPrivate, true)
}

// publicExponent is the one that we make and take (FIPS 186-5, A.1.1 allows
// it; small ones forgive too little).
const publicExponent = 65537

// curveOID is the DER of the curve's object identifier, as CKA_EC_PARAMS.
func curveOID(curve elliptic.Curve) []byte {
	if curve == elliptic.P384() {
		return []byte{0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x22} // 1.3.132.0.34
	}
	return []byte{0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07} // 1.2.840.10045.3.1.7
}

// parsePublic reads the public half of a pair of this kind and is strict:
// right type, size or curve, on the curve, our exponent, and no other bytes
// than those that encode it.
func (k keyKind) parsePublic(der []byte) (crypto.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	switch public := parsed.(type) {
	case *rsa.PublicKey:
		if k.keyType != ckkRSA || public.N.BitLen() != k.bits || public.E != publicExponent || public.N.Bit(0) == 0 {
			return nil, fmt.Errorf("it is not an RSA key of %d bits with the exponent %d", k.bits, publicExponent)
		}
	case *ecdsa.PublicKey:
		if k.curve == nil || public.Curve != k.curve {
			return nil, errors.New("it is a key on another curve")
		}
	default:
		return nil, errors.New("it is a key of another type")
	}
	if again, err := x509.MarshalPKIXPublicKey(parsed); err != nil || string(again) != string(der) {
		return nil, errors.New("it has more than one encoding")
	}
	return parsed, nil
}

// readPublic answers the PKIX form of the public half, from an object that
// has it: the public object of a pair, or an RSA private key. It is checked
// like one that came from outside: nothing that a module says is taken for
// granted where clients will encrypt to it.
func (m *module) readPublic(session, object uint, k keyKind) ([]byte, error) {
	var public any
	if k.curve != nil {
		encoded, err := m.attribute(session, object, ckaECPoint)
		if err != nil {
			return nil, err
		}
		if public, err = ecdsa.ParseUncompressedPublicKey(k.curve, ecPoint(k.curve, encoded)); err != nil {
			return nil, err
		}
	} else {
		modulus, err := m.attribute(session, object, ckaModulus)
		if err != nil {
			return nil, err
		}
		exponent, err := m.attribute(session, object, ckaPublicExponent)
		if err != nil {
			return nil, err
		}
		e := new(big.Int).SetBytes(exponent)
		if !e.IsInt64() || e.Int64() != publicExponent {
			return nil, fmt.Errorf("the exponent is not %d", publicExponent)
		}
		public = &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: publicExponent}
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	_, err = k.parsePublic(der)
	return der, err
}

// ecPoint takes off the OCTET STRING that the standard puts around
// CKA_EC_POINT and some modules do not. Both forms start with the byte 4, so
// the length tells.
func ecPoint(curve elliptic.Curve, encoded []byte) []byte {
	raw := 1 + 2*((curve.Params().BitSize+7)/8)
	if len(encoded) == raw+2 && encoded[0] == 0x04 && int(encoded[1]) == raw {
		return encoded[2:]
	}
	return encoded
}
