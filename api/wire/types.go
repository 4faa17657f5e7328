// Package wire holds the request and response types of the API, shared by
// server, CLI and clients, and the strict decoding that both sides rely on.
//
// Every field that may hold plaintext is a Value; every other binary field is
// Bytes. Neither can be printed by accident.
package wire

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/strongroom/strongroom/internal/secret"
)

// Value is plaintext on its way in or out: base64 in JSON, never visible to
// fmt or slog. The decoder's copy of the base64 text is part of the request
// buffer, which the server wipes.
type Value struct{ secret.Bytes }

// NewValue takes ownership of plain.
func NewValue(plain []byte) *Value { return &Value{secret.New(plain)} }

// IsZero lets an absent optional Value be left out of JSON.
func (v Value) IsZero() bool { return v.Len() == 0 }

// MarshalJSONTo writes the value as a base64 string. It is the only encoding
// of a Value; MarshalJSON of the embedded Bytes refuses.
func (v Value) MarshalJSONTo(e *jsontext.Encoder) error {
	plain := v.Expose()
	quoted := make([]byte, base64.StdEncoding.EncodedLen(len(plain))+2)
	defer clear(quoted)
	quoted[0], quoted[len(quoted)-1] = '"', '"'
	base64.StdEncoding.Encode(quoted[1:], plain)
	return e.WriteValue(quoted)
}

// UnmarshalJSONFrom reads a base64 string strictly.
func (v *Value) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	plain, err := readBase64(d)
	if err != nil {
		return err
	}
	v.Bytes = secret.New(plain)
	return nil
}

// Text is a credential that travels as plain text, such as a token; like a
// Value it cannot be printed.
type Text struct{ secret.Bytes }

// NewText wraps a credential.
func NewText(b secret.Bytes) *Text { return &Text{b} }

// MarshalJSONTo writes the text as a JSON string.
func (t Text) MarshalJSONTo(e *jsontext.Encoder) error {
	quoted, err := jsontext.AppendQuote(nil, t.Expose())
	defer clear(quoted)
	if err != nil {
		return err
	}
	return e.WriteValue(quoted)
}

// UnmarshalJSONFrom reads a JSON string.
func (t *Text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	token, err := d.ReadValue()
	if err != nil {
		return err
	}
	if token.Kind() != '"' {
		return fieldError("must be a string")
	}
	plain, err := jsontext.AppendUnquote(nil, token)
	if err != nil {
		return fieldError("must be a string")
	}
	t.Bytes = secret.New(plain)
	return nil
}

// Bytes is binary data that is no secret: ciphertext, hashes.
type Bytes []byte

// MarshalJSONTo writes a base64 string.
func (b Bytes) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.String(base64.StdEncoding.EncodeToString(b)))
}

// UnmarshalJSONFrom reads a base64 string strictly.
func (b *Bytes) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	raw, err := readBase64(d)
	if err != nil {
		return err
	}
	*b = raw
	return nil
}

const errBase64 = fieldError("must be standard base64 with padding, without white space (RFC 4648 section 4)")

// readBase64 accepts exactly one spelling of each byte string. The library's
// strict mode still takes newlines, so the result is encoded again and
// compared.
func readBase64(d *jsontext.Decoder) ([]byte, error) {
	token, err := d.ReadValue()
	if err != nil {
		return nil, err
	}
	if token.Kind() != '"' {
		return nil, fieldError("must be a base64 string")
	}
	text := token[1 : len(token)-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		// '/' may be escaped in JSON; nothing else that base64 uses needs to be.
		text = bytes.ReplaceAll(text, []byte(`\/`), []byte("/"))
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	if err != nil {
		clear(out)
		return nil, errBase64
	}
	again := make([]byte, base64.StdEncoding.EncodedLen(n))
	base64.StdEncoding.Encode(again, out[:n])
	same := bytes.Equal(again, text)
	clear(again)
	if !same {
		clear(out)
		return nil, errBase64
	}
	return out[:n:n], nil
}

// timeLayout is RFC 3339 with at most milliseconds.
const timeLayout = "2006-01-02T15:04:05.999Z07:00"

// Time is a point in time: RFC 3339, UTC, at most milliseconds.
type Time struct{ time.Time }

// Millis makes a Time of milliseconds since the Unix epoch; nil for 0.
func Millis(ms int64) *Time {
	if ms == 0 {
		return nil
	}
	return &Time{time.UnixMilli(ms).UTC()}
}

// Milli answers milliseconds since the Unix epoch, 0 for nil.
func (t *Time) Milli() int64 {
	if t == nil {
		return 0
	}
	return t.UnixMilli()
}

// String writes RFC 3339 in UTC.
func (t Time) String() string { return t.UTC().Truncate(time.Millisecond).Format(timeLayout) }

// MarshalJSONTo writes RFC 3339 in UTC. It stands above the MarshalJSON that
// the embedded time.Time brings along.
func (t Time) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.String(t.String()))
}

