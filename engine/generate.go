package engine

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
)

// classes of characters of a password. Symbols leave out quotes, backslash
// and backtick, which break in shells and connection strings.
var classes = map[string]string{
	"lower":   "abcdefghijklmnopqrstuvwxyz",
	"upper":   "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
	"digits":  "0123456789",
	"symbols": "!#$%&()*+,-./:;<=>?@[]^_{|}~",
}

var classNames = []string{"lower", "upper", "digits", "symbols"}

// Lengths of generated values.
const (
	defaultLength     = 32
	minPasswordLength = 8
	maxPasswordLength = 1024
	minRandomBytes    = 8
)

// generated is a value with how hard it is to guess.
type generated struct {
	value *wire.Value
	bits  float64
}

func generateSecret(ctx context.Context, c *call, r *wire.GenerateSecretRequest) (*wire.GenerateSecretResponse, error) {
	path := names.Path(r.Path)
	if r.Create {
		if err := c.require("secrets:createSecret", iam.Resource{Path: path}); err != nil {
			return nil, err
		}
	}
	if r.Reveal {
		if err := c.require("secrets:getSecretValue", iam.Resource{Path: path}); err != nil {
			return nil, err
		}
	}
	if r.KMSKeyID != "" && !r.Create {
		return nil, fault.Invalid("kmsKeyId", "goes with create; an existing secret keeps its key")
	}
	if err := c.checkLife(r.VersionLife); err != nil {
		return nil, err
	}
	made, err := generate(r.GenerateSpec, c.engine.MaxValueBytes)
	if err != nil {
		return nil, err
	}
	value := c.reveal(made.value.Bytes)
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if err := c.createIfMissing(ctx, r, path); err != nil {
		return nil, err
	}
	result, _, err := c.add(ctx, addition{
		path: path, meta: meta, value: &wire.Value{Bytes: value}, activate: true, expected: r.ExpectedVersion,
		version: newVersion(r.ClientToken, "", r.VersionLife),
	})
	if err != nil {
		return nil, err
	}
	return c.generatedAnswer(ctx, r, result, made.bits, meta)
}

// generatedAnswer describes the stored version. It reads it back, so that a
// retry, whose freshly made value was thrown away, answers the first one.
func (c *call) generatedAnswer(ctx context.Context, r *wire.GenerateSecretRequest, result fsm.Result, bits float64, meta fsm.Meta) (*wire.GenerateSecretResponse, error) {
	err := c.refresh(ctx)
	if err != nil {
		return nil, uncertain(err, meta)
	}
	out := &wire.GenerateSecretResponse{
		Path: r.Path, Version: result.Version, VersionID: result.VersionID, EntropyBits: math.Floor(bits*10) / 10,
	}
	s := c.state.Secret(names.Path(r.Path))
	v := c.state.Version(names.Path(r.Path), result.Version)
	if s == nil || v == nil || s.ID != result.SecretID {
		return out, nil
	}
	if len(v.Fingerprint) >= 16 {
		out.Fingerprint = hex.EncodeToString(v.Fingerprint[:16])
	}
	if r.Reveal {
		if out.Value, err = c.revealGenerated(ctx, s, v); err != nil {
			if fault.Is(err, fault.NoLeader) {
				return nil, uncertain(err, meta) // the version is there
			}
			return nil, err
		}
	}
	return out, nil
}

// revealGenerated hands the value to who had it made: a consumer like any
// other.
func (c *call) revealGenerated(ctx context.Context, s *fsm.Secret, v *fsm.Version) (*wire.Value, error) {
	s, v, err := c.handOut(ctx, s.Path, reader{}, func() (*fsm.Secret, *fsm.Version, error) { return c.readable(s.Path, &v.Number, "") })
	if err != nil {
		return nil, err
	}
	return c.openVersion(ctx, s, v)
}

// createIfMissing makes the secret for a request that says so. Another
// writer may have made it a moment ago: that is as good.
func (c *call) createIfMissing(ctx context.Context, r *wire.GenerateSecretRequest, path names.Path) error {
	if s := c.state.Secret(path); !r.Create || s != nil && s.State == fsm.SecretActive {
		return nil
	}
	key, err := c.bindable(r.KMSKeyID)
	if err != nil {
		return err
	}
	result, err := c.propose(ctx, fsm.CreateSecret{
		Meta: fsm.Meta{Time: c.now.UnixMilli(), Principal: c.who.name, RequestID: c.from.RequestID},
		Path: r.Path, SecretID: uuid.NewString(), KeyID: key.ID,
	})
	if err != nil {
		return err
	}
	if refused := result.Refused; refused != nil {
		if err := c.refresh(ctx); err != nil {
			return err
		}
		if s := c.state.Secret(path); s == nil || s.State != fsm.SecretActive {
			return c.refused(refused)
		}
	}
	return nil
}

// generate makes a value from crypto/rand.
func generate(spec wire.GenerateSpec, maxBytes int) (generated, error) {
	if spec.Kind != "password" && (spec.Include != nil || spec.Require != nil || spec.Exclude != "") {
		return generated{}, fault.Invalid("include", "and exclude and require are for the kind password")
	}
	length := defaultLength
	if spec.Length != nil {
		length = *spec.Length
	}
	switch spec.Kind {
	case "password":
		return generatePassword(spec, length, min(maxBytes, maxPasswordLength))
	case "bytes", "hex", "base64":
		return generateBytes(spec.Kind, length, maxBytes)
	case "uuid":
		if spec.Length != nil {
			return generated{}, fault.Invalid("length", "is not for the kind uuid")
		}
		text := []byte(uuid.NewString()) // version 4: 122 random bits
		return generated{wire.NewValue(text), 122}, nil
	}
	return generated{}, fault.Invalid("kind", "must be one of password, bytes, hex, base64, uuid")
}

