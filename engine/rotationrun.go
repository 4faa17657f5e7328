package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// rotatorName is the principal of what rotations do. No principal of the
// state can have it: a colon is in no name.
const rotatorName = "system:rotation"

// Pace of rotations.
const (
	rotationEvery    = time.Second
	rotationsAtATime = 8
	// rotationStepTime bounds one attempt of one step. It is half of
	// fsm.RotationGap: what a leader that is gone had on its way has ended
	// before the next rotation of the secret can begin.
	rotationStepTime = 30 * time.Second

	retryFirst = 2 * time.Second // then four times as long each time
	retryMost  = 10 * time.Minute
	againFirst = 15 * time.Minute // after a rotation failed, then twice as long each time
	againMost  = 24 * time.Hour
)

// rotationSteps in the order in which they come.
var rotationSteps = []fsm.RotationStep{
	fsm.RotationCreate, fsm.RotationSet, fsm.RotationTest, fsm.RotationFinish, fsm.RotationTell, fsm.RotationRollBack,
}

// attemptsOf is how often a step is tried before the rotation rolls back, or
// gives up telling. The way back is tried for as long as it takes.
func attemptsOf(step fsm.RotationStep) uint32 {
	switch step {
	case fsm.RotationRollBack:
		return 0
	case fsm.RotationTell:
		return 10
	}
	return 5
}

// runSecretRotations takes rotations from step to step until ctx ends with
// the leadership. Where each has come to is in the state, so any leader goes
// on; see DESIGN.md for two that overlap.
func (e *Engine) runSecretRotations(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	var mu sync.Mutex
	busy := map[names.Path]bool{}
	every(ctx, rotationEvery, func(ctx context.Context) {
		for s := range e.Log.Local().SecretRotationsDue(e.Now().UnixMilli()) {
			mu.Lock()
			if busy[s.Path] || len(busy) >= rotationsAtATime {
				mu.Unlock()
				continue
			}
			busy[s.Path] = true
			mu.Unlock()
			work.Go(func() {
				defer func() { mu.Lock(); delete(busy, s.Path); mu.Unlock() }()
				e.rotateAsFarAsItGoes(ctx, s.Path)
			})
		}
	})
}

func (e *Engine) rotateAsFarAsItGoes(ctx context.Context, path names.Path) {
	for ctx.Err() == nil && e.rotationStep(ctx, path) {
	}
}

// turn is one attempt of one step: a call of the cluster itself, with the
// events and the request id of one.
type turn struct {
	*call
	secret   *fsm.Secret
	settings fsm.RotationSettings
	run      fsm.RotationRun
	rotator  Rotator // nil: generate
	task     RotationTask
}

// rotationStep does what is due for the rotation at path, one command, and
// reports whether there is more to do at once.
func (e *Engine) rotationStep(ctx context.Context, path names.Path) bool {
	if e.Trail.Ready() != nil {
		return false
	}
	state, err := e.Log.ReadState(ctx)
	if err != nil {
		return false
	}
	s := state.Secret(path)
	now := e.Now()
	if s == nil || s.State != fsm.SecretActive || s.Rotation == nil {
		return false
	}
	if at, ok := s.Rotation.DueAt(); !ok || at > now.UnixMilli() {
		return false
	}
	t := &turn{
		call:   &call{engine: e, from: Caller{RequestID: uuid.NewString()}, state: state, index: state.Index(), now: now, who: identity{name: rotatorName}},
		secret: s, settings: s.Rotation.Settings, rotator: e.Rotators[s.Rotation.Settings.Kind],
	}
	t.event.Path = string(path)
	if s.Rotation.Run == nil {
		return t.start(ctx)
	}
	t.run = *s.Rotation.Run
	t.event.Event = "secrets.rotation_step"
	t.event.Version = t.run.Version
	t.event.Reason = rotationSubject(string(t.run.Step), t.run.ID, "")
	t.makeTask()
	defer t.wipeAll()
	limited, cancel := context.WithTimeout(ctx, rotationStepTime)
	defer cancel()
	result, err := t.attempt(limited)
	return t.settle(ctx, result, err)
}

// start begins a rotation that its schedule asks for.
func (t *turn) start(ctx context.Context) bool {
	result, err := t.propose(ctx, fsm.StartRotation{
		Meta: t.stamp(), Path: string(t.secret.Path), SecretID: t.secret.ID, ID: uuid.NewString(), Scheduled: true,
	})
	if err != nil || result.Refused != nil {
		return false // no leader any more, or another one was faster
	}
	t.event.Event = "secrets.rotate"
	t.event.Reason = rotationSubject("start", result.Name, "")
	return t.tell(ctx, nil)
}

// stamp is the meta of this turn's commands.
func (t *turn) stamp() fsm.Meta {
	return fsm.Meta{Time: t.now.UnixMilli(), Principal: rotatorName, RequestID: t.from.RequestID}
}

