package fsm

import (
	"slices"
	"strconv"
)

// Bounds of what people may hang on a secret and its versions.
const (
	maxLabels  = 30   // of people; with those that the server keeps 32
	maxChanges = 50   // kept for one version, the latest
	maxWhy     = 1024 // bytes of the why of one change
)

// What a VersionChange says.
const (
	ChangeActivated  = "activated" // became the current version
	ChangeReplaced   = "replaced"  // another one became the current version
	ChangeLabelled   = "labelled"
	ChangeUnlabelled = "unlabelled"
	ChangeDisabled   = "disabled"
	ChangeEnabled    = "enabled"
	ChangeScheduled  = "destroyScheduled"
	ChangeCancelled  = "destroyCancelled"
	ChangeHeldUp     = "destroyHeldUp" // due, but consumers may hold it
	ChangeDestroyed  = "destroyed"
)

// note appends what the command does to v, a copy that the caller owns.
func (t *txn) note(v *Version, meta Meta, what, label, reason string) {
	t.remark(v, VersionChange{By: t.by, RequestID: meta.RequestID, What: what, Label: label, Reason: reason})
}

// remark is note for what somebody else asked for. The oldest change gives
// way when there are too many: the trail has them all.
func (t *txn) remark(v *Version, change VersionChange) {
	change.At = t.now
	changes := slices.Clone(v.Changes)
	if over := len(changes) - maxChanges + 1; over > 0 {
		changes, v.Omitted = changes[over:], v.Omitted+uint64(over)
	}
	v.Changes = append(changes, change)
}

// checkReason bounds what a history holds: a version has many changes, and
// must fit into one record of a snapshot with all of them.
func checkReason(reason string) *Refusal {
	if len(reason) > maxWhy {
		return invalid("reason", "has %d bytes; at most %d are allowed", len(reason), maxWhy)
	}
	return nil
}

// checkCurrent is the compare-and-set of what people decide about versions.
func checkCurrent(s *Secret, expected *uint64) *Refusal {
	if expected == nil || *expected == s.Current {
		return nil
	}
	return conflict("expectedVersion: is %d, but the current version is %d; look again, then decide", *expected, s.Current).
		with("expectedVersion", strconv.FormatUint(*expected, 10)).
		with("currentVersion", strconv.FormatUint(s.Current, 10))
}

// readable answers a version that readers may be sent to.
func (t *txn) readable(path string, number uint64) (*Secret, *Version, *Refusal) {
	s, v, r := t.version(path, number)
	switch {
	case r != nil:
		return nil, nil, r
	case v.State == VersionDisabled:
		return nil, nil, notActive(v, "version: %d is disabled; enableVersion first", v.Number)
	case v.State == VersionPendingDestroy:
		return nil, nil, notActive(v, "version: %d is about to be destroyed; cancelDestroyVersion first", v.Number)
	case v.State != VersionActive:
		return nil, nil, notActive(v, "version: %d is %s; choose another one", v.Number, v.State)
	case v.ExpiresAt != 0 && v.ExpiresAt <= t.now:
		return nil, nil, refuse(errExpired(v.Number)).with("state", string(VersionExpired))
	}
	return s, v, nil
}

// setVersionLabel puts a label on a version, from wherever it was. The label
// current is what readers get who name no version: moving it is activation,
// and to an older version the rollback; previous follows by itself.
func setVersionLabel(t *txn, c SetVersionLabel) (Result, *Refusal) {
	if r := checkName("label", c.Label); r != nil {
		return Result{}, r
	}
	if c.Label == labelPrevious {
		return Result{}, conflict("label: %s is kept by the server: it is on the version that was current before", labelPrevious)
	}
	if r := checkReason(c.Reason); r != nil {
		return Result{}, r
	}
	s, v, r := t.readable(c.Path, c.Version)
	if r != nil {
		return Result{}, r
	}
	if r := checkCurrent(s, c.Expected); r != nil {
		return Result{}, r
	}
	if c.Label == LabelPending && s.rotating() {
		return Result{}, keptByRotation()
	}
	if s.Labels[c.Label] == v.Number {
		return versionResult(s, v), nil
	}
	next, version := *s, *v
	if c.Label == labelCurrent {
		t.activate(&next, &version, c.Meta, c.Reason)
		return t.changeVersion(&next, v, &version), nil
	}
	if s.Labels[c.Label] == 0 && labelsOfPeople(s) >= maxLabels {
		return Result{}, conflict("label: the secret has %d labels of people, the most that it can have; removeVersionLabel makes room", maxLabels)
	}
	t.leave(s, s.Labels[c.Label], c.Meta, ChangeUnlabelled, c.Label, c.Reason)
	next.Labels = setLabel(next.Labels, c.Label, v.Number)
	t.note(&version, c.Meta, ChangeLabelled, c.Label, c.Reason)
	return t.changeVersion(&next, v, &version), nil
}

