package wrapped

import "slices"

// Wrap algorithms, named by meaning: the mechanism number of the same
// algorithm differs between modules.
const (
	// RFC3394 is AES key wrap with the default initial value; it wraps the
	// bytes of symmetric keys.
	RFC3394 = "rfc3394"
	// RFC5649 is AES key wrap with padding; it wraps private keys, as
	// PKCS#8.
	RFC5649 = "rfc5649"
)

// Specs of keys, in the words of the API.
const (
	AES256  = "aes-256"
	HMAC256 = "hmac-256"
	RSA2048 = "rsa-2048"
	RSA3072 = "rsa-3072"
	RSA4096 = "rsa-4096"
	ECP256  = "ec-p256"
	ECP384  = "ec-p384"
)

// Usages of keys, in the words of the API. Import is not one that a person
// may ask for: such pairs receive key material from outside, once.
const (
	Encrypt = "encrypt"
	Sign    = "sign"
	MAC     = "mac"
	Import  = "import"
)

// Signature algorithms, in the words of the API. PSS has a salt as long as
// its hash, and MGF1 with the same hash.
const (
	RSAPSSSHA256   = "rsa-pss-sha256"
	RSAPSSSHA384   = "rsa-pss-sha384"
	RSAPSSSHA512   = "rsa-pss-sha512"
	RSAPKCS1SHA256 = "rsa-pkcs1-sha256"
	RSAPKCS1SHA384 = "rsa-pkcs1-sha384"
	RSAPKCS1SHA512 = "rsa-pkcs1-sha512"
	ECDSASHA256    = "ecdsa-sha256"
	ECDSASHA384    = "ecdsa-sha384"
)

// Algorithms by which something is encrypted to the public half of an RSA
// pair: OAEP, MGF1 with the same hash, no label.
const (
	RSAOAEPSHA1   = "rsa-oaep-sha1"
	RSAOAEPSHA256 = "rsa-oaep-sha256"
)

// row is what a spec may be made for, and how its keys sign.
type row struct {
	pair  bool
	usage []string
	sign  []string
}

var rsaRow = row{pair: true, usage: []string{Encrypt, Sign}, sign: []string{
	RSAPSSSHA256, RSAPSSSHA384, RSAPSSSHA512, RSAPKCS1SHA256, RSAPKCS1SHA384, RSAPKCS1SHA512}}

// table is all that there is. An algorithm never depends on more than spec
// and usage; a curve has the one hash of its strength.
var table = map[string]row{
	AES256:  {usage: []string{Encrypt}},
	HMAC256: {usage: []string{MAC}},
	RSA2048: rsaRow,
	RSA3072: rsaRow,
	RSA4096: rsaRow,
	ECP256:  {pair: true, usage: []string{Sign}, sign: []string{ECDSASHA256}},
	ECP384:  {pair: true, usage: []string{Sign}, sign: []string{ECDSASHA384}},
}

// Allowed reports whether a KMS key may have spec and usage. RSA3072 for
// Import is not among them: nobody asks for such a pair by these words.
func Allowed(spec, usage string) bool { return slices.Contains(table[spec].usage, usage) }

// IsPair reports whether keys of spec have a public half, and so a
// Key.Public.
func IsPair(spec string) bool { return table[spec].pair }

// SignAlgorithms answers the signature algorithms of a spec, the best to
// choose first; none where the spec does not sign. The slice is the caller's.
func SignAlgorithms(spec string) []string { return slices.Clone(table[spec].sign) }

// DigestBytes answers the length of the digest that algorithm signs, 0 for an
// unknown one.
func DigestBytes(algorithm string) int {
	switch algorithm {
	case RSAPSSSHA256, RSAPKCS1SHA256, ECDSASHA256:
		return 32
	case RSAPSSSHA384, RSAPKCS1SHA384, ECDSASHA384:
		return 48
	case RSAPSSSHA512, RSAPKCS1SHA512:
		return 64
	default:
		return 0
	}
}
