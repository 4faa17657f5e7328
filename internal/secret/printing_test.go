package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log"
	"log/slog"
	"strings"
	"testing"
	text "text/template"

	"github.com/fxamacker/cbor/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/strongroom/strongroom/internal/secret"
)

const plain = "Hunter2+Hunter2"

// requireHidden asserts that out holds no form of plain that a printer could
// have made of the bytes.
func requireHidden(t *testing.T, out, what string) {
	t.Helper()
	var decimals []string
	for _, c := range []byte(plain) {
		decimals = append(decimals, fmt.Sprint(c))
	}
	var quads []string // %q and %U of bytes
	for _, c := range plain {
		quads = append(quads, fmt.Sprintf("%U", c))
	}
	for _, form := range []string{
		plain, strings.ToLower(plain), hex.EncodeToString([]byte(plain)), fmt.Sprintf("% x", plain),
		base64.StdEncoding.EncodeToString([]byte(plain)), strings.Join(decimals, " "), strings.Join(decimals, ", "),
		strings.Join(quads, " "), fmt.Sprintf("%#v", []byte(plain)),
	} {
		require.NotContains(t, strings.ToLower(out), strings.ToLower(form), what)
	}
}

type inner struct {
	Exported secret.Bytes
	hidden   secret.Bytes
	pointer  *secret.Bytes
	list     []secret.Bytes
	byName   map[string]secret.Bytes
	any      any
}

// holders are the shapes in which a value meets a printer by accident. In an
// unexported field fmt calls no method of the value: what protects there is
// that the bytes cannot be reached by reflection.
func holders() map[string]any {
	b := secret.Copy([]byte(plain))
	in := inner{b, b, &b, []secret.Bytes{b}, map[string]secret.Bytes{"k": b}, b}
	wrongVerbs := "%d %x %q" // a variable: go vet would find the mistake that this is
	type request struct {
		Path  string
		inner inner
		Inner *inner
	}
	return map[string]any{
		"value":        b,
		"pointer":      &b,
		"struct":       in,
		"deep":         request{"/a", in, &in},
		"deep pointer": &request{"/a", in, &in},
		"slice":        []secret.Bytes{b},
		"array":        [1]secret.Bytes{b},
		"map":          map[string]secret.Bytes{"k": b},
		"any":          []any{b, &b, in},
		"function":     b.Expose,
		"error":        fmt.Errorf("cannot open: %w", errors.Join(errors.New("x"), fmt.Errorf("%v %s %+v", b, b, in))),
		"wrong verb":   fmt.Errorf(wrongVerbs, b, in, []secret.Bytes{b}),
	}
}

func TestNoVerbPrintsAValue(t *testing.T) {
	verbs := "vTtbcdoOqxXUeEfFgGspwz"
	flags := []string{"", "+", "#", "-", " ", "0", "40", ".3", "+#", "# ", "[1]"}
	for what, holder := range holders() {
		for _, verb := range verbs {
			for _, flag := range flags {
				format := "%" + flag + string(verb)
				requireHidden(t, fmt.Sprintf(format, holder), what+" "+format)
			}
		}
		requireHidden(t, fmt.Sprint(holder), what)
		requireHidden(t, fmt.Sprintln(holder, 1), what)
	}
	require.Equal(t, "[secret] [secret] [secret]", fmt.Sprintf("%v %x %#v", secret.Copy([]byte(plain)), secret.Copy([]byte(plain)), secret.Copy([]byte(plain))))
}

func TestNoLogPrintsAValue(t *testing.T) {
	for what, holder := range holders() {
		var out bytes.Buffer
		options := &slog.HandlerOptions{AddSource: true, Level: slog.LevelDebug}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, options), slog.NewJSONHandler(&out, options)} {
			logger := slog.New(handler)
			logger.Info("m", "v", holder)
			logger.Info("m", slog.Group("g", "v", holder), "!", []any{holder})
			logger.With("v", holder).WithGroup("g").Debug("m", "v", holder)
			logger.Info(fmt.Sprint(holder))
		}
		log.New(&out, "", 0).Print(holder)
		log.New(&out, "", 0).Printf("%+v", holder)
		require.NotEmpty(t, out.String())
		requireHidden(t, out.String(), what)
	}
}

// Encoders are refused rather than given the placeholder: "[secret]" stored
// in the place of a password would be noticed on the day it is needed.
func TestEveryEncoderIsRefused(t *testing.T) {
	b := secret.Copy([]byte(plain))
	type visible struct{ Value secret.Bytes }
	type attribute struct {
		Value secret.Bytes `xml:",attr"`
	}
	encoders := map[string]func(any) ([]byte, error){
		"json":        json.Marshal,
		"json indent": func(v any) ([]byte, error) { return json.MarshalIndent(v, "", " ") },
		"json v2":     func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
		"xml":         xml.Marshal,
		"yaml":        yaml.Marshal,
		"cbor":        cbor.Marshal,
		"gob": func(v any) ([]byte, error) {
			var out bytes.Buffer
			err := gob.NewEncoder(&out).Encode(v)
			return out.Bytes(), err
		},
	}
	for name, encode := range encoders {
		for _, v := range []any{b, &b, visible{b}, &visible{b}, []secret.Bytes{b}, []visible{{b}}} {
			out, err := encode(v)
			require.ErrorContains(t, err, "a plaintext must not be encoded", "%s of %T", name, v)
			requireHidden(t, string(out)+err.Error(), name)
		}
	}
	_, err := xml.Marshal(attribute{b})
	require.ErrorContains(t, err, "a plaintext must not be encoded")
	_, err = json.Marshal(map[string]secret.Bytes{"k": b})
	require.ErrorContains(t, err, "a plaintext must not be encoded")
}

// Unexported fields are left out or refused by encoders, and nothing of them
// is shown either way.
func TestNoEncoderReachesIntoUnexportedFields(t *testing.T) {
	type closed struct {
		Path  string
		value secret.Bytes
		in    inner
	}
	b := secret.Copy([]byte(plain))
	v := closed{"/a", b, inner{any: b, list: []secret.Bytes{b}}}
	for name, encode := range map[string]func(any) ([]byte, error){
		"json": json.Marshal, "json v2": func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
		"xml": xml.Marshal, "yaml": yaml.Marshal, "cbor": cbor.Marshal,
	} {
		out, err := encode(v)
		require.NoError(t, err, name)
		require.Contains(t, string(out), "/a", name)
		requireHidden(t, string(out), name)
	}
}

func TestNoTemplatePrintsAValue(t *testing.T) {
	for what, holder := range holders() {
		var out bytes.Buffer
		const source = `{{.}} {{printf "%s" .}} <script>var x = {{.}}</script> <a href="{{.}}">{{print .}}</a>`
		errText := text.Must(text.New("").Parse(source)).Execute(&out, holder)
		errHTML := template.Must(template.New("").Parse(source)).Execute(&out, holder)
		requireHidden(t, fmt.Sprint(out.String(), errText, errHTML), what)
	}
}
