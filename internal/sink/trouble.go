package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// collect lets events gather, so that a busy trail is handed over in batches.
func (f *follower) collect(ctx context.Context) {
	f.sleep(ctx, f.BatchTime)
}

// pause tells of a failure and waits before the next attempt. It answers
// false when ctx ends.
func (f *follower) pause(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	wait := f.backoff()
	var asked retryAfter
	if errors.As(err, &asked) {
		wait = max(wait, asked.wait)
	}
	f.failures++
	f.silent++
	if text := err.Error(); time.Since(f.logged) >= logEvery || f.failures == 1 || text != f.told {
		f.told = text
		f.log.Error("an audit sink does not take events; they wait in the trail", "error", err, "failures", f.silent, "nextAttemptIn", wait.Round(time.Millisecond), "cursor", f.at.sequence)
		f.logged, f.silent = time.Now(), 0
	}
	f.metrics.errors.Inc()
	return f.sleep(ctx, wait)
}

// backoff doubles with each failure in a row, and a random half of it keeps
// the nodes of a cluster from coming back all at once.
func (f *follower) backoff() time.Duration {
	whole := f.cfg.backoffMin << min(f.failures, 20)
	if whole <= 0 || whole > f.cfg.backoffMax {
		whole = f.cfg.backoffMax
	}
	return whole/2 + rand.N(whole/2+1)
}

func (f *follower) recovered() {
	if f.failures > 0 {
		f.log.Info("an audit sink takes events again", "failures", f.failures, "cursor", f.at.sequence)
	}
	f.failures, f.silent = 0, 0
}

// sleep waits, shorter if Reload was called. It answers false when ctx ends.
func (f *follower) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.kick:
	case <-ctx.Done():
		return false
	}
	return true
}
