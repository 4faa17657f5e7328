package names_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/names"
)

func TestPatternsMatch(t *testing.T) {
	for pattern, paths := range map[string]struct{ yes, no string }{
		"/a/b":         {"/a/b", "/a /a/b/c /a/bb /A/b /a/B"},
		"/*":           {"/a /a.b /-", "/a/b"},
		"/**":          {"/a /a/b /a/b/c/d", ""},
		"/a/*":         {"/a/b /a/...", "/a /a/b/c /b/a"},
		"/a/**":        {"/a/b /a/b/c /a/a/a/a", "/a /ab /ab/c /b/a/c"},
		"/*/b":         {"/a/b /b/b", "/b /a/b/b /a/c"},
		"/*/**":        {"/a/b /a/b/c", "/a"},
		"/a/db-*":      {"/a/db- /a/db-x /a/db-x-y", "/a/db /a/xdb-x /a/db-x/y"},
		"/a/*-db":      {"/a/-db /a/x-db /a/-db-db", "/a/db /a/x-dbx"},
		"/a/*b*b*":     {"/a/bb /a/xbxbx /a/bbb", "/a/b /a/xbx"},
		"/a/x*x":       {"/a/xx /a/xyx", "/a/x"}, // one byte cannot be both ends
		"/a/*/c/d*/**": {"/a/b/c/d/e /a/b/c/dd/e/f", "/a/b/c/d /a/b/b/c/d/e /a/b/c/x/e"},
	} {
		p, err := names.ParsePattern(pattern)
		require.NoError(t, err, pattern)
		require.Equal(t, pattern, p.String())
		for _, path := range strings.Fields(paths.yes) {
			require.True(t, p.Match(names.Path(path)), "%s on %s", pattern, path)
		}
		for _, path := range strings.Fields(paths.no) {
			require.False(t, p.Match(names.Path(path)), "%s on %s", pattern, path)
		}
	}
}

// Two stars in any other place have a meaning in other systems that is not
// ours: refused, not reinterpreted.
func TestBadPatternsAreRefusedWithTheReason(t *testing.T) {
	for s, want := range map[string]string{
		"":                               "must not be empty",
		"*":                              "must start with '/'",
		"**":                             "must start with '/'",
		"/":                              "segment 1 is empty",
		"/a/":                            "segment 2 is empty",
		"/a/**/":                         "segment 3 is empty",
		"/a/../*":                        `segment 2 is ".."`,
		"/**/a":                          "segment 1: '**' stands alone and only as the last segment",
		"/**/**":                         "segment 1: '**' stands alone",
		"/a/x**":                         "segment 2: '**' stands alone",
		"/a/**x":                         "segment 2: '**' stands alone",
		"/a/***":                         "segment 2: '**' stands alone",
		"/a/?":                           "segment 2 has the byte 0x3f at offset 0",
		"/a/[ab]":                        "segment 2 has the byte 0x5b at offset 0",
		"/a/{a,b}":                       "segment 2 has the byte 0x7b at offset 0",
		"/a/\u2217":                      "segment 2 has the byte 0xe2 at offset 0", // looks like a star
		strings.Repeat("/*", 17):         "has 17 segments; at most 16 are allowed",
		"/" + strings.Repeat("*a", 65):   "segment 1 has 130 bytes; at most 128 are allowed",
		strings.Repeat("/xxxxxxxx*", 52): "has 520 bytes; at most 512 are allowed",
	} {
		_, err := names.ParsePattern(s)
		require.ErrorContains(t, err, want, "%q", s)
	}
}

