package engine_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// TestGeneratedBytesAreUniform would fail for a buffer that is not filled to
// its end, and for an encoding that loses bits.
func TestGeneratedBytesAreUniform(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	decoders := map[string]func(string) ([]byte, error){
		"bytes":  func(s string) ([]byte, error) { return []byte(s), nil },
		"hex":    hex.DecodeString,
		"base64": base64.StdEncoding.DecodeString,
	}
	for kind, decode := range decoders {
		const length = 32 << 10
		got := w.generate(fmt.Sprintf(`{"path":"/a/b","kind":%q,"length":%d,"reveal":true}`, kind, length))
		require.Equal(t, float64(length*8), got.EntropyBits)
		raw, err := decode(string(got.Value.Expose()))
		require.NoError(t, err)
		require.Len(t, raw, length)
		counts := map[byte]int{}
		for _, b := range raw {
			counts[b]++
		}
		chi, expected := 0.0, float64(length)/256
		for b := range 256 {
			chi += math.Pow(float64(counts[byte(b)])-expected, 2) / expected
		}
		require.InDelta(t, 255, chi, 160, "255 degrees of freedom: 160 is seven standard deviations (%s)", kind)
	}
}

func TestGeneratedUUIDsAreOfVersionFour(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	seen := map[string]bool{}
	for range 50 {
		text := string(w.generate(`{"path":"/a/b","kind":"uuid","reveal":true}`).Value.Expose())
		id, err := uuid.Parse(text)
		require.NoError(t, err)
		require.Equal(t, uuid.Version(4), id.Version())
		require.Equal(t, uuid.RFC4122, id.Variant())
		require.False(t, seen[text])
		seen[text] = true
	}
}

func TestPasswordsHaveOnlyWhatWasIncluded(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	const lower, upper, digits = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	for spec, want := range map[string]struct {
		alphabet string
		each     []string
	}{
		`"include":["lower"]`:                                     {lower, []string{lower}},
		`"include":["lower","digits"],"exclude":"aeiou01"`:        {"bcdfghjklmnpqrstvwxyz23456789", []string{"bcdfghjklmnpqrstvwxyz", "23456789"}},
		`"include":["upper","digits"],"require":["digits"]`:       {upper + digits, []string{digits}},
		`"include":["digits","upper"],"require":[]`:               {upper + digits, nil},
		`"include":["lower","upper"],"exclude":"\u00e9\u4e2d-\""`: {lower + upper, []string{lower, upper}},
	} {
		for range 30 {
			got := w.generate(`{"path":"/a/b","kind":"password","length":9,"reveal":true,` + spec + `}`)
			value := string(got.Value.Expose())
			require.Len(t, value, 9)
			require.Empty(t, strings.Trim(value, want.alphabet), spec)
			for _, class := range want.each {
				require.True(t, strings.ContainsAny(value, class), "%s: %s", spec, value)
			}
		}
	}
}

func TestSymbolsAreHarmlessInShellsAndConnectionStrings(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	value := string(w.generate(`{"path":"/a/b","kind":"password","length":1024,"include":["symbols"],"reveal":true}`).Value.Expose())
	require.False(t, strings.ContainsAny(value, "'\"`\\ \t\n"))
	for i := range len(value) {
		require.True(t, value[i] > ' ' && value[i] < 0x7f)
	}
}

func TestCreateSecretGeneratesItsFirstValue(t *testing.T) {
	w := newWorld(t)
	body := `{"path":"/a/b","generate":{"kind":"hex","length":20},"clientToken":"c-1"}`
	made := w.ok("secrets/createSecret", "%s", body)
	require.Len(t, w.value("/a/b"), 40)
	require.NotContains(t, made, b64(w.value("/a/b")), "createSecret reveals nothing")
	first := w.value("/a/b")
	w.ok("secrets/createSecret", "%s", body)
	require.Equal(t, first, w.value("/a/b"), "a retry generates no other")
	for fields, says := range map[string]string{
		`"value":"AAAA","generate":{"kind":"uuid"}`: "generate: goes without value",
		`"generate":{}`:                                     "kind:",
		`"generate":{"kind":"passphrases"}`:                 "kind: must be one of",
		`"generate":{"kind":"hex","length":7}`:              "length:",
		`"generate":{"kind":"uuid","reveal":true}`:          "generate.reveal: is not a field",
		`"generate":"uuid"`:                                 "generate: must be an object",
		`"contentType":"text/plain"`:                        "contentType: and expiresAt describe",
		`"value":"AAAA","contentType":"a\tb"`:               "contentType: must not hold control",
		`"value":"AAAA","expiresAt":"2026-03-04T05:06:07Z"`: "expiresAt: must lie in the future",
	} {
		_, err := w.as(w.admin, "secrets/createSecret", `{"path":"/a/c",`+fields+`}`)
		w.refused(fault.InvalidRequest, says, err)
	}
}

func TestGenerateBoundsAreExact(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	for body, refused := range map[string]string{
		`"kind":"bytes","length":8`: "", `"kind":"bytes","length":65536`: "", `"kind":"bytes","length":65537`: "length:",
		`"kind":"hex","length":32768`: "", `"kind":"hex","length":32769`: "length:",
		`"kind":"base64","length":49152`: "", `"kind":"base64","length":49153`: "length:", `"kind":"base64","length":7`: "length:",
		`"kind":"password","length":8`: "", `"kind":"password","length":1024`: "",
		`"kind":"password","length":8,"include":["digits"]`: "", // 26.6 bits
		`"kind":"password","length":9223372036854775807`:    "length:",
		`"kind":"bytes","length":9223372036854775807`:       "length:",
		`"kind":"password","include":[]`:                    "exclude:",
		`"kind":"password","require":["lower","lower"]`:     "require[1]:",
		`"kind":"password","require":[""]`:                  "require[0]:",
		`"kind":"uuid","require":[]`:                        "require:",
		`"kind":"hex","exclude":"a"`:                        "exclude:",
		`"kind":"uuid","kmsKeyId":"alias/default"`:          "kmsKeyId: goes with create",
		`"kind":"uuid","expiresAt":"2020-01-01T00:00:00Z"`:  "expiresAt:",
		`"kind":"uuid","expectedVersion":-1`:                "expectedVersion:",
	} {
		_, err := w.as(w.admin, "secrets/generateSecret", `{"path":"/a/b",`+body+`}`)
		if refused == "" {
			require.NoError(t, err, body)
			continue
		}
		w.refused(fault.InvalidRequest, refused, err)
	}
	_, err := w.as(w.admin, "secrets/generateSecret", `{"path":"/a/b","kind":"uuid","expectedVersion":99}`)
	w.refused(fault.Conflict, "expectedVersion:", err)
	_, err = w.as(w.admin, "secrets/generateSecret", `{"path":"/a/x","kind":"uuid","create":true,"kmsKeyId":"alias/none"}`)
	w.refused(fault.NotFound, "kmsKeyId:", err)
	shown := into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":"/a/b"}`))
	require.Equal(t, uint64(7), shown.LatestVersion, "a refusal makes no version")
}
