package iam_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
)

func TestDecideAgreesWithANaiveImplementation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := worldRules().Draw(t, "rules")
		r := w.compile(t)
		for range 16 {
			q := worldQuestion(t)
			d := iam.Decide(r, q)
			require.Equal(t, naive(w, q), d.Allowed, "%+v on %+v", w, q)
			requireConsistent(t, d)
		}
	})
}

// requireConsistent holds a decision to what its fields promise each other:
// who reads the chain must come to the same answer.
func requireConsistent(t require.TestingT, d iam.Decision) {
	var allows, denials, unsatisfied int
	for _, step := range d.Chain {
		require.NotEmpty(t, step.Policy)
		require.NotEmpty(t, step.Action)
		require.NotEmpty(t, step.Matched)
		switch {
		case step.Access && step.Effect == iam.Deny:
			unsatisfied++
		case step.Effect == iam.Deny:
			denials++
		case !step.Access:
			allows++
		}
	}
	require.Equal(t, allows > 0 && denials == 0 && unsatisfied == 0, d.Allowed)
	require.Equal(t, d.Allowed, d.Reason == "")
	if denials > 0 || allows == 0 {
		require.Equal(t, iam.ReasonIAM, d.Reason)
		require.False(t, slices.ContainsFunc(d.Chain, func(s iam.Step) bool { return s.Access }),
			"whom no policy allows learns nothing about access policies")
	} else if unsatisfied > 0 {
		require.Contains(t, []string{iam.ReasonSource, iam.ReasonWindow}, d.Reason)
	}
	if d.Reason != iam.ReasonWindow {
		require.Zero(t, d.OpensAt)
	}
}

// Whatever else is written, a deny of everything is the end of it.
func TestADenyOfEverythingDeniesEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := worldRules().Draw(t, "rules").and(deny(list("*"))).compile(t)
		for _, q := range worldQuestions() {
			require.Equal(t, iam.ReasonIAM, iam.Decide(r, q).Reason)
		}
	})
}

// Nothing but an allow allows: not silence, and not the absence of a deny.
func TestWithoutAnAllowEverythingIsDenied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := written{
			policies: rapid.SliceOfN(rapid.SliceOfN(worldStatements(iam.Deny), 1, 3), 0, 3).Draw(t, "policies"),
			access:   rapid.SliceOfN(worldAccess(), 0, 2).Draw(t, "access"),
		}
		r := w.compile(t)
		for _, q := range worldQuestions() {
			require.False(t, iam.Decide(r, q).Allowed)
			require.False(t, iam.MayAnywhere(r, q.Action))
		}
	})
}

// A caller is told when to come back exactly if coming back helps, and then
// the first instant at which it does.
func TestOpensAtIsTheFirstInstantOfAccess(t *testing.T) {
	told, never := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := written{policies: [][]iam.Statement{{allow(list("*"))}}}
		for range rapid.IntRange(1, 4).Draw(t, "n") {
			d := worldAccess().Draw(t, "access")
			d.Paths, d.Actions, d.Principals, d.Groups, d.SourceCIDRs, d.TimeWindows = []string{"/**"}, []string{"*"}, nil, nil, nil, nil
			if d.NotBefore.IsZero() && d.NotAfter.IsZero() {
				d.NotBefore = pick(t, "from", worldTimes)
			}
			w.access = append(w.access, d)
		}
		r := w.compile(t)
		q := iam.Question{Action: "secrets:getSecretValue", Resource: iam.Resource{Path: "/a"}, At: pick(t, "at", worldTimes).Add(-time.Minute)}
		d := iam.Decide(r, q)
		if d.Allowed {
			require.Zero(t, d.OpensAt)
			return
		}
		require.Equal(t, iam.ReasonWindow, d.Reason)
		// Bounds are all that a window can open or close at.
		want := time.Time{}
		for _, at := range worldTimes {
			later := q
			later.At = at
			if want.IsZero() && at.After(q.At) && naive(w, later) {
				want = at
			}
		}
		require.Equal(t, want, d.OpensAt, "%+v", w.access)
		if want.IsZero() {
			never++
		} else {
			told++
		}
	})
	require.Positive(t, told)
	require.Positive(t, never)
}

// Nor does it matter to what a denied caller is told: the same reason, the
// same hour, as many rules in the chain, whatever was written first.
func TestOrderNeverChangesWhatADenialSays(t *testing.T) {
	windows := 0
	rapid.Check(t, func(t *rapid.T) {
		w := worldRules().Draw(t, "rules").and(allow(list("*")))
		w.access = rapid.SliceOfN(worldAccess(), 0, 4).Draw(t, "access")
		shuffled := written{
			policies: rapid.Permutation(w.policies).Draw(t, "policies"),
			access:   rapid.Permutation(w.access).Draw(t, "access in another order"),
		}
		q := worldQuestion(t)
		a, b := iam.Decide(w.compile(t), q), iam.Decide(shuffled.compile(t), q)
		require.Equal(t, a.Reason, b.Reason)
		require.Equal(t, a.OpensAt, b.OpensAt)
		require.ElementsMatch(t, stepsWithoutPlace(a), stepsWithoutPlace(b))
		if a.Reason == iam.ReasonWindow {
			windows++
		}
	})
	require.Positive(t, windows)
}

// stepsWithoutPlace answers the chain without the names that say where a rule
// stands, which compile gives by position.
func stepsWithoutPlace(d iam.Decision) []iam.Step {
	out := slices.Clone(d.Chain)
	for i := range out {
		if !out[i].Access {
			out[i].Policy = ""
		}
	}
	return out
}
