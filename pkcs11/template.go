package pkcs11

import "encoding/binary"

// Attribute types and values of PKCS#11 v2.40 that we use. miekg/pkcs11 has
// them too; these are here so that templates read alike, arrays included.
const (
	ckaClass           = 0x000
	ckaToken           = 0x001
	ckaPrivate         = 0x002
	ckaLabel           = 0x003
	ckaValue           = 0x011
	ckaTrusted         = 0x086
	ckaCheckValue      = 0x090
	ckaKeyType         = 0x100
	ckaID              = 0x102
	ckaSensitive       = 0x103
	ckaEncrypt         = 0x104
	ckaDecrypt         = 0x105
	ckaWrap            = 0x106
	ckaUnwrap          = 0x107
	ckaSign            = 0x108
	ckaVerify          = 0x10A
	ckaDerive          = 0x10C
	ckaModulus         = 0x120
	ckaModulusBits     = 0x121
	ckaPublicExponent  = 0x122
	ckaPrivateExponent = 0x123
	ckaPrime1          = 0x124
	ckaPrime2          = 0x125
	ckaExponent1       = 0x126
	ckaExponent2       = 0x127
	ckaCoefficient     = 0x128
	ckaValueLen        = 0x161
	ckaExtractable     = 0x162
	ckaModifiable      = 0x170
	ckaCopyable        = 0x171
	ckaECParams        = 0x180
	ckaECPoint         = 0x181
	ckaWrapWithTrusted = 0x210
	ckaUnwrapTemplate  = 0x40000212

	ckoPublicKey  = 2
	ckoPrivateKey = 3
	ckoSecretKey  = 4

	ckkRSA           = 0x00
	ckkEC            = 0x03
	ckkGenericSecret = 0x10
	ckkAES           = 0x1F

	ckmRSAKeyPairGen    = 0x000
	ckmRSAPKCS          = 0x001
	ckmRSAOAEP          = 0x009
	ckmRSAPSS           = 0x00D
	ckmSHA1             = 0x220
	ckmSHA256           = 0x250
	ckmSHA256HMAC       = 0x251
	ckmSHA384           = 0x260
	ckmSHA512           = 0x270
	ckmGenericSecretGen = 0x350
	ckmECKeyPairGen     = 0x1040
	ckmECDSA            = 0x1041
	ckmAESKeyGen        = 0x1080
	ckmAESGCM           = 0x1087
	ckmAESKeyWrap       = 0x2109
	ckmAESKeyWrapPad    = 0x210A // which padding differs between modules
	ckmAESKeyWrapKWP    = 0x210B
	ckmAESGCMPrepended  = 0x80001087 // a vendor's, see dialect

	ckgMGF1SHA1   = 1
	ckgMGF1SHA256 = 2
	ckgMGF1SHA384 = 3
	ckgMGF1SHA512 = 4
)

// template is a list of attributes in the flat form that hot.c expands: for
// each attribute a word with its type, a word with the length of its value in
// bytes, and the value padded to whole words. The value of an array attribute
// (CKA_UNWRAP_TEMPLATE) is itself a template.
type template []uint64

func (t template) flag(attribute uint64, on bool) template {
	var value uint64
	if on {
		value = uint64(binary.NativeEndian.Uint64([]byte{1, 0, 0, 0, 0, 0, 0, 0}))
	}
	return append(t, attribute, 1, value)
}

func (t template) number(attribute, value uint64) template { return append(t, attribute, 8, value) }

func (t template) raw(attribute uint64, value []byte) template {
	t = append(t, attribute, uint64(len(value)))
	var word [8]byte
	for len(value) > 0 {
		word = [8]byte{}
		n := copy(word[:], value)
		t = append(t, binary.NativeEndian.Uint64(word[:]))
		value = value[n:]
	}
	return t
}

func (t template) array(attribute uint64, inner template) template {
	return append(append(t, attribute, uint64(len(inner)*8)), inner...)
}

// with answers a copy of t with more attributes: templates are shared.
func (t template) with(more template) template {
	return append(append(make(template, 0, len(t)+len(more)), t...), more...)
}

// stay is what every key must be that an unwrapping key of ours lets in: the
// HSM itself then refuses to make a readable or exportable copy, whoever asks
// with our PIN. Callers of C_UnwrapKey have to repeat it (SoftHSM #441).
func stay() template {
	return template{}.flag(ckaSensitive, true).flag(ckaExtractable, false)
}

// leave is what a key is until the root key has wrapped it: it can be taken
// out wrapped, and not read.
func leave() template {
	return template{}.flag(ckaSensitive, true).flag(ckaExtractable, true)
}
