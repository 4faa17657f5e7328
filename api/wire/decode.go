package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/strongroom/strongroom/internal/fault"
)

// Bounds of a request body beyond its size.
const (
	MaxDepth   = 16
	MaxMembers = 1000 // members and elements of one object or array
	MaxTokens  = 100_000
)

// fieldError is a fault in one field, in words for the caller.
type fieldError string

func (e fieldError) Error() string { return string(e) }

// Check reads body without interpreting it and refuses what no request may
// have: bytes that are not UTF-8, malformed or trailing JSON, duplicate
// members, more depth or members than any request needs, a top level that is
// not an object. It allocates little, so it can run before authentication.
func Check(body []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	closed := false
	for tokens := 0; ; tokens++ {
		token, err := d.ReadToken()
		if errors.Is(err, io.EOF) {
			if tokens == 0 {
				return fault.New(fault.InvalidRequest, "body: is empty; send a JSON object, {} for no fields")
			}
			return nil
		}
		if err != nil {
			return explain(err)
		}
		if tokens == 0 && token.Kind() != '{' {
			return fault.New(fault.InvalidRequest, "body: must be a JSON object")
		}
		if closed {
			return fault.New(fault.InvalidRequest, "body: has trailing bytes after the JSON object")
		}
		closed = d.StackDepth() == 0
		if err := checkBounds(d, tokens); err != nil {
			return err
		}
	}
}

func checkBounds(d *jsontext.Decoder, tokens int) error {
	depth := d.StackDepth()
	if depth > MaxDepth {
		return fault.New(fault.InvalidRequest, "body: is nested deeper than %d levels", MaxDepth)
	}
	kind, length := d.StackIndex(depth)
	limit := int64(MaxMembers)
	if kind == '{' {
		limit *= 2 // names and values are counted apart
	}
	if depth > 0 && length > limit || tokens > MaxTokens {
		return fault.New(fault.InvalidRequest, "body: one object or array has more than %d members", MaxMembers)
	}
	return nil
}

// Decode reads body into out, a pointer to a request, and refuses unknown
// members (compared byte by byte), besides all that Check refuses.
func Decode(body []byte, out any) error {
	if err := Check(body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, out, json.RejectUnknownMembers(true)); err != nil {
		return explain(err)
	}
	return nil
}

// Encode writes v, a response or request. HTML characters are not escaped:
// nothing of this is ever put into a page unescaped.
func Encode(w io.Writer, v any) error {
	if err := json.MarshalWrite(w, v, json.Deterministic(true)); err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	return nil
}

// explain turns the library's error into ours. The library's own text is
// never used: it may quote a piece of the body, which may be a value.
func explain(err error) error {
	var mine fieldError
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fault.Invalid(fieldOf(pointerOf(err)), "is given twice")
	case errors.Is(err, json.ErrUnknownName):
		return fault.Invalid(fieldOf(pointerOf(err)), "is not a field of this operation")
	case errors.As(err, &mine):
		return fault.Invalid(fieldOf(pointerOf(err)), "%s", string(mine))
	case errors.As(err, &semantic):
		return fault.Invalid(fieldOf(semantic.JSONPointer), "must be %s", want(semantic.GoType))
	case errors.As(err, &syntactic):
		return fault.New(fault.InvalidRequest, "body: is not well-formed JSON in UTF-8 at byte %d%s",
			syntactic.ByteOffset, within(syntactic.JSONPointer))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.InvalidRequest, "body: ends in the middle of the JSON object")
	}
	return fault.Wrap(fault.InvalidRequest, err, "body: is not a request of this operation")
}

func pointerOf(err error) jsontext.Pointer {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		return semantic.JSONPointer
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return syntactic.JSONPointer
	}
	return ""
}

func within(p jsontext.Pointer) string {
	if p == "" {
		return ""
	}
	return ", in " + fieldOf(p)
}

// fieldOf spells a JSON pointer as callers write fields: statements[0].paths.
// Names are the caller's own text: cut short, and quoted where they are not
// plain.
func fieldOf(p jsontext.Pointer) string {
	const maxName = 64
	var b strings.Builder
	for name := range p.Tokens() {
		if isIndex(name) {
			b.WriteString("[" + name + "]")
			continue
		}
		if len(name) > maxName {
			name = name[:maxName] + "…"
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if isPlain(name) {
			b.WriteString(name)
		} else {
			fmt.Fprintf(&b, "%+q", name)
		}
	}
	if b.Len() == 0 {
		return "body"
	}
	return b.String()
}

func isIndex(s string) bool {
	return s != "" && len(s) < 8 && strings.Trim(s, "0123456789") == ""
}

func isPlain(s string) bool {
	for _, c := range s {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return s != ""
}

// want says in words what a field of this type takes.
func want(t reflect.Type) string {
	if t == nil {
		return "of another type"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[Duration]() {
		return `a duration as a string, such as "30d"`
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Uint32, reflect.Uint64:
		return "a whole number from 0 up"
	case reflect.Slice:
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "of another type"
}
