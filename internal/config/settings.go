package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Setting is one line of the reference.
type Setting struct {
	Name    string // "api.listen"
	Default string // as in YAML; empty: none
	Doc     string
	field   reflect.Value
}

// settings walks the sections in the order of the struct.
func settings(c reflect.Value) []Setting {
	var out []Setting
	for i := range c.NumField() {
		section := c.Type().Field(i)
		for j := range section.Type.NumField() {
			f := section.Type.Field(j)
			out = append(out, Setting{
				Name:    section.Tag.Get("yaml") + "." + f.Tag.Get("yaml"),
				Default: f.Tag.Get("default"), Doc: f.Tag.Get("doc"), field: c.Field(i).Field(j),
			})
		}
	}
	return out
}

// Settings lists every setting.
func Settings() []Setting {
	var c Config
	return settings(reflect.ValueOf(&c).Elem())
}

// sections answers name and description of each section.
func sections() [][2]string {
	t := reflect.TypeFor[Config]()
	var out [][2]string
	for i := range t.NumField() {
		out = append(out, [2]string{t.Field(i).Tag.Get("yaml"), t.Field(i).Tag.Get("doc")})
	}
	return out
}

// DefaultsYAML is a commented file with every setting at its default. A
// setting without a default stands there empty.
func DefaultsYAML() string {
	var b strings.Builder
	all := Settings()
	for i, s := range sections() {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# %s\n%s:\n", s[1], s[0])
		for _, one := range all {
			section, name, _ := strings.Cut(one.Name, ".")
			if section != s[0] {
				continue
			}
			value := one.Default
			if one.field.Kind() == reflect.String && value == "" {
				value = `""`
			}
			fmt.Fprintf(&b, "  # %s\n  %s: %s\n", one.Doc, name, value)
		}
	}
	return b.String()
}

// Reference is the body of docs/configuration.md: one table a section.
func Reference() string {
	var b strings.Builder
	all := Settings()
	for _, s := range sections() {
		fmt.Fprintf(&b, "## %s\n%s\n\n| setting | default | meaning |\n|---|---|---|\n", s[0], s[1])
		for _, one := range all {
			if section, _, _ := strings.Cut(one.Name, "."); section != s[0] {
				continue
			}
			value := "none"
			if one.Default != "" {
				value = "`" + one.Default + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", one.Name, value, strings.ReplaceAll(one.Doc, "|", `\|`))
		}
		b.WriteString("\n")
		if s[0] == "audit" {
			b.WriteString(sinkReference())
		}
	}
	return b.String()
}
