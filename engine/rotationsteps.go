package engine

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
)

// attempt does one step at the target, then proposes what follows from it.
// The command comes last: a leader that dies between the two repeats the step,
// which comes to the same end.
func (t *turn) attempt(ctx context.Context) (fsm.Result, error) {
	if t.rotator == nil && t.settings.Kind != rotateByGenerate {
		return fsm.Result{}, fault.New(fault.InvalidRequest, "rotation.kind: this node does not know the kind %s", t.settings.Kind)
	}
	switch t.run.Step {
	case fsm.RotationCreate:
		return t.create(ctx)
	case fsm.RotationSet:
		if t.rotator != nil {
			if err := t.rotator.Set(ctx, t.task); err != nil {
				return fsm.Result{}, err
			}
		}
		return t.advance(ctx, fsm.RotationTest, nil)
	case fsm.RotationTest:
		if t.rotator != nil {
			if err := t.rotator.Test(ctx, t.task); err != nil {
				return fsm.Result{}, err
			}
		}
		return t.advance(ctx, fsm.RotationFinish, nil)
	case fsm.RotationFinish:
		return t.end(ctx, fsm.EndRotation{Tell: t.rotator != nil && t.rotator.Tells()})
	case fsm.RotationTell:
		if t.rotator != nil {
			if err := t.rotator.Tell(ctx, t.task); err != nil {
				return fsm.Result{}, err
			}
		}
		return t.end(ctx, fsm.EndRotation{})
	case fsm.RotationRollBack:
		return t.rollBack(ctx)
	}
	return fsm.Result{}, fault.New(fault.InvalidRequest, "rotation: this node does not know the step %s", t.run.Step)
}

// create makes the value of the next version and stores it, pending, before
// the target hears of it: whatever happens to this leader, the value that the
// target may get is in the state.
func (t *turn) create(ctx context.Context) (fsm.Result, error) {
	unlock, err := t.engine.locks.lock(ctx, t.secret.Path)
	if err != nil {
		return fsm.Result{}, err
	}
	defer unlock()
	made, err := t.newValue(ctx)
	if err != nil {
		return fsm.Result{}, err
	}
	value := &wire.Value{Bytes: t.reveal(made.Value)}
	if err := t.engine.checkValue("value", value); err != nil {
		return fsm.Result{}, err
	}
	if err := checkContentType(made.ContentType); err != nil {
		return fsm.Result{}, err
	}
	key := t.state.Key(t.secret.KeyID)
	if key == nil {
		return fsm.Result{}, fault.New(fault.Internal, "the secret is bound to key %s, which is not there", t.secret.KeyID)
	}
	next := fsm.NewVersion{
		Number: t.secret.Latest + 1, VersionID: uuid.NewString(), ContentType: made.ContentType, Reason: "rotation " + t.run.ID,
	}
	sealed, err := t.seal(ctx, key, t.secret.Path, t.secret.ID, next, value)
	if err != nil {
		return fsm.Result{}, err
	}
	t.event.Version = next.Number
	to := fsm.RotationSet
	if t.rotator == nil {
		to = fsm.RotationFinish
	}
	return t.advance(ctx, to, sealed)
}

func (t *turn) newValue(ctx context.Context) (NewValue, error) {
	if t.rotator != nil {
		return t.rotator.Create(ctx, t.task)
	}
	return t.task.Generate(ctx)
}

func (t *turn) rollBack(ctx context.Context) (fsm.Result, error) {
	var back RolledBack
	if t.rotator != nil {
		var err error
		if back, err = t.rotator.RollBack(ctx, t.task); err != nil {
			return fsm.Result{}, err
		}
	}
	// Forward is the way only if finish can go it: not against a person, and
	// not over a version that became current meanwhile.
	if back.Forward && !t.run.Cancelled && t.secret.Current == t.run.From {
		return t.advance(ctx, fsm.RotationFinish, nil)
	}
	end := fsm.EndRotation{Keep: back.Keep || back.Forward}
	if t.secret.Rotation.NextAt != 0 && t.secret.Rotation.NextAt <= t.now.UnixMilli() {
		end.RetryAt = t.now.Add(pause(againFirst, againMost, 2, t.secret.Rotation.Failures)).UnixMilli()
	}
	return t.end(ctx, end)
}

