package agent

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/strongroom/strongroom/client"
)

// Ref names a value, or one member of a value that is a JSON object.
type Ref struct {
	Path  string
	Field string // empty: the whole value
}

// String is the form of the command line.
func (r Ref) String() string {
	if r.Field == "" {
		return r.Path
	}
	return r.Path + "#" + r.Field
}

// of answers the bytes that r names: a copy, the caller's to clear.
func (r Ref) of(v *client.Value) ([]byte, error) {
	if r.Field == "" {
		return bytes.Clone(v.Expose()), nil
	}
	return member(v, r.Field)
}

// member answers one member of a JSON object: the text of a string, or a
// number, true or false as it stands there. No error of the decoder is shown:
// its text may quote the value.
func member(v *client.Value, field string) ([]byte, error) {
	var object map[string]jsontext.Value
	if err := json.Unmarshal(v.Expose(), &object); err != nil || object == nil {
		return nil, fmt.Errorf("%s: the value is not a JSON object, so it has no field %q; store one, or name the path alone", v.Path(), field)
	}
	defer func() {
		for _, raw := range object {
			clear(raw)
		}
	}()
	raw, there := object[field]
	if !there {
		return nil, fmt.Errorf("%s: the JSON object has no field %q", v.Path(), field)
	}
	switch raw.Kind() {
	case '"':
		out, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return nil, fmt.Errorf("%s: the field %q is not a string that can be read", v.Path(), field)
		}
		return out, nil
	case '0', 't', 'f':
		return bytes.Clone(raw), nil
	}
	return nil, fmt.Errorf("%s: the field %q is null, a list or an object; it must be a string, a number, true or false", v.Path(), field)
}
