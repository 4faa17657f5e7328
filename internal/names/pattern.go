package names

import (
	"fmt"
	"strings"
)

// Pattern matches paths: '*' stands for exactly one segment or for any part
// of one (db-*), '**' as the last segment for one or more segments.
// A Pattern is immutable and safe for concurrent use.
type Pattern struct {
	text     string
	segments []string
	rest     bool // ends in /**
}

// ParsePattern checks s and prepares it for matching. The error says what is
// wrong in words that can be shown to the caller.
func ParsePattern(s string) (Pattern, error) {
	if err := checkSegments(s, func(c byte) bool { return c == '*' || isSegmentByte(c) }); err != nil {
		return Pattern{}, err
	}
	segments := strings.Split(s[1:], "/")
	p := Pattern{text: s, segments: segments}
	for i, segment := range segments {
		if !strings.Contains(segment, "**") {
			continue
		}
		if segment != "**" || i != len(segments)-1 {
			return Pattern{}, fmt.Errorf("segment %d: '**' stands alone and only as the last segment", i+1)
		}
		p.rest = true
		p.segments = segments[:i]
	}
	return p, nil
}

// String answers the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Match reports whether path, a valid Path, is matched.
func (p Pattern) Match(path Path) bool {
	rest := string(path)
	for _, want := range p.segments {
		if rest == "" {
			return false
		}
		rest = rest[1:]
		segment := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			segment, rest = rest[:i], rest[i:]
		} else {
			rest = ""
		}
		if !matchSegment(want, segment) {
			return false
		}
	}
	if p.rest {
		return rest != ""
	}
	return rest == ""
}

// Head answers what every path that matches starts with: the text before the
// first '*'. exact says that there is no '*', so only that one path matches.
func (p Pattern) Head() (head string, exact bool) {
	head, _, starred := strings.Cut(p.text, "*")
	return head, !starred
}

// Wide reports whether the pattern reaches beyond one service: fewer than
// three literal leading segments (/app/{env}/{service}).
func (p Pattern) Wide() bool {
	literal := 0
	for _, segment := range p.segments {
		if strings.Contains(segment, "*") {
			break
		}
		literal++
	}
	return literal < 3 && (p.rest || literal < len(p.segments))
}

// matchSegment matches one segment against one with any number of '*', in
// time proportional to the product of the lengths at worst (both are at most
// MaxSegmentBytes): the last star is the only place to come back to.
func matchSegment(pattern, segment string) bool {
	if pattern == "*" {
		return true
	}
	var p, s, mark int
	star := -1
	for s < len(segment) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, s
			p++
		case p < len(pattern) && pattern[p] == segment[s]:
			p++
			s++
		case star >= 0:
			mark++
			p, s = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Covers reports whether every path below prefix ("/" or "/app/") is matched.
func (p Pattern) Covers(prefix string) bool {
	return p.rest && len(p.segments) <= len(below(prefix)) && p.agrees(prefix)
}

// Touches reports whether some path below prefix could be matched.
func (p Pattern) Touches(prefix string) bool {
	return (p.rest || len(p.segments) > len(below(prefix))) && p.agrees(prefix)
}

// agrees compares the segments that the pattern and the prefix both have.
func (p Pattern) agrees(prefix string) bool {
	for i, segment := range below(prefix) {
		if i < len(p.segments) && !matchSegment(p.segments[i], segment) {
			return false
		}
	}
	return true
}

// below answers the segments of a prefix; "/" has none.
func below(prefix string) []string {
	if prefix == "/" {
		return nil
	}
	return strings.Split(strings.Trim(prefix, "/"), "/")
}

// Glob reports whether text is matched by pattern, in which '*' stands for any
// bytes, also none. Nothing else is special.
func Glob(pattern, text string) bool { return matchSegment(pattern, text) }
