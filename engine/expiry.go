package engine

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// tellBatch bounds what one tick tells, so that many versions that fall due
// together neither hold up the log nor fill the trail at once.
const tellBatch = 100

// tellExpiries writes the event of each version that is to be told of because
// it expires soon. Apply accepts one mark for each version, and whose mark it
// was writes the event: two leaders in a hand-over tell it once.
func (e *Engine) tellExpiries(ctx context.Context) {
	state, err := e.Log.ReadState(ctx)
	if err != nil {
		return
	}
	told := 0
	for s, v := range state.ExpiriesDue(e.Now().UnixMilli()) {
		if told++; told > tellBatch || !e.tellExpiry(ctx, s, v) {
			return // the next tick goes on
		}
	}
}

// tellExpiry tells of one version and reports whether to go on. A trail that
// cannot take the event is found before the mark is made.
func (e *Engine) tellExpiry(ctx context.Context, s *fsm.Secret, v *fsm.Version) bool {
	if e.Trail.Ready() != nil {
		return false
	}
	meta := fsm.Meta{Time: e.Now().UnixMilli(), Principal: ownName, RequestID: uuid.NewString()}
	command, err := fsm.Encode(fsm.NoteExpiry{Meta: meta, Path: string(s.Path), SecretID: s.ID, Version: v.Number})
	if err != nil {
		e.Logger.Error("the mark of an expiry could not be encoded", "error", err)
		return false
	}
	result, err := e.Log.Propose(ctx, command)
	if err != nil {
		if !fault.Is(err, fault.NoLeader) && ctx.Err() == nil {
			e.Logger.Warn("the mark of an expiry could not be committed; it is tried again", "error", err)
		}
		return false
	}
	if result.Refused != nil {
		return true // somebody was faster, or it was disabled or destroyed meanwhile
	}
	e.record(ctx, meta, audit.Event{
		Event: "secrets.version_expires_soon", Path: string(s.Path), KeyID: v.KeyID, Version: v.Number, Index: result.Index,
		Reason: "expires " + time.UnixMilli(v.ExpiresAt).UTC().Format(time.RFC3339),
	}, nil)
	return true
}
