package iam_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// token makes one and answers its text.
func token(t require.TestingT, random io.Reader) (string, [sha256.Size]byte) {
	text, hash, err := iam.NewToken(random)
	require.NoError(t, err)
	return string(text.Expose()), hash
}

// naiveToken is the format of a token, written by way of math/big.
func naiveToken(random [32]byte) string {
	text := "srt_" + naiveBase62(new(big.Int).SetBytes(random[:]), 43)
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(text)))
	return text + naiveBase62(new(big.Int).SetBytes(sum[:]), 6)
}

func naiveBase62(n *big.Int, width int) string {
	out, base := "", big.NewInt(62)
	for range width {
		digit := new(big.Int)
		n, digit = new(big.Int).DivMod(n, base, digit)
		out = alphabet[digit.Int64():digit.Int64()+1] + out
	}
	if n.Sign() != 0 {
		panic("the number does not fit its width")
	}
	return out
}

// The format is a promise to scanners of source code and to every token that
// is in use: these texts must never change.
func TestTokenFormatIsFrozen(t *testing.T) {
	counting := make([]byte, 32)
	for i := range counting {
		counting[i] = byte(i)
	}
	for want, random := range map[string][]byte{
		"srt_00000000000000000000000000000000000000000003prfWW": make([]byte, 32),
		"srt_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp12FaLIS": bytes.Repeat([]byte{0xff}, 32),
		"srt_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf4cduqC": counting,
	} {
		got, _ := token(t, bytes.NewReader(random))
		require.Equal(t, want, got)
	}
}

func TestTokensAgreeWithTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "random"))
		got, hash := token(t, bytes.NewReader(random[:]))
		require.Equal(t, naiveToken(random), got)
		require.Len(t, got, iam.TokenChars)
		require.Regexp(t, `^srt_[0-9A-Za-z]{49}$`, got)

		// The hash is of the whole text, so it can be found again from the
		// text alone, and neither the text nor the random bytes from it.
		require.Equal(t, sha256.Sum256([]byte(got)), hash)
		parsed, err := iam.ParseToken(got)
		require.NoError(t, err)
		require.Equal(t, hash, parsed)
	})
}

// Equal hashes only for equal texts: what is looked up is the token itself.
func TestDifferentRandomBytesMakeDifferentTokens(t *testing.T) {
	texts, hashes := map[string]bool{}, map[[sha256.Size]byte]bool{}
	random := make([]byte, 32)
	for bit := range 256 {
		clear(random)
		random[bit/8] = 1 << (bit % 8)
		text, hash := token(t, bytes.NewReader(random))
		texts[text], hashes[hash] = true, true
	}
	require.Len(t, texts, 256, "every one of the 256 bits counts")
	require.Len(t, hashes, 256)
}

func TestTokenTakesExactly256Bits(t *testing.T) {
	random := bytes.NewReader(make([]byte, 40))
	token(t, random)
	require.Equal(t, 8, random.Len())
}

// A token with fewer random bits than promised would be worse than none.
func TestShortRandomnessMakesNoToken(t *testing.T) {
	broken := errors.New("no entropy")
	for name, random := range map[string]io.Reader{
		"broken": iotest.ErrReader(broken),
		"empty":  bytes.NewReader(nil),
		"short":  bytes.NewReader(make([]byte, 31)),
		"breaks": io.MultiReader(bytes.NewReader(make([]byte, 31)), iotest.ErrReader(broken)),
	} {
		text, hash, err := iam.NewToken(random)
		require.ErrorContains(t, err, "iam: random bytes for a token", name)
		require.Zero(t, text.Len(), name)
		require.Zero(t, hash, name)
	}
}

// Every change of one character is found by the checksum or by the alphabet.
// The CRC is linear, so one token proves it for the difference, not for luck.
func TestEveryAlteredCharacterIsRefused(t *testing.T) {
	good, _ := token(t, rand.Reader)
	for i := range good {
		for c := range 256 {
			if byte(c) == good[i] {
				continue
			}
			bad := good[:i] + string([]byte{byte(c)}) + good[i+1:]
			requireMalformed(t, bad)
		}
	}
}

