package engine

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// Bounds of generated values.
const (
	defaultLength     = 32
	minPasswordLength = 8
	maxPasswordLength = 1024
	minRandomBytes    = 8
)

// recipe is a checked wire.GenerateSpec: all refusals come before anything
// is made.
type recipe struct {
	// bits is how hard a value is to guess: log2 of the number of values, all
	// equally likely; of keys their security strength.
	bits        float64
	contentType string
	slow        bool // seconds of a processor
	// make answers a fresh value. random never runs dry.
	make func(random io.Reader) ([]byte, error)
	// public answers the public key of a value, PEM; nil for what has none.
	public func(value []byte) (string, error)
}

// kinds are those of api.md, with the fields that each takes.
var kinds = []struct {
	name   string
	fields []string
	recipe func(spec wire.GenerateSpec, maxBytes int) (recipe, error)
}{
	{"password", []string{"length", "include", "exclude", "require"}, passwordRecipe},
	{"passphrase", []string{"words", "separator", "capitalize"}, passphraseRecipe},
	{"bytes", []string{"length"}, bytesRecipe},
	{"hex", []string{"length"}, bytesRecipe},
	{"base64", []string{"length"}, bytesRecipe},
	{"uuid", nil, uuidRecipe},
	{"rsa", []string{"bits"}, rsaRecipe},
	{"ec", []string{"curve"}, ecRecipe},
	{"ed25519", nil, ed25519Recipe},
}

// recipeFor checks spec. A field that the kind does not take is refused: its
// author meant something that would not happen.
func recipeFor(spec wire.GenerateSpec, maxBytes int) (recipe, error) {
	given := []struct {
		field string
		is    bool
	}{
		{"length", spec.Length != nil}, {"include", spec.Include != nil}, {"exclude", spec.Exclude != ""}, {"require", spec.Require != nil},
		{"words", spec.Words != nil}, {"separator", spec.Separator != ""}, {"capitalize", spec.Capitalize},
		{"bits", spec.Bits != nil}, {"curve", spec.Curve != ""},
	}
	var all []string
	for _, kind := range kinds {
		if all = append(all, kind.name); kind.name != spec.Kind {
			continue
		}
		for _, g := range given {
			if g.is && !slices.Contains(kind.fields, g.field) {
				return recipe{}, fault.Invalid(g.field, "is not for the kind %s; leave it out", kind.name)
			}
		}
		return kind.recipe(spec, maxBytes)
	}
	return recipe{}, fault.Invalid("kind", "must be one of %s", strings.Join(all, ", "))
}

// make makes a value, which is wiped with the answer.
func (c *call) make(ctx context.Context, r recipe) (*wire.Value, error) {
	random, err := c.engine.random(ctx)
	if err != nil {
		return nil, err
	}
	if r.slow {
		leave, err := c.engine.slow.enter(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	made, err := r.make(random)
	if err != nil {
		return nil, err
	}
	value := wire.NewValue(made)
	c.reveal(value.Bytes)
	return value, c.engine.checkValue("generated value", value)
}

// random is where generated values come from: crypto/rand, and the HSM too
// if the configuration says so. Then an HSM that does not answer refuses the
// request: going on without it would be what the configuration rules out.
func (e *Engine) random(ctx context.Context) (io.Reader, error) {
	if !e.HSMRandom {
		return rand.Reader, nil
	}
	return e.KMS.RandomStream(ctx)
}

// slowTurn lets one slow value at a time be made on this node, so that keys of
// RSA take one processor at most from everybody else, and a few wait.
type slowTurn struct {
	running chan struct{}
	waiting chan struct{}
}

const maxSlowWaiting = 4

func newSlowTurn() slowTurn {
	return slowTurn{running: make(chan struct{}, 1), waiting: make(chan struct{}, maxSlowWaiting+1)}
}

func (t slowTurn) enter(ctx context.Context) (leave func(), err error) {
	busy := "kind: as many keys of this kind are being made on this node as may; try again in a moment"
	select {
	case t.waiting <- struct{}{}:
	default:
		return nil, fault.New(fault.RateLimited, "%s", busy)
	}
	select {
	case t.running <- struct{}{}:
		return func() { <-t.running; <-t.waiting }, nil
	case <-ctx.Done():
		<-t.waiting
		return nil, fault.Wrap(fault.RateLimited, ctx.Err(), "%s", busy)
	}
}

func uuidRecipe(wire.GenerateSpec, int) (recipe, error) {
	return recipe{bits: 122, make: func(random io.Reader) ([]byte, error) { // version 4
		id, err := uuid.NewRandomFromReader(random)
		return []byte(id.String()), err
	}}, nil
}

func bytesRecipe(spec wire.GenerateSpec, maxBytes int) (recipe, error) {
	length := orDefault(spec.Length, defaultLength)
	encodedLen := map[string]func(int) int{
		"bytes":  func(n int) int { return n },
		"hex":    hex.EncodedLen,
		"base64": base64.StdEncoding.EncodedLen,
	}[spec.Kind]
	if length < minRandomBytes || length > maxBytes || encodedLen(length) > maxBytes {
		return recipe{}, fault.Invalid("length", "must be %d or more random bytes, and the value at most %d bytes", minRandomBytes, maxBytes)
	}
	return recipe{bits: float64(length) * 8, make: func(random io.Reader) ([]byte, error) {
		raw := make([]byte, length)
		if _, err := io.ReadFull(random, raw); err != nil {
			return nil, fmt.Errorf("random bytes: %w", err)
		}
		if spec.Kind == "bytes" {
			return raw, nil
		}
		defer clear(raw)
		out := make([]byte, encodedLen(length))
		if spec.Kind == "hex" {
			hex.Encode(out, raw)
		} else {
			base64.StdEncoding.Encode(out, raw)
		}
		return out, nil
	}}, nil
}

func orDefault(given *int, otherwise int) int {
	if given == nil {
		return otherwise
	}
	return *given
}
