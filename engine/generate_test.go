package engine_test

import (
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

func (w *world) generate(body string) wire.GenerateSecretResponse {
	w.t.Helper()
	return into[wire.GenerateSecretResponse](w.t, w.ok("secrets/generateSecret", "%s", body))
}

func TestGeneratedKinds(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	got := w.generate(`{"path":"/a/b","kind":"bytes","length":24,"reveal":true}`)
	require.Equal(t, 24, got.Value.Len())
	require.Equal(t, 192.0, got.EntropyBits)
	got = w.generate(`{"path":"/a/b","kind":"hex","length":16,"reveal":true}`)
	raw, err := hex.DecodeString(string(got.Value.Expose()))
	require.NoError(t, err)
	require.Len(t, raw, 16)
	got = w.generate(`{"path":"/a/b","kind":"uuid","reveal":true}`)
	_, err = uuid.Parse(string(got.Value.Expose()))
	require.NoError(t, err)
	require.Equal(t, 122.0, got.EntropyBits)
	got = w.generate(`{"path":"/a/b","kind":"password"}`)
	require.Nil(t, got.Value, "shown only when asked for")
	require.Len(t, got.Fingerprint, 32)
	require.Equal(t, uint64(4), got.Version)
	stored := w.value("/a/b")
	require.Len(t, stored, 32)
	for _, class := range []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "!#$%&()*+,-./:;<=>?@[]^_{|}~"} {
		require.True(t, strings.ContainsAny(stored, class), "a default password has every class")
	}
}

func TestGenerateCreatesAndRevealsOnlyWithTheRights(t *testing.T) {
	w := newWorld(t)
	token := w.principal("gen", `[{"effect":"allow","actions":["secrets:generateSecret"],"paths":["/a/**"]}]`)
	_, err := w.as(token, "secrets/generateSecret", `{"path":"/a/b","kind":"uuid","create":true}`)
	w.refused(fault.AccessDenied, "createSecret", err)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	_, err = w.as(token, "secrets/generateSecret", `{"path":"/a/b","kind":"uuid","reveal":true}`)
	w.refused(fault.AccessDenied, "getSecretValue", err)
	answer, err := w.as(token, "secrets/generateSecret", `{"path":"/a/b","kind":"uuid"}`)
	require.NoError(t, err)
	require.NotContains(t, answer, `"value"`)
	w.generate(`{"path":"/a/new","kind":"uuid","create":true}`)
	require.Len(t, w.value("/a/new"), 36)
}

func TestARetriedGenerateAnswersTheFirstValue(t *testing.T) {
	w := newWorld(t)
	body := `{"path":"/a/b","kind":"password","create":true,"reveal":true,"clientToken":"g-1"}`
	first, again := w.generate(body), w.generate(body)
	require.Equal(t, first.Version, again.Version)
	require.Equal(t, string(first.Value.Expose()), string(again.Value.Expose()))
}

// TestPasswordsAreUniformOverWhatSatisfiesTheRequest draws from a space small
// enough to count: a bias of the usual kind (placing required characters
// first, or modulo) shows as a chi-square far beyond its expectation.
func TestPasswordsAreUniformOverWhatSatisfiesTheRequest(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	// Lower case letters but a..c and digits but 0..1 are excluded; both
	// classes required. 8 characters over 5 letters is 5^8 - 3^8 - 2^8.
	const exclude = "defghijklmnopqrstuvwxyz23456789"
	spec := fmt.Sprintf(`"kind":"password","length":11,"include":["lower","digits"],"exclude":%q`, exclude)
	want := math.Log2(math.Pow(5, 11) - math.Pow(3, 11) - math.Pow(2, 11))
	const draws = 400
	first := map[byte]int{}
	for range draws {
		got := w.generate(`{"path":"/a/b","reveal":true,` + spec + `}`)
		require.InDelta(t, want, got.EntropyBits, 0.11)
		value := string(got.Value.Expose())
		require.True(t, strings.ContainsAny(value, "abc") && strings.ContainsAny(value, "01"), value)
		require.Empty(t, strings.Trim(value, "abc01"))
		for i := range len(value) {
			first[value[i]]++
		}
	}
	chi := 0.0
	expected := float64(draws*11) / 5
	for _, c := range []byte("abc01") {
		chi += math.Pow(float64(first[c])-expected, 2) / expected
	}
	require.Less(t, chi, 40.0, "5 characters, 4 degrees of freedom: 40 has a chance of 4e-8 (%v)", first)
}

func TestGenerateRefusesBadInput(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	for body, says := range map[string]string{
		`"kind":"rot13"`:                                                         "kind:",
		`"length":32`:                                                            "kind:",
		`"kind":"uuid","length":4`:                                               "length:",
		`"kind":"hex","length":7`:                                                "length:",
		`"kind":"hex","length":-1`:                                               "length:",
		`"kind":"bytes","length":70000`:                                          "length:",
		`"kind":"bytes","include":["lower"]`:                                     "include:",
		`"kind":"password","length":7`:                                           "length:",
		`"kind":"password","length":1025`:                                        "length:",
		`"kind":"password","include":["kanji"]`:                                  "include[0]:",
		`"kind":"password","include":["lower","lower"]`:                          "include[1]:",
		`"kind":"password","include":["lower"],"require":["upper"]`:              "require[0]:",
		`"kind":"password","include":["digits"],"exclude":"0123456789"`:          "require[0]:",
		`"kind":"password","length":8,"include":["digits"],"exclude":"23456789"`: "length:",
	} {
		_, err := w.as(w.admin, "secrets/generateSecret", `{"path":"/a/b",`+body+`}`)
		w.refused(fault.InvalidRequest, says, err)
	}
}
