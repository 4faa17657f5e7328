package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// reapFor lets the leader's work run for a while of a clock that costs no
// time, and waits for its end.
func (w *world) reapFor(t *testing.T, d time.Duration) {
	synctest.Test(t, func(*testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		w.engine.RunLeader(ctx)
	})
}

func TestTheReaperProposesNothingWhenNothingIsDue(t *testing.T) {
	s := newStock(t) // a destruction is due tomorrow, a purge in a month
	s.engine.WriteUses(t.Context())
	s.reapFor(t, time.Minute) // what readers were given is committed
	s.sync()
	s.engine.AnchorHeads(t.Context()) // the trail has settled since
	before := s.log.proposed
	s.reapFor(t, time.Hour)
	require.Equal(t, before+2, s.log.proposed, "a leadership opens a session and settles the one before; then an idle cluster writes nothing")
}

func TestTheReaperProposesNothingWithoutLeadership(t *testing.T) {
	s := newStock(t)
	s.setNow(s.now().Add(365 * 24 * time.Hour))
	s.log.lost = true
	before := s.log.index
	s.reapFor(t, time.Minute)
	require.Equal(t, before, s.log.index)
}

func TestTheReaperStopsWithItsContext(t *testing.T) {
	s := newStock(t)
	s.setNow(s.now().Add(365 * 24 * time.Hour))
	before := s.log.proposed
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.engine.RunLeader(ctx)
	require.Equal(t, before, s.log.proposed)
}

func TestTheReaperDoesWhatIsDueAndThenRests(t *testing.T) {
	s := newStock(t)
	s.setNow(s.now().Add(24 * time.Hour))
	s.reapFor(t, 5*time.Second)
	require.Equal(t, fsm.VersionDestroyed, s.log.machine.State().Version("/app/dev/web/db", 2).State)
	require.Equal(t, fsm.SecretPendingDeletion, s.log.machine.State().Secret("/app/dev/web/gone").State, "not yet")

	s.setNow(s.now().Add(29 * 24 * time.Hour))
	s.reapFor(t, 5*time.Second)
	require.Equal(t, fsm.SecretPurged, s.log.machine.State().Secret("/app/dev/web/gone").State)
	require.Empty(t, s.log.machine.State().Version("/app/dev/web/gone", 1).Sealed)
	s.engine.WriteUses(t.Context())
	s.engine.WriteCredentialUses(t.Context())
	s.sync() // the trail writes by the clock of the machine, not by that of the test
	s.engine.AnchorHeads(t.Context())
	before := s.log.proposed
	s.reapFor(t, time.Minute)
	require.Equal(t, before+2, s.log.proposed, "the session of the ledger, and the end of the one before")
}
