// Package names holds the grammars of the identities that callers send:
// paths of secrets, patterns over them, key ids and aliases, names of
// principals and policies. All grammars are ASCII, compared byte by byte;
// nothing is folded, trimmed or normalised, so no two spellings mean one
// thing and no policy can be cheated by a third.
package names

import (
	"fmt"
	"strings"
)

// Bounds of a path.
const (
	MaxPathBytes    = 512
	MaxSegments     = 16
	MaxSegmentBytes = 128
)

// Path is the immutable identity of a secret, such as
// /app/prod/payments/db-password. A Path that came from ParsePath is valid.
type Path string

// ParsePath checks s against the grammar and answers it unchanged.
// The error says what is wrong in words that can be shown to the caller.
func ParsePath(s string) (Path, error) {
	if err := checkSegments(s, isSegmentByte); err != nil {
		return "", err
	}
	return Path(s), nil
}

// Segments answers the parts between the slashes.
func (p Path) Segments() []string { return strings.Split(string(p[1:]), "/") }

// ParsePrefix checks a place in the tree to list below: "/" or a path, with
// or without a trailing slash. It answers the form with the trailing slash.
func ParsePrefix(s string) (string, error) {
	if s == "/" {
		return s, nil
	}
	trimmed := strings.TrimSuffix(s, "/")
	if _, err := ParsePath(trimmed); err != nil {
		return "", err
	}
	return trimmed + "/", nil
}

// checkSegments holds what paths and patterns share: shape and bounds.
func checkSegments(s string, allowed func(byte) bool) error {
	switch {
	case s == "":
		return fmt.Errorf("must not be empty; a path is like /app/{env}/{service}/{name}")
	case s[0] != '/':
		return fmt.Errorf("must start with '/'")
	case len(s) > MaxPathBytes:
		return fmt.Errorf("has %d bytes; at most %d are allowed", len(s), MaxPathBytes)
	}
	segments := strings.Split(s[1:], "/")
	if len(segments) > MaxSegments {
		return fmt.Errorf("has %d segments; at most %d are allowed", len(segments), MaxSegments)
	}
	for i, segment := range segments {
		if err := checkSegment(segment, allowed); err != nil {
			return fmt.Errorf("segment %d %w", i+1, err)
		}
	}
	return nil
}

func checkSegment(segment string, allowed func(byte) bool) error {
	switch {
	case segment == "":
		return fmt.Errorf("is empty; use single slashes and none at the end")
	case segment == "." || segment == "..":
		return fmt.Errorf("is %q, which is not allowed; nothing is normalised", segment)
	case len(segment) > MaxSegmentBytes:
		return fmt.Errorf("has %d bytes; at most %d are allowed", len(segment), MaxSegmentBytes)
	}
	for i := 0; i < len(segment); i++ {
		if !allowed(segment[i]) {
			return fmt.Errorf("has the byte 0x%02x at offset %d; allowed are A-Z a-z 0-9 . _ - + = @", segment[i], i)
		}
	}
	return nil
}

func isSegmentByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '.' || c == '_' || c == '-' || c == '+' || c == '=' || c == '@'
}