func TestWidePatternsReachBeyondOneService(t *testing.T) {
	for pattern, wide := range map[string]bool{
		"/**": true, "/*": true, "/app/**": true, "/app/*": true, "/app/prod/**": true, "/app/prod/*": true,
		"/app/prod/db-*": true, "/app/*/web/key": true, "/app/*/web/**": true, "/*/prod/web/key": true,
		"/app/prod/web/**": false, "/app/prod/web/*": false, "/app/prod/web/db-*/x": false,
		// Without a star it is one secret, wherever that lies.
		"/app": false, "/app/prod": false, "/app/prod/web": false, "/app/prod/web/key": false,
	} {
		p, err := names.ParsePattern(pattern)
		require.NoError(t, err, pattern)
		require.Equal(t, wide, p.Wide(), pattern)
	}
}

// naive is the definition of a pattern as a regular expression.
func naive(pattern string) *regexp.Regexp {
	body, rest := strings.CutSuffix(pattern, "/**")
	expression := strings.ReplaceAll(regexp.QuoteMeta(body), `\*`, `[^/]*`)
	// A star that is a whole segment needs at least one byte; segments of
	// paths are never empty, so nothing has to be said about it.
	if rest {
		expression += "(/[^/]+)+"
	}
	return regexp.MustCompile("^" + expression + "$")
}

// Few letters make matches, near misses and runs to come back over likely.
func segments(letters string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		n := rapid.IntRange(1, 4).Draw(t, "segments")
		var out strings.Builder
		for range n {
			out.WriteString("/" + rapid.StringOfN(rapid.SampledFrom([]rune(letters)), 1, 6, -1).Draw(t, "segment"))
		}
		return out.String()
	})
}

func TestMatchAgreesWithARegularExpression(t *testing.T) {
	var matched, missed int
	rapid.Check(t, func(t *rapid.T) {
		text := segments("ab**").Draw(t, "pattern")
		for strings.Contains(text, "**") {
			text = strings.ReplaceAll(text, "**", "*")
		}
		if rapid.Bool().Draw(t, "rest") {
			text += "/**"
		}
		pattern, err := names.ParsePattern(text)
		require.NoError(t, err)
		want := naive(text)
		for range 8 {
			path, err := names.ParsePath(segments("ab").Draw(t, "path"))
			require.NoError(t, err)
			got := pattern.Match(path)
			require.Equal(t, want.MatchString(string(path)), got, "%s on %s", text, path)
			if got {
				matched++
			} else {
				missed++
			}
		}
	})
	require.Positive(t, matched, "the property must have seen both answers")
	require.Positive(t, missed)
}

// The worst pattern there can be against the worst path: work is the product
// of two bounded lengths, not exponential. Counted in work, not in time: an
// exponential matcher would not come back at all.
func TestManyStarsEndSoon(t *testing.T) {
	pattern, err := names.ParsePattern("/" + strings.Repeat("*a", 63) + "*b")
	require.NoError(t, err)
	require.False(t, pattern.Match(names.Path("/"+strings.Repeat("a", names.MaxSegmentBytes))))
}

// FuzzParsePattern: what is accepted keeps the bounds, parses to itself,
// agrees with its definition on any path, and no star crosses a slash.
func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"/a", "/**", "/a/*", "/a/**", "/a/b*c*/**", "/**/a", "/a/***", "/*a*a*a*b", "//", "/../*"} {
		f.Add(s, "/a/b")
		f.Add(s, "/aaaaaaaa/b/c")
	}
	f.Fuzz(func(t *testing.T, s, path string) {
		p, err := names.ParsePattern(s)
		if err != nil {
			require.Less(t, len(err.Error()), 256, "an error must not carry the input")
			return
		}
		require.Equal(t, s, p.String())
		require.LessOrEqual(t, len(s), names.MaxPathBytes)
		require.LessOrEqual(t, strings.Count(s, "/"), names.MaxSegments)
		again, err := names.ParsePattern(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
		if p.Wide() {
			require.Contains(t, s, "*")
		}
		if path, err := names.ParsePath(path); err == nil {
			require.Equal(t, naive(s).MatchString(string(path)), p.Match(path))
			if p.Match(path) && !strings.HasSuffix(s, "/**") {
				require.Equal(t, strings.Count(s, "/"), strings.Count(string(path), "/"))
			}
		}
	})
}
