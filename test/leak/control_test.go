package leak_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// core is a piece of every marked value: no two escapings of it are alike.
func core() string { return `v"<\&/é+% ` + rand.Text()[:12] }

// A searcher that finds nothing proves nothing, so it is shown what it must
// find: marks written by the encoders of the standard library, amid noise.
func TestTheSearcherFindsAPlantedMarkInEveryForm(t *testing.T) {
	planted := mark{name: "planted", text: core() + core(), homes: []string{"home"}}
	var s searcher
	s.add(planted)
	text := planted.text
	marshal := func(v any) string {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		return string(raw)
	}
	logged := func(handler func(*bytes.Buffer) slog.Handler) string {
		var b bytes.Buffer
		slog.New(handler(&b)).Warn("failed", "error", fmt.Errorf("cannot take %q", text))
		return b.String()
	}
	places := map[string]string{
		"plain": text, "cut short": text[:len(text)*3/4], "its end": text[len(text)/4:],
		"hex": hex.EncodeToString([]byte(text)), "HEX": fmt.Sprintf("%X", text), "spaced hex": fmt.Sprintf("% x", text),
		"JSON": marshal(map[string]string{"k": text}), "JSON in JSON": marshal(map[string]string{"k": inJSON(text, false)}),
		"JSON of bytes": marshal([]byte("x" + text)), "JSON of numbers": marshal(numbers(text)), "%v of bytes": fmt.Sprint([]byte(text)),
		"%#v of bytes": fmt.Sprintf("%#v", []byte(text)), "%q": fmt.Sprintf("%q", text), "%+v": fmt.Sprintf("%+v", struct{ V string }{text}),
		"query": url.Values{"q": {text}}.Encode(), "path": (&url.URL{Path: "/" + text}).String(),
		"text log": logged(func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) }),
		"JSON log": logged(func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) }),
	}
	for before := range 6 {
		noise := make([]byte, before)
		_, err := rand.Read(noise)
		require.NoError(t, err)
		all := append(append(noise, text...), noise...)
		places[fmt.Sprintf("base64 after %d", before)] = base64.StdEncoding.EncodeToString(all)
		places[fmt.Sprintf("raw base64url after %d", before)] = base64.RawURLEncoding.EncodeToString(all)
		places[fmt.Sprintf("base64 in a query after %d", before)] = url.QueryEscape(base64.StdEncoding.EncodeToString(all))
	}
	noise := make([]byte, 1<<16)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	require.Empty(t, s.in("noise", noise))
	for how, written := range places {
		found := s.in(how, append(append(bytes.Clone(noise), written...), noise...))
		require.NotEmpty(t, found, "%s: %s", how, written)
		require.NotEmpty(t, s.in("elsewhere", []byte(written)))
	}
	require.Empty(t, s.in("home", []byte(text)), "where it may be, it is no leak")
}

func numbers(s string) []int {
	out := make([]int, len(s))
	for i := range len(s) {
		out[i] = int(s[i])
	}
	return out
}
