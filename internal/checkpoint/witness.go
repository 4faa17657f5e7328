package checkpoint

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Witness is the public half of another party that cosigns checkpoints which
// it has found to continue those it saw before: C2SP tlog-cosignature, with
// Ed25519. It is written NAME+BASE64, the key being 32 bytes.
type Witness struct {
	name   string
	public ed25519.PublicKey
}

// algorithmCosignature is the number of Ed25519 cosignatures in key ids.
const algorithmCosignature = 4

// ParseWitness reads what String writes.
func ParseWitness(text string) (Witness, error) {
	name, key, ok := strings.Cut(strings.TrimSpace(text), "+")
	public, err := base64.StdEncoding.Strict().DecodeString(key)
	if !ok || err != nil || len(public) != ed25519.PublicKeySize {
		return Witness{}, fmt.Errorf("must be NAME+KEY, as strongroom audit witness prints it")
	}
	if err := CheckName(name); err != nil {
		return Witness{}, err
	}
	return Witness{name, public}, nil
}

// CheckName refuses names that would not stand in a signed note.
func CheckName(name string) error {
	if name == "" || len(name) > 128 || strings.ContainsFunc(name, func(r rune) bool {
		return r == '+' || r > unicode.MaxASCII || unicode.IsSpace(r) || unicode.IsControl(r)
	}) {
		return fmt.Errorf("the name of a witness has 1 to 128 ASCII characters, without spaces and +, such as witness.example.com")
	}
	if strings.HasPrefix(name, scheme+"/") {
		return fmt.Errorf("the name of a witness must not begin with %s/, which is the clusters'", scheme)
	}
	return nil
}

// String writes w as ParseWitness reads it.
func (w Witness) String() string { return w.name + "+" + base64.StdEncoding.EncodeToString(w.public) }

// Name implements note.Verifier.
func (w Witness) Name() string { return w.name }

// KeyHash implements note.Verifier.
func (w Witness) KeyHash() uint32 {
	id := sha256.Sum256(append([]byte(w.name+"\n"), append([]byte{algorithmCosignature}, w.public...)...))
	return binary.BigEndian.Uint32(id[:4])
}

// Verify implements note.Verifier.
func (w Witness) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	return ed25519.Verify(w.public, cosigned(binary.BigEndian.Uint64(signature), text), signature[8:])
}

// Cosign adds the signature of a witness to a note, whose checkpoint the
// caller has found good. at is to the second.
func Cosign(text []byte, name string, key ed25519.PrivateKey, at time.Time) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	body, _, ok := strings.Cut(string(text), "\n\n")
	if !ok {
		return nil, fmt.Errorf("it has no signature")
	}
	public, _ := key.Public().(ed25519.PublicKey)
	w := Witness{name, public}
	raw := binary.BigEndian.AppendUint32(nil, w.KeyHash())
	raw = binary.BigEndian.AppendUint64(raw, uint64(at.Unix()))
	raw = append(raw, ed25519.Sign(key, cosigned(uint64(at.Unix()), []byte(body+"\n")))...)
	return fmt.Appendf(nil, "%s— %s %s\n", text, name, base64.StdEncoding.EncodeToString(raw)), nil
}

func cosigned(at uint64, text []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...)
}
