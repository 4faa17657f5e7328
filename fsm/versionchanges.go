package fsm

import (
	"slices"
	"strconv"
)

// Bounds of what people may hang on a secret and its versions.
const (
	maxLabels  = 32
	maxChanges = 50 // kept for one version, the latest
)

// What a VersionChange says.
const (
	ChangeActivated  = "activated" // became the current version
	ChangeLabelled   = "labelled"
	ChangeUnlabelled = "unlabelled"
	ChangeDisabled   = "disabled"
	ChangeEnabled    = "enabled"
	ChangeScheduled  = "destroyScheduled"
	ChangeCancelled  = "destroyCancelled"
	ChangeDestroyed  = "destroyed"
)

// noted appends a change to v, a copy that the caller owns.
func (t *txn) noted(v *Version, meta Meta, what, label, reason string) {
	changes := slices.Clone(v.Changes)
	if len(changes) >= maxChanges {
		changes = changes[len(changes)-maxChanges+1:]
	}
	v.Changes = append(changes, VersionChange{At: t.now, By: t.by, RequestID: meta.RequestID, What: what, Label: label, Reason: reason})
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
	s, v, r := t.readable(c.Path, c.Version)
	if r != nil {
		return Result{}, r
	}
	if c.Expected != nil && *c.Expected != s.Current {
		return Result{}, conflict("expectedVersion: is %d, but the current version is %d; look again, then decide", *c.Expected, s.Current).
			with("expectedVersion", strconv.FormatUint(*c.Expected, 10)).
			with("currentVersion", strconv.FormatUint(s.Current, 10))
	}
	if s.Labels[c.Label] == v.Number {
		return versionResult(s, v), nil
	}
	if _, there := s.Labels[c.Label]; !there && len(s.Labels) >= maxLabels {
		return Result{}, conflict("label: the secret has %d labels, the most that a secret can have; removeVersionLabel makes room", len(s.Labels))
	}
	next, version := *s, *v
	what := ChangeLabelled
	if c.Label == labelCurrent {
		what = ChangeActivated
		if s.Current != 0 {
			next.Labels = setLabel(next.Labels, labelPrevious, s.Current)
		}
		next.Current = v.Number
	}
	next.Labels = setLabel(next.Labels, c.Label, v.Number)
	t.noted(&version, c.Meta, what, c.Label, c.Reason)
	return t.changeVersion(&next, v, &version), nil
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
	case number == 0:
		return Result{}, notFound("label: no version of %s has the label %.64s", s.Path, c.Label)
	}
	v := t.versions.value(versionKey(s.Path, number))
	next, version := *s, *v
	next.Labels = withoutLabel(s.Labels, c.Label)
	t.noted(&version, c.Meta, ChangeUnlabelled, c.Label, c.Reason)
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
	switch {
	case r != nil:
		return Result{}, r
	case v.State == to:
		return versionResult(s, v), nil
	case v.State == VersionPendingDestroy:
		return Result{}, conflict("version: %d is about to be destroyed; cancelDestroyVersion first", v.Number).with("state", string(v.State))
	case v.State == VersionDestroyed:
		return Result{}, notActive(v, "version: %d is destroyed; its history stays", v.Number)
	}
	next, version := *s, *v
	version.State = to
	t.noted(&version, c.Meta, what, "", c.Reason)
	return t.changeVersion(&next, v, &version), nil
}

// changeVersion stores copies that the caller owns.
func (t *txn) changeVersion(s *Secret, old, v *Version) Result {
	t.putVersion(s.Path, old, v)
	s.UpdatedAt, s.UpdatedBy = t.now, t.by
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
		next.Tags = c.Tags
	}
	next.UpdatedAt, next.UpdatedBy = t.now, t.by
	t.putSecret(&next)
	return Result{Path: c.Path, SecretID: s.ID}, nil
}
