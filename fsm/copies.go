package fsm

import (
	"bytes"
	"crypto/sha256"
)

// copySecret makes a secret of the live versions of another one, sealed anew
// by the engine. What is not part of the seal (content type, size, expiry,
// state) is taken from the records of now; what is, must be of them: a copy
// made from what the source was a moment ago could hold what it is rid of.
func copySecret(t *txn, c CopySecret) (Result, *Refusal) {
	path, r := checkPath(c.Path)
	if r != nil {
		return Result{}, r
	}
	if r := checkName("secretId", c.SecretID); r != nil {
		return Result{}, r
	}
	source, r := t.liveSecret(c.From)
	if r != nil {
		return Result{}, r
	}
	if r := t.checkFree(path, CreateSecret{SecretID: c.SecretID, ReuseRetired: c.ReuseRetired}); r != nil {
		return Result{}, r
	}
	if r := t.checkNewPath(path, source.Tags); r != nil {
		return Result{}, r
	}
	key, r := t.bindable("kmsKeyId", c.KeyID)
	if r != nil {
		return Result{}, r
	}
	versions, r := t.copied(c, source, key)
	if r != nil {
		return Result{}, r
	}
	s := t.newSecret(path, c.SecretID, key.ID)
	s.Description, s.Tags = source.Description, source.Tags
	for i, item := range c.Versions {
		v := versions[i]
		if item.Source == source.Current {
			s.Current = v.Number
			t.note(v, c.Meta, ChangeActivated, labelCurrent, "")
		}
		t.putVersion(path, nil, v)
		s.Latest = v.Number
		for _, label := range []string{labelCurrent, labelPrevious} {
			if source.Labels[label] == item.Source {
				s.Labels = setLabel(s.Labels, label, v.Number)
			}
		}
	}
	t.review(s)
	t.putSecret(s)
	return Result{Path: c.Path, SecretID: s.ID, State: string(s.State), KeyID: key.ID, Version: s.Current, Done: len(versions)}, t.checkQuotas(path)
}

// copied answers the records of the copies, numbered from 1, if c holds all
// live versions of source, each as it is now.
func (t *txn) copied(c CopySecret, source *Secret, key *Key) ([]*Version, *Refusal) {
	changed := race("path: the secret changed while it was being copied; retry")
	if source.ID != c.FromID {
		return nil, changed
	}
	var out []*Version
	for _, v := range t.versions.collect(pair(string(source.Path), ""), 0) {
		if v.State == VersionDestroyed {
			continue
		}
		if len(out) == len(c.Versions) {
			return nil, changed
		}
		item, number := c.Versions[len(out)], uint64(len(out))+1
		sum := sha256.Sum256(v.DataKey)
		switch {
		case item.Source != v.Number || !bytes.Equal(sum[:], item.Old):
			return nil, changed
		case item.KeyVersion != key.Current:
			return nil, race("kmsKeyId: the key changed while the secret was being copied; retry")
		case len(item.Sealed) == 0 || len(item.DataKey) == 0:
			return nil, invalid("value", "the sealed value or its data key is missing")
		case item.VersionID == "" || len(item.VersionID) > maxVersionID:
			return nil, invalid("versionId", "must have 1 to %d characters", maxVersionID)
		}
		out = append(out, &Version{
			Number: number, ID: item.VersionID, State: v.State, Size: v.Size, ContentType: v.ContentType,
			KeyID: key.ID, KeyVersion: item.KeyVersion, Sealed: item.Sealed, DataKey: item.DataKey, Fingerprint: item.Fingerprint,
			CreatedAt: t.now, CreatedBy: t.by, RequestID: c.Meta.RequestID, ExpiresAt: v.ExpiresAt,
			DestroyAt: v.DestroyAt, DestroyedBy: v.DestroyedBy, Reason: v.Reason, Disabled: v.Disabled,
			DestroyRequest: v.DestroyRequest, NotifyBefore: v.NotifyBefore,
		})
	}
	if len(out) != len(c.Versions) {
		return nil, changed
	}
	return out, nil
}
