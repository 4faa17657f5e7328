package backup

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

const (
	stanzaType = "strongroom-hsm"
	format     = "strongroom backup 1"
	keyID      = "backup"
)

// HSM makes and uses the key of one backup. kms.Token is one.
type HSM interface {
	GenerateKey(ctx context.Context, id string, version uint32, spec, usage string) (wrapped.Key, error)
	Seal(ctx context.Context, key wrapped.Key, plaintext secret.Bytes, aad []byte) (iv, box []byte, err error)
	Open(ctx context.Context, key wrapped.Key, iv, box, aad []byte) (secret.Bytes, error)
}

// Header says what is in a backup. It is in the clear, so that one can be told
// from another without an HSM, and is believed only once the backup was opened.
type Header struct {
	ClusterID string    `json:"clusterId"`
	Node      string    `json:"node"` // that saved it
	CreatedAt time.Time `json:"createdAt"`
	Index     uint64    `json:"index"` // of the last command in it
	StateHash []byte    `json:"stateHash"`
	// Root is the description of the root key that the file's key is wrapped
	// under, as the state has it: what an HSM needs to know it again.
	Root        []byte `json:"root"`
	RootVersion uint32 `json:"rootVersion"`
}

// envelope is the body of the stanza.
type envelope struct {
	Format string      `json:"format"`
	Header Header      `json:"header"`
	Key    wrapped.Key `json:"key"`
	IV     []byte      `json:"iv"`
	Box    []byte      `json:"box"` // the file key, bound to all the rest
}

// bound is what the file key is sealed with: everything but the seal.
func (e envelope) bound() ([]byte, error) {
	e.IV, e.Box = nil, nil
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	return append([]byte("strongroom/backup/v1\x00"), sum[:]...), nil
}

// Draft is a backup that has its key.
type Draft struct {
	ctx context.Context
	hsm HSM
	e   envelope
}

// Begin has the HSM make the key of a backup.
func Begin(ctx context.Context, hsm HSM, h Header) (*Draft, error) {
	key, err := hsm.GenerateKey(ctx, keyID, 1, wrapped.AES256, wrapped.Encrypt)
	if err != nil {
		return nil, fmt.Errorf("make the key of the backup: %w", err)
	}
	if key.Root != h.RootVersion {
		return nil, fault.New(fault.Conflict, "the root key changed meanwhile, from version %d to %d; save it again", h.RootVersion, key.Root)
	}
	// UTC and whole seconds: what is bound must be the same after a way through JSON.
	h.CreatedAt = h.CreatedAt.UTC().Truncate(time.Second)
	return &Draft{ctx, hsm, envelope{Format: format, Header: h, Key: key}}, nil
}

// Write makes a backup of what state writes, once. to is not whole before
// Write has returned without an error.
func (d *Draft) Write(to io.Writer, state func(io.Writer) error) error {
	w, err := age.Encrypt(to, d)
	if err != nil {
		return err
	}
	if err := state(w); err != nil {
		return err
	}
	return w.Close()
}

// Wrap implements age.Recipient: it seals the file key.
func (d *Draft) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	bound, err := d.e.bound()
	if err != nil {
		return nil, err
	}
	plain := secret.Copy(fileKey)
	defer plain.Wipe()
	if d.e.IV, d.e.Box, err = d.hsm.Seal(d.ctx, d.e.Key, plain, bound); err != nil {
		return nil, fmt.Errorf("seal the key of the backup: %w", err)
	}
	body, err := json.Marshal(d.e)
	if err != nil {
		return nil, err
	}
	return []*age.Stanza{{Type: stanzaType, Body: body}}, nil
}

// Open answers the header of a backup and what was written into it. unlock
// answers the HSM, with the root key of the header in use. The reader's error
// at its end is the proof of what was read before: use nothing of it until
// then.
func Open(ctx context.Context, from io.Reader, unlock func(Header) (HSM, error)) (Header, io.Reader, error) {
	id := &identity{ctx: ctx, unlock: unlock}
	r, err := age.Decrypt(from, id)
	if id.err != nil {
		return Header{}, nil, id.err
	}
	if err != nil {
		return Header{}, nil, notABackup(err)
	}
	return id.e.Header, r, nil
}

// Inspect answers the header of a backup without an HSM: nothing of it is
// proven.
func Inspect(from io.Reader) (Header, error) {
	id := &identity{}
	_, err := age.Decrypt(from, id)
	if id.err != nil {
		return Header{}, id.err
	}
	if !id.found {
		return Header{}, notABackup(err)
	}
	return id.e.Header, nil
}

func notABackup(err error) error {
	return fmt.Errorf("this is no backup of Strongroom, or it was changed: %w", err)
}

// identity opens the file key. age tells its callers little of why one did
// not, so the reason is kept here.
type identity struct {
	ctx    context.Context
	unlock func(Header) (HSM, error) // nil: only look
	e      envelope
	found  bool
	err    error
}

// Unwrap implements age.Identity.
func (i *identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || stanzas[0].Type != stanzaType {
		return nil, age.ErrIncorrectIdentity
	}
	fileKey, err := i.open(stanzas[0].Body)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		i.err = err
	}
	return fileKey, err
}

func (i *identity) open(body []byte) ([]byte, error) {
	if err := json.Unmarshal(body, &i.e); err != nil {
		return nil, errors.New("the header of the backup cannot be read")
	}
	if i.e.Format != format {
		return nil, fmt.Errorf("the backup has the format %.40q; this build reads %q", i.e.Format, format)
	}
	i.found = true
	if i.unlock == nil {
		return nil, age.ErrIncorrectIdentity
	}
	hsm, err := i.unlock(i.e.Header)
	if err != nil {
		return nil, err
	}
	bound, err := i.e.bound()
	if err != nil {
		return nil, err
	}
	plain, err := hsm.Open(i.ctx, i.e.Key, i.e.IV, i.e.Box, bound)
	if fault.Is(err, fault.InvalidRequest) {
		return nil, errors.New("the HSM does not open the backup: its header was changed, or it is another cluster's")
	}
	if err != nil {
		return nil, fmt.Errorf("open the key of the backup: %w", err)
	}
	defer plain.Wipe()
	return append([]byte(nil), plain.Expose()...), nil
}