// UnmarshalJSONFrom reads RFC 3339 in UTC with at most milliseconds.
func (t *Time) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() != '"' {
		return fieldError("must be a time in RFC 3339 as a string")
	}
	parsed, err := ParseTime(token.String())
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}

// ParseTime reads RFC 3339 in UTC with at most milliseconds.
func ParseTime(text string) (Time, error) {
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil || !isUTCMillis(text) {
		return Time{}, fieldError("must be a time in RFC 3339, UTC, with at most milliseconds, such as 2026-01-02T15:04:05.123Z")
	}
	if parsed.Year() < 1970 {
		return Time{}, fieldError("must not lie before 1970")
	}
	return Time{parsed.UTC()}, nil
}

// isUTCMillis checks what the library is lax about: it takes an hour of one
// digit, a comma for the point, and any number of digits after it.
func isUTCMillis(text string) bool {
	const seconds = len("2006-01-02T15:04:05")
	if len(text) <= seconds || text[len(text)-1] != 'Z' {
		return false
	}
	fraction := text[seconds : len(text)-1]
	return fraction == "" || fraction[0] == '.' && len(fraction) >= 2 && len(fraction) <= 4
}

// Duration is a length of time such as "720h", "90s" or "30d".
type Duration time.Duration

// MarshalText writes whole days as days, all else as Go does.
func (d Duration) MarshalText() ([]byte, error) {
	const day = Duration(24 * time.Hour)
	if d >= day && d%day == 0 {
		return []byte(strconv.FormatInt(int64(d/day), 10) + "d"), nil
	}
	return []byte(time.Duration(d).String()), nil
}

// UnmarshalText reads a duration; negative ones are refused.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// ParseDuration reads "30d", or what time.ParseDuration takes.
func ParseDuration(s string) (Duration, error) {
	const maxDays = 36500
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err == nil && n <= maxDays {
			return Duration(n) * Duration(24*time.Hour), nil
		}
	} else if parsed, err := time.ParseDuration(s); err == nil && parsed >= 0 {
		return Duration(parsed), nil
	}
	return 0, fieldError(`must be a duration such as "720h", "90s" or "30d"`)
}

// Offset is a Duration with a sign, such as "-7.2s".
type Offset time.Duration

// MarshalText writes what Go does.
func (o Offset) MarshalText() ([]byte, error) { return []byte(time.Duration(o).String()), nil }

// UnmarshalText reads what Go does.
func (o *Offset) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fieldError(`must be a duration such as "-7.2s"`)
	}
	*o = Offset(parsed)
	return nil
}

// Error is the body of every failed request.
type Error struct {
	Error ErrorBody `json:"error"`
}

// ErrorBody is what went wrong. Message may be shown; it never holds a value.
type ErrorBody struct {
	Code      string         `json:"code"`
	Message   string         `json:"message"`
	RequestID string         `json:"requestId"`
	Details   map[string]any `json:"details,omitzero"`
}

// Page is embedded by every list request.
type Page struct {
	Limit  *int   `json:"limit,omitzero" doc:"how many at most, 1-1000 (default 100)"`
	Cursor string `json:"cursor,omitzero" doc:"nextCursor of the page before"`
}

// Consistency relaxes a metadata read. Reads are linearizable without it.
type Consistency struct {
	MinIndex *uint64   `json:"minIndex,omitzero"`
	MaxStale *Duration `json:"maxStale,omitzero"`
}
