package iam_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
)

// Whatever somebody may do, in quarantine it is denied, for this reason.
func TestInQuarantineEverythingIsDenied(t *testing.T) {
	free := rules(compile(t, "p", iam.Statement{Effect: iam.Allow, Actions: list("*")}))
	rapid.Check(t, func(r *rapid.T) {
		action := rapid.SampledFrom(everyAction()).Draw(r, "action")
		q := iam.Question{Principal: "svc", Action: action, Resource: rapid.SampledFrom([]iam.Resource{
			{Path: "/a"}, {Below: "/"}, {KeyID: keyA}, {Any: true},
		}).Draw(r, "resource")}
		locked := free
		locked.Quarantined = true
		require.Equal(r, iam.Decision{Reason: iam.ReasonQuarantined}, iam.Decide(locked, q))
		require.True(r, iam.MayAnywhere(free, action))
		require.False(r, iam.MayAnywhere(locked, action))
		require.False(r, iam.MayBelow(locked, action, "/"))
		require.Empty(r, iam.BreakGlassAnywhere(locked, action))
	})
}