func TestEveryCutOrLongerTextIsRefused(t *testing.T) {
	good, _ := token(t, rand.Reader)
	for i := range len(good) {
		requireMalformed(t, good[:i])
		requireMalformed(t, good[i+1:])
		requireMalformed(t, good[:i]+good[i+1:])
		requireMalformed(t, good[:i]+"0"+good[i:])
	}
	for _, bad := range []string{
		good + "\n", " " + good, good + good, good + "\x00",
		strings.ToUpper(good[:4]) + good[4:], // the prefix is a byte comparison
		"Bearer " + good,
		strings.Repeat("a", 1<<16),
	} {
		requireMalformed(t, bad)
	}
}

func TestSwappedNeighboursAreRefused(t *testing.T) {
	good, _ := token(t, rand.Reader)
	for i := range len(good) - 1 {
		if good[i] != good[i+1] {
			requireMalformed(t, good[:i]+good[i+1:i+2]+good[i:i+1]+good[i+2:])
		}
	}
}

// One error for all failures, without any of the input: an error ends up in
// logs, and a mistyped token is a token for whoever guesses the typo.
func requireMalformed(t require.TestingT, text string) {
	hash, err := iam.ParseToken(text)
	require.Error(t, err, "%q", text)
	require.Zero(t, hash)
	require.True(t, fault.Is(err, fault.Unauthenticated))
	require.Equal(t, fmt.Sprintf("Unauthenticated: the token is malformed; copy it whole, it starts with srt_ and has %d characters", iam.TokenChars), err.Error())
}

// The checksum has more room than a CRC needs (62^6 > 2^32): a sum that no
// CRC can have is refused too, so every hash belongs to one text.
func TestSumsBeyondTheChecksumAreRefused(t *testing.T) {
	good, _ := token(t, rand.Reader)
	requireMalformed(t, good[:len(good)-6]+"zzzzzz")
}

// The checksum can be computed by anybody: it is no excuse for a text that no
// token can have, and that a log or a shell would change.
func TestForeignCharactersAreRefusedDespiteARightChecksum(t *testing.T) {
	for _, c := range []string{"-", "_", "+", "/", "=", " ", "\n", "\x00", "\x80", "@", "[", "\x60", "{", ":"} {
		body := "srt_" + strings.Repeat("a", 42) + c
		requireMalformed(t, body+naiveBase62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), 6))
	}
	body := "srt_" + strings.Repeat("a", 43)
	_, err := iam.ParseToken(body + naiveBase62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), 6))
	require.NoError(t, err)
}

// FuzzParseToken: a text is a token exactly if its checksum is right, and its
// hash is the SHA-256 of the text.
func FuzzParseToken(f *testing.F) {
	f.Add(naiveToken([32]byte{}))
	f.Add(naiveToken([32]byte(bytes.Repeat([]byte{0xff}, 32))))
	f.Add("srt_")
	f.Add("")
	f.Add("srt_" + strings.Repeat("z", 49))
	f.Fuzz(func(t *testing.T, text string) {
		hash, err := iam.ParseToken(text)
		if err != nil {
			requireMalformed(t, text)
		} else {
			require.Regexp(t, `^srt_[0-9A-Za-z]{49}$`, text)
			require.Equal(t, sha256.Sum256([]byte(text)), hash)
		}
		// The same text with the right checksum is accepted, so the fuzzer
		// sees both answers whatever it finds.
		if len(text) != iam.TokenChars || !strings.HasPrefix(text, "srt_") || strings.Trim(text[4:], alphabet) != "" {
			require.Error(t, err)
			return
		}
		body := text[:len(text)-6]
		fixed := body + naiveBase62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), 6)
		_, fixedErr := iam.ParseToken(fixed)
		require.NoError(t, fixedErr)
		require.Equal(t, fixed == text, err == nil)
	})
}
