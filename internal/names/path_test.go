package names_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/names"
)

func TestGoodPathsAreAnsweredUnchanged(t *testing.T) {
	for _, s := range []string{
		"/a",
		"/app/prod/payments/db-password",
		"/A-Z/a.z/0_9/+=@/-",
		"/...", "/.a", "/a.", "/..a/a..", // only . and .. themselves mean something elsewhere
		"/App", // another path than /app
		"/" + strings.Repeat("x", names.MaxSegmentBytes),
		strings.Repeat("/x", names.MaxSegments),
		strings.Repeat("/"+strings.Repeat("x", 127), 4), // 512 bytes
	} {
		path, err := names.ParsePath(s)
		require.NoError(t, err, s)
		require.Equal(t, names.Path(s), path)
		require.Equal(t, s, "/"+strings.Join(path.Segments(), "/"))
	}
}

// Each of these is something that a proxy, a file system or a URL library
// would turn into another path. Here it is refused, in words that say where.
func TestBadPathsAreRefusedWithTheReason(t *testing.T) {
	for s, want := range map[string]string{
		"":                               "must not be empty",
		"app":                            "must start with '/'",
		" /app":                          "must start with '/'",
		"/":                              "segment 1 is empty; use single slashes and none at the end",
		"//":                             "segment 1 is empty",
		"//app":                          "segment 1 is empty",
		"/app//x":                        "segment 2 is empty",
		"/app/":                          "segment 2 is empty",
		"/.":                             `segment 1 is ".", which is not allowed; nothing is normalised`,
		"/app/../x":                      `segment 2 is "..", which is not allowed`,
		"/app/..":                        `segment 2 is "..", which is not allowed`,
		"/app/%2e%2e":                    "segment 2 has the byte 0x25 at offset 0; allowed are A-Z a-z 0-9 . _ - + = @",
		"/app\\x":                        "segment 1 has the byte 0x5c at offset 3",
		"/app/a b":                       "segment 2 has the byte 0x20 at offset 1",
		"/app/a\x00":                     "segment 2 has the byte 0x00 at offset 1",
		"/app/a\n":                       "segment 2 has the byte 0x0a at offset 1",
		"/app/*":                         "segment 2 has the byte 0x2a at offset 0",
		"/app/a:b":                       "segment 2 has the byte 0x3a at offset 1",
		"/app/a~":                        "segment 2 has the byte 0x7e at offset 1",
		"/app/\u00e9":                    "segment 2 has the byte 0xc3 at offset 0",
		"/app/\u212a":                    "segment 2 has the byte 0xe2 at offset 0", // folds to k
		"/app/\xff":                      "segment 2 has the byte 0xff at offset 0",
		"/" + strings.Repeat("x", 129):   "segment 1 has 129 bytes; at most 128 are allowed",
		strings.Repeat("/x", 17):         "has 17 segments; at most 16 are allowed",
		strings.Repeat("/xxxxxxxxx", 52): "has 520 bytes; at most 512 are allowed",
	} {
		path, err := names.ParsePath(s)
		require.ErrorContains(t, err, want, "%q", s)
		require.Empty(t, path, "%q", s)
	}
}

func TestPrefixesEndInASlash(t *testing.T) {
	for s, want := range map[string]string{"/": "/", "/app": "/app/", "/app/": "/app/", "/app/prod": "/app/prod/", "/app/prod/": "/app/prod/"} {
		got, err := names.ParsePrefix(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got)
		again, err := names.ParsePrefix(got)
		require.NoError(t, err, got)
		require.Equal(t, got, again)
	}
	for _, s := range []string{"", "//", "app", "app/", "/app//", "//app", "/./", "/../", "/app/*", "/a b/"} {
		got, err := names.ParsePrefix(s)
		require.Error(t, err, "%q", s)
		require.Empty(t, got)
	}
}

// FuzzParsePath: what is accepted keeps the grammar's promises, checked from
// its text alone, and is accepted as a pattern that matches just itself.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/a", "/app/prod/web/key", "/", "//", "/a/../b", "/a/%2e%2e", "/a\x00", "/\u212a", strings.Repeat("/x", 17), strings.Repeat("/xxxxxxxxx", 52)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path, err := names.ParsePath(s)
		if err != nil {
			require.Empty(t, path)
			require.Less(t, len(err.Error()), 256, "an error must not carry the input")
			return
		}
		require.Equal(t, s, string(path))
		require.LessOrEqual(t, len(s), names.MaxPathBytes)
		segments := path.Segments()
		require.LessOrEqual(t, len(segments), names.MaxSegments)
		for _, segment := range segments {
			require.Regexp(t, `^[A-Za-z0-9._+=@-]{1,128}$`, segment)
			require.NotContains(t, []string{".", ".."}, segment)
		}
		pattern, err := names.ParsePattern(s)
		require.NoError(t, err)
		require.True(t, pattern.Match(path))
		prefix, err := names.ParsePrefix(s)
		require.NoError(t, err)
		require.Equal(t, s+"/", prefix)
	})
}
