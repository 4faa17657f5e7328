package iam

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// A token is
//
//	srt_ | 43 characters: 256 random bits, base 62 | 6 characters: CRC-32 (IEEE) of all before, base 62
//
// The prefix lets scanners of source code find it. The checksum lets them,
// and us, tell a token from a typing error without a look into the state; it
// protects nothing. Both numbers are written with the most significant digit
// first and leading zeros, so every token has the same length.
const (
	TokenPrefix = "srt_"
	bodyChars   = 43 // 62^43 > 2^256
	sumChars    = 6  // 62^6 > 2^32
	// TokenChars is the length of every token.
	TokenChars = len(TokenPrefix) + bodyChars + sumChars

	digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewToken makes a token from 32 bytes of random and answers its text, to be
// shown once and wiped, and the SHA-256 of the text, which is all that may be
// kept.
func NewToken(random io.Reader) (text secret.Bytes, hash [sha256.Size]byte, err error) {
	var number [32]byte
	defer clear(number[:])
	if _, err := io.ReadFull(random, number[:]); err != nil {
		return secret.Bytes{}, hash, fmt.Errorf("iam: random bytes for a token: %w", err)
	}
	out := make([]byte, TokenChars)
	copy(out, TokenPrefix)
	base62(out[len(TokenPrefix):len(TokenPrefix)+bodyChars], number[:])
	appendSum(out)
	return secret.New(out), sha256.Sum256(out), nil
}

// ParseToken checks the form of a token and answers the hash by which it is
// looked up. Every failure is the same fault.Unauthenticated; it holds no
// part of the input.
func ParseToken(text string) (hash [sha256.Size]byte, err error) {
	var buf, want [TokenChars]byte
	defer clear(buf[:])
	defer clear(want[:])
	if len(text) != TokenChars || text[:len(TokenPrefix)] != TokenPrefix {
		return hash, errToken()
	}
	copy(buf[:], text)
	for _, c := range buf[len(TokenPrefix):] {
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z') {
			return hash, errToken()
		}
	}
	want = buf
	appendSum(want[:])
	if want != buf {
		return hash, errToken()
	}
	return sha256.Sum256(buf[:]), nil
}

func errToken() error {
	return fault.New(fault.Unauthenticated, "the token is malformed; copy it whole, it starts with %s and has %d characters", TokenPrefix, TokenChars)
}

// appendSum writes the checksum into the last characters of token.
func appendSum(token []byte) {
	sum := crc32.ChecksumIEEE(token[:TokenChars-sumChars])
	number := [4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
	base62(token[TokenChars-sumChars:], number[:])
}

// base62 writes the big-endian number into out and destroys it. It divides by
// hand: math/big would leave copies of a token's bits in memory.
func base62(out, number []byte) {
	for i := len(out) - 1; i >= 0; i-- {
		rest := 0
		for j, b := range number {
			rest = rest<<8 | int(b)
			number[j] = byte(rest / len(digits))
			rest %= len(digits)
		}
		out[i] = digits[rest]
	}
}
