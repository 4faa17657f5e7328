package fsm

import (
	"slices"
	"strings"
)

// setRotation changes the settings of s, a copy that the caller owns, as c
// says. What became of rotations so far stays; a new schedule begins anew.
func (t *txn) setRotation(s *Secret, c UpdateSecret) *Refusal {
	if c.Rotation == nil {
		return nil
	}
	if s.rotating() {
		return conflict("rotation: one is on its way; wait for its end, or cancelRotation first").with("step", string(s.Rotation.Run.Step))
	}
	if c.Rotation.Kind == "" {
		s.Rotation = nil
		return nil
	}
	if r := c.Rotation.check(); r != nil {
		return r
	}
	if r := t.checkRotationTime("rotation", c.NextRotationAt); r != nil {
		return r
	}
	next := Rotation{}
	if s.Rotation != nil {
		next = *s.Rotation
	}
	next.Settings, next.NextAt, next.RetryAt, next.Failures = *c.Rotation, c.NextRotationAt, 0, 0
	next.Settings.SetBy, next.Settings.SetAt = t.by, t.now
	s.Rotation = &next
	return nil
}

func (t *txn) checkRotationTime(field string, at int64) *Refusal {
	if at < 0 || at > maxTime {
		return invalid(field, "is due at a time out of range")
	}
	return nil
}

// startRotation begins one. It is accepted once: what is on its way, or was
// done a moment ago, refuses the start of another leader.
func startRotation(t *txn, c StartRotation) (Result, *Refusal) {
	s, r := t.liveSecret(c.Path)
	switch {
	case r != nil:
		return Result{}, r
	case s.Rotation == nil:
		return Result{}, conflict("rotation: %s has no settings for rotations; updateSecret makes them", s.Path)
	case s.rotating():
		return Result{}, conflict("rotation: one is on its way, at the step %s; describeSecret shows it, cancelRotation abandons it", s.Rotation.Run.Step).
			with("rotationId", s.Rotation.Run.ID).with("step", string(s.Rotation.Run.Step))
	case c.SecretID != "" && s.ID != c.SecretID:
		return Result{}, race("path: the secret was deleted and made anew meanwhile; retry")
	case s.Rotation.EndedAt != 0 && t.now-s.Rotation.EndedAt < RotationGap:
		return Result{}, conflict("rotation: the last one ended less than a minute ago; wait until what it had on its way has arrived")
	}
	period := t.ruleFor(s.Path).RotationPeriod
	if at, ok := rotationDueAt(s, t.versions.value(versionKey(s.Path, s.Current)), period); c.Scheduled && (!ok || at > t.now) {
		return Result{}, conflict("rotation: it is not due")
	}
	if r := checkName("rotationId", c.ID); r != nil {
		return Result{}, r
	}
	if r := checkReason(c.Reason); r != nil {
		return Result{}, r
	}
	rotation := *s.Rotation
	rotation.Run = &RotationRun{ID: c.ID, Step: RotationCreate, StartedAt: t.now, By: t.by, Reason: c.Reason, Scheduled: c.Scheduled}
	return t.keepRotation(s, rotation), nil
}

// keepRotation stores where a rotation has come to. Readers of the secret
// notice nothing of it.
func (t *txn) keepRotation(s *Secret, r Rotation) Result {
	next := *s
	next.Rotation = &r
	t.keepSecret(&next)
	return rotationResult(&next)
}

func rotationResult(s *Secret) Result {
	out := Result{Path: string(s.Path), SecretID: s.ID}
	if run := s.Rotation.Run; run != nil {
		out.Name, out.State, out.Version = run.ID, string(run.Step), run.Version
	} else {
		out.State = string(s.Rotation.Outcome)
	}
	return out
}

// rotationAt answers the secret whose rotation id is at step. A command of a
// leader that was deposed meanwhile finds another step and changes nothing.
func (t *txn) rotationAt(path, secretID, id string, step RotationStep) (*Secret, *Refusal) {
	s, r := t.liveSecret(path)
	if r != nil {
		return nil, r
	}
	if s.ID != secretID || !s.rotating() || s.Rotation.Run.ID != id || s.Rotation.Run.Step != step {
		return nil, race("rotation: %.64s is not at the step %.16s any more", id, string(step))
	}
	return s, nil
}

