package agent

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/names"
)

// Binding gives a value to a command: in a variable, or in a private file
// whose path is in the variable.
type Binding struct {
	Name string
	Ref  Ref
	File bool
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ParseBinding reads NAME=PATH or NAME=PATH#FIELD. flag is for errors, which do
// not show the argument: somebody may have put a value there.
func ParseBinding(flag, text string) (Binding, error) {
	name, rest, found := strings.Cut(text, "=")
	if !found || !variableName.MatchString(name) {
		return Binding{}, fmt.Errorf("--%s must be NAME=/path/of/secret or NAME=/path/of/secret#field; NAME has letters, digits and _ and begins with no digit", flag)
	}
	if ours(name) {
		return Binding{}, fmt.Errorf("--%s: the variable %s is Strongroom's own; choose another name", flag, name)
	}
	place, field, hasField := strings.Cut(rest, "#")
	if _, err := names.ParsePath(place); err != nil {
		return Binding{}, fmt.Errorf("--%s %s=…: the path %w", flag, name, err)
	}
	if hasField && field == "" {
		return Binding{}, fmt.Errorf("--%s %s=…: there is no field after #; name one, or leave the # out", flag, name)
	}
	return Binding{Name: name, Ref: Ref{place, field}, File: flag == "file"}, nil
}

// ours reports whether a variable says who we are.
func ours(name string) bool {
	return strings.HasPrefix(name, "STRONGROOM_TOKEN") || name == "STRONGROOM_ACCESS_KEY_ID" || name == "STRONGROOM_SECRET_ACCESS_KEY_FILE"
}

// loaders are variables by which whoever may write a secret could have other
// code loaded into the command. They are taken from an explicit --env only.
var loaders = regexp.MustCompile(`^(LD_.*|DYLD_.*|PATH|IFS|ENV|SHELL|HOME|USER|BASH_.*|GLIBC_TUNABLES|MALLOC_.*|PYTHON.*|PERL.*|RUBY.*|NODE_.*|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH|GIT_.*|GO.*|STRONGROOM_.*)$`)

// fromPrefix makes a binding for each secret below a prefix. inherited are the
// names that the command's environment has already.
func fromPrefix(ctx context.Context, s *Source, prefix string, inherited []string) ([]Binding, error) {
	paths, err := s.below(ctx, prefix)
	if err != nil {
		return nil, err
	}
	return prefixNames(prefix, paths, inherited)
}

func prefixNames(prefix string, paths, inherited []string) ([]Binding, error) {
	var out []Binding
	if len(paths) == 0 {
		return nil, &Refused{fmt.Sprintf("--env-prefix %s: there is no secret with a value below it that the caller may see", prefix)}
	}
	for _, one := range paths {
		name := strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(path.Base(one)))
		switch {
		case !variableName.MatchString(name):
			return nil, &Refused{fmt.Sprintf("--env-prefix %s: %s cannot be the name of a variable; use --env NAME=%s for it, and a narrower prefix", prefix, path.Base(one), one)}
		case loaders.MatchString(name):
			return nil, &Refused{fmt.Sprintf("--env-prefix %s: %s would set %s, which changes how programs are run; use --env %s=%s if that is wanted, and a narrower prefix", prefix, one, name, name, one)}
		case slices.Contains(inherited, name):
			return nil, &Refused{fmt.Sprintf("--env-prefix %s: %s would set %s, which is in the environment already; unset it, or use --env %s=%s", prefix, one, name, name, one)}
		}
		out = append(out, Binding{Name: name, Ref: Ref{Path: one}})
	}
	return out, nil
}

// collisions refuses two bindings of one name.
func collisions(all []Binding) error {
	seen := map[string]Ref{}
	for _, b := range all {
		if other, twice := seen[b.Name]; twice {
			return &Refused{fmt.Sprintf("the variable %s would come from %s and from %s; give each a name of its own with --env NAME=PATH", b.Name, other, b.Ref)}
		}
		seen[b.Name] = b.Ref
	}
	return nil
}

// pathsOf answers the secrets that bindings need, each once.
func pathsOf(all []Binding) []string {
	var out []string
	for _, b := range all {
		if !slices.Contains(out, b.Ref.Path) {
			out = append(out, b.Ref.Path)
		}
	}
	return out
}

// maxVariable is what Linux takes for one NAME=VALUE, with its zero byte.
const maxVariable = 128 << 10

// environment answers base with the values of snap in it.
func environment(base []string, all []Binding, snap Snapshot, dir *privateDir) ([]string, error) {
	out := slices.DeleteFunc(slices.Clone(base), func(one string) bool {
		name, _, _ := strings.Cut(one, "=")
		return slices.ContainsFunc(all, func(b Binding) bool { return b.Name == name })
	})
	for _, b := range all {
		if b.File {
			out = append(out, b.Name+"="+dir.file(b.Name))
			continue
		}
		value, err := b.Ref.of(snap[b.Ref.Path])
		if err != nil {
			return nil, fmt.Errorf("--env %s: %w", b.Name, err)
		}
		if bytes.IndexByte(value, 0) >= 0 || len(b.Name)+1+len(value)+1 > maxVariable {
			clear(value)
			return nil, fmt.Errorf("--env %s: the value of %s has a zero byte or is too long for a variable; use --file %s=%s", b.Name, b.Ref, b.Name, b.Ref)
		}
		out = append(out, b.Name+"="+string(value))
		clear(value)
	}
	return out, nil
}

// Inherited answers what a command is to inherit of our own environment: not
// who we are, unless that is wanted.
func Inherited(environ []string, keepToken bool) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(one string) bool {
		name, _, _ := strings.Cut(one, "=")
		return !keepToken && ours(name)
	})
}
