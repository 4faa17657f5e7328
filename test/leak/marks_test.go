package leak_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// mark is a secret that must not be found anywhere but in its homes.
type mark struct {
	name  string
	text  string
	homes []string // files, relative to the cluster's folder
}

// form is a mark as some program may have written it.
type form struct {
	mark  mark
	how   string
	bytes []byte
}

// searcher knows all forms of all marks.
type searcher struct{ forms []form }

// add begins to look for a secret. Long ones are looked for in two halves as
// well, because what is cut off in a log is still a leak.
func (s *searcher) add(m mark) {
	s.addForms(m, "")
	if half := len(m.text) / 2; half >= 12 {
		front, back := m, m
		front.text, back.text = m.text[:half], m.text[half:]
		s.addForms(front, ", first half")
		s.addForms(back, ", second half")
	}
}

func (s *searcher) addForms(m mark, which string) {
	spelled := forms(m.text)
	seen := map[string]bool{}
	// Many spellings are the same for plain letters; the simplest name is kept.
	for _, how := range append([]string{"plain"}, slices.Sorted(maps.Keys(spelled))...) {
		if text := spelled[how]; !seen[text] {
			seen[text] = true
			s.forms = append(s.forms, form{m, how + which, []byte(text)})
		}
	}
}

// forms are the spellings of text, without what depends on its neighbours.
func forms(text string) map[string]string {
	raw := []byte(text)
	out := map[string]string{
		"plain": text, "hex": hex.EncodeToString(raw), "HEX": strings.ToUpper(hex.EncodeToString(raw)),
		"hex with spaces": fmt.Sprintf("% x", raw), "Go source": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", raw), "[]byte{"), "}"),
		"numbers": strings.Trim(fmt.Sprint(raw), "[]"), "JSON numbers": strings.ReplaceAll(strings.Trim(fmt.Sprint(raw), "[]"), " ", ","),
		"URL query": url.QueryEscape(text), "URL path segment": url.PathEscape(text), "URL path": (&url.URL{Path: "/" + text}).EscapedPath()[1:],
		"quoted": quoted(text), "quoted twice": quoted(quoted(text)),
		"JSON": inJSON(text, false), "JSON for HTML": inJSON(text, true), "quoted in JSON": inJSON(quoted(text), false), "quoted in JSON for HTML": inJSON(quoted(text), true),
		"JSON in JSON": inJSON(inJSON(text, false), false), "JSON in JSON for HTML": inJSON(inJSON(text, false), true), "JSON for HTML twice": inJSON(inJSON(text, true), true),
		"JSON, slashes too": strings.ReplaceAll(inJSON(text, false), "/", `\/`),
	}
	for shift := range 3 {
		std := base64.StdEncoding.EncodeToString(append(make([]byte, shift), raw...))
		// Characters that hold a bit of a neighbour are left out.
		inner := std[(shift*8+5)/6 : (shift+len(raw))*8/6]
		out[fmt.Sprintf("base64 after %d bytes", shift)] = inner
		out[fmt.Sprintf("base64url after %d bytes", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(inner)
		out[fmt.Sprintf("base64 after %d bytes, in a URL", shift)] = url.QueryEscape(inner)
	}
	return out
}

func quoted(s string) string { q := strconv.Quote(s); return q[1 : len(q)-1] }

func inJSON(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if err := e.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	out := strings.TrimSuffix(b.String(), "\n")
	return out[1 : len(out)-1]
}

// in says what of the marks is in data, which was found at place.
func (s *searcher) in(place string, data []byte) []string {
	var out []string
	for _, f := range s.forms {
		if bytes.Contains(data, f.bytes) && !slices.Contains(f.mark.homes, place) {
			out = append(out, fmt.Sprintf("%s: %s (%s)", place, f.mark.name, f.how))
		}
	}
	slices.Sort(out)
	return out
}