func advanceRotation(t *txn, c AdvanceRotation) (Result, *Refusal) {
	s, r := t.rotationAt(c.Path, c.SecretID, c.ID, c.Step)
	if r != nil {
		return Result{}, r
	}
	run := *s.Rotation.Run
	creates := c.Step == RotationCreate && c.To != RotationRollBack
	switch {
	case !slices.Contains(rotationMoves[c.Step], c.To):
		return Result{}, conflict("rotation: the step %.16s does not follow %s", string(c.To), c.Step)
	case creates != (c.Version != nil):
		return Result{}, invalid("version", "goes with the step %s", RotationCreate)
	case run.Cancelled && c.To != RotationRollBack:
		return Result{}, race("rotation: it was cancelled")
	}
	if r := checkReason(c.Error); r != nil {
		return Result{}, r
	}
	next, rotation := *s, *s.Rotation
	if creates {
		if r := t.addPending(&next, c); r != nil {
			return Result{}, r
		}
		run.Version, run.From = c.Version.Number, c.From
	}
	run.Step, run.Attempts, run.NextAttemptAt, run.LastError, run.Cause = c.To, 0, 0, c.Error, ""
	if c.To == RotationRollBack {
		run.Cause = c.Error
	}
	rotation.Run = &run
	next.Rotation = &rotation
	if creates {
		t.putSecret(&next)
	} else {
		t.keepSecret(&next)
	}
	return rotationResult(&next), nil
}

// addPending makes c.Version the latest version of s, a copy that the caller
// owns, and puts the label on it. Nobody reads it who does not ask for it.
func (t *txn) addPending(s *Secret, c AdvanceRotation) *Refusal {
	if s.Current != c.From {
		return race("rotation: the current version changed while the new one was made; retry")
	}
	key, r := t.bindable("kmsKeyId", s.KeyID)
	if r != nil {
		return r
	}
	if r := t.checkVersion(*c.Version, s, key); r != nil {
		return r
	}
	t.addVersion(s, *c.Version, c.Meta, false)
	if old := s.Labels[LabelPending]; old != 0 {
		t.leave(s, old, c.Meta, ChangeUnlabelled, LabelPending, "a rotation")
	}
	s.Labels = setLabel(s.Labels, LabelPending, c.Version.Number)
	added := *t.versions.value(versionKey(s.Path, c.Version.Number))
	t.note(&added, c.Meta, ChangeLabelled, LabelPending, "rotation "+c.ID)
	t.putVersion(s.Path, t.versions.value(versionKey(s.Path, c.Version.Number)), &added)
	return t.checkQuotas(s.Path)
}

func retryRotation(t *txn, c RetryRotation) (Result, *Refusal) {
	s, r := t.rotationAt(c.Path, c.SecretID, c.ID, c.Step)
	switch {
	case r != nil:
		return Result{}, r
	case s.Rotation.Run.Attempts != c.Attempts:
		return Result{}, race("rotation: another attempt was noted meanwhile")
	}
	if r := t.checkRotationTime("nextAt", c.NextAt); r != nil {
		return Result{}, r
	}
	if r := checkReason(c.Error); r != nil {
		return Result{}, r
	}
	rotation, run := *s.Rotation, *s.Rotation.Run
	run.Attempts++
	run.NextAttemptAt, run.LastError = c.NextAt, c.Error
	rotation.Run = &run
	return t.keepRotation(s, rotation), nil
}

// endRotation activates the pending version, or lets it go.
func endRotation(t *txn, c EndRotation) (Result, *Refusal) {
	s, r := t.rotationAt(c.Path, c.SecretID, c.ID, c.Step)
	if r != nil {
		return Result{}, r
	}
	for _, at := range []int64{c.NextAt, c.RetryAt} {
		if r := t.checkRotationTime("nextAt", at); r != nil {
			return Result{}, r
		}
	}
	if r := checkReason(c.Error); r != nil {
		return Result{}, r
	}
	next, rotation, run := *s, *s.Rotation, *s.Rotation.Run
	rotation.Run, rotation.EndedAt = nil, t.now
	switch c.Step {
	case RotationFinish:
		if r := t.finishRotation(&next, run, c.Meta); r != nil {
			return Result{}, r
		}
		rotation.Outcome, rotation.DoneAt, rotation.Failures, rotation.LastError = RotationDone, t.now, 0, ""
		rotation.NextAt, rotation.RetryAt = c.NextAt, 0
		if c.Tell {
			told := run
			told.Step, told.Attempts, told.NextAttemptAt, told.LastError = RotationTell, 0, 0, ""
			rotation.Run = &told
		}
	case RotationTell:
		rotation.LastError = c.Error
	case RotationRollBack:
		t.dropPending(&next, run, c.Meta, c.Keep)
		rotation.Outcome, rotation.LastError, rotation.RetryAt = RotationFailed, run.Cause, c.RetryAt
		rotation.Failures++
		if run.Cancelled {
			rotation.Outcome, rotation.NextAt, rotation.RetryAt, rotation.Failures = RotationCancelled, c.NextAt, 0, 0
		}
	default:
		return Result{}, conflict("rotation: it does not end at the step %s", c.Step)
	}
	next.Rotation = &rotation
	t.putSecret(&next)
	result := rotationResult(&next)
	result.Version = run.Version
	return result, nil
}

