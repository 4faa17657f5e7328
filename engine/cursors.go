package engine

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// A page of listSecrets may end at a secret that its reader may not know of.
// The cursor of such a page is sealed:
//
//	"2." base64url( nonce (12) | AES-256-GCM of length (2) | path | zeros )
//
// under a key that each node derives in the HSM, so that every node opens
// what another sealed, and nobody outside does. All are of one length, because
// the length of a path is part of it. The caller's name is bound: a cursor of
// somebody else is no way to ask what lies behind it.
const (
	sealedCursor      = "2."
	sealedCursorPlain = 2 + names.MaxPathBytes
)

// cursorKey is the key of sealed cursors, once it was needed.
type cursorKey struct {
	mu   sync.Mutex
	of   *wrapped.Key // from which it was derived
	aead cipher.AEAD
}

// cursorSeal answers the key, asking the HSM once.
func (c *call) cursorSeal(ctx context.Context) (cipher.AEAD, error) {
	k, of := &c.engine.cursors, c.state.FingerprintKey()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.aead != nil && k.of == of {
		return k.aead, nil
	}
	aead, err := c.engine.KMS.CursorSeal(ctx, of)
	if err != nil {
		return nil, err
	}
	k.of, k.aead = of, aead
	return aead, nil
}

func (c *call) sealCursor(ctx context.Context, place string) (string, error) {
	aead, err := c.cursorSeal(ctx)
	if err != nil {
		return "", err
	}
	plain := make([]byte, sealedCursorPlain)
	binary.BigEndian.PutUint16(plain, uint16(len(place)))
	copy(plain[2:], place)
	out := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	if _, err := rand.Read(out); err != nil {
		return "", fmt.Errorf("nonce: %w", err)
	}
	out = aead.Seal(out, out, plain, []byte(c.who.name))
	return sealedCursor + base64.RawURLEncoding.EncodeToString(out), nil
}

// listPage is checkPage, for lists whose cursors may be sealed.
func (c *call) listPage(ctx context.Context, p wire.Page) (page, error) {
	text, sealed := strings.CutPrefix(p.Cursor, sealedCursor)
	if !sealed {
		return checkPage(p)
	}
	out, err := checkPage(wire.Page{Limit: p.Limit})
	if err != nil {
		return out, err
	}
	out.after, err = c.openCursor(ctx, text)
	return out, err
}

func (c *call) openCursor(ctx context.Context, text string) (string, error) {
	refused := fault.Invalid("cursor", "is not a nextCursor of this operation for this caller; leave it out to start from the beginning")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return "", refused
	}
	aead, err := c.cursorSeal(ctx)
	if err != nil {
		return "", err
	}
	n := aead.NonceSize()
	if len(raw) != n+sealedCursorPlain+aead.Overhead() {
		return "", refused
	}
	plain, err := aead.Open(nil, raw[:n], raw[n:], []byte(c.who.name))
	if err != nil {
		return "", refused
	}
	length := int(binary.BigEndian.Uint16(plain))
	if length > len(plain)-2 {
		return "", refused
	}
	return string(plain[2 : 2+length]), nil
}
