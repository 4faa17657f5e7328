package agent

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"text/template"
	"text/template/parse"

	"github.com/go-json-experiment/json"

	"github.com/strongroom/strongroom/internal/names"
)

// source is what a file is made of.
type source struct {
	file  File
	text  *template.Template // nil: the value itself
	paths []string
}

// newSource reads the template, if there is one.
func newSource(f File) (*source, error) {
	if f.Template == "" {
		return &source{file: f, paths: []string{f.Path}}, nil
	}
	raw, err := os.ReadFile(f.Template)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	t, err := template.New("template").Option("missingkey=error").Funcs(functions(nil)).Parse(string(raw))
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", f.Template, err)
	}
	s := &source{file: f, text: t}
	for _, one := range t.Templates() {
		if one.Tree == nil {
			continue
		}
		if err := s.find(one.Tree.Root); err != nil {
			return nil, fmt.Errorf("template %s: %w", f.Template, err)
		}
	}
	if len(s.paths) == 0 {
		return nil, fmt.Errorf(`template %s: it names no secret; use {{ secret "/path" }}`, f.Template)
	}
	return s, nil
}

// find collects the paths that a template names. They stand there as texts, so
// that all of them are known beforehand: for whether all values are there, for
// what is watched, and for whom the cluster hears of.
func (s *source) find(node parse.Node) error {
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil {
			return s.findAll(n.Nodes)
		}
	case *parse.ActionNode:
		return s.find(n.Pipe)
	case *parse.TemplateNode:
		return s.find(n.Pipe)
	case *parse.IfNode:
		return errors.Join(s.find(n.Pipe), s.find(n.List), s.find(n.ElseList))
	case *parse.RangeNode:
		return errors.Join(s.find(n.Pipe), s.find(n.List), s.find(n.ElseList))
	case *parse.WithNode:
		return errors.Join(s.find(n.Pipe), s.find(n.List), s.find(n.ElseList))
	case *parse.ChainNode:
		return s.find(n.Node)
	case *parse.PipeNode:
		if n == nil {
			return nil
		}
		for _, cmd := range n.Cmds {
			if err := s.command(cmd); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *source) findAll(nodes []parse.Node) error {
	for _, n := range nodes {
		if err := s.find(n); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) command(cmd *parse.CommandNode) error {
	for i, arg := range cmd.Args {
		name, ok := arg.(*parse.IdentifierNode)
		if !ok || name.Ident != "secret" && name.Ident != "secretJSON" {
			continue
		}
		if i != 0 || len(cmd.Args) < 2 {
			return fmt.Errorf(`%s must be followed by a path between quotes: {{ %s "/path" … }}`, name.Ident, name.Ident)
		}
		text, ok := cmd.Args[1].(*parse.StringNode)
		if !ok {
			return fmt.Errorf(`the path after %s must stand there between quotes, not be computed: {{ %s "/path" … }}`, name.Ident, name.Ident)
		}
		if _, err := names.ParsePath(text.Text); err != nil {
			return fmt.Errorf("%s %q: the path %w", name.Ident, text.Text, err)
		}
		if !slices.Contains(s.paths, text.Text) {
			s.paths = append(s.paths, text.Text)
		}
	}
	return s.findAll(cmd.Args)
}

// functions are what a template can call. A missing value, field or key is an
// error.
func functions(snap Snapshot) template.FuncMap {
	value := func(r Ref) (string, error) {
		v := snap[r.Path]
		if v == nil {
			return "", &templateError{r.Path + " is not there"}
		}
		raw, err := r.of(v)
		if err != nil {
			return "", &templateError{err.Error()}
		}
		defer clear(raw)
		return string(raw), nil
	}
	return template.FuncMap{
		"secret":     func(path string) (string, error) { return value(Ref{Path: path}) },
		"secretJSON": func(path, field string) (string, error) { return value(Ref{path, field}) },
		"base64":     func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) },
		"json": func(text string) (string, error) {
			raw, err := json.Marshal(text)
			if err != nil {
				return "", &templateError{"json: the text is not UTF-8; use base64"}
			}
			return string(raw), nil
		},
	}
}

// templateError is a text of ours that may be shown.
type templateError struct{ text string }

func (e *templateError) Error() string { return e.text }

var place = regexp.MustCompile(`^template: [^:]*:(\d+:\d+)`)

// render makes the content of the file, the caller's to clear. Errors of the
// template engine are not shown but for their place: they quote operands.
func (s *source) render(snap Snapshot) ([]byte, error) {
	if s.text == nil {
		return Ref{s.file.Path, s.file.Field}.of(snap[s.file.Path])
	}
	t, err := s.text.Clone()
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", s.file.Template, err)
	}
	var out bytes.Buffer
	if err = t.Funcs(functions(snap)).Execute(&out, nil); err == nil {
		return out.Bytes(), nil
	}
	clear(out.Bytes())
	where := ""
	if m := place.FindStringSubmatch(err.Error()); m != nil {
		where = ":" + m[1]
	}
	var own *templateError
	if errors.As(err, &own) {
		return nil, fmt.Errorf("template %s%s: %s", s.file.Template, where, own.text)
	}
	return nil, fmt.Errorf("template %s%s: it cannot be carried out with these values (why is not shown, because it may quote one)", s.file.Template, where)
}
