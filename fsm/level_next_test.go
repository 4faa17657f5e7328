//go:build levelnext

package fsm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// Apply is law: a command of the next level is refused, alike on all nodes,
// as long as the cluster is not there.
func TestACommandOfTheNextLevelIsRefusedBeforeTheRaise(t *testing.T) {
	w := newWorld(t)
	require.EqualValues(t, 2, fsm.CommandLevel(encoded(t, fsm.Rehearse{Meta: w.meta()})))
	require.EqualValues(t, 3, fsm.CommandLevel(encoded(t, fsm.Rehearse{Meta: w.meta(), Grown: "x"})))
	w.refused(fault.Conflict, fsm.Rehearse{Meta: w.meta()}, "needs feature level 2")
	w.ok(fsm.RaiseLevel{Meta: w.meta(), Level: 2, Node: "n1"})
	w.ok(fsm.Rehearse{Meta: w.meta()})
	w.refused(fault.Conflict, fsm.Rehearse{Meta: w.meta(), Grown: "x"}, "needs feature level 3")
}
