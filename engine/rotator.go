package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// Rotator brings the values of one kind of rotation into force at their
// target. Its methods are the steps. Each may be called again for the same
// version, by this leader or the next, and must then come to the same end:
// nobody can know whether a step that was cut off had arrived.
//
// Errors are *fault.Error with a text that may be shown and names no value; an
// attempt that fails is repeated with growing pauses.
type Rotator interface {
	// Check refuses settings that cannot be served, naming the field. It
	// speaks to nobody.
	Check(s wire.RotationSettings) error
	// Create answers the value of the next version.
	Create(ctx context.Context, t RotationTask) (NewValue, error)
	// Set brings the pending version into force, Test uses it.
	Set(ctx context.Context, t RotationTask) error
	Test(ctx context.Context, t RotationTask) error
	// Tells reports whether the target wants to hear of the activation.
	Tells() bool
	Tell(ctx context.Context, t RotationTask) error
	// RollBack brings the current version into force again. Without a pending
	// version nothing was set.
	RollBack(ctx context.Context, t RotationTask) (RolledBack, error)
}

// NewValue is what Create made; the engine wipes it.
type NewValue struct {
	Value       secret.Bytes
	ContentType string
}

// RolledBack is what a target has after the way back.
type RolledBack struct {
	// Forward: the pending version is in force and the current one cannot be
	// brought back, so the way on is to finish.
	Forward bool
	// Keep: the target may have the pending version, so it must not be lost.
	Keep bool
}

// RotationTask is one step of one rotation. The functions open values: each
// call is an event in the trail, and the engine wipes what they answered when
// the step has ended.
type RotationTask struct {
	Settings   wire.RotationSettings
	Path       string
	RotationID string
	Attempt    uint32 // of this step, from 1
	Version    uint64 // the pending one, 0: not made yet
	Current    uint64 // 0: none yet

	// OpenCurrent and OpenPending answer no bytes where there is no version;
	// OpenAdmin and OpenSigning open the current version of the secrets that
	// the settings name.
	OpenCurrent func(ctx context.Context) (secret.Bytes, error)
	OpenPending func(ctx context.Context) (secret.Bytes, error)
	OpenAdmin   func(ctx context.Context) (secret.Bytes, error)
	OpenSigning func(ctx context.Context) (secret.Bytes, error)
	// Generate makes a value as the settings say.
	Generate func(ctx context.Context) (NewValue, error)
}

// targetFailed is the code of an event whose step failed at its target. No
// request is answered with it.
const targetFailed fault.Kind = "TargetFailed"

// TargetError is what a Rotator answers when its target is away, refuses or
// does not do what it should. The text may be shown: it must be words of the
// rotator, never what the target sent, which may quote a password.
func TargetError(cause error, format string, args ...any) error {
	return fault.Wrap(targetFailed, cause, format, args...)
}
