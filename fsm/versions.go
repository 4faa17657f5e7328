package fsm

import (
	"strconv"

	"github.com/strongroom/strongroom/internal/fault"
)

// maxVersionID bounds the id of a version, which may be a client token.
const maxVersionID = 128

func putVersion(t *txn, c PutVersion) (Result, *Refusal) {
	s, r := t.liveSecret(c.Path)
	switch {
	case r != nil:
		return Result{}, r
	case s.ID != c.SecretID:
		return Result{}, race("path: the secret was deleted and made anew while this write was on its way; retry")
	case c.Expected != nil && *c.Expected != s.Current:
		return Result{}, conflict("expectedVersion: is %d, but the current version is %d; read it, then decide again", *c.Expected, s.Current).
			with("expectedVersion", strconv.FormatUint(*c.Expected, 10)).
			with("currentVersion", strconv.FormatUint(s.Current, 10))
	}
	key, r := t.bindable("kmsKeyId", s.KeyID)
	if r != nil {
		return Result{}, r
	}
	if r := t.checkVersion(c.Version, s, key); r != nil {
		return Result{}, r
	}
	next := *s
	t.addVersion(&next, c.Version, c.Meta, c.Activate)
	next.UpdatedAt, next.UpdatedBy = t.now, t.by
	t.putSecret(&next)
	return Result{
		Path: c.Path, SecretID: s.ID, Version: c.Version.Number, VersionID: c.Version.VersionID,
		State: string(VersionActive), KeyID: key.ID,
	}, t.checkQuotas(s.Path)
}

// keepCurrent decides that the current version is still the one whose bytes
// were asked for. Nothing is changed.
func keepCurrent(t *txn, c KeepCurrent) (Result, *Refusal) {
	s, r := t.liveSecret(c.Path)
	if r != nil {
		return Result{}, r
	}
	v := t.versions.value(versionKey(s.Path, c.Version))
	if s.ID != c.SecretID || s.Current != c.Version || v == nil || v.State != VersionActive {
		return Result{}, race("path: the current version changed while this write was on its way; retry")
	}
	result := versionResult(s, v)
	result.Unchanged = true
	return result, nil
}

// checkVersion decides whether v may become the next version of s. Number,
// key and key version are bound into the seal, so they must be right at this
// index, not at the one that the engine saw.
func (t *txn) checkVersion(v NewVersion, s *Secret, key *Key) *Refusal {
	switch {
	case v.Number != s.Latest+1:
		return race("path: another version took number %d while this write was on its way; retry", v.Number)
	case v.KeyID != key.ID || v.KeyVersion != key.Current:
		return race("path: the key of the secret changed while this write was on its way; retry")
	case len(v.Sealed) == 0 || len(v.DataKey) == 0:
		return invalid("value", "the sealed value or its data key is missing")
	case v.VersionID == "" || len(v.VersionID) > maxVersionID:
		return invalid("versionId", "must have 1 to %d characters", maxVersionID)
	case v.NotifyBefore != 0 && v.ExpiresAt == 0:
		return invalid("notifyBefore", "goes with expiresAt")
	case v.NotifyBefore < 0 || v.NotifyBefore > maxNotify:
		return invalid("notifyBefore", "must be more than 0 and at most 366d")
	case v.ExpiresAt != 0:
		if r := t.checkLater("expiresAt", v.ExpiresAt); r != nil {
			return r
		}
	}
	return checkReason(v.Reason)
}

// addVersion makes v the latest version of s, a copy that the caller owns
// and stores, and the current one if activate is set.
func (t *txn) addVersion(s *Secret, v NewVersion, meta Meta, activate bool) {
	added := &Version{
		Number: v.Number, ID: v.VersionID, State: VersionActive, Size: v.Size, ContentType: v.ContentType,
		KeyID: v.KeyID, KeyVersion: v.KeyVersion, Sealed: v.Sealed, DataKey: v.DataKey, Fingerprint: v.Fingerprint,
		CreatedAt: t.now, CreatedBy: t.by, RequestID: meta.RequestID, ExpiresAt: v.ExpiresAt,
		NotifyBefore: v.NotifyBefore, CreateReason: v.Reason,
	}
	if activate {
		t.activate(s, added, meta, v.Reason)
	}
	t.putVersion(s.Path, nil, added)
	s.Latest = v.Number
	t.review(s)
}

