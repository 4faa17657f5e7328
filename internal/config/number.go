package config

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Number is a number as vendors' headers write them: 0x80002109, or decimal.
// Other bases are refused: 0210 is octal to some readers and not to others.
type Number uint64

// UnmarshalYAML takes both forms, quoted or not.
func (n *Number) UnmarshalYAML(node *yaml.Node) error {
	base, digits := 10, node.Value
	if rest, ok := strings.CutPrefix(strings.ToLower(digits), "0x"); ok {
		base, digits = 16, rest
	}
	parsed, err := strconv.ParseUint(digits, base, 64)
	if err != nil || node.Kind != yaml.ScalarNode || base == 10 && len(digits) > 1 && digits[0] == '0' {
		return fmt.Errorf("line %d: %q is not a number such as 0x2109 or 8457", node.Line, node.Value)
	}
	*n = Number(parsed)
	return nil
}

// MarshalYAML writes a form that UnmarshalYAML reads.
func (n Number) MarshalYAML() (any, error) { return fmt.Sprintf("%#x", uint64(n)), nil }