func (t *turn) advance(ctx context.Context, to fsm.RotationStep, version *fsm.NewVersion) (fsm.Result, error) {
	command := fsm.AdvanceRotation{
		Meta: t.stamp(), Path: string(t.secret.Path), SecretID: t.secret.ID, ID: t.run.ID, Step: t.run.Step, To: to,
	}
	if version != nil {
		command.Version, command.From = version, t.secret.Current
	}
	if t.run.Step == fsm.RotationRollBack {
		command.Error = t.run.LastError
	}
	return t.propose(ctx, command)
}

func (t *turn) end(ctx context.Context, command fsm.EndRotation) (fsm.Result, error) {
	command.Meta, command.Path, command.SecretID = t.stamp(), string(t.secret.Path), t.secret.ID
	command.ID, command.Step = t.run.ID, t.run.Step
	command.NextAt = nextRotation(t.settings, t.now)
	return t.propose(ctx, command)
}

// makeTask lays out what the target may ask for.
func (t *turn) makeTask() {
	settings := settingsOf(t.settings)
	t.task = RotationTask{
		Settings: settings, Path: string(t.secret.Path), RotationID: t.run.ID, Attempt: t.run.Attempts + 1,
		Version: t.run.Version, Current: t.secret.Current,
		OpenCurrent: func(ctx context.Context) (secret.Bytes, error) { return t.open(ctx, t.secret.Path, t.secret.Current) },
		OpenPending: func(ctx context.Context) (secret.Bytes, error) { return t.open(ctx, t.secret.Path, t.run.Version) },
		OpenAdmin: func(ctx context.Context) (secret.Bytes, error) {
			return t.openOther(ctx, "rotation.adminSecret", settings.AdminSecret)
		},
		OpenSigning: func(ctx context.Context) (secret.Bytes, error) {
			return t.openOther(ctx, "rotation.signingSecret", settings.SigningSecret)
		},
		Generate: func(ctx context.Context) (NewValue, error) {
			spec := wire.GenerateSpec{Kind: "password", Include: []string{"lower", "upper", "digits"}}
			if settings.Generate != nil {
				spec = *settings.Generate
			}
			recipe, err := recipeFor(spec, t.engine.MaxValueBytes)
			if err != nil {
				return NewValue{}, err
			}
			value, err := t.make(ctx, recipe)
			if err != nil {
				return NewValue{}, err
			}
			return NewValue{Value: value.Bytes, ContentType: recipe.contentType}, nil
		},
	}
}

// openOther opens the current version of a secret that the settings name. The
// right to read it was checked when they were made.
func (t *turn) openOther(ctx context.Context, field, path string) (secret.Bytes, error) {
	s := t.state.Secret(names.Path(path))
	if path == "" || s == nil || s.State != fsm.SecretActive || s.Current == 0 {
		return secret.Bytes{}, fault.New(fault.NotFound, "%s: there is no secret %s with a current version any more", field, path)
	}
	return t.open(ctx, s.Path, s.Current)
}

// open opens one version for this step, and tells of it: who reads the trail
// sees each value that a rotation has had in its hands. A version that was
// disabled is opened, too: one that has leaked is what rotations are for.
func (t *turn) open(ctx context.Context, path names.Path, number uint64) (secret.Bytes, error) {
	s, v := t.state.Secret(path), t.state.Version(path, number)
	if number == 0 {
		return secret.Bytes{}, nil
	}
	event := audit.Event{Event: "secrets.get_value", Path: string(path), Version: number, Index: t.index, Reason: "rotation " + t.run.ID}
	var plain secret.Bytes
	err := error(fault.New(fault.VersionNotActive, "version: version %d of %s is destroyed; the rotation cannot go on with it", number, path))
	if s != nil && v != nil && v.State != fsm.VersionDestroyed {
		plain, err = t.openOnly(ctx, s, v)
	}
	event.Outcome, event.Code = outcome(err)
	t.items = append(t.items, event)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("open %s: %w", path, err)
	}
	return t.reveal(plain), nil
}
