package iam_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
)

// decideAnywhere asks Decide about every resource of the world.
func decideAnywhere(r iam.Rules, action iam.Action) bool {
	return slices.ContainsFunc(worldResources(action), func(resource iam.Resource) bool {
		return allowed(r, iam.Question{Action: action, Resource: resource})
	})
}

// A lister that is told "nowhere" answers nothing without looking: so it must
// never be told so while there is something it may see.
func TestMayAnywhereNeverHidesWhatDecideAllows(t *testing.T) {
	seen := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := worldRules().Draw(t, "rules")
		w.access = nil // about the caller's place and time, not about what exists
		r := w.compile(t)
		for _, action := range worldActions {
			anywhere := decideAnywhere(r, action)
			if anywhere {
				require.True(t, iam.MayAnywhere(r, action), "%s under %+v", action, w)
			}
			seen[anywhere]++
		}
	})
	require.Positive(t, seen[true])
	require.Positive(t, seen[false])
}

// Where no deny is about a part only, both give the same answer: each pattern
// and each key of the world matches something in it.
func TestMayAnywhereAgreesWithDecideWithoutPartialDenies(t *testing.T) {
	seen := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := written{policies: rapid.SliceOfN(rapid.SliceOfN(worldStatements(iam.Allow), 1, 3), 0, 3).Draw(t, "policies")}
		for _, s := range []iam.Statement{
			deny(list("*")), deny(list("secrets:getSecretValue"), "/a", "/**"), deny(list("secrets:*"), "/**"),
			{Effect: iam.Deny, Actions: list("kms:decrypt"), Keys: list(keyA, "*")}, deny(list("iam:*")),
		} {
			if rapid.IntRange(0, 4).Draw(t, "deny") == 0 {
				w = w.and(s)
			}
		}
		r := w.compile(t)
		for _, action := range worldActions {
			want := decideAnywhere(r, action)
			require.Equal(t, want, iam.MayAnywhere(r, action), "%s under %+v", action, w)
			seen[want]++
		}
	})
	require.Positive(t, seen[true])
	require.Positive(t, seen[false])
}

// A role's worth of listing: a deny of one folder does not close the tree, and
// an access policy is held against each item, not against the question
// whether to look.
func TestMayAnywhereIgnoresWhatOnlySomeResourcesAreDenied(t *testing.T) {
	r := rules(compile(t, "p",
		allow(list("secrets:listSecrets"), "/app/**"),
		deny(list("secrets:listSecrets"), "/app/**")))
	require.True(t, iam.MayAnywhere(r, "secrets:listSecrets"), "it need not compare patterns with each other")

	r = rules(compile(t, "p", allow(list("secrets:listSecrets"), "/a")))
	r.Access = iam.Accesses(compileAccess(t, iam.AccessDocument{
		Name: "ap", Paths: list("/**"), Actions: list("secrets:*"), SourceCIDRs: list("10.0.0.0/8"),
	}))
	require.True(t, iam.MayAnywhere(r, "secrets:listSecrets"))
	require.False(t, allowed(r, iam.Question{Action: "secrets:listSecrets", Resource: iam.Resource{Path: "/a"}}))
}

func TestRulesPullMayAnywhereOnlyTheirOwnWay(t *testing.T) {
	opened, closed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := worldRules().Draw(t, "rules")
		before := w.compile(t)
		more := w.and(worldStatements(iam.Allow).Draw(t, "allow")).compile(t)
		less := w.and(worldStatements(iam.Deny).Draw(t, "deny")).compile(t)
		for _, action := range worldActions {
			was := iam.MayAnywhere(before, action)
			if was {
				require.True(t, iam.MayAnywhere(more, action), "an allow closed %s", action)
			} else {
				require.False(t, iam.MayAnywhere(less, action), "a deny opened %s", action)
			}
			if !was && iam.MayAnywhere(more, action) {
				opened++
			}
			if was && !iam.MayAnywhere(less, action) {
				closed++
			}
		}
	})
	require.Positive(t, opened)
	require.Positive(t, closed)
}
