package engine

import (
	"context"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// ownName is the principal of what the cluster does by itself. No principal
// of the state can have it: a colon is in no name.
const ownName = "strongroom:leader"

// rotateDue rotates the keys whose time has come, and those that have sealed
// half as often as one version may. Apply accepts a version only as the next
// one, so two leaders in a hand-over make one.
func (e *Engine) rotateDue(ctx context.Context) {
	state, err := e.Log.ReadState(ctx)
	if err != nil {
		return
	}
	now := e.Now().UnixMilli()
	for key := range state.RotationsDue(now) {
		if !e.rotateByItself(ctx, key) {
			return // the HSM or the log does not answer: the next tick tries again
		}
	}
	for key := range state.Keys("") {
		worn := key.Current > 0 && key.Versions[key.Current-1].Reserved > fsm.MaxSeals/2 && key.Origin == fsm.OriginHSM
		if worn && fsm.RuleFor(key.State, fsm.KeyRotate).Refused == "" && !e.rotateByItself(ctx, key) {
			return
		}
	}
}

// rotateByItself rotates one key and reports whether to go on.
func (e *Engine) rotateByItself(ctx context.Context, key *fsm.Key) bool {
	if e.Trail.Ready() != nil {
		return false
	}
	meta := fsm.Meta{Time: e.Now().UnixMilli(), Principal: ownName, RequestID: uuid.NewString()}
	result, err := e.rotate(ctx, key, meta)
	if err == nil && result.Refused != nil {
		err = fault.New(fault.Kind(result.Refused.Code), "%s", result.Refused.Message)
	}
	if ctx.Err() != nil || fault.Is(err, fault.NoLeader) {
		return false
	}
	e.record(ctx, meta, audit.Event{Event: "kms.rotate_key", KeyID: key.ID, Version: uint64(result.KeyVersion), Index: result.Index}, err)
	if err != nil {
		e.metrics.rotations.WithLabelValues("failed").Inc()
		e.Logger.Warn("a key that is due could not be rotated; it is tried again", "keyId", key.ID, "error", err)
		return !fault.Is(err, fault.HsmUnavailable)
	}
	e.metrics.rotations.WithLabelValues("ok").Inc()
	e.Logger.Info("a key was rotated", "keyId", key.ID, "keyVersion", result.KeyVersion)
	return true
}

// record writes the event of something that the leader did by itself. It is
// done by then: a trail that cannot take the event ends this leadership.
func (e *Engine) record(ctx context.Context, meta fsm.Meta, event audit.Event, err error, inner ...audit.Event) {
	event.Outcome, event.Code = outcome(err)
	events := append(inner, event)
	now := e.Now()
	for i := range events {
		events[i].Time, events[i].RequestID, events[i].Principal = now, meta.RequestID, meta.Principal
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	if _, err := e.Trail.Append(ctx, events); err != nil {
		e.auditFailed(err)
	}
}

// writeUses writes when keys were used last. An idle cluster writes nothing.
func (e *Engine) writeUses(ctx context.Context) {
	state, err := e.Log.ReadState(ctx)
	if err != nil {
		return
	}
	uses := e.uses.unwritten(state)
	if len(uses) == 0 {
		return
	}
	command, err := fsm.Encode(fsm.RecordKeyUse{Meta: fsm.Meta{Time: e.Now().UnixMilli(), Principal: ownName}, Uses: uses})
	if err != nil {
		e.Logger.Error("the use of keys could not be encoded", "error", err)
		return
	}
	if _, err := e.Log.Propose(ctx, command); err != nil && ctx.Err() == nil && !fault.Is(err, fault.NoLeader) {
		e.Logger.Warn("the use of keys could not be committed; it is tried again", "error", err)
	}
}