// tell writes the events of the turn. It is done by then: a trail that cannot
// take them ends this leadership.
func (t *turn) tell(ctx context.Context, err error) bool {
	if auditErr := t.finish(ctx, err); auditErr != nil {
		t.engine.auditFailed(auditErr)
		return false
	}
	return true
}

// settle notes what became of an attempt.
func (t *turn) settle(ctx context.Context, result fsm.Result, err error) bool {
	if err == nil && result.Refused != nil && !result.Refused.Race {
		err = fault.New(fault.Kind(result.Refused.Code), "%s", result.Refused.Message)
	}
	switch {
	case fault.Is(err, fault.NoLeader) || fault.Is(err, fault.Uncertain) || ctx.Err() != nil:
		// Whoever leads next finds out from the state. What was opened is told.
		if len(t.items)+len(t.inner) > 0 {
			t.tell(ctx, err)
		}
		return false
	case err == nil && result.Refused != nil:
		return t.tell(ctx, nil) // a race: look again
	case err == nil:
		return t.tell(ctx, nil) && t.noteEnd(ctx)
	}
	return t.failed(ctx, err)
}

// failed decides what follows a failed attempt: another one, the way back, or
// the end of telling. What is wrong with this node, not with the target, never
// sends a rotation back.
func (t *turn) failed(ctx context.Context, cause error) bool {
	e, step := t.engine, t.run.Step
	e.metrics.rotationRetries.WithLabelValues(string(step)).Inc()
	e.Logger.Warn("a step of the rotation of a secret failed", "path", t.secret.Path, "step", step, "rotationId", t.run.ID,
		"attempt", t.task.Attempt, "requestId", t.from.RequestID, "error", cause)
	told := t.tell(ctx, cause)
	text := publicText(cause, t.from.RequestID)
	id := fsm.RetryRotation{Meta: t.stamp(), Path: string(t.secret.Path), SecretID: t.secret.ID, ID: t.run.ID, Step: step}
	limit := attemptsOf(step)
	exhausted := limit != 0 && t.task.Attempt >= limit && !fault.Is(cause, fault.HsmUnavailable) ||
		fault.Is(cause, fault.Conflict) || fault.Is(cause, fault.VersionNotActive) // a person was at it: trying again is no use
	var command fsm.Command
	switch {
	case !exhausted || step == fsm.RotationRollBack:
		id.Attempts, id.Error = t.run.Attempts, text
		id.NextAt = e.Now().Add(pause(retryFirst, retryMost, 4, t.run.Attempts)).UnixMilli()
		command = id
	case step == fsm.RotationTell:
		command = fsm.EndRotation{Meta: id.Meta, Path: id.Path, SecretID: id.SecretID, ID: id.ID, Step: step, Error: text}
	default:
		command = fsm.AdvanceRotation{
			Meta: id.Meta, Path: id.Path, SecretID: id.SecretID, ID: id.ID, Step: step, To: fsm.RotationRollBack, Error: text,
		}
	}
	result, err := t.propose(ctx, command)
	return err == nil && result.Refused == nil && told && exhausted
}

// noteEnd counts a rotation that has ended, and tells of one that failed.
func (t *turn) noteEnd(ctx context.Context) bool {
	state, err := t.engine.Log.ReadState(ctx)
	if err != nil {
		return false
	}
	s := state.Secret(t.secret.Path)
	if s == nil || s.Rotation == nil || s.Rotation.Run != nil && s.Rotation.Run.ID == t.run.ID {
		return s != nil
	}
	outcome := s.Rotation.Outcome
	t.engine.metrics.secretRotations.WithLabelValues(string(outcome)).Inc()
	t.engine.metrics.rotationSeconds.Observe(float64(s.Rotation.EndedAt-t.run.StartedAt) / 1000)
	t.engine.Logger.Info("the rotation of a secret has ended", "path", s.Path, "rotationId", t.run.ID, "outcome", outcome)
	if outcome != fsm.RotationDone {
		meta := fsm.Meta{RequestID: t.from.RequestID, Principal: rotatorName}
		t.engine.record(ctx, meta, audit.Event{
			Event: "secrets.rotation_failed", Path: string(s.Path), Version: t.run.Version, Index: state.Index(),
			Reason: cut(rotationSubject(string(outcome), t.run.ID, s.Rotation.LastError)),
		}, nil)
	}
	return false
}

// pause grows by factor with each failure, up to most.
func pause(first, most time.Duration, factor, failures uint32) time.Duration {
	for range failures {
		if first *= time.Duration(factor); first >= most {
			return most
		}
	}
	return first
}

// publicText is what of an error may stay in the state, where people read it:
// a fault's own words, and for all else where to look.
func publicText(err error, requestID string) string {
	if f := asFault(err); f != nil && f.Kind != fault.Internal {
		return cut(f.Message)
	}
	return fmt.Sprintf("a fault of the server; its log says more under the request id %s", requestID)
}

// cut bounds a text for the state and the trail.
func cut(text string) string {
	if len(text) <= 512 {
		return text
	}
	end := 512
	for end > 0 && text[end]&0xc0 == 0x80 { // not in the middle of a character
		end--
	}
	return text[:end]
}
