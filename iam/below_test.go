package iam_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

var belowPrefixes = []string{"/", "/a/", "/a/b/", "/b/"}

// Who may do something below a prefix may do it to every path there; and who
// may not do it to one of them is told so before a rule about all is made.
func TestARightBelowAPrefixIsARightOnEveryPathThere(t *testing.T) {
	seen := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		r := worldRules().Draw(t, "rules").compile(t)
		for _, prefix := range belowPrefixes {
			const action = iam.Action("secrets:getSecretValue")
			all := allowed(r, iam.Question{Action: action, Resource: iam.Resource{Below: prefix}})
			some := false
			for _, below := range []string{"a", "b", "a/b", "b/b", "a/b/c", "x/y/z/w"} {
				one := allowed(r, iam.Question{Action: action, Resource: iam.Resource{Path: names.Path(prefix + below)}})
				require.False(t, all && !one, "%s%s", prefix, below)
				some = some || one
			}
			if some {
				require.True(t, iam.MayBelow(r, action, prefix), "hides what is there below %s", prefix)
			}
			seen[all]++
		}
	})
	require.Positive(t, seen[true])
	require.Positive(t, seen[false])
}
