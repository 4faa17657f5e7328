package names

import (
	"fmt"
	"strings"
)

// AliasPrefix starts every key reference that is an alias.
const AliasPrefix = "alias/"

// DefaultAlias is the alias of the key that init makes for secrets that name
// no other.
const DefaultAlias = "alias/default"

// MaxNameBytes bounds names of principals, policies, aliases and labels.
const MaxNameBytes = 128

// ParseKeyRef checks a key reference: the id of a key (a UUID in lower case)
// or "alias/" and a name.
func ParseKeyRef(s string) (string, error) {
	if name, ok := strings.CutPrefix(s, AliasPrefix); ok {
		if _, err := ParseName(name); err != nil {
			return "", fmt.Errorf("alias %w", err)
		}
		return s, nil
	}
	if !isUUID(s) {
		return "", fmt.Errorf("must be a key id (a UUID in lower case) or alias/NAME")
	}
	return s, nil
}

// ParseName checks the name of a principal, a policy, an alias or a label:
// 1 to 128 of a-z A-Z 0-9 . _ - + = @, starting with a letter or a digit.
func ParseName(s string) (string, error) {
	switch {
	case s == "":
		return "", fmt.Errorf("must not be empty")
	case len(s) > MaxNameBytes:
		return "", fmt.Errorf("has %d bytes; at most %d are allowed", len(s), MaxNameBytes)
	}
	for i := 0; i < len(s); i++ {
		if !isSegmentByte(s[i]) {
			return "", fmt.Errorf("has the byte 0x%02x at offset %d; allowed are A-Z a-z 0-9 . _ - + = @", s[i], i)
		}
	}
	if c := s[0]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') {
		return "", fmt.Errorf("must start with a letter or a digit")
	}
	return s, nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}
