// Package gossipring reads and writes the file with the keys of gossip. The
// first key is the one to send with; messages under any of them are taken. So a
// key can be replaced while all members run: add the new one everywhere, then
// make it the first everywhere, then drop the old one everywhere.
//
// The file has one key a line, 32 bytes in base64.
package gossipring

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/secret"
)

// Bounds of a file.
const (
	KeyBytes = 32
	MaxKeys  = 4
	MaxFile  = 1024 // bytes
)

// Ring is the keys, the one to send with first.
type Ring []secret.Bytes

// Parse reads a file. Its errors show nothing of the keys.
func Parse(text []byte) (Ring, error) {
	var out Ring
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		key := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
		n, err := base64.StdEncoding.Decode(key, line)
		if err != nil || n != KeyBytes {
			clear(key)
			return nil, fmt.Errorf("key %d is not %d bytes in base64; strongroom tls gossip-key create makes one", len(out)+1, KeyBytes)
		}
		out = append(out, secret.New(key[:n]))
	}
	return out, out.check()
}

func (r Ring) check() error {
	switch {
	case len(r) == 0:
		return errors.New("it holds no key; strongroom tls gossip-key create makes one")
	case len(r) > MaxKeys:
		return fmt.Errorf("it holds %d keys; at most %d are possible: drop those that are not in use any more", len(r), MaxKeys)
	}
	for i, key := range r {
		if slices.ContainsFunc(r[:i], key.Equal) {
			return fmt.Errorf("the key %s is in it twice", Fingerprint(key))
		}
	}
	return nil
}

// Format is the ring as Parse reads it. The caller clears it.
func (r Ring) Format() []byte {
	out := make([]byte, 0, MaxFile)
	for _, key := range r {
		out = append(base64.StdEncoding.AppendEncode(out, key.Expose()), '\n')
	}
	return out
}

// Generate makes a key.
func Generate() secret.Bytes {
	key := make([]byte, KeyBytes)
	_, _ = rand.Read(key) // it does not fail: crypto/rand
	return secret.New(key)
}

// Fingerprint names a key without showing it: the first eight bytes of a hash,
// in hex. The key is 32 random bytes, so nothing about it can be guessed from
// that.
func Fingerprint(key secret.Bytes) string {
	h := sha256.New()
	h.Write([]byte("strongroom gossip key\n"))
	h.Write(key.Expose())
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Fingerprints names all keys, the one to send with first.
func (r Ring) Fingerprints() []string {
	out := make([]string, 0, len(r))
	for _, key := range r {
		out = append(out, Fingerprint(key))
	}
	return out
}

// Equal reports whether both hold the same keys in the same order.
func (r Ring) Equal(other Ring) bool { return slices.EqualFunc(r, other, secret.Bytes.Equal) }

// Add answers the ring with one more key, which is taken and not sent with.
func (r Ring) Add(key secret.Bytes) (Ring, error) {
	out := append(slices.Clone(r), key)
	return out, out.check()
}

// Use answers the ring with the key of the given fingerprint first.
func (r Ring) Use(fingerprint string) (Ring, error) {
	i, err := r.find(fingerprint)
	if err != nil {
		return nil, err
	}
	return append(Ring{r[i]}, slices.Delete(slices.Clone(r), i, i+1)...), nil
}

// Drop answers the ring without the key of the given fingerprint, which must
// not be the one to send with.
func (r Ring) Drop(fingerprint string) (Ring, error) {
	i, err := r.find(fingerprint)
	if err != nil {
		return nil, err
	}
	if i == 0 {
		return nil, fmt.Errorf("the key %s is the one that is sent with; use another one first", Fingerprint(r[0]))
	}
	return slices.Delete(slices.Clone(r), i, i+1), nil
}

func (r Ring) find(fingerprint string) (int, error) {
	fingerprint = strings.ToLower(fingerprint)
	for i, key := range r {
		if Fingerprint(key) == fingerprint {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no key has the fingerprint %q; there are %s", fingerprint, strings.Join(r.Fingerprints(), ", "))
}
