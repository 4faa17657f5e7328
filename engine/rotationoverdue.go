package engine

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// overdueEvery is how often the leader looks for rotations that are overdue,
// and maxOverdueTold bounds the events of one look.
const (
	overdueEvery   = 5 * time.Minute
	maxOverdueTold = 1000
)

// tellOverdue writes an event for each rotation that has become overdue since
// this node leads. Which ones were told is kept in memory: after a change of
// leader those that still are will be told again, and none is missed.
func (e *Engine) tellOverdue(ctx context.Context) {
	told := map[names.Path]uint64{} // → the version that should have been replaced
	every(ctx, overdueEvery, func(ctx context.Context) { e.tellOverdueSince(ctx, told) })
}

func (e *Engine) tellOverdueSince(ctx context.Context, told map[names.Path]uint64) {
	state := e.Log.Local()
	if e.Trail.Ready() != nil {
		return
	}
	late := lateRotations(state, e.Now())
	for path, version := range told {
		if now, still := late[path]; !still || now != version {
			delete(told, path)
		}
	}
	for path, version := range late {
		if _, done := told[path]; done || len(told) >= maxOverdueTold {
			continue
		}
		told[path] = version
		e.record(ctx, fsm.Meta{Principal: rotatorName, RequestID: uuid.NewString()}, audit.Event{
			Event: "secrets.rotation_overdue", Path: string(path), Version: version, Index: state.Index(),
		}, nil)
	}
}

// lateRotations answers the secrets whose rotation is overdue, by their own
// settings or by a path rule, with their current versions.
func lateRotations(state *fsm.State, now time.Time) map[names.Path]uint64 {
	late := map[names.Path]uint64{}
	note := func(s *fsm.Secret) {
		if s.State == fsm.SecretActive && rotationOverdue(state, s, rotationPeriodOf(state, s.Path), now) {
			late[s.Path] = s.Current
		}
	}
	for s := range state.SecretRotations() {
		note(s)
	}
	for rule := range state.PathRules("") {
		if rule.RotationPeriod != 0 {
			for s := range state.Secrets(rule.Prefix) {
				note(s)
			}
		}
	}
	return late
}