func destroyVersion(t *txn, c DestroyVersion) (Result, *Refusal) {
	s, v, r := t.version(c.Path, c.Version)
	switch {
	case r != nil:
		return Result{}, r
	case v.State == VersionDestroyed:
		return Result{}, notActive(v, "version: %d is destroyed already; its history stays", v.Number)
	case v.Number == s.Current:
		return Result{}, conflict("version: %d is the current version, which is never destroyed; make another one current, or delete the secret", v.Number)
	case c.DueAt < 0 || c.DueAt > maxTime:
		return Result{}, invalid("delay", "must end before the year 10000")
	}
	if r := checkReason(c.Reason); r != nil {
		return Result{}, r
	}
	delay := max(0, c.DueAt-c.Meta.Time)
	if r := t.checkRetained(s.Path, v, t.now+delay); r != nil {
		return Result{}, r
	}
	if r := t.checkUnused(s, v, c, delay); r != nil {
		return Result{}, r
	}
	next := *v
	next.DestroyedBy, next.DestroyRequest, next.Reason, next.Forced = t.by, c.Meta.RequestID, c.Reason, c.Force
	secret := *s
	secret.UpdatedAt, secret.UpdatedBy = t.now, t.by
	if c.DueAt != 0 && delay > 0 {
		// Like a recovery window, the delay keeps its length.
		next.Disabled = v.State == VersionDisabled || v.State == VersionPendingDestroy && v.Disabled
		next.State, next.DestroyAt = VersionPendingDestroy, t.now+delay
		t.note(&next, c.Meta, ChangeScheduled, "", c.Reason)
		t.putVersion(s.Path, v, &next)
	} else {
		t.erase(&secret, v, &next)
	}
	t.putSecret(&secret)
	return versionResult(s, &next), nil
}

// checkUnused refuses to destroy what somebody may hold when it would be
// destroyed. A delayed destruction is held against the ledger again when it
// is due.
func (t *txn) checkUnused(s *Secret, v *Version, c DestroyVersion, delay int64) *Refusal {
	if r := t.decides(c.Session, c.Observed); r != nil {
		return r
	}
	if c.Force {
		if c.Reason == "" {
			return invalid("reason", "must say why a version is destroyed that consumers may still hold")
		}
		return nil
	}
	until, count := t.heldUntil(s.Path, v, c.Session, t.own(c.Meta)+delay)
	if count == 0 {
		return nil
	}
	r := refuse(fault.New(fault.VersionInUse, "version: %d may still be in use by %d consumers; "+
		"listConsumers shows whom to wait for; force, with a reason, destroys it all the same", v.Number, count))
	r.Count = count
	return r.with("mayHoldUntil", strconv.FormatInt(until, 10)) // milliseconds: the engine writes it for people
}

// erase stores next, a copy of v that the caller owns, without its material:
// from this index on nothing can open the version. The caller has set who
// asked for it, why and by which request: a Sweep only carries it out. Labels
// on it are removed from s, a copy that the caller owns and stores.
func (t *txn) erase(s *Secret, v, next *Version) {
	t.remark(next, VersionChange{By: next.DestroyedBy, RequestID: next.DestroyRequest, What: ChangeDestroyed, Reason: next.Reason})
	next.State = VersionDestroyed
	next.Sealed, next.DataKey, next.Fingerprint = nil, nil, nil
	next.DestroyAt, next.DestroyedAt, next.Disabled, next.HeldUpAt = 0, t.now, false, 0
	t.putVersion(s.Path, v, next)
	s.Labels = dropLabels(s.Labels, v.Number)
}

func cancelDestroy(t *txn, c CancelDestroy) (Result, *Refusal) {
	s, v, r := t.version(c.Path, c.Version)
	switch {
	case r != nil:
		return Result{}, r
	case v.State == VersionDestroyed:
		return Result{}, notActive(v, "version: %d is destroyed; that cannot be taken back", v.Number)
	case v.State != VersionPendingDestroy:
		return Result{}, conflict("version: %d is not about to be destroyed; there is nothing to cancel", v.Number).with("state", string(v.State))
	case v.DestroyAt <= t.now:
		return Result{}, conflict("version: the delay of %d has passed; it is being destroyed", v.Number).with("state", string(v.State))
	}
	if r := checkReason(c.Reason); r != nil {
		return Result{}, r
	}
	next := *v
	next.State, next.DestroyAt = VersionActive, 0
	next.DestroyedBy, next.DestroyRequest, next.Reason, next.Forced, next.HeldUpAt = "", "", "", false, 0
	if v.Disabled {
		next.State, next.Disabled = VersionDisabled, false
	}
	t.note(&next, c.Meta, ChangeCancelled, "", c.Reason)
	t.putVersion(s.Path, v, &next)
	secret := *s
	t.review(&secret)
	secret.UpdatedAt, secret.UpdatedBy = t.now, t.by
	t.putSecret(&secret)
	return versionResult(s, &next), nil
}

func (t *txn) version(path string, number uint64) (*Secret, *Version, *Refusal) {
	s, r := t.liveSecret(path)
	if r != nil {
		return nil, nil, r
	}
	v := t.versions.value(versionKey(s.Path, number))
	if v == nil {
		return nil, nil, notFound("version: %s has no version %d; listSecretVersions shows what it has", s.Path, number)
	}
	return s, v, nil
}

func versionResult(s *Secret, v *Version) Result {
	return Result{
		Path: string(s.Path), SecretID: s.ID, Version: v.Number, VersionID: v.ID, State: string(v.State),
		DueAt: v.DestroyAt, KeyID: v.KeyID,
	}
}

func errExpired(number uint64) *fault.Error {
	return fault.New(fault.VersionNotActive, "version: %d has expired; choose another one", number)
}

func notActive(v *Version, format string, args ...any) *Refusal {
	return refuse(fault.New(fault.VersionNotActive, format, args...)).with("state", string(v.State))
}