func generateBytes(kind string, length, maxBytes int) (generated, error) {
	encodedLen := map[string]func(int) int{
		"bytes":  func(n int) int { return n },
		"hex":    hex.EncodedLen,
		"base64": base64.StdEncoding.EncodedLen,
	}[kind]
	if length < minRandomBytes || length > maxBytes || encodedLen(length) > maxBytes {
		return generated{}, fault.Invalid("length", "must be %d or more random bytes, and the value at most %d bytes", minRandomBytes, maxBytes)
	}
	raw := make([]byte, length)
	if _, err := rand.Read(raw); err != nil {
		return generated{}, fmt.Errorf("random bytes: %w", err)
	}
	out := raw
	if kind != "bytes" {
		defer clear(raw)
		out = make([]byte, encodedLen(length))
		if kind == "hex" {
			hex.Encode(out, raw)
		} else {
			base64.StdEncoding.Encode(out, raw)
		}
	}
	return generated{wire.NewValue(out), float64(length) * 8}, nil
}

// generatePassword draws whole passwords, each character uniformly from the
// alphabet, until one has every required class. So each password that
// satisfies the request is equally likely; placing required characters first
// and shuffling would favour some.
func generatePassword(spec wire.GenerateSpec, length, maxLength int) (generated, error) {
	alphabet, required, err := passwordAlphabet(spec)
	if err != nil {
		return generated{}, err
	}
	if length < minPasswordLength || length > maxLength {
		return generated{}, fault.Invalid("length", "must be %d to %d characters", minPasswordLength, maxLength)
	}
	bits := passwordBits(len(alphabet), required, length)
	if bits < minPasswordBits {
		return generated{}, fault.Invalid("length", "and the classes allow only %.0f bits of entropy; at least %d are needed: make it longer or allow more characters", bits, minPasswordBits)
	}
	value := secret.New(make([]byte, length))
	for {
		if err := fill(value.Expose(), alphabet); err != nil {
			value.Wipe()
			return generated{}, err
		}
		if hasAll(value.Expose(), required) {
			return generated{&wire.Value{Bytes: value}, bits}, nil
		}
	}
}

// minPasswordBits keeps requests away that cannot be meant, and bounds how
// often generatePassword has to draw.
const minPasswordBits = 24

func passwordAlphabet(spec wire.GenerateSpec) (alphabet string, required []string, err error) {
	include := spec.Include
	if include == nil {
		include = classNames
	}
	for i, name := range include {
		if classes[name] == "" {
			return "", nil, fault.Invalid(fmt.Sprintf("include[%d]", i), "must be one of %s", strings.Join(classNames, ", "))
		}
		if slices.Contains(include[:i], name) {
			return "", nil, fault.Invalid(fmt.Sprintf("include[%d]", i), "is given twice")
		}
		alphabet += without(classes[name], spec.Exclude)
	}
	require := spec.Require
	if require == nil {
		require = include
	}
	for i, name := range require {
		left := without(classes[name], spec.Exclude)
		if !slices.Contains(include, name) || slices.Contains(require[:i], name) || left == "" {
			return "", nil, fault.Invalid(fmt.Sprintf("require[%d]", i), "must be a class that is included once and not wholly excluded")
		}
		required = append(required, left)
	}
	if len(alphabet) < 2 {
		return "", nil, fault.Invalid("exclude", "leaves fewer than two characters to choose from")
	}
	return alphabet, required, nil
}

func without(characters, excluded string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(excluded, r) {
			return -1
		}
		return r
	}, characters)
}

// fill draws each byte uniformly from alphabet, by throwing away draws that
// would favour its beginning.
func fill(out []byte, alphabet string) error {
	limit := 256 - 256%len(alphabet)
	random := make([]byte, 2*len(out))
	defer clear(random)
	for i := 0; i < len(out); {
		if _, err := rand.Read(random); err != nil {
			return fmt.Errorf("random bytes: %w", err)
		}
		for _, b := range random {
			if int(b) < limit && i < len(out) {
				out[i] = alphabet[int(b)%len(alphabet)]
				i++
			}
		}
	}
	return nil
}

func hasAll(password []byte, required []string) bool {
	for _, class := range required {
		if !slices.ContainsFunc(password, func(b byte) bool { return strings.IndexByte(class, b) >= 0 }) {
			return false
		}
	}
	return true
}

// passwordBits is log2 of the number of passwords that satisfy the request,
// by inclusion and exclusion over the required classes.
func passwordBits(alphabet int, required []string, length int) float64 {
	count := new(big.Int)
	for subset := range 1 << len(required) {
		size, sign := alphabet, int64(1)
		for i, class := range required {
			if subset&(1<<i) != 0 {
				size -= len(class)
				sign = -sign
			}
		}
		term := new(big.Int).Exp(big.NewInt(int64(size)), big.NewInt(int64(length)), nil)
		count.Add(count, term.Mul(term, big.NewInt(sign)))
	}
	if count.Sign() <= 0 {
		return 0
	}
	mantissa := new(big.Float).SetInt(count)
	exponent := mantissa.MantExp(mantissa)
	m, _ := mantissa.Float64()
	return float64(exponent) + math.Log2(m)
}
