package client

import (
	"sync/atomic"
	"time"
)

type counters struct {
	hits, misses, stale, refreshes, errors             atomic.Uint64
	confirms, confirmErrors, callbackErrors, watchErrs atomic.Uint64
}

// CacheStats is a snapshot for an application's metrics. All but Held and
// Soonest only grow.
type CacheStats struct {
	Hits           uint64 // Gets served from memory
	Stale          uint64 // those of Hits while the last question had failed
	Misses         uint64 // Gets that had to ask
	Refreshes      uint64 // answers that brought a value, or said that it is current
	Errors         uint64 // questions without such an answer
	Confirms       uint64
	ConfirmErrors  uint64
	CallbackErrors uint64
	WatchErrors    uint64 // long polls that failed
	Held           int    // values in memory
	// Soonest is how long the value that is nearest to its ceiling may still be
	// served; 0 if none is held. It shrinks while the cluster is away.
	Soonest time.Duration
}

// Stats answers a snapshot.
func (c *Cache) Stats() CacheStats {
	n := &c.counts
	out := CacheStats{
		Hits: n.hits.Load(), Stale: n.stale.Load(), Misses: n.misses.Load(), Refreshes: n.refreshes.Load(), Errors: n.errors.Load(),
		Confirms: n.confirms.Load(), ConfirmErrors: n.confirmErrors.Load(), CallbackErrors: n.callbackErrors.Load(), WatchErrors: n.watchErrs.Load(),
	}
	now := c.now()
	c.entries.Range(func(_, one any) bool {
		if h := one.(*entry).held.Load(); h != nil {
			left := max(time.Duration(h.until.Load())-now, 0)
			if out.Held == 0 || left < out.Soonest {
				out.Soonest = left
			}
			out.Held++
		}
		return true
	})
	return out
}
