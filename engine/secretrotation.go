package engine

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/cron"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Bounds of schedules.
const (
	minInterval = time.Hour
	maxInterval = 3660 * 24 * time.Hour
	// overdueAfter is how long a rotation may be due before it counts as
	// overdue: attempts and pauses of one that is going well fit into it.
	overdueAfter = 10 * time.Minute

	rotateByGenerate = "generate"
	rotateByNothing  = "none"
)

func rotationOperations() []*Operation {
	return []*Operation{
		operation(row[wire.RotateSecretRequest, wire.RotationResponse]{
			service: "secrets", name: "rotateSecret", event: "secrets.rotate", write: true,
			summary: "Rotate a secret now, as its settings say; describeSecret shows how far it has come.",
			scope:   func(_ *call, r *wire.RotateSecretRequest) (scope, error) { return pathScope(r.Path) },
			run:     rotateSecret,
		}),
		operation(row[wire.CancelRotationRequest, wire.RotationResponse]{
			service: "secrets", name: "cancelRotation", event: "secrets.cancel_rotation", write: true, action: "secrets:rotateSecret",
			summary: "Abandon a rotation that is on its way: it rolls back.",
			scope:   func(_ *call, r *wire.CancelRotationRequest) (scope, error) { return pathScope(r.Path) },
			run:     cancelRotation,
		}),
	}
}

func rotateSecret(ctx context.Context, c *call, r *wire.RotateSecretRequest) (*wire.RotationResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.StartRotation{Meta: meta, Path: r.Path, ID: uuid.NewString(), Reason: r.Reason})
	if err != nil {
		return nil, err
	}
	c.event.Reason = rotationSubject("start", result.Name, r.Reason)
	return rotationAnswer(result), nil
}

func cancelRotation(ctx context.Context, c *call, r *wire.CancelRotationRequest) (*wire.RotationResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	command := fsm.CancelRotation{Meta: meta, Path: r.Path, Force: r.Force, Reason: r.Reason}
	if s := c.state.Secret(names.Path(r.Path)); s != nil && s.Rotation != nil {
		command.NextAt = nextRotation(s.Rotation.Settings, c.now)
	}
	result, err := c.commit(ctx, command)
	if err != nil {
		return nil, err
	}
	if result.State == string(fsm.RotationCancelled) { // by force: no step ends it
		c.engine.metrics.secretRotations.WithLabelValues(result.State).Inc()
	}
	c.event.Version = result.Version
	c.event.Reason = rotationSubject("cancel", result.Name, r.Reason)
	return rotationAnswer(result), nil
}

// rotationSubject is what an event says about a rotation.
func rotationSubject(what, id, reason string) string {
	out := what + " rotation " + id
	if reason != "" {
		out += ": " + reason
	}
	return out
}

func rotationAnswer(r fsm.Result) *wire.RotationResponse {
	out := &wire.RotationResponse{Path: r.Path, RotationID: r.Name, State: r.State}
	switch step := fsm.RotationStep(r.State); step {
	case fsm.RotationCreate, fsm.RotationSet, fsm.RotationTest, fsm.RotationFinish, fsm.RotationTell, fsm.RotationRollBack:
		out.State, out.Step = stateOfStep(step), r.State
	}
	if r.Version != 0 {
		out.PendingVersion = &r.Version
	}
	return out
}

func stateOfStep(step fsm.RotationStep) string {
	if step == fsm.RotationRollBack {
		return "rollingBack"
	}
	return "running"
}

