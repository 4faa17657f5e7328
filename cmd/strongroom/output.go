package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strongroom/strongroom/api/wire"
)

// Formats of output.
const (
	formatTable = "table"
	formatJSON  = "json"
)

func outputFormat(cmd *cobra.Command) (string, error) {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return "", err
	}
	if format != formatTable && format != formatJSON {
		return "", usagef("--output must be table or json; it is %q", format)
	}
	return format, nil
}

// showJSON prints the answer as the API gave it, indented.
func showJSON(out io.Writer, resp any) error {
	var b wipingBuffer
	defer b.wipe()
	if err := wire.Encode(&b, resp); err != nil {
		return err
	}
	text := jsontext.Value(b.b)
	if err := text.Indent(jsontext.WithIndent("  ")); err != nil {
		return err
	}
	defer clear(text)
	_, err := out.Write(append(text, '\n'))
	return err
}

// columns are chosen where an answer has more than fits a terminal; -o json
// has all.
func columns(row reflect.Type) []string {
	switch row {
	case reflect.TypeFor[wire.VersionSummary]():
		return []string{"version", "state", "labels", "size", "kmsKeyId", "kmsKeyVersion", "createdAt", "createdBy", "destroyAt", "destroyedAt", "reason"}
	case reflect.TypeFor[wire.AuditEvent]():
		return []string{"time", "node", "event", "outcome", "code", "principal", "path", "version", "keyId", "requestId"}
	case reflect.TypeFor[wire.Given]():
		return []string{"path", "version", "count", "first", "last", "sources", "state", "current", "compromised", "rotates"}
	case reflect.TypeFor[wire.KeyResponse]():
		return []string{"aliases", "keyId", "state", "spec", "usage", "currentVersion", "boundSecrets", "createdAt"}
	case reflect.TypeFor[wire.KeyHealth]():
		return []string{"aliases", "keyId", "state", "boundSecrets", "versionAgeDays", "nextRotationAt", "deletionAt", "lastUsedAt", "nodes"}
	case reflect.TypeFor[wire.TokenSummary]():
		return []string{"tokenId", "principal", "state", "expiresAt", "boundCidrs", "description"}
	case reflect.TypeFor[wire.BatchResult]():
		return []string{"path", "version", "value", "error"}
	}
	var all []string
	for _, f := range leaves(reflect.New(row).Elem()) {
		all = append(all, f.name)
	}
	return all
}

// leaf is one member of an answer.
type leaf struct {
	name  string
	value reflect.Value
}

