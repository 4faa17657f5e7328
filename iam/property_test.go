package iam_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

var (
	somePaths    = []names.Path{"/app/prod/web/key", "/app/prod/db/key", "/app/dev/web/key", "/app", "/other"}
	somePatterns = []string{"/**", "/app/**", "/app/prod/**", "/app/*/web/*", "/app/prod/web/key", "/*", "/app/prod/d*/key"}
	someActions  = []string{"secrets:getSecretValue", "secrets:putSecretValue", "secrets:*", "*"}
	someKeys     = []string{"*", keyA, "alias/default", "alias/other"}
)

// drawStatement makes a statement that compiles.
func drawStatement(t *rapid.T) iam.Statement {
	s := iam.Statement{Effect: rapid.SampledFrom([]string{iam.Allow, iam.Deny}).Draw(t, "effect")}
	switch rapid.IntRange(0, 3).Draw(t, "about") {
	case 0, 1:
		s.Actions = rapid.SliceOfN(rapid.SampledFrom(someActions), 1, 3).Draw(t, "actions")
		s.Paths = rapid.SliceOfN(rapid.SampledFrom(somePatterns), 1, 3).Draw(t, "paths")
	case 2:
		s.Actions = rapid.SliceOfN(rapid.SampledFrom([]string{"kms:decrypt", "kms:*", "*"}), 1, 2).Draw(t, "actions")
		s.Keys = rapid.SliceOfN(rapid.SampledFrom(someKeys), 1, 2).Draw(t, "keys")
	default:
		s.Actions = rapid.SampledFrom([][]string{{"*"}, {"iam:putPolicy"}, {"iam:*"}}).Draw(t, "actions")
	}
	return s
}

func drawStatements(t *rapid.T, least int) []iam.Statement {
	return rapid.SliceOfN(rapid.Custom(drawStatement), least, 4).Draw(t, "statements")
}

func drawPolicies(t *rapid.T) [][]iam.Statement {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []iam.Statement { return drawStatements(t, 1) }), 0, 4).Draw(t, "policies")
}

func drawQuestion(t *rapid.T) iam.Question {
	q := about(iam.Action(rapid.SampledFrom([]string{"secrets:getSecretValue", "secrets:putSecretValue", "kms:decrypt", "iam:putPolicy"}).Draw(t, "action")), "")
	switch q.Action {
	case "kms:decrypt":
		q.Resource = rapid.SampledFrom([]iam.Resource{{KeyID: keyA}, {KeyID: keyA, KeyAliases: list("alias/default")}, {Any: true}}).Draw(t, "key")
	case "iam:putPolicy":
		q.Resource.Any = true
	default:
		q.Resource.Path = rapid.SampledFrom(somePaths).Draw(t, "path")
	}
	return q
}

func compileAll(t *rapid.T, policies [][]iam.Statement) iam.Rules {
	var all []*iam.Policy
	for _, statements := range policies {
		all = append(all, compile(t, "p", statements...))
	}
	return rules(all...)
}

// An explicit deny wins, else an allow decides, else it is denied: said of
// the statements one by one, it must be what all of them together give.
func TestDecisionIsThatOfItsStatements(t *testing.T) {
	var yes, no int
	rapid.Check(t, func(t *rapid.T) {
		policies, q := drawPolicies(t), drawQuestion(t)
		anyAllow, anyDeny := false, false
		for _, s := range slices.Concat(policies...) {
			effect := s.Effect
			s.Effect = iam.Allow
			matches := allowed(rules(compile(t, "one", s)), q)
			anyAllow = anyAllow || matches && effect == iam.Allow
			anyDeny = anyDeny || matches && effect == iam.Deny
		}
		got := allowed(compileAll(t, policies), q)
		require.Equal(t, anyAllow && !anyDeny, got)
		if got {
			yes++
		} else {
			no++
		}
	})
	require.Positive(t, yes, "the property must have seen both answers")
	require.Positive(t, no)
}

// There is no order to learn: neither of policies, nor of statements, nor of
// the entries of a statement, nor whether two statements share a policy.
func TestOrderNeverChangesTheAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policies, q := drawPolicies(t), drawQuestion(t)
		want := allowed(compileAll(t, policies), q)

		shuffled := rapid.Permutation(policies).Draw(t, "policies in another order")
		for i := range shuffled {
			shuffled[i] = rapid.Permutation(shuffled[i]).Draw(t, "statements in another order")
			for j := range shuffled[i] {
				s := &shuffled[i][j]
				s.Actions, s.Paths, s.Keys = reversed(s.Actions), reversed(s.Paths), reversed(s.Keys)
			}
		}
		require.Equal(t, want, allowed(compileAll(t, shuffled), q))

		if flat := slices.Concat(policies...); len(flat) > 0 {
			require.Equal(t, want, allowed(compileAll(t, [][]iam.Statement{flat}), q))
		}
	})
}

func reversed(in []string) []string {
	out := slices.Clone(in)
	slices.Reverse(out)
	return out
}

// What lets an administrator sleep: one more deny never opens anything, one
// more allow never closes anything.
func TestRulesOnlyPullTheirOwnWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policies, q := drawPolicies(t), drawQuestion(t)
		before := allowed(compileAll(t, policies), q)
		more := drawStatement(t)
		after := allowed(compileAll(t, append(slices.Clone(policies), []iam.Statement{more})), q)
		if more.Effect == iam.Deny {
			require.False(t, !before && after, "a deny allowed it")
		} else {
			require.False(t, before && !after, "an allow denied it")
		}
	})
}

// An access policy only ever restricts, in any order, and each must agree.
func TestAccessPoliciesOnlyRestrict(t *testing.T) {
	drawAccess := func(t *rapid.T) iam.AccessDocument {
		d := iam.AccessDocument{Name: "a",
			Paths:       rapid.SliceOfN(rapid.SampledFrom(somePatterns), 1, 2).Draw(t, "paths"),
			Actions:     rapid.SliceOfN(rapid.SampledFrom(someActions), 0, 2).Draw(t, "actions"),
			Principals:  rapid.SliceOfN(rapid.SampledFrom([]string{"web", "ci"}), 0, 2).Draw(t, "principals"),
			SourceCIDRs: rapid.SliceOfN(rapid.SampledFrom([]string{"10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "::/0"}), 1, 2).Draw(t, "cidrs"),
		}
		return d
	}
	rapid.Check(t, func(t *rapid.T) {
		r, q := compileAll(t, drawPolicies(t)), drawQuestion(t)
		q.Source = rapid.SampledFrom([]netip.Addr{
			netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("::ffff:10.1.2.3"), netip.MustParseAddr("2001:db8::1"), {},
		}).Draw(t, "source")
		want := allowed(r, q)
		var all []*iam.AccessPolicy
		for _, d := range rapid.SliceOfN(rapid.Custom(drawAccess), 0, 4).Draw(t, "access") {
			p := compileAccess(t, d)
			alone := r
			alone.Access = iam.Accesses(p)
			want = want && allowed(alone, q)
			all = append(all, p)
		}
		r.Access = iam.Accesses(all...)
		require.Equal(t, want, allowed(r, q))
		r.Access = iam.Accesses(rapid.Permutation(all).Draw(t, "another order")...)
		require.Equal(t, want, allowed(r, q))
	})
}
