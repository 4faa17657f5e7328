// Package secret holds plaintext in a form that no printer, encoder or logger
// can show by accident.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// redacted is all that any verb, handler or encoder ever sees of a value.
const redacted = "[secret]"

// Bytes is plaintext. It keeps the bytes behind a function value: fmt, slog
// and reflection see a code pointer, also where Bytes is an unexported field
// of another struct (a String method on a byte slice is bypassed there).
//
// A copy of a Bytes shares the buffer with the original: wiping one wipes
// both. The zero value is an empty, already wiped Bytes.
type Bytes struct {
	do func(use func(*[]byte))
}

// New takes ownership of plain: the caller must not keep, read or change it
// afterwards.
func New(plain []byte) Bytes {
	var mu sync.Mutex
	return Bytes{do: func(use func(*[]byte)) {
		mu.Lock()
		defer mu.Unlock()
		use(&plain)
	}}
}

// Copy makes a Bytes of its own from plain, which stays the caller's.
func Copy(plain []byte) Bytes { return New(append(make([]byte, 0, len(plain)), plain...)) }

// Expose answers the live buffer, nil after Wipe. The slice is valid until
// Wipe; the caller must not keep it beyond the call it serves. Every use of
// Expose is a place to review.
func (b Bytes) Expose() []byte {
	var out []byte
	if b.do != nil {
		b.do(func(p *[]byte) { out = *p })
	}
	return out
}

// Len is the number of bytes held, 0 after Wipe.
func (b Bytes) Len() int { return len(b.Expose()) }

// Wipe overwrites the buffer with zeros and lets go of it. It may be called
// any number of times. Nobody may be reading an exposed slice meanwhile.
func (b Bytes) Wipe() {
	if b.do == nil {
		return
	}
	b.do(func(p *[]byte) {
		clear((*p)[:cap(*p)])
		*p = nil
	})
}

// Equal compares in time that depends on the lengths only.
func (b Bytes) Equal(other Bytes) bool {
	return subtle.ConstantTimeCompare(b.Expose(), other.Expose()) == 1
}

// Format makes every verb of fmt print the same placeholder.
func (b Bytes) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String answers the placeholder.
func (b Bytes) String() string { return redacted }

// GoString answers the placeholder.
func (b Bytes) GoString() string { return redacted }

// LogValue makes slog print the placeholder.
func (b Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }

// errEncode refuses every encoder: a value leaves only where code says
// Expose.
var errEncode = errors.New("secret: a plaintext must not be encoded; expose it on purpose")

// MarshalJSON refuses.
func (b Bytes) MarshalJSON() ([]byte, error) { return nil, errEncode }

// MarshalText refuses.
func (b Bytes) MarshalText() ([]byte, error) { return nil, errEncode }

// MarshalBinary refuses; it also stops gob and CBOR.
func (b Bytes) MarshalBinary() ([]byte, error) { return nil, errEncode }
