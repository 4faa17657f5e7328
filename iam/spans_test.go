package iam_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

const listing = iam.Action("secrets:listSecrets")

func spansOf(t require.TestingT, prefix string, statements ...iam.Statement) []iam.Span {
	policy, _, err := iam.CompilePolicy(iam.NewCatalogue([]iam.Action{listing, "secrets:getSecretValue"}), "p", 1, statements)
	require.NoError(t, err)
	return iam.Spans(iam.Rules{Policies: iam.Set(policy)}, listing, prefix)
}

func reaching(paths ...string) iam.Statement {
	return iam.Statement{Effect: iam.Allow, Actions: []string{string(listing)}, Paths: paths}
}

func TestSpansAreWhatPatternsReach(t *testing.T) {
	for _, c := range []struct {
		prefix string
		paths  []string
		want   []iam.Span
	}{
		{"/", []string{"/**"}, []iam.Span{{Prefix: "/"}}},
		{"/a/", []string{"/**"}, []iam.Span{{Prefix: "/a/"}}},
		{"/", []string{"/a/b"}, []iam.Span{{Prefix: "/a/b", Exact: true}}},
		{"/", []string{"/b/**", "/a/**"}, []iam.Span{{Prefix: "/a/"}, {Prefix: "/b/"}}},
		{"/", []string{"/a/b/**", "/a/**", "/a/x", "/a"}, []iam.Span{{Prefix: "/a", Exact: true}, {Prefix: "/a/"}}},
		{"/", []string{"/a/db-*", "/a/db-1", "/a/*/x"}, []iam.Span{{Prefix: "/a/"}}},
		{"/", []string{"/a/db-*", "/a/db-1"}, []iam.Span{{Prefix: "/a/db-"}}},
		{"/b/", []string{"/a/**", "/b/c", "/b/d/**"}, []iam.Span{{Prefix: "/b/c", Exact: true}, {Prefix: "/b/d/"}}},
		{"/b/", []string{"/b", "/bb/**"}, nil},
	} {
		require.Equal(t, c.want, spansOf(t, c.prefix, reaching(c.paths...)), "%v below %s", c.paths, c.prefix)
	}
	require.Equal(t, []iam.Span{{Prefix: "/x/"}}, spansOf(t, "/x/", iam.Statement{Effect: iam.Allow, Actions: []string{"*"}}))
	require.Nil(t, spansOf(t, "/", iam.Statement{Effect: iam.Allow, Actions: []string{"secrets:getSecretValue"}, Paths: []string{"/**"}}))
	require.Nil(t, spansOf(t, "/", iam.Statement{Effect: iam.Deny, Actions: []string{"*"}}))
}

// TestNothingOutsideOfSpansIsAllowed: what Spans leaves out, Decide denies;
// and in order of paths each path is in one span at most.
func TestNothingOutsideOfSpansIsAllowed(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "a-", "a*", "*", "*b", "c"})
	rapid.Check(t, func(t *rapid.T) {
		path := func(wild bool) string {
			var out strings.Builder
			for range rapid.IntRange(1, 3).Draw(t, "depth") {
				s := segment.Draw(t, "segment")
				if !wild {
					s = strings.ReplaceAll(s, "*", "x")
				}
				out.WriteString("/" + s)
			}
			return out.String()
		}
		var statements []iam.Statement
		for range rapid.IntRange(1, 3).Draw(t, "statements") {
			pattern := path(true)
			if rapid.Bool().Draw(t, "rest") {
				pattern += "/**"
			}
			one := reaching(pattern)
			one.Effect = rapid.SampledFrom([]string{iam.Allow, iam.Allow, iam.Deny}).Draw(t, "effect")
			statements = append(statements, one)
		}
		policy, _, err := iam.CompilePolicy(iam.NewCatalogue([]iam.Action{listing}), "p", 1, statements)
		require.NoError(t, err)
		rules := iam.Rules{Policies: iam.Set(policy)}
		prefix := "/"
		if rapid.Bool().Draw(t, "below") {
			prefix = path(false) + "/"
		}
		spans := iam.Spans(rules, listing, prefix)
		require.True(t, slices.IsSortedFunc(spans, func(a, b iam.Span) int { return strings.Compare(a.Prefix, b.Prefix) }))
		for range 20 {
			asked := path(false)
			in := 0
			for _, span := range spans {
				if span.Holds(asked) {
					in++
					require.False(t, span.Before(asked) && !span.Exact)
				}
			}
			require.LessOrEqual(t, in, 1)
			allowed := iam.Decide(rules, iam.Question{Action: listing, Resource: iam.Resource{Path: names.Path(asked)}}).Allowed
			if allowed && strings.HasPrefix(asked, prefix) {
				require.Equal(t, 1, in, "%s is allowed and in no span of %v", asked, spans)
			}
		}
	})
}
