package names_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/names"
)

// Nothing is normalised: of all texts near a good path, each is refused or is
// an identity of its own. If two spellings meant one secret, a policy about
// one of them could be passed by the other.
func TestNoTwoSpellingsMeanOnePath(t *testing.T) {
	good := "/app/prod/web/key"
	seen := map[names.Path]string{}
	try := func(s string) {
		path, err := names.ParsePath(s)
		if err != nil {
			require.Empty(t, path)
			return
		}
		require.Equal(t, s, string(path))
		if before, ok := seen[path]; ok {
			require.Equal(t, before, s)
		}
		seen[path] = s
	}
	for i := range len(good) + 1 {
		for c := range 256 {
			try(good[:i] + string([]byte{byte(c)}) + good[i:])
			if i < len(good) {
				try(good[:i] + string([]byte{byte(c)}) + good[i+1:])
			}
		}
		for _, insert := range []string{"/.", "/./", "//", "/..", "/../app/", "%2f", "%2F", "\\", "\u0301", "\u200b", "\ufeff", "\u212a", "\u017f", "\xc0\xaf", "\xff"} {
			try(good[:i] + insert + good[i:])
		}
	}
	for _, s := range []string{strings.ToUpper(good), strings.TrimPrefix(good, "/"), good + "/", " " + good, good + " "} {
		try(s)
	}
	require.Greater(t, len(seen), 1000, "many neighbours are good paths of their own")
}

// A literal pattern matches exactly its own path, byte by byte.
func TestALiteralPatternMatchesItselfAlone(t *testing.T) {
	same := 0
	rapid.Check(t, func(t *rapid.T) {
		a, b := segments("aA.").Draw(t, "a"), segments("aA.").Draw(t, "b")
		if rapid.Bool().Draw(t, "same") {
			b = a
		}
		pattern, err := names.ParsePattern(a)
		if err != nil {
			return // a segment of dots
		}
		path, err := names.ParsePath(b)
		if err != nil {
			return
		}
		require.Equal(t, a == b, pattern.Match(path))
		if a == b {
			same++
		}
	})
	require.Positive(t, same)
}

// The bounds of paths, prefixes and patterns are met exactly: the largest is
// accepted, one byte or one segment more is not.
func TestBoundsAreExact(t *testing.T) {
	long := strings.Repeat("/"+strings.Repeat("x", 127), 4)
	for _, parse := range []func(string) error{
		func(s string) error { _, err := names.ParsePath(s); return err },
		func(s string) error { _, err := names.ParsePrefix(s); return err },
		func(s string) error { _, err := names.ParsePattern(s); return err },
	} {
		require.NoError(t, parse(long))
		require.ErrorContains(t, parse("/y"+long[1:]), "has 513 bytes; at most 512 are allowed")
		require.NoError(t, parse(strings.Repeat("/x", 16)))
		require.ErrorContains(t, parse(strings.Repeat("/x", 17)), "has 17 segments; at most 16 are allowed")
		require.NoError(t, parse("/a/"+strings.Repeat("x", 128)))
		require.ErrorContains(t, parse("/a/"+strings.Repeat("x", 129)), "segment 2 has 129 bytes; at most 128 are allowed")
	}
	// The slash at the end of a prefix is not the path's, so it does not count.
	prefix, err := names.ParsePrefix(long + "/")
	require.NoError(t, err)
	require.Len(t, prefix, names.MaxPathBytes+1)
	// "**" is a segment like others.
	_, err = names.ParsePattern(strings.Repeat("/x", 15) + "/**")
	require.NoError(t, err)
	_, err = names.ParsePattern(strings.Repeat("/x", 16) + "/**")
	require.ErrorContains(t, err, "has 17 segments")
}
