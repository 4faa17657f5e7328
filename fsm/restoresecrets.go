package fsm

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/names"
)

func (t *txn) restoreSecretRecord(s *Secret) (string, error) {
	if _, err := names.ParsePath(string(s.Path)); err != nil {
		return "", errors.New("a secret has no valid path")
	}
	if s.PurgeAt < 0 || t.keys.value([]byte(s.KeyID)) == nil {
		return "", errors.New("a secret is bound to a key that is not there, or due at no time")
	}
	if s.KeepAt < 0 || s.KeepAt > maxTime {
		return "", errors.New("a secret is to be looked at at a time out of range")
	}
	if s.Labels[labelCurrent] != s.Current {
		return "", errors.New("a secret does not know which version is current")
	}
	for _, number := range s.Labels {
		if number == 0 || number > s.Latest {
			return "", errors.New("a label is on no version")
		}
	}
	if err := s.Rotation.sound(s); err != nil {
		return "", err
	}
	switch {
	case s.Changed > t.index:
		return "", errors.New("a secret was changed in the future")
	case s.Changed == 0:
		// An older build did not keep it. Who asks for changes since before
		// this snapshot is told about the secret, which may be once too often.
		s.Changed = t.index
	}
	t.keepSecret(s)
	return string(s.Path), nil
}

func (t *txn) restoreVersion(r *versionRecord) (string, error) {
	s, v := t.secrets.value([]byte(r.Path)), r.Version
	switch {
	case s == nil || v == nil || v.Number == 0 || v.Number > s.Latest:
		return "", errors.New("a version is of no secret")
	case t.keys.value([]byte(v.KeyID)) == nil:
		return "", errors.New("a version is bound to a key that is not there")
	case v.DestroyAt < 0 || v.State == VersionDestroyed && v.Number == s.Current:
		return "", errors.New("a current version is destroyed, or a version due at no time")
	case t.versions.value(versionKey(r.Path, v.Number)) != nil:
		return "", errors.New("a version is there twice")
	case v.ExpiresAt < 0 || v.ExpiresAt > maxTime || v.NotifyBefore < 0 || v.NotifyBefore > maxNotify || v.NotifyBefore != 0 && v.ExpiresAt == 0:
		return "", errors.New("a version expires at a time out of range")
	case len(v.Changes) > maxChanges:
		return "", errors.New("a version has more changes than it may have")
	case v.State == VersionDestroyed && slices.Contains(slices.Collect(maps.Values(s.Labels)), v.Number):
		return "", errors.New("a label is on a destroyed version")
	}
	if err := v.Compromised.sound(); err != nil {
		return "", err
	}
	t.putVersion(r.Path, nil, v)
	return string(versionKey(r.Path, v.Number)), nil
}

func (t *txn) restoreSession(s *Session) (string, error) {
	if s.Number == 0 || s.Number > t.index || s.EndedAt < 0 || s.EndedAt > maxTime || s.Lost && s.EndedAt == 0 {
		return "", errors.New("a session of the ledger is of no time")
	}
	t.sessions.put(sessionKey(s.Number), s)
	return string(sessionKey(s.Number)), nil
}

func (t *txn) restoreConsumer(c *Consumer) (string, error) {
	if t.secrets.value([]byte(c.Path)) == nil || strings.IndexByte(c.Principal+c.Instance, 0) >= 0 || c.Principal == "" {
		return "", errors.New("a consumer is of no secret, or has no name")
	}
	for i, h := range c.Holds {
		if h.Until < 0 || h.Until > maxTime || i > 0 && h.Version <= c.Holds[i-1].Version {
			return "", errors.New("a consumer holds a version until no time, or twice")
		}
	}
	t.putConsumer(c)
	return string(consumerKey(c.Path, c.Principal, c.Instance)), nil
}

func (t *txn) restoreRead(r *readRecord) (string, error) {
	key := versionKey(r.Path, r.Version)
	if t.versions.value(key) == nil || r.At <= 0 || r.At > maxTime {
		return "", errors.New("a version that is not there was read, or at no time")
	}
	t.reads.put(key, r.At)
	return string(key), nil
}
