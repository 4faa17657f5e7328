package engine_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// A policy that names what only a newer release knows may be a deny, or a
// boundary: whoever it is about gets nothing, and nobody else is troubled. An
// access policy is about everybody.
func TestPoliciesOfANewerReleaseAreNotReadByHalf(t *testing.T) {
	w := newWorld(t)
	web, other := w.principal("web", readWeb), w.principal("other", readWeb)
	meta := func() fsm.Meta {
		return fsm.Meta{Time: w.now().UnixMilli(), Principal: "admin", RequestID: uuid.NewString()}
	}
	newer := []string{"secrets:getSecretValue", "secrets:teleport"}
	w.propose(fsm.PutPolicy{Meta: meta(), Name: "web", Statements: []fsm.Statement{{Effect: "allow", Actions: newer, Paths: []string{"/app/**"}}}})
	w.refused(fault.Internal, "policy web cannot be read by this release", w.whoAmI(web))
	require.NoError(t, w.whoAmI(other))
	require.NoError(t, w.whoAmI(w.admin))

	w.propose(fsm.PutAccessPolicy{Meta: meta(), Policy: fsm.AccessPolicy{Name: "newer", Paths: []string{"/other/**"}, Actions: newer, SourceCIDRs: []string{"10.0.0.0/8"}}})
	for _, token := range []string{other, w.admin} {
		w.refused(fault.Internal, "access policy newer cannot be read by this release", w.whoAmI(token))
	}
}
