package checkpoint

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key is a public key of a cluster: ECDSA on P-256, over SHA-256. Its id in a
// note is, as C2SP signed-note has it for ECDSA, the first four bytes of
// SHA-256 over the key's DER.
type Key struct {
	public *ecdsa.PublicKey
	id     uint32
}

// ParseKeys reads one or more public keys in PEM, SubjectPublicKeyInfo: a
// cluster has one for each version of its key.
func ParseKeys(text []byte) ([]Key, error) {
	var out []Key
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		key, err := keyOf(block)
		if err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no public key in PEM in it")
	}
	if strings.TrimSpace(string(text)) != "" {
		return nil, errors.New("there is something behind the last public key")
	}
	return out, nil
}

func keyOf(block *pem.Block) (Key, error) {
	if block.Type != "PUBLIC KEY" {
		return Key{}, fmt.Errorf("it holds a %s, not a PUBLIC KEY", block.Type)
	}
	any, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("a public key cannot be read: %w", err)
	}
	public, ok := any.(*ecdsa.PublicKey)
	if !ok || public.Curve.Params().Name != "P-256" {
		return Key{}, errors.New("a public key is not one on P-256")
	}
	der := sha256.Sum256(block.Bytes)
	return Key{public, binary.BigEndian.Uint32(der[:4])}, nil
}

// Digest is what the HSM signs.
func (c *Checkpoint) Digest() [sha256.Size]byte { return sha256.Sum256([]byte(c.Text())) }

// Note puts the signature of Digest, ASN.1 DER as ECDSA has it, under c.
func (c *Checkpoint) Note(key Key, signature []byte) ([]byte, error) {
	if digest := c.Digest(); !ecdsa.VerifyASN1(key.public, digest[:], signature) {
		return nil, errors.New("checkpoint: the signature is not one of the key")
	}
	raw := binary.BigEndian.AppendUint32(nil, key.id)
	return fmt.Appendf(nil, "%s\n— %s %s\n", c.Text(), KeyName(c.Cluster), base64.StdEncoding.EncodeToString(append(raw, signature...))), nil
}

// Signed is a checkpoint whose signature was verified.
type Signed struct {
	Checkpoint
	Witnesses []string // names of those, of the ones asked for, that cosigned it
}

// Open verifies a signed note: by one of keys, in the name of the cluster
// that its origin names. Witnesses whose keys are given and that signed it
// are answered; a signature of theirs that is wrong is an error. Signatures
// of others are no matter. A note has one spelling: bytes that mean nothing
// are refused.
func Open(text []byte, keys []Key, witnesses ...Witness) (Signed, error) {
	body, _, ok := strings.Cut(string(text), "\n\n")
	if !ok {
		return Signed{}, errors.New("it has no signature")
	}
	c, err := Parse(body + "\n")
	if err != nil {
		return Signed{}, err
	}
	known := verifiers{}
	for _, key := range keys {
		known = append(known, keyVerifier{key, KeyName(c.Cluster)})
	}
	for _, w := range witnesses {
		known = append(known, w)
	}
	n, err := note.Open(text, known)
	if err != nil {
		var bad *note.InvalidSignatureError
		if errors.As(err, &bad) {
			return Signed{}, fmt.Errorf("the signature of %s is wrong", bad.Name)
		}
		var unknown *note.UnverifiedNoteError
		if errors.As(err, &unknown) {
			return Signed{}, errors.New("no signature in it is of the public key that was given")
		}
		return Signed{}, fmt.Errorf("it is no signed note: %w", err)
	}
	if err := oneSpelling(text, n); err != nil {
		return Signed{}, err
	}
	out := Signed{Checkpoint: c}
	signed := false
	for _, s := range n.Sigs {
		if s.Name == KeyName(c.Cluster) {
			signed = true
		} else {
			out.Witnesses = append(out.Witnesses, s.Name)
		}
	}
	if !signed {
		return Signed{}, errors.New("no signature in it is of the public key that was given")
	}
	return out, nil
}

// oneSpelling refuses what note.Open reads and nobody writes: base64 with
// bits that are left over, and signatures twice.
func oneSpelling(text []byte, n *note.Note) error {
	lines := strings.Count(strings.TrimPrefix(string(text), n.Text), "\n") - 1
	if lines != len(n.Sigs)+len(n.UnverifiedSigs) {
		return errors.New("it has a signature twice")
	}
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		raw, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != s.Base64 {
			return errors.New("a signature in it is not in the one form of base64")
		}
	}
	return nil
}

// verifiers finds a key by the name and the id in a signature.
type verifiers []note.Verifier

// Verifier implements note.Verifiers.
func (v verifiers) Verifier(name string, id uint32) (note.Verifier, error) {
	for _, one := range v {
		if one.Name() == name && one.KeyHash() == id {
			return one, nil
		}
	}
	return nil, &note.UnknownVerifierError{Name: name, KeyHash: id}
}

// keyVerifier is a key under the name of a cluster.
type keyVerifier struct {
	key  Key
	name string
}

func (v keyVerifier) Name() string    { return v.name }
func (v keyVerifier) KeyHash() uint32 { return v.key.id }
func (v keyVerifier) Verify(text, signature []byte) bool {
	digest := sha256.Sum256(text)
	return ecdsa.VerifyASN1(v.key.public, digest[:], signature)
}
