package iam

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/names"
)

// team answers a policy of n statements as a large principal has them: one
// for each of its services, a deny beside each allow.
func team(t testing.TB, n int) *PolicySet {
	c := NewCatalogue([]Action{"secrets:getSecretValue", "secrets:putSecretValue", "kms:encrypt"})
	statements := make([]Statement, n)
	for i := range statements {
		statements[i] = Statement{Effect: Allow, Actions: []string{"secrets:*"}, Paths: []string{fmt.Sprintf("/app/prod/service-%04d/**", i/2)}}
		if i%2 == 1 {
			statements[i].Effect = Deny
			statements[i].Actions = []string{"secrets:putSecretValue"}
		}
	}
	p, _, err := CompilePolicy(c, "team", 1, statements)
	require.NoError(t, err)
	return Set(p)
}

func read(path names.Path) Question {
	return Question{Principal: "web", Action: "secrets:getSecretValue", Resource: Resource{Path: path}}
}

// A decision looks at statements that can be about it, however many others
// there are: counted, not timed.
func TestADecisionLooksOnlyAtWhatCanBeAboutIt(t *testing.T) {
	q := read("/app/prod/service-0003/db/password")
	for _, n := range []int{10, 100, maxStatements} {
		set := team(t, n)
		require.Len(t, set.candidates(&q, nil), 1, "of %d", n)
		require.True(t, Decide(Rules{Policies: set}, q).Allowed)
		other := read("/app/prod/service/x")
		require.Empty(t, set.candidates(&other, nil))
	}
	// And a question about a key looks at none of them.
	key := Question{Action: "kms:encrypt", Resource: Resource{KeyID: "k"}}
	require.Empty(t, team(t, maxStatements).candidates(&key, nil))
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 100, maxStatements} {
		b.Run(fmt.Sprintf("%d-statements", n), func(b *testing.B) {
			r, q := Rules{Policies: team(b, n)}, read("/app/prod/service-0003/db/password")
			b.ReportAllocs()
			for b.Loop() {
				if !Decide(r, q).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}
