package main

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
)

// requestFlags are the flags of one operation, read from its request type:
// one flag for each field, in kebab-case, with the field's doc as its help.
// A field that may hold plaintext has no flag that takes it: only one that
// names a file.
type requestFlags struct {
	op     *engine.Operation
	fields []*requestField
	args   []string
	json   *textFlag
	paged  bool // has limit and cursor
}

// requestField is a field of the request and how it is given.
type requestField struct {
	name     string // in JSON
	doc      string
	index    []int
	typ      reflect.Type
	required bool
	text     *textFlag // nil for plaintext
	file     *textFlag // nil where only text is taken
}

// textFlag is a pflag.Value that keeps texts, in order.
type textFlag struct {
	kind  string // in the help
	multi bool
	texts []string
	check func(string) error
}

func (f *textFlag) String() string { return strings.Join(f.texts, ",") }
func (f *textFlag) Type() string   { return f.kind }

func (f *textFlag) Set(s string) error {
	if f.check != nil {
		if err := f.check(s); err != nil {
			return err
		}
	}
	if f.multi {
		f.texts = append(f.texts, s)
	} else {
		f.texts = []string{s}
	}
	return nil
}

func (f *textFlag) given() bool { return f != nil && len(f.texts) > 0 }

func newRequestFlags(op *engine.Operation, args []string) *requestFlags {
	f := &requestFlags{op: op, args: args, json: &textFlag{kind: "file"}}
	f.walk(op.Request, nil)
	// What every request has comes after what this one is about.
	slices.SortStableFunc(f.fields, func(a, b *requestField) int { return rank(a.name) - rank(b.name) })
	_, f.paged = op.Request.FieldByName("Page")
	return f
}

func rank(name string) int {
	switch name {
	case "limit", "cursor":
		return 1
	case "consistency", "clientToken":
		return 2
	}
	return 0
}

// walk lists the fields in order, embedded structs in place.
func (f *requestFlags) walk(t reflect.Type, index []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(append([]int(nil), index...), i)
		if sf.Anonymous {
			f.walk(sf.Type, at)
			continue
		}
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		field := &requestField{
			name: name, doc: sf.Tag.Get("doc"), index: at, typ: sf.Type,
			required: !strings.Contains(options, "omitzero") && sf.Type.Kind() != reflect.Bool,
		}
		field.text, field.file = flagsFor(sf.Type)
		f.fields = append(f.fields, field)
	}
}

// flagsFor chooses the forms that a type is given in.
func flagsFor(t reflect.Type) (text, file *textFlag) {
	switch t {
	case reflect.TypeFor[*wire.Value](), reflect.TypeFor[*wire.Text](), reflect.TypeFor[*wire.Object]():
		return nil, &textFlag{kind: "file"}
	case reflect.TypeFor[wire.Bytes]():
		return &textFlag{kind: "base64"}, &textFlag{kind: "file"}
	case reflect.TypeFor[*wire.Time]():
		return &textFlag{kind: "time", check: func(s string) error { _, err := parseTime(s, time.Now()); return err }}, nil
	case reflect.TypeFor[*wire.Duration]():
		return &textFlag{kind: "duration", check: func(s string) error { _, err := wire.ParseDuration(s); return err }}, nil
	case reflect.TypeFor[[]string]():
		return &textFlag{kind: "list", multi: true}, nil
	case reflect.TypeFor[map[string]string]():
		return &textFlag{kind: "name=value", multi: true, check: checkPair}, nil
	}
	base := t
	if base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	switch base.Kind() {
	case reflect.String:
		return &textFlag{kind: "string"}, nil
	case reflect.Bool:
		return &textFlag{kind: "bool", check: checkBool}, nil
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return &textFlag{kind: "number", check: checkNumber}, nil
	}
	return &textFlag{kind: "json"}, &textFlag{kind: "file"}
}

func checkPair(s string) error {
	if name, _, ok := strings.Cut(s, "="); !ok || name == "" {
		return fmt.Errorf("must be NAME=VALUE")
	}
	return nil
}

func checkBool(s string) error {
	if _, err := strconv.ParseBool(s); err != nil {
		return fmt.Errorf("must be true or false")
	}
	return nil
}

func checkNumber(s string) error {
	if _, err := strconv.ParseUint(s, 10, 63); err != nil {
		return fmt.Errorf("must be a whole number from 0 up")
	}
	return nil
}

// parseTime reads RFC 3339, or a distance from now: +30d, -1h.
func parseTime(s string, now time.Time) (*wire.Time, error) {
	if sign := strings.IndexAny(s, "+-"); sign == 0 {
		d, err := wire.ParseDuration(s[1:])
		if err != nil {
			return nil, fmt.Errorf("must be a time such as 2026-01-02T15:04:05Z, or a distance from now such as -1h or +30d")
		}
		if s[0] == '-' {
			d = -d
		}
		return &wire.Time{Time: now.Add(time.Duration(d)).UTC().Truncate(time.Millisecond)}, nil
	}
	t, err := wire.ParseTime(s)
	if err != nil {
		return nil, fmt.Errorf("must be a time such as 2026-01-02T15:04:05Z, or a distance from now such as -1h or +30d")
	}
	return &t, nil
}

