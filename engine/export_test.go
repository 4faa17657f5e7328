package engine

import (
	"context"
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/names"
)

// What tests drive step by step instead of waiting for a tick.

// Reap is one tick of the reaper.
func (e *Engine) Reap(ctx context.Context) { e.reap(ctx) }

// MakeAuditKey is one tick of what makes the key for checkpoints, SignChains of
// what signs them, PruneChains of what prunes the chains.
func (e *Engine) MakeAuditKey(ctx context.Context) { e.makeAuditKey(ctx) }
func (e *Engine) SignChains(ctx context.Context)   { e.signChains(ctx) }
func (e *Engine) PruneChains(ctx context.Context)  { e.pruneChains(ctx) }

// RotateDue is one tick of the rotation of keys.
func (e *Engine) RotateDue(ctx context.Context) { e.rotateDue(ctx) }

// TellExpiries is one tick of what tells of versions that expire.
func (e *Engine) TellExpiries(ctx context.Context) { e.tellExpiries(ctx) }

// AskClocks is one tick of what judges this node's clock.
func (e *Engine) AskClocks(ctx context.Context) { e.askClocks(ctx) }

// ClockCollector is what New registers.
func (e *Engine) ClockCollector() prometheus.Collector { return newClockCollector(e) }

// KeepBackup saves, verifies and prunes once.
func (e *Engine) KeepBackup(ctx context.Context) { e.keepBackup(ctx) }

// BackupDue reports whether a backup is due.
func (e *Engine) BackupDue() bool { return e.backupDue() }

// WriteUses is one tick of what keeps the last use of keys.
func (e *Engine) WriteUses(ctx context.Context) { e.writeUses(ctx) }

// FlushLedger and SettleSessions are ticks of what keeps the ledger.
func (e *Engine) FlushLedger(ctx context.Context)    { e.flushLedger(ctx) }
func (e *Engine) SettleSessions(ctx context.Context) { e.settleSessions(ctx) }

// TellLeader is a tick of a node that follows.
func (e *Engine) TellLeader(ctx context.Context) { e.tellLeader(ctx) }

// Lent answers the numbers of what nodes that follow are handing out.
func (e *Engine) Lent() []uint64 {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	return slices.Collect(maps.Keys(e.ledger.lentOut))
}

// FollowTable answers why operations are not served by nodes that follow, ""
// for those that are.
func FollowTable() map[string]string { return maps.Clone(follows) }

// HandsOut reports whether a session is open on this node.
func (e *Engine) HandsOut() bool { return e.ledger.current() != 0 }

// Waits answers all that requests to this node may be waiting for: that a
// version is not closed any more, that a session opens, and that what is lent
// has landed.
func (e *Engine) Waits() (out []<-chan struct{}) {
	l := e.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.closed {
		out = append(out, c.done)
	}
	if l.session == 0 && l.opened != nil {
		out = append(out, l.opened)
	}
	if l.landing != nil {
		out = append(out, l.landing)
	}
	return out
}

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

// StockCollector counts what there is.
func (e *Engine) StockCollector() prometheus.Collector { return newStockCollector(e) }

// RotationCollector counts what rotations need.
func (e *Engine) RotationCollector() prometheus.Collector { return newRotationCollector(e) }

// RotationOverdue decides with the period of a path rule.
func RotationOverdue(state *fsm.State, s *fsm.Secret, period time.Duration, now time.Time) bool {
	return rotationOverdue(state, s, period, now)
}

// CompiledPolicies is how many policies are kept, compiled.
func (e *Engine) CompiledPolicies() int { return e.policies.Len() }

// Notice lets the detectors look once, and Leads says whether this node writes
// what they find.
func (e *Engine) Notice(ctx context.Context) { e.notice(ctx) }

// Noticing reports whether the detectors follow the trails.
func (e *Engine) Noticing() bool   { return e.noticer.begun }
func (e *Engine) Leads(leads bool) { e.noticer.leads.Store(leads) }

// Alerts counts the alerts that were written, and NoticeCollector what is not
// trusted.
func (e *Engine) Denials() *prometheus.CounterVec       { return e.metrics.denials }
func (e *Engine) Alerts() *prometheus.CounterVec        { return e.metrics.alerts }
func (e *Engine) NoticeCollector() prometheus.Collector { return newNoticeCollector(e) }

// WriteCredentialUses is one tick of what keeps the last use of credentials.
func (e *Engine) WriteCredentialUses(ctx context.Context) { e.writeCredentialUses(ctx) }

// SignedRefusals counts what New registers, by reason.
func (e *Engine) SignedRefusals() *prometheus.CounterVec { return e.metrics.signed }

// Bounds of what is remembered of signatures.
const (
	MaxNonces    = maxNonces
	MaxKeyNonces = maxKeyNonces
)

// AcceptSignatures has n requests of key with this date accepted, as if they
// had been signed, and answers the first refusal.
func (e *Engine) AcceptSignatures(key string, date time.Time, n int) error {
	session := e.ledger.current()
	for i := range n {
		s := sighting{session: session, key: key, date: date, request: "filler"}
		copy(s.signature[:], key)
		binary.BigEndian.PutUint32(s.signature[20:], uint32(i))
		binary.BigEndian.PutUint64(s.signature[24:], uint64(date.UnixNano()))
		if err := e.nonces.take(s, date); err != nil {
			return err
		}
	}
	return nil
}

// GlassCollector counts break-glass sessions and their duties.
func (e *Engine) GlassCollector() prometheus.Collector { return newGlassCollector(e) }

// AnchorHeads is what a leader does each second.
func (e *Engine) AnchorHeads(ctx context.Context) { e.anchorHeads(ctx) }

// CheckChains is what each node does each second.
func (e *Engine) CheckChains(ctx context.Context) { e.checkChains(ctx) }

// SignStatement signs whatever it is given with the cluster's key for
// checkpoints.
func (e *Engine) SignStatement(ctx context.Context, c checkpoint.Checkpoint) ([]byte, error) {
	key, err := e.auditKey()
	if err != nil {
		return nil, err
	}
	return e.signStatement(ctx, key, c)
}
