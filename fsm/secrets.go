package fsm

import (
	"maps"

	"github.com/strongroom/strongroom/internal/names"
)

// Labels that the server keeps.
const (
	labelCurrent  = "current"
	labelPrevious = "previous"
)

// The recovery window of a deleted secret.
const (
	minRecovery = int64(7 * 24 * 60 * 60 * 1000)
	maxRecovery = int64(90 * 24 * 60 * 60 * 1000)
)

func createSecret(t *txn, c CreateSecret) (Result, *Refusal) {
	path, r := checkPath(c.Path)
	if r != nil {
		return Result{}, r
	}
	if r := checkName("secretId", c.SecretID); r != nil {
		return Result{}, r
	}
	if r := t.checkFree(path, c); r != nil {
		return Result{}, r
	}
	if r := t.checkNewPath(path, c.Tags); r != nil {
		return Result{}, r
	}
	key, r := t.bindable("kmsKeyId", c.KeyID)
	if r != nil {
		return Result{}, r
	}
	s := t.newSecret(path, c.SecretID, key.ID)
	s.Description, s.Tags = c.Description, c.Tags
	result := Result{Path: c.Path, SecretID: s.ID, State: string(s.State), KeyID: key.ID}
	if c.First != nil {
		if r := t.checkVersion(*c.First, s, key); r != nil {
			return Result{}, r
		}
		t.addVersion(s, *c.First, c.Meta, true)
		result.Version, result.VersionID = c.First.Number, c.First.VersionID
	}
	t.putSecret(s)
	return result, t.checkQuotas(path)
}

// checkFree decides whether a path may be taken. A path is an identity for
// as long as anybody may remember it, so a purged one is taken again only by
// somebody who says so.
func (t *txn) checkFree(path names.Path, c CreateSecret) *Refusal {
	old := t.secrets.value([]byte(path))
	if old == nil {
		return nil
	}
	switch {
	case old.State == SecretPurged && c.ReuseRetired:
		if old.ID == c.SecretID {
			return invalid("secretId", "must be new: seals name it, and those of the retired secret must not open under this one")
		}
		return nil
	case old.State == SecretPurged:
		return alreadyExists("path: %s is retired; set reuseRetiredPath to start it anew", path).with("state", string(old.State))
	case old.State == SecretPendingDeletion:
		return alreadyExists("path: %s is deleted and waits for the end of its recovery window; restoreSecret brings it back", path).
			with("state", string(old.State))
	}
	return alreadyExists("path: %s is taken; putSecretValue adds a version to it", path).with("state", string(old.State))
}

// newSecret begins the record of a secret on a free path, which the caller
// stores.
func (t *txn) newSecret(path names.Path, id, keyID string) *Secret {
	s := &Secret{
		Path: path, ID: id, State: SecretActive, KeyID: keyID,
		CreatedAt: t.now, CreatedBy: t.by, UpdatedAt: t.now, UpdatedBy: t.by,
	}
	t.dropHistory(s)
	return s
}

// dropHistory removes the version records of a retired secret before its
// path starts anew as s. They are all destroyed: purging saw to that. How
// long they lived this month goes on counting.
func (t *txn) dropHistory(s *Secret) {
	month := monthStart(t.now)
	if old := t.secrets.value([]byte(s.Path)); old != nil {
		s.PastMillis = old.pastIn(month)
	}
	for _, v := range t.versions.collect(pair(string(s.Path), ""), 0) {
		s.PastMillis += v.millisIn(month, t.now)
		t.unindexVersion(s.Path, v)
		t.countVersion(s.Path, v, nil)
		t.versions.remove(versionKey(s.Path, v.Number))
		t.reads.remove(versionKey(s.Path, v.Number))
	}
	if s.PastMillis != 0 {
		s.PastMonth = month
	}
}

