package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// A node that led, lost that, and leads again hands out nothing in the session
// that others have ended: whoever led meanwhile destroys by what they know of
// it, and that ended with it.
func TestNothingIsHandedOutInASessionThatOthersEnded(t *testing.T) {
	w, read := reader(t)
	require.NoError(t, read(w.admin))
	w.propose(fsm.OpenLedger{Meta: fsm.Meta{Time: w.now().UnixMilli()}, Node: "n2", Trail: "t", Sequence: 1})
	w.refused(fault.NoLeader, "", read(w.admin))
	require.NoError(t, w.engine.OpenLedger(t.Context()))
	require.NoError(t, read(w.admin))
}
