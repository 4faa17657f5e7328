package pkcs11

import "github.com/strongroom/strongroom/internal/wrapped"

// specUsage is what a key is and what it is for; each pair is one row of
// specs.
type specUsage struct{ spec, usage string }

// UsageEncrypt is the usage of keys that Seal and Open take.
const UsageEncrypt = "encrypt"

// keyKind is how the HSM makes and holds keys of one row.
type keyKind struct {
	generate uint64   // mechanism
	keyType  uint64   // CKK_
	bytes    int      // length of the key
	may      []uint64 // CKA_ flags of its use
}

// specs is the table of the keys that we make. A new row needs nothing else
// here; a new use of a key needs an operation in session.go.
var specs = map[specUsage]keyKind{
	{wrapped.AES256, UsageEncrypt}: {generate: ckmAESKeyGen, keyType: ckkAES, bytes: 32, may: []uint64{ckaEncrypt, ckaDecrypt}},
}

// wrapRFC3394 is AES key wrap with the default initial value (RFC 3394,
// NIST SP 800-38F KW): mechanism 0x2109 on every module that has it.
var wrapRFC3394 = wrapping{mechanism: ckmAESKeyWrap}

// makeTemplate is for the moment of making: extractable, so that the root key
// can wrap it, and good for nothing else.
func (k keyKind) makeTemplate() template {
	return secretKey(k.keyType).
		number(ckaValueLen, uint64(k.bytes)).
		flag(ckaSensitive, true).flag(ckaExtractable, true).
		with(k.uses(false))
}

// useTemplate is for use: it never leaves again.
func (k keyKind) useTemplate(valueLen bool) template {
	t := secretKey(k.keyType).with(stay()).with(k.uses(true))
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
	return t
}

// secretKey starts the template of a secret key that is a session object.
func secretKey(keyType uint64) template {
	return template{}.number(ckaClass, ckoSecretKey).number(ckaKeyType, keyType).
		flag(ckaToken, false).flag(ckaPrivate, true)
}
