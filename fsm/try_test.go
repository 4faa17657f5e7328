package fsm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// What is tried is decided as Apply decides it, and leaves no trace.
func TestTryDecidesAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	before := w.m.State()
	statements := []fsm.Statement{{Effect: "allow", Actions: []string{"iam:listPolicies"}}}
	next, result, err := before.Try(fsm.PutPolicy{Meta: w.meta(), Name: "tried", Statements: statements})
	require.NoError(t, err)
	require.Nil(t, result.Refused)
	require.Equal(t, statements, next.Policy("tried").Statements)
	require.Nil(t, before.Policy("tried"))
	require.Same(t, before, w.m.State())
	require.NotEqual(t, before.Rights(), next.Rights(), "what was made of one is not taken for the other")

	// One after the other, and refused as it would be.
	after, result, err := next.Try(fsm.DeletePolicy{Meta: w.meta(), Name: "tried"})
	require.NoError(t, err)
	require.Nil(t, result.Refused)
	require.Nil(t, after.Policy("tried"))
	same, result, err := next.Try(fsm.DeletePolicy{Meta: w.meta(), Name: "none"})
	require.NoError(t, err)
	require.Equal(t, string(fault.NotFound), string(result.Refused.Code))
	require.NotNil(t, same.Policy("tried"))
	_, _, err = next.Try(nil)
	require.Error(t, err)
	w.ok(fsm.PutPolicy{Meta: w.meta(), Name: "other", Statements: statements})
}
