package iam_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

func reach(t require.TestingT, s iam.Statement) iam.Reach {
	return iam.Reaches(rules(compile(t, "p", s)))[0]
}

func TestCoveringStatements(t *testing.T) {
	get, all := list("secrets:getSecretValue"), list("secrets:*")
	for _, c := range []struct {
		name       string
		wide, thin iam.Statement
		want       bool
	}{
		{"same", allow(get, "/a/b"), allow(get, "/a/b"), true},
		{"service", allow(all, "/a/b"), allow(get, "/a/b"), true},
		{"fewer actions", allow(get, "/a/b"), allow(all, "/a/b"), false},
		{"role", iam.Statement{Effect: iam.Allow, Roles: list("secrets-full-access"), Paths: list("/a/**")}, allow(get, "/a/b"), true},
		{"rest", allow(get, "/a/**"), allow(get, "/a/b/c", "/a/*"), true},
		{"rest is not itself", allow(get, "/a/**"), allow(get, "/a"), false},
		{"rest in a rest", allow(get, "/a/**"), allow(get, "/a/b/**"), true},
		{"rest in a star", allow(get, "/a/*"), allow(get, "/a/**"), false},
		{"one of two", allow(get, "/a/b"), allow(get, "/a/b", "/a/c"), false},
		{"star in a star", allow(get, "/a/db*"), allow(get, "/a/db-*"), true},
		{"star beside a star", allow(get, "/a/db-*"), allow(get, "/a/db*"), false},
		{"everything", iam.Statement{Effect: iam.Allow, Actions: list("*")}, allow(get, "/a"), true},
		{"not everything", allow(list("*"), "/**"), iam.Statement{Effect: iam.Allow, Actions: list("*")}, false},
		{"condition", iam.Statement{Effect: iam.Allow, Actions: get, Paths: list("/a"), Conditions: &iam.Conditions{AuthMethods: list("token")}}, allow(get, "/a"), false},
		{"condition of the other", allow(get, "/a"), iam.Statement{Effect: iam.Allow, Actions: get, Paths: list("/a"), Conditions: &iam.Conditions{AuthMethods: list("token")}}, true},
		{"keys", iam.Statement{Effect: iam.Allow, Actions: list("kms:*"), Keys: list("*")}, iam.Statement{Effect: iam.Allow, Actions: list("kms:encrypt"), Keys: list(keyA, alias)}, true},
		{"other keys", iam.Statement{Effect: iam.Allow, Actions: list("kms:*"), Keys: list(keyA)}, iam.Statement{Effect: iam.Allow, Actions: list("kms:encrypt"), Keys: list("*")}, false},
	} {
		wide, thin := reach(t, c.wide), reach(t, c.thin)
		require.Equal(t, c.want, wide.Covers(&thin), c.name)
	}
}

// Whatever one statement is said to cover, the other never reaches alone.
func TestACoveredStatementReachesNothingAlone(t *testing.T) {
	covered := 0
	rapid.Check(t, func(t *rapid.T) {
		a, b := worldStatements(iam.Allow).Draw(t, "a"), worldStatements(iam.Allow).Draw(t, "b")
		wide, thin := reach(t, a), reach(t, b)
		if !wide.Covers(&thin) {
			return
		}
		covered++
		for _, q := range worldQuestions() {
			if allowed(rules(compile(t, "b", b)), q) {
				require.True(t, allowed(rules(compile(t, "a", a)), q), "%+v", q)
			}
		}
	})
	require.Positive(t, covered)
	// And over many more paths than the world has.
	rapid.Check(t, func(t *rapid.T) {
		segment := rapid.StringOfN(rapid.SampledFrom([]rune("ab*")), 1, 3, -1).Filter(func(s string) bool { return !strings.Contains(s, "**") })
		pattern := rapid.Custom(func(t *rapid.T) string {
			text := "/" + strings.Join(rapid.SliceOfN(segment, 1, 3).Draw(t, "segments"), "/")
			if rapid.Bool().Draw(t, "rest") {
				text += "/**"
			}
			return text
		})
		p, q := pattern.Draw(t, "p"), pattern.Draw(t, "q")
		wide, thin := reach(t, allow(list("secrets:*"), p)), reach(t, allow(list("secrets:*"), q))
		if !wide.Covers(&thin) {
			return
		}
		parsedP, err := names.ParsePattern(p)
		require.NoError(t, err)
		parsedQ, err := names.ParsePattern(q)
		require.NoError(t, err)
		plain := rapid.StringOfN(rapid.SampledFrom([]rune("ab")), 1, 4, -1)
		for range 20 {
			path := names.Path("/" + strings.Join(rapid.SliceOfN(plain, 1, 4).Draw(t, "path"), "/"))
			if parsedQ.Match(path) {
				require.True(t, parsedP.Match(path), "%s %s %s", p, q, path)
			}
		}
	})
}

func TestTheNearestStatementMissesByOneThing(t *testing.T) {
	r := rules(compile(t, "web", allow(list("secrets:getSecretValue"), "/app/dev/**", "/app/prod/api/**")), compile(t, "look", allow(list("secrets:describeSecret"), "/app/**")))
	near := iam.Nearest(r, about("secrets:getSecretValue", "/app/prod/web/db"), 5)
	require.Len(t, near, 2)
	require.Equal(t, "web", near[0].Policy)
	require.Equal(t, "path /app/prod/api/**", near[0].Matched)
	require.False(t, near[0].OtherAction)
	require.Equal(t, "look", near[1].Policy)
	require.True(t, near[1].OtherAction)
	require.Len(t, iam.Nearest(r, about("secrets:getSecretValue", "/app/prod/web/db"), 1), 1)
	require.Empty(t, iam.Nearest(iam.Rules{}, about("secrets:getSecretValue", "/a"), 1))
	require.Empty(t, iam.Nearest(r, about("iam:putPolicy", ""), 3), "of another service")
}
