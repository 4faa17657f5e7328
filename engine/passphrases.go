package engine

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wordlist"
)

const (
	defaultWords     = 6
	minWords         = 4 // 51 bits
	maxWords         = 64
	defaultSeparator = "-"
)

// passphraseRecipe draws words from the list, each uniformly and each anew. No
// two sequences of words make the same text (a test of wordlist says so for
// the hyphen, and letters cannot separate), so a passphrase is as hard to
// guess as its words: log2(7776), 12.9 bits each. Capitals are the same for
// every word and add nothing.
func passphraseRecipe(spec wire.GenerateSpec, maxBytes int) (recipe, error) {
	count := orDefault(spec.Words, defaultWords)
	if count < minWords || count > maxWords {
		return recipe{}, fault.Invalid("words", "must be %d to %d", minWords, maxWords)
	}
	separator := spec.Separator
	if separator == "" {
		separator = defaultSeparator
	}
	if !isSeparator(separator) {
		return recipe{}, fault.Invalid("separator", "must be one printable ASCII character that is no letter and no digit; without one two passphrases could be the same text")
	}
	words := wordlist.Words()
	return recipe{bits: float64(count) * math.Log2(float64(len(words))), make: func(random io.Reader) ([]byte, error) {
		var out []byte
		for i := range count {
			n, err := below(random, len(words))
			if err != nil {
				return nil, err
			}
			if i > 0 {
				out = appendWiping(out, separator)
			}
			at := len(out)
			if out = appendWiping(out, words[n]); spec.Capitalize {
				out[at] -= 'a' - 'A'
			}
		}
		return out, nil
	}}, nil
}

func isSeparator(s string) bool {
	return len(s) == 1 && s[0] >= ' ' && s[0] <= '~' &&
		!strings.Contains(classes["lower"]+classes["upper"]+classes["digits"], s)
}

// below draws a number below n, at most 65536, uniformly: draws that would
// favour small numbers are thrown away.
func below(random io.Reader, n int) (int, error) {
	limit := 1<<16 - (1<<16)%n
	var drawn [2]byte
	defer clear(drawn[:])
	for {
		if _, err := io.ReadFull(random, drawn[:]); err != nil {
			return 0, fmt.Errorf("random bytes: %w", err)
		}
		if v := int(binary.BigEndian.Uint16(drawn[:])); v < limit {
			return v % n, nil
		}
	}
}

// appendWiping is append for plaintext: what it outgrows is wiped.
func appendWiping(out []byte, text string) []byte {
	if need := len(out) + len(text); need > cap(out) {
		grown := make([]byte, len(out), 2*need)
		copy(grown, out)
		clear(out)
		out = grown
	}
	return append(out, text...)
}
