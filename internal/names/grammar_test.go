package names_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/names"
)

func grammar(t *testing.T, texts ...string) names.Grammar {
	t.Helper()
	g, err := names.ParseGrammar(texts)
	require.NoError(t, err)
	require.Equal(t, strings.Join(texts, "/"), g.String())
	return g
}

func TestAGrammarSaysWherePathsDiffer(t *testing.T) {
	convention := grammar(t, "{env:dev|staging|prod|pr-*}", "{service}", "{name}")
	for below, says := range map[string]string{
		"dev/web/db":     "",
		"pr-17/web/db":   "",
		"qa/web/db":      "segment 1 (env) must be dev or staging or prod or pr-*",
		"Dev/web/db":     "segment 1 (env) must be dev",
		"dev/web":        "must have 3 segments there, not 2",
		"dev/web/db/one": "must have 3 segments there, not 4",
	} {
		if err := convention.Check(below); says == "" {
			require.NoError(t, err, below)
		} else {
			require.ErrorContains(t, err, says)
		}
	}
	open := grammar(t, "config", "db-*", "{rest...}")
	require.NoError(t, open.Check("config/db-1/a"))
	require.NoError(t, open.Check("config/db-/a/b/c"))
	require.ErrorContains(t, open.Check("config/db-1"), "at least 3 segments there, not 2")
	require.ErrorContains(t, open.Check("conf/db-1/a"), "segment 1 must be config")
	require.NoError(t, grammar(t, "*").Check("anything"))
}

func TestGrammarsThatCannotBeMeantAreRefused(t *testing.T) {
	for text, says := range map[string]string{
		"":                                      "the segment is empty",
		"a/b":                                   "the segment has the byte 0x2f",
		"..":                                    "not allowed",
		"**":                                    "'**' is not for one segment",
		"a**":                                   "'**' is not for one segment",
		"{":                                     "no '}' at its end",
		"{}":                                    "must have 1 to 32 bytes",
		"{a":                                    "no '}' at its end",
		"{a}b":                                  "no '}' at its end",
		"{a b}":                                 "has the byte 0x20",
		"{a.b}":                                 "has the byte 0x2e",
		"{a:}":                                  "the segment is empty",
		"{a:b|}":                                "the segment is empty",
		"{a:b||c}":                              "the segment is empty",
		"{a:b c}":                               "has the byte 0x20",
		"{a:{b}}":                               "has the byte 0x7b",
		"{a:**}":                                "'**' is not for one segment",
		"{a:b...}":                              "",
		"{..}":                                  "has the byte 0x2e",
		"{...}":                                 "must have 1 to 32 bytes",
		"a}":                                    "has the byte 0x7d",
		"{" + strings.Repeat("a", 33) + "}":     "must have 1 to 32 bytes",
		"{a:" + strings.Repeat("b|", 64) + "c}": "has 65 alternatives; at most 64",
		strings.Repeat("a", 3000):               "has 3000 bytes; at most 2048",
		"\u212a":                                "the segment has the byte 0xe2",
	} {
		_, err := names.ParseGrammar([]string{"{first}", text})
		if says == "" {
			require.NoError(t, err, text) // dots are bytes of a segment
			continue
		}
		require.ErrorContains(t, err, "entry 2: ", "%q", text)
		require.ErrorContains(t, err, says, "%q", text)
	}
	for _, texts := range [][]string{{"{a...}", "{b}"}, {"{a}", "{a}"}, strings.Split(strings.Repeat("a,", 17)+"a", ",")} {
		_, err := names.ParseGrammar(texts)
		require.Error(t, err, "%v", texts)
	}
	_, err := names.ParseGrammar(nil)
	require.NoError(t, err)
}

// FuzzGrammar: what parses is written back as it was, and never panics on a
// path; a path of literal entries is accepted by itself alone.
func FuzzGrammar(f *testing.F) {
	for _, s := range []string{"{env:dev|prod}/{service}/{name}", "{a...}", "db-*/{x}", "{a:}", "{", "**", "a/../b", "{a}/{a}", "{a:b|c*}/{rest...}"} {
		f.Add(s, "dev/web/db")
	}
	f.Fuzz(func(t *testing.T, text, below string) {
		g, err := names.ParseGrammar(strings.Split(text, "/"))
		if err != nil {
			require.Empty(t, g.String())
			return
		}
		require.Equal(t, text, g.String())
		if _, err := names.ParsePath("/" + below); err == nil {
			matched := g.Check(below) == nil
			if !strings.ContainsAny(text, "{*") {
				require.Equal(t, text == below, matched)
			}
		}
		if !strings.Contains(text, "{") {
			require.NoError(t, g.Check(strings.ReplaceAll(text, "*", "x")))
		}
	})
}

func TestAPatternCoversOrTouchesWhatIsBelowAPrefix(t *testing.T) {
	for _, c := range []struct {
		pattern, prefix string
		covers, touches bool
	}{
		{"/**", "/", true, true}, {"/**", "/app/prod/", true, true}, {"/app/**", "/", false, true}, {"/app/**", "/app/", true, true},
		{"/app/*/web/**", "/app/prod/", false, true}, {"/app/*/web/**", "/app/prod/web/", true, true}, {"/app/*/web/**", "/app/prod/api/", false, false},
		{"/app/*", "/app/", false, true}, {"/app/*", "/app/prod/", false, false}, {"/app/prod", "/app/prod/", false, false},
		{"/app/prod/db", "/app/prod/", false, true}, {"/a", "/b/", false, false}, {"/app/pr*/**", "/app/prod/", true, true},
	} {
		p, err := names.ParsePattern(c.pattern)
		require.NoError(t, err)
		require.Equal(t, c.covers, p.Covers(c.prefix), "%s %s", c.pattern, c.prefix)
		require.Equal(t, c.touches, p.Touches(c.prefix), "%s %s", c.pattern, c.prefix)
	}
}