func (f *requestFlags) isArg(name string) bool {
	return slices.Contains(f.args, name)
}

// add puts the flags on cmd.
func (f *requestFlags) add(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	for _, field := range f.fields {
		if f.isArg(field.name) || strings.HasPrefix(field.doc, "not in this release") {
			continue
		}
		doc := field.doc
		if field.required {
			doc += "; required"
		}
		name := kebab(field.name)
		if field.text != nil {
			flag := cmd.Flags().VarPF(field.text, name, "", doc)
			if field.text.kind == "bool" {
				flag.NoOptDefVal = "true"
			}
		}
		if field.file != nil {
			cmd.Flags().Var(field.file, name+"-file", fileDoc(field))
		}
	}
	cmd.Flags().Var(f.json, "json", "take the whole request from a JSON file (- is standard input); flags are put over it")
}

func fileDoc(field *requestField) string {
	switch field.typ {
	case reflect.TypeFor[*wire.Value]():
		doc := "read it from a file, bytes as they are (- is standard input)"
		if field.required {
			doc += "; without it: standard input, or a prompt on a terminal"
		}
		return strings.TrimSuffix(strings.TrimSuffix(field.doc, "base64"), ", ") + ": " + doc
	case reflect.TypeFor[*wire.Text]():
		return field.doc + ": read it from a file (- is standard input); without it: standard input, or a prompt on a terminal"
	case reflect.TypeFor[*wire.Object]():
		return field.doc + ": read it as JSON from a file (- is standard input)"
	case reflect.TypeFor[wire.Bytes]():
		return "the same in base64 from a file (- is standard input)"
	}
	return "the same as JSON from a file (- is standard input)"
}

// request builds the request from arguments, flags and files.
func (f *requestFlags) request(cmd *cobra.Command, args []string) (any, error) {
	req := reflect.New(f.op.Request)
	in := &inputs{cmd: cmd}
	if f.json.given() {
		raw, err := in.read("json", f.json.texts[0], maxJSON)
		if err != nil {
			return nil, err
		}
		defer clear(raw)
		if err := wire.Decode(raw, req.Interface()); err != nil {
			return nil, usagef("--json: %s", plainFault(err))
		}
	}
	for i, arg := range args {
		field := f.field(f.args[i])
		if err := field.setText(req.Elem(), []string{arg}); err != nil {
			return nil, usagef("%s: %v", strings.ToUpper(kebab(field.name)), err)
		}
	}
	for _, field := range f.fields {
		if err := field.set(req.Elem(), in); err != nil {
			return nil, err
		}
	}
	return req.Interface(), f.requireAll(req.Elem(), in)
}

func (f *requestFlags) field(name string) *requestField {
	for _, field := range f.fields {
		if field.name == name {
			return field
		}
	}
	panic("strongroom: " + f.op.Path() + " has no field " + name) // a short form's mistake; a test builds all
}

// requireAll asks for plaintext that is still missing, and refuses anything
// else that is.
func (f *requestFlags) requireAll(req reflect.Value, in *inputs) error {
	var missing []string
	var ask *requestField
	for _, field := range f.fields {
		if !field.required || !req.FieldByIndex(field.index).IsZero() {
			continue
		}
		if field.typ == reflect.TypeFor[*wire.Object]() {
			missing = append(missing, "--"+kebab(field.name)+"-file")
			continue
		}
		if field.file != nil && field.text.orKind("value") != "json" && !f.json.given() {
			ask = field
			continue
		}
		if f.isArg(field.name) {
			continue // an empty argument; the server says what is wrong with it
		}
		missing = append(missing, "--"+kebab(field.name))
	}
	switch {
	case len(missing) == 1:
		return usagef("%s is required", missing[0])
	case len(missing) > 1:
		return usagef("%s are required", strings.Join(missing, ", "))
	case ask == nil:
		return nil
	case ask.text != nil && in.terminal():
		return usagef("--%s is required (or --%s-file, or standard input)", kebab(ask.name), kebab(ask.name))
	case ask.text != nil:
		return ask.setFile(req, in, "-")
	}
	if ask.typ == reflect.TypeFor[*wire.Text]() {
		text, err := in.askCredential(ask.name)
		if err != nil {
			return err
		}
		req.FieldByIndex(ask.index).Set(reflect.ValueOf(wire.NewText(text)))
		return nil
	}
	value, err := in.ask(ask.name)
	if err != nil {
		return err
	}
	req.FieldByIndex(ask.index).Set(reflect.ValueOf(&wire.Value{Bytes: value}))
	return nil
}

func (f *textFlag) orKind(other string) string {
	if f == nil {
		return other
	}
	return f.kind
}

// maxJSON is more than any request needs.
const maxJSON = 16 << 20

// open answers a file, or standard input for "-".
func (in *inputs) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		if in.used {
			return nil, usagef("standard input can be read by one flag only")
		}
		in.used = true
		return io.NopCloser(in.cmd.InOrStdin()), nil
	}
	return os.Open(name)
}
