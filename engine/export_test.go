package engine

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// What tests drive step by step instead of waiting for a tick.

// Reap is one tick of the reaper.
func (e *Engine) Reap(ctx context.Context) { e.reap(ctx) }

// RotateDue is one tick of the rotation of keys.
func (e *Engine) RotateDue(ctx context.Context) { e.rotateDue(ctx) }

// TellExpiries is one tick of what tells of versions that expire.
func (e *Engine) TellExpiries(ctx context.Context) { e.tellExpiries(ctx) }

// WriteUses is one tick of what keeps the last use of keys.
func (e *Engine) WriteUses(ctx context.Context) { e.writeUses(ctx) }

// FlushLedger and SettleSessions are ticks of what keeps the ledger.
func (e *Engine) FlushLedger(ctx context.Context)    { e.flushLedger(ctx) }
func (e *Engine) SettleSessions(ctx context.Context) { e.settleSessions(ctx) }

// JobStep is one step of a job, decided on state.
func (e *Engine) JobStep(ctx context.Context, state *fsm.State, job *fsm.Job, n int) (int, error) {
	return e.jobStep(ctx, state, job, n)
}

// RotateSecrets is one tick of the rotation of secrets, to its end.
func (e *Engine) RotateSecrets(ctx context.Context) {
	for s := range e.Log.Local().SecretRotationsDue(e.Now().UnixMilli()) {
		e.rotateAsFarAsItGoes(ctx, s.Path)
	}
}

// RotationStep is one step of the rotation of one secret.
func (e *Engine) RotationStep(ctx context.Context, path names.Path) bool {
	return e.rotationStep(ctx, path)
}

// RotationCollector counts what rotations need.
func (e *Engine) RotationCollector() prometheus.Collector { return newRotationCollector(e) }

// RotationOverdue decides with the period of a path rule.
func RotationOverdue(state *fsm.State, s *fsm.Secret, period time.Duration, now time.Time) bool {
	return rotationOverdue(state, s, period, now)
}
