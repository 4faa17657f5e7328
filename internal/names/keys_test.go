package names_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/names"
)

func TestKeyReferences(t *testing.T) {
	for _, s := range []string{
		"0198c0de-0000-7000-8000-000000000001",
		"00000000-0000-0000-0000-000000000000", // a form, not a claim that the key exists
		names.DefaultAlias,
		"alias/a",
		"alias/payments.v2_x-y+z=@",
		"alias/" + strings.Repeat("x", names.MaxNameBytes),
	} {
		got, err := names.ParseKeyRef(s)
		require.NoError(t, err, s)
		require.Equal(t, s, got)
	}
	const id = "must be a key id (a UUID in lower case) or alias/NAME"
	for s, want := range map[string]string{
		"":                                       id,
		"*":                                      id, // every key is a statement's to name, not a reference
		"default":                                id,
		"Alias/a":                                id,
		"alias":                                  id,
		"0198C0DE-0000-7000-8000-000000000001":   id, // one key, one spelling
		"0198c0de000070008000000000000001":       id,
		"{0198c0de-0000-7000-8000-000000000001}": id,
		"0198c0de-0000-7000-8000-00000000000":    id,
		"0198c0de-0000-7000-8000-0000000000011":  id,
		"0198c0de-0000-7000-8000-00000000000g":   id,
		"0198c0de-0000-7000-80000-00000000001":   id,
		"0198c0de-0000-7000-8000-000000000001\n": id,
		"alias/":                                 "alias must not be empty",
		"alias/-a":                               "alias must start with a letter or a digit",
		"alias/a/b":                              "alias has the byte 0x2f at offset 1",
		"alias/alias/a":                          "alias has the byte 0x2f at offset 5",
		"alias/" + strings.Repeat("x", 129):      "alias has 129 bytes; at most 128 are allowed",
	} {
		got, err := names.ParseKeyRef(s)
		require.ErrorContains(t, err, want, "%q", s)
		require.Empty(t, got)
	}
}

func TestNames(t *testing.T) {
	for _, s := range []string{"a", "Z", "0", "web-1", "ci@example.org", "a.b_c+d=e", strings.Repeat("x", names.MaxNameBytes)} {
		got, err := names.ParseName(s)
		require.NoError(t, err, s)
		require.Equal(t, s, got)
	}
	for s, want := range map[string]string{
		"":                       "must not be empty",
		"-a":                     "must start with a letter or a digit", // would read as a flag
		".a":                     "must start with a letter or a digit",
		"..":                     "must start with a letter or a digit",
		"@a":                     "must start with a letter or a digit",
		"a b":                    "has the byte 0x20 at offset 1; allowed are A-Z a-z 0-9 . _ - + = @",
		"a/b":                    "has the byte 0x2f at offset 1",
		"a\n":                    "has the byte 0x0a at offset 1",
		"a*":                     "has the byte 0x2a at offset 1",
		"\u017f":                 "has the byte 0xc5 at offset 0", // folds to s
		strings.Repeat("x", 129): "has 129 bytes; at most 128 are allowed",
	} {
		got, err := names.ParseName(s)
		require.ErrorContains(t, err, want, "%q", s)
		require.Empty(t, got)
	}
}
