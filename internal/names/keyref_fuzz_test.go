package names_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/names"
)

// FuzzParseKeyRef: what is accepted is one of two forms, unchanged and in one
// spelling, and never a wildcard: "*" is a word of policies, not a key.
func FuzzParseKeyRef(f *testing.F) {
	for _, s := range []string{
		"0198c0de-0000-7000-8000-000000000001", "0198C0DE-0000-7000-8000-000000000001", "alias/default", "alias/", "alias/a/b", "alias//a",
		"ALIAS/a", "*", "", "alias/\u212a", "alias/" + strings.Repeat("x", 129), "{0198c0de-0000-7000-8000-000000000001}", "alias/0198c0de-0000-7000-8000-000000000001",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := names.ParseKeyRef(s)
		if err != nil {
			require.Empty(t, ref)
			require.Less(t, len(err.Error()), 256, "an error must not carry the input")
			require.NotRegexp(t, `^(alias/[a-zA-Z0-9][A-Za-z0-9._+=@-]{0,127}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\z`, s, "good ones are accepted")
			return
		}
		require.Equal(t, s, ref)
		require.Regexp(t, `^(alias/[a-zA-Z0-9][A-Za-z0-9._+=@-]{0,127}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\z`, s)
		// Its parts are names, so that an alias can be created as it is asked for.
		if name, ok := strings.CutPrefix(s, names.AliasPrefix); ok {
			again, err := names.ParseName(name)
			require.NoError(t, err)
			require.Equal(t, name, again)
		}
	})
}