// finishRotation activates the pending version of s, a copy that the caller
// owns, if everything is as it was when it was made.
func (t *txn) finishRotation(s *Secret, run RotationRun, meta Meta) *Refusal {
	if s.Current != run.From {
		return conflict("rotation: version %d became current while it was on its way; it rolls back", s.Current)
	}
	_, v, r := t.readable(string(s.Path), run.Version)
	if r != nil {
		return r
	}
	activated := *v
	reason := "rotation " + run.ID
	t.activate(s, &activated, meta, reason)
	t.note(&activated, meta, ChangeUnlabelled, LabelPending, reason)
	t.putVersion(s.Path, v, &activated)
	s.Labels = withoutLabel(s.Labels, LabelPending)
	s.UpdatedAt, s.UpdatedBy = t.now, t.by
	return nil
}

// dropPending takes the pending version of s, a copy that the caller owns,
// from readers: for good, or kept as a disabled one.
func (t *txn) dropPending(s *Secret, run RotationRun, meta Meta, keep bool) {
	v := t.versions.value(versionKey(s.Path, run.Version))
	if v == nil || v.State == VersionDestroyed || v.Number == s.Current {
		return
	}
	reason := "rotation " + run.ID + " was rolled back"
	next := *v
	if !keep {
		next.DestroyedBy, next.DestroyRequest, next.Reason = t.by, meta.RequestID, reason
		t.erase(s, v, &next)
		return
	}
	if s.Labels[LabelPending] == v.Number {
		s.Labels = withoutLabel(s.Labels, LabelPending)
	}
	if v.State == VersionActive {
		next.State = VersionDisabled
		t.note(&next, meta, ChangeDisabled, "", reason)
		t.putVersion(s.Path, v, &next)
	}
}

// cancelRotation is a person's way out of a rotation that is stuck.
func cancelRotation(t *txn, c CancelRotation) (Result, *Refusal) {
	s, r := t.liveSecret(c.Path)
	switch {
	case r != nil:
		return Result{}, r
	case !s.rotating():
		return Result{}, conflict("rotation: none of %s is on its way; there is nothing to cancel", s.Path)
	case s.Rotation.Run.Cancelled && !c.Force:
		return Result{}, conflict("rotation: it was cancelled already and rolls back; force ends it as it is").with("rotationId", s.Rotation.Run.ID)
	}
	if r := checkReason(c.Reason); r != nil {
		return Result{}, r
	}
	if r := t.checkRotationTime("nextAt", c.NextAt); r != nil {
		return Result{}, r
	}
	rotation, run := *s.Rotation, *s.Rotation.Run
	why := "cancelled by " + t.by
	if c.Reason != "" {
		why += ": " + c.Reason
	}
	why = strings.ToValidUTF8(why[:min(len(why), maxWhy)], "")
	if run.Step == RotationTell { // it is done: only nobody heard of it
		rotation.Run, rotation.EndedAt, rotation.LastError = nil, t.now, why
		return t.keepRotation(s, rotation), nil
	}
	if !c.Force {
		run.Step, run.Cancelled, run.Attempts, run.NextAttemptAt, run.LastError, run.Cause = RotationRollBack, true, 0, 0, "", why
		rotation.Run = &run
		return t.keepRotation(s, rotation), nil
	}
	next := *s
	t.dropPending(&next, run, c.Meta, true)
	rotation.Run, rotation.EndedAt, rotation.Outcome, rotation.LastError = nil, t.now, RotationCancelled, why
	rotation.NextAt, rotation.RetryAt, rotation.Failures = c.NextAt, 0, 0
	next.Rotation = &rotation
	t.putSecret(&next)
	result := rotationResult(&next)
	result.Version, result.Name = run.Version, run.ID
	return result, nil
}