// rotationSettings checks new settings for the secret at path, and answers
// when the first rotation is due. Who sets them has later rotations done in
// its name by the cluster, so it must have the rights for all of it now: to
// write the value, and to read the secrets that a rotation opens. A database
// kind also opens the secret itself, and shows it to the host that adminSecret
// names.
func (c *call) rotationSettings(path names.Path, r wire.RotationSettings) (*fsm.RotationSettings, int64, error) {
	if r.Kind == rotateByNothing {
		if !onlyKind(r) {
			return nil, 0, fault.Invalid("rotation.kind", "none goes alone: it takes all settings away")
		}
		return &fsm.RotationSettings{}, 0, nil
	}
	if err := c.checkRotation(r); err != nil {
		return nil, 0, err
	}
	if err := c.require("secrets:putSecretValue", iam.Resource{Path: path}); err != nil {
		return nil, 0, err
	}
	if r.AdminSecret != "" {
		if err := c.require("secrets:getSecretValue", iam.Resource{Path: path}); err != nil {
			return nil, 0, err
		}
	}
	for _, other := range []struct{ field, path string }{
		{"rotation.adminSecret", r.AdminSecret}, {"rotation.signingSecret", r.SigningSecret},
	} {
		if err := c.mayOpen(other.field, other.path, path); err != nil {
			return nil, 0, err
		}
	}
	out := &fsm.RotationSettings{Kind: r.Kind, Cron: r.Cron, Timezone: r.Timezone}
	if r.Interval != nil {
		out.Interval = time.Duration(*r.Interval).Milliseconds()
	}
	var spec bytes.Buffer
	if err := wire.Encode(&spec, &r); err != nil {
		return nil, 0, err
	}
	out.Spec = spec.Bytes()
	return out, nextRotation(*out, c.now), nil
}

// mayOpen requires the right to read a secret that a rotation will open. The
// right comes first: a stranger does not learn whether the secret is there.
func (c *call) mayOpen(field, path string, own names.Path) error {
	if path == "" {
		return nil
	}
	p, err := checkPath(field, path)
	if err != nil {
		return err
	}
	if p == own {
		return fault.Invalid(field, "must be another secret than the one that is rotated")
	}
	if err := c.require("secrets:getSecretValue", iam.Resource{Path: p}); err != nil {
		return err
	}
	if s := c.state.Secret(p); s == nil || s.State != fsm.SecretActive || s.Current == 0 {
		return fault.New(fault.NotFound, "%s: there is no secret %s with a current version", field, p)
	}
	return nil
}

// checkRotation checks what needs no look at rights or records.
func (c *call) checkRotation(r wire.RotationSettings) error {
	rotator := c.engine.Rotators[r.Kind]
	switch {
	case r.Kind == "":
		return fault.Invalid("rotation.kind", "is missing; it must be generate, webhook, postgresql, mysql or none")
	case rotator == nil && r.Kind != rotateByGenerate:
		return fault.Invalid("rotation.kind", "must be generate, webhook, postgresql, mysql or none")
	case r.Interval != nil && r.Cron != "":
		return fault.Invalid("rotation.cron", "goes without interval; give one of the two")
	case r.Interval != nil && (time.Duration(*r.Interval) < minInterval || time.Duration(*r.Interval) > maxInterval):
		return fault.Invalid("rotation.interval", "must be 1h to 3660d")
	case r.Timezone != "" && r.Cron == "":
		return fault.Invalid("rotation.timezone", "goes with cron")
	}
	if r.Cron != "" {
		if err := checkCron(r.Cron, r.Timezone, c.now); err != nil {
			return err
		}
	}
	if r.Generate != nil {
		if _, err := recipeFor(*r.Generate, c.engine.MaxValueBytes); err != nil {
			return underField("rotation.generate.", err)
		}
	}
	if rotator != nil {
		return underField("rotation.", rotator.Check(r))
	}
	if r.Generate == nil {
		return fault.Invalid("rotation.generate", "is missing; it says what to generate, such as {\"kind\": \"password\"}")
	}
	if r.AdminSecret != "" || r.Usernames != nil || r.Database != "" || r.URL != "" || r.CA != "" || r.SigningSecret != "" {
		return fault.Invalid("rotation.kind", "generate takes only generate and a schedule")
	}
	return nil
}

// checkCron refuses schedules that come too often: a rotation has a gap to the
// one before, and each is a version.
func checkCron(expression, zone string, now time.Time) error {
	if len(expression) > 128 || len(zone) > 64 {
		return fault.Invalid("rotation.cron", "must have at most 128 characters, and its timezone 64")
	}
	schedule, err := cron.Parse(expression, zone)
	if err != nil {
		return fault.Invalid("rotation.cron", "%v", err)
	}
	last := schedule.Next(now)
	for range 60 {
		next := schedule.Next(last)
		if next.Sub(last) < minInterval {
			return fault.Invalid("rotation.cron", "is due twice within an hour; give one minute, such as \"0 * * * *\"")
		}
		last = next
	}
	return nil
}

