package audit

import (
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What was answered before a failure that heals is still owed to the disk:
// the failure may last for hours, and the power may go in any of them.
func TestAnsweredEventsAreSyncedWhileNoneAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.SyncInterval, cfg.MinFreeBytes = 100*time.Millisecond, 1
		trail, d := mustOpenOn(t, cfg)
		pass(time.Second + cfg.SyncInterval/2) // the events of the start; then all happens between two ticks
		start := d.synced()
		mustAppend(t, trail, read("answered"))
		d.fills(0)
		requireRefusesNow(t, trail)
		d.hasFree(0) // healing, which would sync, is not even tried
		require.Equal(t, start, d.synced())
		pass(cfg.SyncInterval)
		synctest.Wait()
		require.Equal(t, start+1, d.synced())
	})
}

// And so it is when the process ends before the failure does.
func TestCloseSyncsAfterAFailureThatCouldHaveHealed(t *testing.T) {
	cfg := config(t)
	cfg.SyncInterval = time.Hour
	trail, d := mustOpenOn(t, cfg)
	mustAppend(t, trail, read("answered"))
	d.fills(10)
	requireRefusesNow(t, trail)
	before := d.synced()
	require.NoError(t, trail.Close())
	require.Equal(t, before+1, d.synced())
}

// Healing can take many attempts. The event counts what all of them cut, not
// what the last one found left.
func TestRecoveryCountsWhatEarlierAttemptsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		trail, d := mustOpenOn(t, cfg)
		d.fills(100)
		requireRefusesNow(t, trail)
		next := segmentPath(cfg.Dir, 2)
		require.NoError(t, os.WriteFile(next, nil, 0o600)) // the tail is cut, and no file can be begun
		d.mend()
		pass(10 * healInterval)
		require.Error(t, trail.Ready())
		require.NoError(t, os.Remove(next))
		pass(2 * healInterval)
		require.NoError(t, trail.Ready())
		require.Contains(t, all(t, trail, Filter{After: 1})[0].Reason, "; 100 torn bytes were cut")

		// The next gap counts from zero.
		d.fills(0)
		requireRefusesNow(t, trail)
		d.mend()
		pass(2 * healInterval)
		require.Contains(t, all(t, trail, Filter{After: 2})[0].Reason, "; 0 torn bytes were cut")
	})
}

// The look at the disk between groups can hang as well as a write: who waits
// for the writer behind it must hear so.
func TestDiskThatHangsWhileItIsLookedAtIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.MinFreeBytes = 1
		trail, d := mustOpenOn(t, cfg)
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		defer release()
		d.set(func(now *disk) { now.free = func(dir string) (int64, error) { <-held; return freeBytes(dir) } })
		pass(2 * stallAfter)
		requireUnavailable(t, trail.Ready())
		require.ErrorContains(t, trail.Ready(), "the disk does not answer")
		d.mend()
		release()
		synctest.Wait()
		require.NoError(t, trail.Ready())
		mustAppend(t, trail, read("after"))
	})
}

// requireRefusesNow asserts that the disk, as it is, does not take an event.
func requireRefusesNow(t *testing.T, trail *Trail) {
	t.Helper()
	_, err := trail.Append(t.Context(), []Event{read("refused")})
	requireUnavailable(t, err)
}
