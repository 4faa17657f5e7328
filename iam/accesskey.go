package iam

import (
	"encoding/base32"
	"fmt"
	"io"
	"strings"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// An access key has an id, which may be shown, and a secret, which is
//
//	srs_ | 43 characters: 256 bits that an HSM derived, base 62 | 6 characters: CRC-32 (IEEE) of all before, base 62
//
// The form is that of tokens under another prefix, and for the same reasons.
const (
	// AccessKeyPrefix begins every id.
	AccessKeyPrefix = "SRAK"
	// SecretPrefix begins every secret of an access key.
	SecretPrefix = "srs_"

	idBytes = 10 // 16 characters of base 32
)

// NewAccessKeyID makes an id of 20 characters from 80 bits of random.
func NewAccessKeyID(random io.Reader) (string, error) {
	var number [idBytes]byte
	if _, err := io.ReadFull(random, number[:]); err != nil {
		return "", fmt.Errorf("iam: random bytes for an access key: %w", err)
	}
	return AccessKeyPrefix + base32.StdEncoding.EncodeToString(number[:]), nil
}

// AccessKeySecret answers the text of the secret that derived, 32 bytes,
// stands for. derived is destroyed.
func AccessKeySecret(derived secret.Bytes) secret.Bytes {
	defer derived.Wipe()
	out := make([]byte, TokenChars)
	copy(out, SecretPrefix)
	number := append(make([]byte, 0, 32), derived.Expose()...)
	defer clear(number)
	base62(out[len(SecretPrefix):len(SecretPrefix)+bodyChars], number)
	appendSum(out)
	return secret.New(out)
}

// IsCredential reports whether text is that of a token or of the secret of an
// access key: something that must not be kept anywhere.
func IsCredential(text string) bool {
	if _, err := ParseToken(text); err == nil {
		return true
	}
	if len(text) != TokenChars || !strings.HasPrefix(text, SecretPrefix) {
		return false
	}
	want := []byte(text)
	defer clear(want)
	appendSum(want)
	return string(want) == text
}

// CheckAccessKeyID holds id against the form of the ids of access keys.
func CheckAccessKeyID(field, id string) error {
	if !strings.HasPrefix(id, AccessKeyPrefix) || len(id) != len(AccessKeyPrefix)+base32.StdEncoding.EncodedLen(idBytes) {
		return errAccessKeyID(field)
	}
	if _, err := base32.StdEncoding.DecodeString(id[len(AccessKeyPrefix):]); err != nil || strings.ContainsAny(id, "\r\n") {
		return errAccessKeyID(field)
	}
	return nil
}

func errAccessKeyID(field string) error {
	return fault.Invalid(field, "must be the id of an access key, not its secret: %s and 16 characters; listAccessKeys shows it", AccessKeyPrefix)
}
