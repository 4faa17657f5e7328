package engine

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// Pace of the Reaper.
const (
	reapEvery = time.Second
	reapLimit = 500 // items of one command

	rotateEvery = 5 * time.Second
	tellEvery   = 5 * time.Second
)

// sweep proposes one Sweep, while the versions that it will destroy are not
// handed out.
func (e *Engine) sweep(ctx context.Context, state *fsm.State) (fsm.Result, error) {
	now := e.Now().UnixMilli()
	command := fsm.Sweep{Meta: fsm.Meta{Time: now}, Limit: reapLimit, Closed: state.DueDestructions(now, reapLimit)}
	session, observed, release := e.ledger.closeLanded(ctx, command.Closed...)
	command.Session, command.Observed = session, observed
	result, err := e.proposeOwn(ctx, command)
	release(err == nil || fault.Is(err, fault.NoLeader) || result.Refused != nil)
	return result, err
}

// RunLeader does the work of the leader until ctx ends with the leadership:
// destructions, purges and expiries that are due. It only proposes commands;
// Apply decides what is due at the command's time, so two leaders in a
// hand-over cannot do it twice.
func (e *Engine) RunLeader(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { e.keepLedger(ctx) })
	work.Go(func() { every(ctx, reapEvery, e.reap) })
	work.Go(func() { every(ctx, rotateEvery, e.rotateDue) })
	work.Go(func() { every(ctx, tellEvery, e.tellExpiries) })
	work.Go(func() { every(ctx, tellEvery, e.tellRecoveries) })
	work.Go(func() { every(ctx, usePrecision, e.writeUses) })
	work.Go(func() { every(ctx, usePrecision, e.writeCredentialUses) })
	work.Go(func() { e.runJobs(ctx) })
	work.Go(func() { e.runRootRotation(ctx) })
	work.Go(func() { e.runSecretRotations(ctx) })
	work.Go(func() { e.tellOverdue(ctx) })
	work.Go(func() { e.keepClock(ctx) })
	work.Go(func() { every(ctx, makeEvery, e.makeAuditKey) })
	work.Go(func() { e.leadNotice(ctx) })
	work.Go(func() { every(ctx, anchorEvery, e.anchorHeads) })
	<-ctx.Done()
}

// every calls do at each tick until ctx ends.
func every(ctx context.Context, pace time.Duration, do func(context.Context)) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do(ctx)
		}
	}
}

// reap proposes one Sweep after another while there is work that is due. It
// proposes none when nothing is: an idle cluster writes nothing. Nor does it
// while the trail cannot take events: what rules have destroyed must be told.
func (e *Engine) reap(ctx context.Context) {
	for ctx.Err() == nil && e.Trail.Ready() == nil {
		state, err := e.Log.ReadState(ctx)
		if err != nil || !state.Due(e.Now().UnixMilli()) || e.ledger.current() == 0 {
			return
		}
		result, err := e.sweep(ctx, state)
		if err != nil {
			if !fault.Is(err, fault.NoLeader) && ctx.Err() == nil {
				e.Logger.Warn("the reaper could not commit; it tries again", "error", err)
			}
			return
		}
		e.metrics.reaped.Add(float64(result.Done))
		e.tellKept(ctx, result)
		if !result.More {
			return
		}
	}
}

// tellKept writes the events of the versions that path rules had destroyed:
// no request asked for them by name. A leader that dies before it leaves the
// history of the versions, which says the same.
func (e *Engine) tellKept(ctx context.Context, result fsm.Result) {
	meta := fsm.Meta{Principal: ownName, RequestID: uuid.NewString()}
	for _, v := range result.Kept {
		e.metrics.kept.Inc()
		e.record(ctx, meta, audit.Event{
			Event: "secrets.destroy_version", Path: v.Path, KeyID: v.KeyID, Version: v.Version, Index: result.Index, Reason: v.Reason,
		}, nil)
	}
}
