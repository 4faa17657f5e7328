package names

import (
	"fmt"
	"strings"
)

// Bounds of one entry of a Grammar.
const (
	maxEntryBytes   = 2048
	maxAlternatives = 64
	maxLabelBytes   = 32
)

// Grammar is a convention for what paths look like below a prefix, one entry
// for each segment:
//
//	{service}               any one segment, called service in messages
//	{env:dev|staging|prod}  one of these; '*' stands for any part (pr-*)
//	config, db-*            this segment, without a name
//	{rest...}               one or more segments; only as the last entry
//
// A path must have as many segments as there are entries. A Grammar is
// immutable and safe for concurrent use.
type Grammar struct {
	entries []entry
	rest    bool // the last entry takes one or more segments
}

type entry struct {
	text    string
	label   string   // "" for an entry without braces
	allowed []string // patterns of one segment, nil: any
}

// ParseGrammar checks the entries and prepares them. The error says what is
// wrong in words that can be shown to the caller.
func ParseGrammar(texts []string) (Grammar, error) {
	var g Grammar
	if len(texts) > MaxSegments {
		return g, fmt.Errorf("has %d entries; at most %d are allowed", len(texts), MaxSegments)
	}
	labels := map[string]bool{}
	for i, text := range texts {
		e, rest, err := parseEntry(text)
		switch {
		case err != nil:
			return Grammar{}, fmt.Errorf("entry %d: %w", i+1, err)
		case rest && i != len(texts)-1:
			return Grammar{}, fmt.Errorf("entry %d: '...' is only for the last entry", i+1)
		case labels[e.label]:
			return Grammar{}, fmt.Errorf("entry %d: its name is taken by an earlier entry", i+1)
		}
		labels[e.label] = e.label != ""
		g.entries, g.rest = append(g.entries, e), rest
	}
	return g, nil
}

func parseEntry(text string) (e entry, rest bool, err error) {
	if len(text) > maxEntryBytes {
		return e, false, fmt.Errorf("has %d bytes; at most %d are allowed", len(text), maxEntryBytes)
	}
	inner, open := strings.CutPrefix(text, "{")
	if !open {
		return entry{text: text, allowed: []string{text}}, false, checkAlternative(text)
	}
	inner, closed := strings.CutSuffix(inner, "}")
	if !closed {
		return e, false, fmt.Errorf("has no '}' at its end; an entry is a segment, {name}, {name:one|other} or {name...}")
	}
	label, list, choice := strings.Cut(inner, ":")
	if !choice {
		label, rest = strings.CutSuffix(label, "...")
	}
	if err := checkLabel(label); err != nil {
		return e, false, err
	}
	e = entry{text: text, label: label}
	if !choice {
		return e, rest, nil
	}
	e.allowed = strings.Split(list, "|")
	if len(e.allowed) > maxAlternatives {
		return e, false, fmt.Errorf("has %d alternatives; at most %d are allowed", len(e.allowed), maxAlternatives)
	}
	for _, one := range e.allowed {
		if err := checkAlternative(one); err != nil {
			return e, false, err
		}
	}
	return e, false, nil
}

func checkLabel(label string) error {
	if label == "" || len(label) > maxLabelBytes {
		return fmt.Errorf("the name in braces must have 1 to %d bytes", maxLabelBytes)
	}
	for i := 0; i < len(label); i++ {
		if c := label[i]; !isSegmentByte(c) || strings.IndexByte(".+=@", c) >= 0 {
			return fmt.Errorf("the name in braces has the byte 0x%02x; allowed are A-Z a-z 0-9 _ -", c)
		}
	}
	return nil
}

func checkAlternative(text string) error {
	if strings.Contains(text, "**") {
		return fmt.Errorf("'**' is not for one segment; {name...} as the last entry takes one or more")
	}
	if err := checkSegment(text, func(c byte) bool { return c == '*' || isSegmentByte(c) }); err != nil {
		return fmt.Errorf("the segment %w", err)
	}
	return nil
}

// String answers the entries as one path, such as {env:dev|prod}/{name}.
func (g Grammar) String() string {
	texts := make([]string, len(g.entries))
	for i, e := range g.entries {
		texts[i] = e.text
	}
	return strings.Join(texts, "/")
}

// Check holds the part of a valid path that follows the prefix against the
// grammar. The error says where it differs and what is allowed there; it does
// not repeat the path, in which somebody may have put a value by mistake.
func (g Grammar) Check(below string) error {
	segments := strings.Split(below, "/")
	if len(segments) < len(g.entries) || len(segments) > len(g.entries) && !g.rest {
		least := ""
		if g.rest {
			least = "at least "
		}
		return fmt.Errorf("must have %s%d segments there, not %d", least, len(g.entries), len(segments))
	}
	for i, e := range g.entries {
		if !e.matches(segments[i]) {
			return fmt.Errorf("segment %d%s must be %s", i+1, e.called(), strings.Join(e.allowed, " or "))
		}
	}
	return nil
}

func (e entry) called() string {
	if e.label == "" {
		return ""
	}
	return " (" + e.label + ")"
}

func (e entry) matches(segment string) bool {
	if e.allowed == nil {
		return true
	}
	for _, one := range e.allowed {
		if matchSegment(one, segment) {
			return true
		}
	}
	return false
}