func deleteSecret(t *txn, c DeleteSecret) (Result, *Refusal) {
	s, r := t.secret(c.Path)
	if r != nil {
		return Result{}, r
	}
	if s.State == SecretPendingDeletion && c.PurgeAt != 0 {
		return Result{}, conflict("path: the secret is already deleted and waits for the end of its recovery window; restoreSecret brings it back, force purges it now").
			with("state", string(s.State))
	}
	if r := checkReason(c.Reason); r != nil {
		return Result{}, r
	}
	// The window is what the caller was promised, so a command whose leader's
	// clock was behind keeps its length, not its end.
	window := c.PurgeAt - c.Meta.Time
	if c.PurgeAt != 0 && (window < minRecovery || window > maxRecovery) {
		return Result{}, invalid("recoveryWindow", "must be 7 to 90 days")
	}
	if c.PurgeAt == 0 {
		window = 0
	}
	if r := t.checkPurge(s, t.now+window); r != nil {
		return Result{}, r
	}
	t.unscheduleSecret(s)
	next := *s
	if s.State == SecretActive {
		next.DeletedAt, next.DeletedBy, next.DeleteReason, next.DeleteRequest = t.now, t.by, c.Reason, c.Meta.RequestID
	} else if c.Reason != "" {
		next.DeleteReason = c.Reason
	}
	next.UpdatedAt, next.UpdatedBy = t.now, t.by
	if c.PurgeAt == 0 {
		t.purge(&next, VersionChange{By: t.by, RequestID: c.Meta.RequestID, Reason: next.DeleteReason})
		return secretResult(&next), nil
	}
	next.State, next.PurgeAt = SecretPendingDeletion, t.now+window
	t.putSecret(&next)
	return secretResult(&next), nil
}

func restoreSecret(t *txn, c RestoreSecret) (Result, *Refusal) {
	s, r := t.secret(c.Path)
	switch {
	case r != nil:
		return Result{}, r
	case s.State == SecretActive:
		return Result{}, conflict("path: the secret is not deleted; there is nothing to restore").with("state", string(s.State))
	case s.PurgeAt <= t.now:
		return Result{}, conflict("path: the recovery window of the secret has passed; it is being purged").with("state", string(s.State))
	}
	t.unscheduleSecret(s)
	next := *s
	next.State, next.PurgeAt = SecretActive, 0
	next.DeletedAt, next.DeletedBy, next.DeleteReason, next.DeleteRequest = 0, "", "", ""
	next.UpdatedAt, next.UpdatedBy = t.now, t.by
	t.putSecret(&next)
	return secretResult(&next), nil
}

func secretResult(s *Secret) Result {
	return Result{Path: string(s.Path), SecretID: s.ID, State: string(s.State), DueAt: s.PurgeAt, KeyID: s.KeyID}
}

// purge turns s, a copy that the caller owns, into its tombstone: the
// material of all versions is gone and its bindings are released at this
// index. The path stays taken and the history of versions stays, without
// what people wrote about the secret. cause is who wants it, why and by which
// request. It answers how many versions it erased.
func (t *txn) purge(s *Secret, cause VersionChange) int {
	erased := 0
	for _, v := range t.versions.collect(pair(string(s.Path), ""), 0) {
		if v.State == VersionDestroyed {
			continue
		}
		next := *v
		if v.State != VersionPendingDestroy {
			next.DestroyedBy, next.DestroyRequest, next.Reason = cause.By, cause.RequestID, cause.Reason
		}
		t.erase(s, v, &next)
		erased++
	}
	s.State, s.PurgeAt = SecretPurged, 0
	s.Current, s.Labels, s.Tags, s.Description, s.Rotation = 0, nil, nil, "", nil
	t.forgetConsumers(s.Path)
	t.putSecret(s)
	return erased
}

// secret answers the secret at path, NotFound for none and for a tombstone.
func (t *txn) secret(path string) (*Secret, *Refusal) {
	p, r := checkPath(path)
	if r != nil {
		return nil, r
	}
	s := t.secrets.value([]byte(p))
	if s == nil || s.State == SecretPurged {
		return nil, notFound("path: there is no secret %s; createSecret makes one", p)
	}
	return s, nil
}

// liveSecret is secret for what the recovery window refuses.
func (t *txn) liveSecret(path string) (*Secret, *Refusal) {
	s, r := t.secret(path)
	if r == nil && s.State != SecretActive {
		return nil, conflict("path: the secret is deleted and waits for the end of its recovery window; restoreSecret brings it back").
			with("state", string(s.State))
	}
	return s, r
}

// unscheduleSecret takes the purge of s back, if there is one.
func (t *txn) unscheduleSecret(s *Secret) {
	if s.State == SecretPendingDeletion {
		t.unschedule(dueItem{at: s.PurgeAt, kind: duePurge, path: s.Path})
	}
}

// setLabel answers labels with name on number, the map given left as it is.
func setLabel(labels map[string]uint64, name string, number uint64) map[string]uint64 {
	next := maps.Clone(labels)
	if next == nil {
		next = map[string]uint64{}
	}
	next[name] = number
	return next
}

// dropLabels answers labels without those on number, the map given left as
// it is.
func dropLabels(labels map[string]uint64, number uint64) map[string]uint64 {
	var next map[string]uint64
	for _, name := range sorted(labels) {
		if labels[name] != number {
			next = setLabel(next, name, labels[name])
		}
	}
	return next
}
