package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Pace of checkpoints.
const (
	// DefaultCheckpointEvery and DefaultCheckpointEvents: a chain that has grown
	// is signed after so long, and after so many events.
	DefaultCheckpointEvery  = time.Minute
	DefaultCheckpointEvents = 1000

	lookEvery  = time.Second
	makeEvery  = 2 * time.Second
	pruneEvery = time.Minute
)

// RunCheckpoints signs what the chains on this node hold, and prunes them,
// until ctx ends. Each node signs each chain that it holds, its own and the
// copies of others': the key is the cluster's, the trees are the same, and a
// chain that went another way on one node shows in two signatures that do not
// agree.
//
// Signatures of checkpoints are no events: they would be in the next one, and
// an idle cluster would never come to rest.
func (e *Engine) RunCheckpoints(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() { every(ctx, pruneEvery, e.pruneChains) })
	work.Go(func() { every(ctx, lookEvery, e.signChains) })
	work.Wait()
}

// signChains opens, first, what it has not opened yet.
func (e *Engine) signChains(ctx context.Context) {
	for _, h := range e.heldChains("") {
		if err := e.signChain(ctx, h, false); err != nil && ctx.Err() == nil {
			e.tellUnsigned(ctx, h, err)
		}
	}
}

// tellUnsigned says why a chain was not signed: once, with an event, if it is
// not the one that was signed before.
func (e *Engine) tellUnsigned(ctx context.Context, h *heldChain, err error) {
	member := h.store.Node()
	if errors.Is(err, errNoAuditKey) {
		return // it is made in a moment
	}
	if mismatch(err) == nil {
		e.metrics.checkpoints.WithLabelValues("failed").Inc()
		e.Logger.Debug("a checkpoint of an audit trail could not be signed; it is tried again", "member", member, "error", err)
		return
	}
	e.metrics.chainBroken.WithLabelValues(member).Set(1)
	if h.told {
		return
	}
	h.told = true
	e.Logger.Error("an audit trail is not the one that was signed: events were removed or changed; it is not signed any more", "member", member, "error", err)
	e.record(ctx, e.ownMeta(), audit.Event{Event: "audit.chain_broken", Reason: fmt.Sprintf("the trail of %s: %v", member, err)}, err)
}

// ownMeta is the meta of what a node does by itself.
func (e *Engine) ownMeta() fsm.Meta {
	return fsm.Meta{Time: e.Now().UnixMilli(), Principal: ownName, RequestID: uuid.NewString()}
}

// signChain signs a chain if it is due, or now if it has grown at all.
func (e *Engine) signChain(ctx context.Context, h *heldChain, now bool) error {
	prover, err := h.open(ctx, e.ClusterID)
	if err == nil {
		err = prover.Broken()
	}
	if err != nil {
		return err
	}
	e.metrics.chainBroken.WithLabelValues(h.store.Node()).Set(0)
	_, signed, at := prover.State()
	settled := h.store.Settled().Sequence
	e.metrics.signedEvents.WithLabelValues(h.store.Node()).Set(float64(signed))
	e.metrics.unsignedEvents.WithLabelValues(h.store.Node()).Set(float64(settled - min(settled, signed)))
	if !at.IsZero() {
		e.metrics.signedAt.WithLabelValues(h.store.Node()).Set(float64(at.UnixMilli()) / 1000)
	}
	due := settled > signed && (now || e.Now().Sub(at) >= e.CheckpointEvery || settled-signed >= e.CheckpointEvents)
	if !due {
		return nil
	}
	key, err := e.auditKey()
	if err != nil {
		return err
	}
	statement, err := prover.Statement(ctx, e.Now())
	if err != nil {
		return err
	}
	note, err := e.signStatement(ctx, key, statement)
	if err != nil {
		return err
	}
	if err := prover.Keep(note, statement); err != nil {
		return err
	}
	e.metrics.checkpoints.WithLabelValues("ok").Inc()
	e.metrics.signedEvents.WithLabelValues(h.store.Node()).Set(float64(statement.Size))
	e.metrics.unsignedEvents.WithLabelValues(h.store.Node()).Set(0)
	e.metrics.signedAt.WithLabelValues(h.store.Node()).Set(float64(statement.Time.UnixMilli()) / 1000)
	e.Logger.Debug("signed a checkpoint of an audit trail", "member", h.store.Node(), "events", statement.Size)
	return nil
}