// underField puts the place of a field before its name.
func underField(place string, err error) error {
	f := asFault(err)
	if f == nil || f.Kind != fault.InvalidRequest {
		return err
	}
	out := *f
	out.Message = place + f.Message
	return &out
}

func onlyKind(r wire.RotationSettings) bool {
	return r.Interval == nil && r.Cron == "" && r.Timezone == "" && r.Generate == nil && r.AdminSecret == "" && r.Usernames == nil &&
		r.Database == "" && r.URL == "" && r.CA == "" && r.SigningSecret == ""
}

// nextRotation answers when the rotation after now is due, 0: on demand.
func nextRotation(s fsm.RotationSettings, now time.Time) int64 {
	switch {
	case s.Interval != 0:
		return now.UnixMilli() + s.Interval
	case s.Cron != "":
		schedule, err := cron.Parse(s.Cron, s.Timezone)
		if err != nil {
			// A later build may know expressions that this one does not: not due
			// is wrong, but describeSecret shows it, and no other node differs in
			// what it does.
			return 0
		}
		return schedule.Next(now).UnixMilli()
	}
	return 0
}

// rotationPeriodOf answers how often the path rule asks for rotations, 0: no
// rule does.
func rotationPeriodOf(state *fsm.State, path names.Path) time.Duration {
	return time.Duration(state.RuleFor(path).RotationPeriod) * time.Millisecond
}

// rotationOverdue: a schedule whose time has passed, or a rule's period that
// the current version is older than where there is no schedule.
func rotationOverdue(state *fsm.State, s *fsm.Secret, period time.Duration, now time.Time) bool {
	if r := s.Rotation; r != nil && r.NextAt != 0 {
		return now.UnixMilli() >= r.NextAt+overdueAfter.Milliseconds()
	}
	if period == 0 || s.Current == 0 {
		return false
	}
	v := state.Version(s.Path, s.Current)
	return v != nil && now.Sub(time.UnixMilli(v.CreatedAt)) > period
}

// rotationStatus is what describeSecret tells, nil where nobody asks for
// rotations.
func rotationStatus(state *fsm.State, s *fsm.Secret, now time.Time) *wire.RotationStatus {
	period := rotationPeriodOf(state, s.Path)
	r := s.Rotation
	if r == nil && period == 0 {
		return nil
	}
	out := &wire.RotationStatus{State: "unset", Overdue: rotationOverdue(state, s, period, now)}
	if period != 0 {
		out.RulePeriod = (*wire.Duration)(&period)
	}
	if r == nil {
		return out
	}
	out.RotationSettings = settingsOf(r.Settings)
	out.SetBy, out.SetAt = r.Settings.SetBy, wire.Millis(r.Settings.SetAt)
	out.LastRotatedAt, out.NextRotationAt, out.NextAttemptAt = wire.Millis(r.DoneAt), wire.Millis(r.NextAt), wire.Millis(r.RetryAt)
	out.Failures, out.LastError = r.Failures, r.LastError
	switch r.Outcome {
	case fsm.RotationFailed, fsm.RotationCancelled:
		out.State = string(r.Outcome)
	default:
		out.State = "idle"
	}
	if run := r.Run; run != nil {
		out.State, out.Step, out.RotationID, out.Attempts = stateOfStep(run.Step), string(run.Step), run.ID, run.Attempts
		out.NextAttemptAt = wire.Millis(run.NextAttemptAt)
		out.Cause, out.LastError = run.Cause, run.LastError
		if run.Version != 0 {
			out.PendingVersion = &run.Version
		}
	}
	return out
}

// settingsOf answers the settings as they were made; what cannot be read, of
// a later build, leaves the parts that every build knows.
func settingsOf(s fsm.RotationSettings) wire.RotationSettings {
	var out wire.RotationSettings
	if err := wire.Decode(s.Spec, &out); err != nil {
		out = wire.RotationSettings{Kind: s.Kind, Cron: s.Cron, Timezone: s.Timezone}
	}
	return out
}
