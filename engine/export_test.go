package engine

import (
	"context"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

// What tests drive step by step instead of waiting for a tick.

// Reap is one tick of the reaper.
func (e *Engine) Reap(ctx context.Context) { e.reap(ctx) }

// RotateDue is one tick of the rotation of keys.
func (e *Engine) RotateDue(ctx context.Context) { e.rotateDue(ctx) }

// TellExpiries is one tick of what tells of versions that expire.
func (e *Engine) TellExpiries(ctx context.Context) { e.tellExpiries(ctx) }

// AskClocks is one tick of what judges this node's clock.
func (e *Engine) AskClocks(ctx context.Context) { e.askClocks(ctx) }

// ClockCollector is what New registers.
func (e *Engine) ClockCollector() prometheus.Collector { return newClockCollector(e) }

// WriteUses is one tick of what keeps the last use of keys.
func (e *Engine) WriteUses(ctx context.Context) { e.writeUses(ctx) }

// FlushLedger and SettleSessions are ticks of what keeps the ledger.
func (e *Engine) FlushLedger(ctx context.Context)    { e.flushLedger(ctx) }
func (e *Engine) SettleSessions(ctx context.Context) { e.settleSessions(ctx) }

// JobStep is one step of a job, decided on state.
func (e *Engine) JobStep(ctx context.Context, state *fsm.State, job *fsm.Job, n int) (int, error) {
	return e.jobStep(ctx, state, job, n)
}

// Generate makes one value of spec.
func Generate(spec wire.GenerateSpec, random io.Reader) ([]byte, float64, error) {
	r, err := recipeFor(spec, DefaultMaxValue)
	if err != nil {
		return nil, 0, err
	}
	value, err := r.make(random)
	return value, r.bits, err
}

// SlowWaiting is how many slow values may wait for their turn.
const SlowWaiting = maxSlowWaiting

// EnterSlow takes a turn at what is slow.
func (e *Engine) EnterSlow(ctx context.Context) (func(), error) { return e.slow.enter(ctx) }

// PageWork bounds the work of a page.
const PageWork = pageWork

// ListPage answers one page of listSecrets for a caller with these rules, how
// much work it was, and where the next one begins if there is one.
func ListPage(state *fsm.State, rules iam.Rules, r *wire.ListSecretsRequest, limit int, after string) (out *wire.ListSecretsResponse, work int, next string, more bool) {
	c := &call{state: state, rules: rules}
	l := newLister(c, r, page{limit: limit, after: after})
	end := l.run()
	return l.out, pageWork - l.work, l.place, end != nothingLeft
}

// SlowFull reports whether nobody more may wait.
func (e *Engine) SlowFull() bool { return len(e.slow.waiting) == cap(e.slow.waiting) }

// ListPageOf is ListPage with so much work, and without its count.
func ListPageOf(state *fsm.State, rules iam.Rules, r *wire.ListSecretsRequest, limit, work int, after string) (out *wire.ListSecretsResponse, next string, more bool) {
	l := newLister(&call{state: state, rules: rules}, r, page{limit: limit, after: after})
	l.work = work
	end := l.run()
	return l.out, l.place, end != nothingLeft
}

// RotateSecrets is one tick of the rotation of secrets, to its end.
func (e *Engine) RotateSecrets(ctx context.Context) {
	for s := range e.Log.Local().SecretRotationsDue(e.Now().UnixMilli()) {
		e.rotateAsFarAsItGoes(ctx, s.Path)
	}
}

// RotateByRule is one tick of the rotations that path rules ask for.
func (e *Engine) RotateByRule(ctx context.Context) {
	for s := range e.rotationsDueByRule() {
		e.rotateAsFarAsItGoes(ctx, s.Path)
	}
}

// TellOverdue is one tick of what tells of overdue rotations.
func (e *Engine) TellOverdue(ctx context.Context, told map[names.Path]uint64) {
	e.tellOverdueSince(ctx, told)
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

// CompiledPolicies is how many policies are kept, compiled.
func (e *Engine) CompiledPolicies() int { return e.policies.Len() }

// WriteCredentialUses is one tick of what keeps the last use of credentials.
func (e *Engine) WriteCredentialUses(ctx context.Context) { e.writeCredentialUses(ctx) }