// leaves lists the members in order, embedded structs in place.
func leaves(v reflect.Value) []leaf {
	var out []leaf
	for i := range v.NumField() {
		f, field := v.Type().Field(i), v.Field(i)
		if f.Anonymous {
			if field.Kind() == reflect.Pointer {
				if field.IsNil() {
					field = reflect.New(f.Type.Elem())
				}
				field = field.Elem()
			}
			for _, inner := range leaves(field) {
				if !slices.ContainsFunc(out, func(l leaf) bool { return l.name == inner.name }) {
					out = append(out, inner)
				}
			}
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if strings.Contains(options, "omitzero") && field.IsZero() {
			field = reflect.Value{} // JSON leaves it out as well
		}
		out = append(out, leaf{name, field})
	}
	return out
}

// showTable prints single members as lines and lists as tables.
func showTable(s *session, resp any) error {
	if list, ok := resp.(*wire.ListSecretsResponse); ok {
		resp = browse(list)
	}
	if status, ok := resp.(*wire.StatusResponse); ok {
		resp = worthSaying(status)
	}
	if tls, ok := resp.(*wire.TLSResponse); ok {
		resp = shortTLS(tls)
	}
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	var lists []leaf
	more := ""
	for _, l := range leaves(reflect.ValueOf(resp).Elem()) {
		switch {
		case !l.value.IsValid():
		case l.name == "nextCursor":
			more = l.value.String()
		case l.value.Kind() == reflect.Slice && l.value.Type().Elem().Kind() == reflect.Struct:
			lists = append(lists, l)
		default:
			if text := cell(l.value); text != "" {
				fmt.Fprintf(w, "%s:\t%s\n", words(l.name), text)
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range lists {
		if err := table(s.out, l.value); err != nil {
			return err
		}
	}
	if more != "" {
		fmt.Fprintf(s.errOut, "There is more: --all, or --cursor %s\n", more)
	}
	return nil
}

// line is folders and secrets in one list.
type line struct {
	Path           string     `json:"path"`
	CurrentVersion *uint64    `json:"version"`
	State          string     `json:"state"`
	KMSKeyID       string     `json:"kmsKeyId"`
	UpdatedAt      *wire.Time `json:"updatedAt"`
}

func browse(list *wire.ListSecretsResponse) any {
	out := &struct {
		Lines      []line `json:"lines"`
		NextCursor string `json:"nextCursor,omitzero"`
	}{NextCursor: list.NextCursor}
	for _, folder := range list.Folders {
		out.Lines = append(out.Lines, line{Path: folder})
	}
	for _, s := range list.Secrets {
		out.Lines = append(out.Lines, line{s.Path, &s.CurrentVersion, s.State, s.KMSKeyID, s.UpdatedAt})
	}
	slices.SortStableFunc(out.Lines, func(a, b line) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// table prints rows; columns that are empty in all of them are left out.
func table(out io.Writer, rows reflect.Value) error {
	if rows.Len() == 0 {
		return nil
	}
	names := columns(rows.Type().Elem())
	cells := make([]map[string]string, rows.Len())
	used := map[string]bool{}
	for i := range rows.Len() {
		cells[i] = map[string]string{}
		for _, l := range leaves(rows.Index(i)) {
			text := cell(l.value)
			cells[i][l.name] = text
			used[l.name] = used[l.name] || text != ""
		}
	}
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !used[n] })
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for i, name := range names {
		fmt.Fprintf(w, "%s%s", strings.ToUpper(words(name)), end(i, names))
	}
	for _, row := range cells {
		for i, name := range names {
			fmt.Fprintf(w, "%s%s", row[name], end(i, names))
		}
	}
	return w.Flush()
}

func end(i int, names []string) string {
	if i == len(names)-1 {
		return "\n"
	}
	return "\t"
}

func words(name string) string { return strings.ReplaceAll(kebab(name), "-", " ") }

// cell is one member as text. What comes from a server is made harmless for
// a terminal.
func cell(v reflect.Value) string {
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return ""
	}
	switch x := v.Interface().(type) {
	case *wire.Value:
		return shownValue(x.Expose())
	case *wire.Text:
		return printable(string(x.Expose()))
	case wire.Bytes:
		return base64.StdEncoding.EncodeToString(x)
	case *wire.Time:
		return x.UTC().Format(time.RFC3339)
	case []string:
		return printable(strings.Join(x, ", "))
	case map[string]string:
		return pairs(x, func(s string) string { return s })
	case map[string]uint64:
		return pairs(x, func(n uint64) string { return strconv.FormatUint(n, 10) })
	case wire.Duration:
		text, err := x.MarshalText()
		if err != nil {
			return "?"
		}
		return string(text)
	case *wire.Offset:
		return time.Duration(*x).String()
	case wire.Cache:
		return cell(reflect.ValueOf(x.MaxAge)) + " at most"
	case *wire.ItemError:
		return printable(x.Code + ": " + x.Message)
	case *wire.Leader:
		return printable(x.NodeID + " (" + x.APIAddress + ")")
	case []wire.GrantedBy:
		return grants(x)
	case []wire.KeyOnNode:
		return usableOn(x)
	case *wire.KeyRotation:
		if x != nil {
			return "every " + cell(reflect.ValueOf(x.Period)) + ", next " + cell(reflect.ValueOf(x.NextRotationAt))
		}
		return ""
	case wire.KeyUse:
		if x == (wire.KeyUse{}) {
			return ""
		}
		return printable(fmt.Sprintf("%s, version %d", x.KeyID, x.KeyVersion))
	}
	if v.Kind() == reflect.Pointer {
		return cell(v.Elem())
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return "yes"
		}
		return "no"
	case reflect.Struct, reflect.Slice, reflect.Map:
		if v.IsZero() || v.Kind() != reflect.Struct && v.Len() == 0 {
			return ""
		}
		var b strings.Builder
		if err := wire.Encode(&b, v.Interface()); err != nil {
			return "?"
		}
		return printable(b.String())
	}
	return printable(fmt.Sprint(v.Interface()))
}

// grants names the statements that allow something.
func grants(list []wire.GrantedBy) string {
	var out []string
	for _, g := range list {
		text := fmt.Sprintf("%s[%d] (%s)", g.Policy, g.Statement, g.Matched)
		if g.Via != "" {
			text += " through " + g.Via
		}
		out = append(out, text)
	}
	return printable(strings.Join(out, "; "))
}

// usableOn says where a key can be used, and where not and why.
func usableOn(nodes []wire.KeyOnNode) string {
	var good, bad []string
	for _, n := range nodes {
		if n.Usable {
			good = append(good, n.NodeID)
		} else {
			bad = append(bad, n.NodeID+": "+n.Reason)
		}
	}
	text := strings.Join(good, " ")
	if len(bad) > 0 {
		text = strings.TrimSpace(text + "  NOT " + strings.Join(bad, "; "))
	}
	return printable(text)
}

func pairs[V any](m map[string]V, text func(V) string) string {
	var out []string
	for name, value := range m {
		out = append(out, name+"="+text(value))
	}
	slices.Sort(out)
	return printable(strings.Join(out, ", "))
}

// shownValue shows a value in a table: as text where it is one, else base64.
func shownValue(plain []byte) string {
	if text := string(plain); utf8.Valid(plain) && printable(text) == text {
		return text
	}
	return "base64:" + base64.StdEncoding.EncodeToString(plain)
}

// printable replaces what could steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// showRaw prints bytes as they are. On a terminal a line feed follows, so
// that the prompt does not stick to them.
func showRaw(out io.Writer, plain []byte) error {
	if _, err := out.Write(plain); err != nil {
		return err
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && (len(plain) == 0 || plain[len(plain)-1] != '\n') {
		_, err := out.Write([]byte("\n"))
		return err
	}
	return nil
}