// signStatement has the HSM sign. The signature is verified before it is
// used: a note that does not verify would be worth nothing, for ever.
func (e *Engine) signStatement(ctx context.Context, key *fsm.Key, c checkpoint.Checkpoint) ([]byte, error) {
	digest := c.Digest()
	signature, version, err := e.KMS.Sign(ctx, key, wrapped.ECDSASHA256, digest[:])
	if err != nil {
		return nil, err
	}
	public, err := e.publicAuditKey(ctx, key, version)
	if err != nil {
		return nil, err
	}
	return c.Note(public, signature)
}

func (e *Engine) publicAuditKey(ctx context.Context, key *fsm.Key, version uint32) (checkpoint.Key, error) {
	text, _, err := e.KMS.PublicKey(ctx, key, version)
	if err != nil {
		return checkpoint.Key{}, err
	}
	keys, err := checkpoint.ParseKeys([]byte(text))
	if err != nil {
		return checkpoint.Key{}, err
	}
	return keys[0], nil
}

var errNoAuditKey = fault.New(fault.NotFound, "the cluster has no key for its audit trails yet; the leader makes one once the root key is in use")

// auditKey answers the key that signs, as this node knows it.
func (e *Engine) auditKey() (*fsm.Key, error) {
	state := e.Log.Local()
	if id := e.auditKeyID.Load(); id != nil {
		if key := state.Key(*id); key != nil {
			return key, nil
		}
	}
	key := state.KeyFor(fsm.PurposeAudit)
	if key == nil {
		return nil, errNoAuditKey
	}
	e.auditKeyID.Store(&key.ID)
	return key, nil
}

// makeAuditKey makes the cluster's key for checkpoints, once in its life.
func (e *Engine) makeAuditKey(ctx context.Context) {
	if _, err := e.auditKey(); err == nil {
		return // what was applied here stays so: nothing to confirm, nothing to search
	}
	state, err := e.Log.ReadState(ctx)
	if err != nil || e.Trail.Ready() != nil || state.Genesis() == nil || state.KeyFor(fsm.PurposeAudit) != nil {
		return
	}
	id, meta := uuid.NewString(), e.ownMeta()
	material, err := e.KMS.GenerateKey(ctx, id, 1, wrapped.ECP256, wrapped.Sign)
	if err != nil {
		return // the HSM is away, or the root key is not in use yet: again soon
	}
	key := fsm.Key{
		ID: id, Spec: wrapped.ECP256, Usage: wrapped.Sign, Origin: fsm.OriginHSM, State: fsm.KeyActive, Purpose: fsm.PurposeAudit,
		Description: "signs the checkpoints of the audit trails", Current: 1, Versions: []fsm.KeyVersion{{Wrapped: material, CreatedAt: meta.Time}},
	}
	_, err = e.proposeOwn(ctx, fsm.CreateKey{Meta: meta, Key: key})
	switch {
	case err == nil:
		e.record(ctx, meta, audit.Event{Event: "kms.create_key", KeyID: id, Reason: "the cluster's own, for its audit trails"}, nil)
	case !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NoLeader) && ctx.Err() == nil:
		e.Logger.Warn("the key for checkpoints of the audit trails could not be made; it is tried again", "error", err)
	}
}

// pruneChains compresses full files of copies, and lets go of the oldest events that retention does not keep: of
// what a checkpoint is over, what every sink has taken, and what is sealed.
func (e *Engine) pruneChains(ctx context.Context) {
	if e.Copies != nil {
		e.Copies.Seal(ctx)
	}
	if e.Retention == (audit.Retention{}) || e.Trail.Ready() != nil {
		return
	}
	for _, h := range e.heldChains("") {
		upTo, err := h.store.Expired(e.Retention, e.Now())
		if err == nil && h.store == e.Trail.Store && e.StillNeeded != nil {
			upTo = min(upTo, max(e.StillNeeded(), 1)-1)
		}
		before := h.store.PrunedTo()
		if err == nil && upTo > before {
			now, failed := e.pruneChain(ctx, h, upTo)
			if err = failed; err == nil && now > before {
				e.record(ctx, e.ownMeta(), audit.Event{
					Event:  "audit.prune",
					Reason: fmt.Sprintf("the events %d to %d of the trail of %s are not kept any more", before+1, now, h.store.Node()),
				}, nil)
			}
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			e.Logger.Warn("an audit trail could not be pruned; it is tried again", "member", h.store.Node(), "error", err)
		}
	}
}

func (e *Engine) pruneChain(ctx context.Context, h *heldChain, upTo uint64) (uint64, error) {
	prover, err := h.open(ctx, e.ClusterID)
	if err != nil {
		return 0, err
	}
	return prover.Prune(ctx, upTo, e.Now())
}
