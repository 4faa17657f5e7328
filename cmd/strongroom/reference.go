package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
)

// docsCommand prints what docs/api.md holds of the operation table.
func docsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "docs", Short: "Print the reference of docs/api.md", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return printed(cmd, writeReference) },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "key-states", Short: "Print the table of docs/key-states.md", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return printed(cmd, writeKeyStates) },
	})
	cmd.AddCommand(clientCommand())
	return cmd
}

func printed(cmd *cobra.Command, write func(*strings.Builder)) error {
	var b strings.Builder
	write(&b)
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

// writeKeyStates writes the table that Apply and the kms floor decide by.
func writeKeyStates(b *strings.Builder) {
	titles := map[fsm.KeyAction]string{
		fsm.KeyProtect: "encrypt, sign, generateMac, data keys, new bindings",
		fsm.KeyOpen:    "decrypt, verify, verifyMac, getPublicKey, open existing versions",
	}
	b.WriteString("| state |")
	for _, action := range fsm.KeyActions {
		title := titles[action]
		if title == "" {
			title = string(action)
		}
		fmt.Fprintf(b, " %s |", title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(fsm.KeyActions)) + "\n")
	for _, state := range fsm.KeyStates {
		fmt.Fprintf(b, "| `%s` |", state)
		for _, action := range fsm.KeyActions {
			fmt.Fprintf(b, " %s |", ruleText(fsm.RuleFor(state, action)))
		}
		b.WriteByte('\n')
	}
}

func ruleText(r fsm.KeyRule) string {
	switch {
	case r.Refused != "":
		return "`" + string(r.Refused) + "`"
	case r.IfUnbound:
		return "→ `" + string(r.To) + "` once nothing is bound, else `KeyInUse`"
	case r.To != "":
		return "→ `" + string(r.To) + "`"
	}
	return "yes"
}

func writeReference(b *strings.Builder) {
	service := ""
	for i, op := range engine.Operations() {
		if op.Service != service {
			service = op.Service
			fmt.Fprintf(b, "## %s\n\n", service)
		}
		fmt.Fprintf(b, "### %s\n%s `POST /api/v1/%s`, `strongroom %s %s`.\n\n", op.Name, op.Summary, op.Path(), op.Service, kebab(op.Name))
		action := "none beyond a valid credential"
		if op.Action != "" {
			action = "`" + string(op.Action) + "`"
		}
		fmt.Fprintf(b, "IAM action: %s", action)
		for _, more := range op.More {
			fmt.Fprintf(b, ", in some requests also `%s`", more)
		}
		fmt.Fprintf(b, ". Audit event: `%s`.\n\n", op.Event)
		writeFields(b, "request", referenceFields(op.Request, ""), true)
		if op.Streams {
			what := "lines"
			if op.Content != "application/jsonl" {
				what = "bytes"
			}
			fmt.Fprintf(b, "The answer is a stream of %s, `%s`; one that breaks off has no end.\n\n", what, op.Content)
		} else {
			writeFields(b, "answer", referenceFields(op.Response, ""), false)
		}
		if i < len(engine.Operations())-1 {
			b.WriteByte('\n')
		}
	}
}

type referenceField struct {
	name, kind, doc string
	required        bool
}

func writeFields(b *strings.Builder, title string, fields []referenceField, request bool) {
	if len(fields) == 0 {
		fmt.Fprintf(b, "The %s has no fields: `{}`.\n\n", title)
		return
	}
	if !request {
		var names []string
		for _, f := range fields {
			names = append(names, fmt.Sprintf("`%s` (%s)", f.name, f.kind))
		}
		fmt.Fprintf(b, "Answer: %s.\n", strings.Join(names, ", "))
		return
	}
	fmt.Fprintf(b, "| field | type | meaning |\n|---|---|---|\n")
	for _, f := range fields {
		doc := f.doc
		if f.required {
			doc = "required; " + doc
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.name, f.kind, strings.ReplaceAll(strings.TrimSuffix(doc, "; "), "|", `\|`))
	}
	b.WriteByte('\n')
}

// referenceFields lists the fields of a wire type; those of a list's elements
// follow it as list[].field.
func referenceFields(t reflect.Type, prefix string) []referenceField {
	var out []referenceField
	seen := map[string]bool{}
	add := func(f referenceField) {
		if !seen[f.name] { // an outer field hides the same one of an embedded struct
			seen[f.name] = true
			out = append(out, f)
		}
	}
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Anonymous {
			inner := sf.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			for _, f := range referenceFields(inner, prefix) {
				add(f)
			}
			continue
		}
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		kind, inner, infix := referenceKind(sf.Type)
		add(referenceField{prefix + name, kind, sf.Tag.Get("doc"), prefix == "" && !strings.Contains(options, "omitzero") && sf.Type.Kind() != reflect.Bool})
		if inner != nil {
			for _, f := range referenceFields(inner, prefix+name+infix) {
				add(f)
			}
		}
	}
	return out
}

// referenceKind says what a field is on the wire, and which struct is in it.
func referenceKind(t reflect.Type) (kind string, inner reflect.Type, infix string) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[wire.Value](), reflect.TypeFor[wire.Bytes]():
		return "base64", nil, ""
	case reflect.TypeFor[wire.Text]():
		return "string", nil, ""
	case reflect.TypeFor[wire.Object]():
		return "object", nil, ""
	case reflect.TypeFor[wire.Time]():
		return "time", nil, ""
	case reflect.TypeFor[wire.Duration](), reflect.TypeFor[wire.Offset]():
		return "duration", nil, ""
	}
	switch t.Kind() {
	case reflect.String:
		return "string", nil, ""
	case reflect.Bool:
		return "true or false", nil, ""
	case reflect.Map:
		return "object", nil, ""
	case reflect.Struct:
		return "object", t, "."
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "list of objects", t.Elem(), "[]."
		}
		return "list of strings", nil, ""
	}
	return "number", nil, ""
}
