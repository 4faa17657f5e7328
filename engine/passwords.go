package engine

import (
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
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

// passwordRecipe draws whole passwords, each character uniformly from the
// alphabet, until one has every required class. So each password that
// satisfies the request is equally likely; placing required characters first
// and shuffling would favour some.
func passwordRecipe(spec wire.GenerateSpec, maxBytes int) (recipe, error) {
	length, maxLength := orDefault(spec.Length, defaultLength), min(maxBytes, maxPasswordLength)
	alphabet, required, err := passwordAlphabet(spec)
	if err != nil {
		return recipe{}, err
	}
	if length < minPasswordLength || length > maxLength {
		return recipe{}, fault.Invalid("length", "must be %d to %d characters", minPasswordLength, maxLength)
	}
	bits := passwordBits(len(alphabet), required, length)
	if bits < minPasswordBits {
		return recipe{}, fault.Invalid("length", "and the classes allow only %.0f bits of entropy; at least %d are needed: make it longer or allow more characters", bits, minPasswordBits)
	}
	return recipe{bits: bits, make: func(random io.Reader) ([]byte, error) {
		out := make([]byte, length)
		for {
			if err := fill(random, out, alphabet); err != nil {
				clear(out)
				return nil, err
			}
			if hasAll(out, required) {
				return out, nil
			}
		}
	}}, nil
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
func fill(random io.Reader, out []byte, alphabet string) error {
	limit := 256 - 256%len(alphabet)
	drawn := make([]byte, 2*len(out))
	defer clear(drawn)
	for i := 0; i < len(out); {
		if _, err := io.ReadFull(random, drawn); err != nil {
			return fmt.Errorf("random bytes: %w", err)
		}
		for _, b := range drawn {
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