// activate makes v the current version of s, both copies that the caller owns
// and stores. previous follows to the one that was current until now.
func (t *txn) activate(s *Secret, v *Version, meta Meta, reason string) {
	if s.Current != 0 {
		t.leave(s, s.Current, meta, ChangeReplaced, labelCurrent, reason)
		s.Labels = setLabel(s.Labels, labelPrevious, s.Current)
	}
	s.Current = v.Number
	s.Labels = setLabel(s.Labels, labelCurrent, v.Number)
	t.note(v, meta, ChangeActivated, labelCurrent, reason)
}

// leave notes on version number, if there is one, that a label goes to
// another version: that is a change of both.
func (t *txn) leave(s *Secret, number uint64, meta Meta, what, label, reason string) {
	old := t.versions.value(versionKey(s.Path, number))
	if old == nil {
		return
	}
	next := *old
	t.note(&next, meta, what, label, reason)
	t.putVersion(s.Path, old, &next)
}

func labelsOfPeople(s *Secret) int {
	count := len(s.Labels)
	for _, kept := range []string{labelCurrent, labelPrevious} {
		if s.Labels[kept] != 0 {
			count--
		}
	}
	return count
}

func removeVersionLabel(t *txn, c RemoveVersionLabel) (Result, *Refusal) {
	s, r := t.liveSecret(c.Path)
	number := uint64(0)
	if s != nil {
		number = s.Labels[c.Label]
	}
	switch {
	case r != nil:
		return Result{}, r
	case c.Label == labelCurrent || c.Label == labelPrevious:
		return Result{}, conflict("label: %s is kept by the server; setVersionLabel with the label %s moves it", c.Label, labelCurrent)
	case c.Label == LabelPending && s.rotating():
		return Result{}, keptByRotation()
	case number == 0:
		return Result{}, notFound("label: no version of %s has the label %.64s", s.Path, c.Label)
	case c.Version != 0 && c.Version != number:
		return Result{}, conflict("version: the label is on version %d, not on %d; look again, then decide", number, c.Version)
	}
	if r := checkCurrent(s, c.Expected); r != nil {
		return Result{}, r
	}
	if r := checkReason(c.Reason); r != nil {
		return Result{}, r
	}
	v := t.versions.value(versionKey(s.Path, number))
	next, version := *s, *v
	next.Labels = withoutLabel(s.Labels, c.Label)
	t.note(&version, c.Meta, ChangeUnlabelled, c.Label, c.Reason)
	return t.changeVersion(&next, v, &version), nil
}

// withoutLabel answers labels without one, the map given left as it is; nil
// for none, as a restored record has it.
func withoutLabel(labels map[string]uint64, name string) map[string]uint64 {
	var next map[string]uint64
	for _, other := range sorted(labels) {
		if other != name {
			next = setLabel(next, other, labels[other])
		}
	}
	return next
}

// setVersionState disables or enables a version. A disabled one keeps its
// material, counts as live for its key, and is read by nobody. The current
// one can be disabled too: it is the brake for a value that has leaked, and
// taken back as easily.
func setVersionState(t *txn, c SetVersionState) (Result, *Refusal) {
	s, v, r := t.version(c.Path, c.Version)
	to, what := VersionActive, ChangeEnabled
	if c.Disable {
		to, what = VersionDisabled, ChangeDisabled
	}
	if r == nil {
		r = checkReason(c.Reason)
	}
	switch {
	case r != nil:
		return Result{}, r
	case v.State == to:
		return versionResult(s, v), nil
	case v.State == VersionPendingDestroy:
		return Result{}, conflict("version: %d is about to be destroyed; cancelDestroyVersion first", v.Number).with("state", string(v.State))
	case v.State == VersionDestroyed:
		return Result{}, notActive(v, "version: %d is destroyed; its history stays", v.Number)
	case !c.Disable && v.ExpiresAt != 0 && v.ExpiresAt <= t.now:
		// It would not be read for all that, and its owner should know.
		return Result{}, refuse(errExpired(v.Number)).with("state", string(VersionExpired))
	}
	next, version := *s, *v
	version.State = to
	t.note(&version, c.Meta, what, "", c.Reason)
	return t.changeVersion(&next, v, &version), nil
}

// changeVersion stores copies that the caller owns.
func (t *txn) changeVersion(s *Secret, old, v *Version) Result {
	t.putVersion(s.Path, old, v)
	s.UpdatedAt, s.UpdatedBy = t.now, t.by
	t.review(s)
	t.putSecret(s)
	return versionResult(s, v)
}

// updateSecret changes what is said about a secret.
func updateSecret(t *txn, c UpdateSecret) (Result, *Refusal) {
	s, r := t.liveSecret(c.Path)
	if r != nil {
		return Result{}, r
	}
	next := *s
	if c.Description != nil {
		next.Description = *c.Description
	}
	if c.SetTags {
		if r := breached("tags", t.ruleFor(s.Path).TagBreaches(c.Tags)); r != nil {
			return Result{}, r
		}
		next.Tags = c.Tags
	}
	if r := t.setRotation(&next, c); r != nil {
		return Result{}, r
	}
	next.UpdatedAt, next.UpdatedBy = t.now, t.by
	t.putSecret(&next)
	return Result{Path: c.Path, SecretID: s.ID}, nil
}
