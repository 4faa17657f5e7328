package fsm

import (
	"slices"

	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Bounds of a key's life.
const (
	hour           = int64(60 * 60 * 1000)
	minKeyDeletion = 7 * 24 * hour
	maxKeyDeletion = 90 * 24 * hour
	minRotation    = hour
	maxRotation    = 10 * 366 * 24 * hour

	// MaxSeals is how often one version of an AES key may seal with random
	// 96-bit IVs (NIST SP 800-38D, section 8.3).
	MaxSeals = uint64(1) << 32
)

// setKeyState disables or enables a key.
func setKeyState(t *txn, c SetKeyState) (Result, *Refusal) {
	action, known := map[KeyState]KeyAction{KeyDisabled: KeyDisable, KeyActive: KeyEnable}[c.State]
	if !known {
		return Result{}, invalid("state", "a key can be set to %s or %s", KeyActive, KeyDisabled)
	}
	key, rule, r := t.keyFor("keyId", c.KeyID, action)
	if r != nil {
		return Result{}, r
	}
	return t.moveKey(key, rule), nil
}

// moveKey carries a rule out. A rule without a state changes nothing at all.
func (t *txn) moveKey(key *Key, rule KeyRule) Result {
	if rule.To == "" || rule.To == key.State {
		return Result{KeyID: key.ID, State: string(key.State), DueAt: key.DeletionAt}
	}
	next := *key
	next.State = rule.To
	if rule.To == KeyActive {
		next.EmptyIndex = 0
		if len(next.Versions) == 0 {
			// It was disabled before it got its material.
			next.State = KeyPendingImport
		}
	}
	return t.changeKey(&next)
}

// rotateKey adds a version and makes it the current one. The older versions
// go on to open what they sealed.
func rotateKey(t *txn, c RotateKey) (Result, *Refusal) {
	key, _, r := t.keyFor("keyId", c.KeyID, KeyRotate)
	switch {
	case r != nil:
		return Result{}, r
	case key.Origin == OriginImported:
		return Result{}, conflict("keyId: the material of the key was imported; make a new key and move its secrets with migrateBoundSecrets")
	case len(key.Versions) >= maxKeyVersions:
		return Result{}, conflict("keyId: the key has %d versions, the most that a key can have; make a new one and use migrateBoundSecrets", len(key.Versions))
	case c.Version.Wrapped.Version != key.Current+1:
		return Result{}, race("keyId: the key was rotated by somebody else just now")
	}
	if r := checkKeyVersion(*key, key.Current+1, c.Version); r != nil {
		return Result{}, r
	}
	if r := t.checkRoot(c.Version.Wrapped); r != nil {
		return Result{}, r
	}
	v := c.Version
	v.CreatedAt, v.CreatedBy, v.Reserved = t.now, t.by, 0
	next := *key
	next.Versions = append(slices.Clip(slices.Clone(key.Versions)), v)
	next.Current++
	if next.RotationPeriod != 0 {
		next.NextRotationAt = t.now + next.RotationPeriod
	}
	result := t.changeKey(&next)
	result.KeyVersion = next.Current
	return result, nil
}

// setKeyRotation starts, changes or ends (period 0) a key's schedule.
func setKeyRotation(t *txn, c SetKeyRotation) (Result, *Refusal) {
	key, _, r := t.keyFor("keyId", c.KeyID, KeyRotate)
	switch {
	case r != nil:
		return Result{}, r
	case key.Origin == OriginImported && c.Period != 0:
		return Result{}, conflict("keyId: the material of the key was imported; it cannot be rotated")
	case c.Period != 0 && (c.Period < minRotation || c.Period > maxRotation):
		return Result{}, invalid("period", "must be 1h to 3660d, or 0s for no rotation")
	}
	next := *key
	next.RotationPeriod, next.NextRotationAt = c.Period, 0
	if c.Period != 0 {
		// Counted from the newest version, as the age of a key is; a period
		// that is shorter than that age makes it due now.
		next.NextRotationAt = max(t.now, key.Versions[len(key.Versions)-1].CreatedAt+c.Period)
	}
	return t.changeKey(&next), nil
}

func scheduleKeyDeletion(t *txn, c ScheduleKeyDeletion) (Result, *Refusal) {
	key, rule, r := t.keyFor("keyId", c.KeyID, KeyScheduleDeletion)
	if r != nil {
		return Result{}, r
	}
	if slices.Contains(key.Aliases, names.DefaultAlias) {
		return Result{}, conflict("keyId: %s names the key; updateAlias moves it to another key first", names.DefaultAlias).with("keyId", key.ID)
	}
	// As with secrets, the window is what counts, not its end.
	window := c.DueAt - c.Meta.Time
	if window < minKeyDeletion || window > maxKeyDeletion {
		return Result{}, invalid("waitingPeriod", "must be 7 to 90 days")
	}
	next := *key
	next.State, next.DeletionAt, next.DeletedBy, next.DeleteReason = rule.To, t.now+window, t.by, c.Reason
	return t.changeKey(&next), nil
}

func cancelKeyDeletion(t *txn, c CancelKeyDeletion) (Result, *Refusal) {
	key, rule, r := t.keyFor("keyId", c.KeyID, KeyCancelDeletion)
	if r != nil {
		return Result{}, r
	}
	if key.DeletionAt <= t.now {
		return Result{}, conflict("keyId: the waiting period of the key has passed; it is being destroyed").with("state", string(key.State))
	}
	next := *key
	next.State, next.DeletionAt, next.DeletedBy, next.DeleteReason = rule.To, 0, "", ""
	return t.changeKey(&next), nil
}

// destroyKey erases the material of a key whose waiting period is over: from
// this index on nothing can ever open what it sealed. A key that something
// live is bound to is never destroyed, whatever led here: it is disabled
// instead, and stays recoverable.
func (t *txn) destroyKey(key *Key) {
	next := *key
	next.DeletionAt = 0
	if t.bound.value([]byte(key.ID)) != 0 {
		next.State = KeyDisabled
		t.changeKey(&next)
		return
	}
	next.State, next.DestroyedAt, next.Aliases = KeyDestroyed, t.now, nil
	next.RotationPeriod, next.NextRotationAt, next.ImportKey = 0, 0, nil
	next.Versions = make([]KeyVersion, len(key.Versions))
	for i, v := range key.Versions {
		v.Wrapped = wrapped.Key{}
		next.Versions[i] = v
	}
	t.changeKey(&next)
}

// importMaterial gives a key that waits for it its first version.
func importMaterial(t *txn, c ImportMaterial) (Result, *Refusal) {
	key, rule, r := t.keyFor("keyId", c.KeyID, KeyImport)
	if r != nil {
		return Result{}, r
	}
	if r := checkKeyVersion(*key, 1, c.Version); r != nil {
		return Result{}, r
	}
	if r := t.checkRoot(c.Version.Wrapped); r != nil {
		return Result{}, r
	}
	v := c.Version
	v.CreatedAt, v.CreatedBy, v.Reserved = t.now, t.by, 0
	next := *key
	next.State, next.Versions, next.Current, next.ImportKey = rule.To, []KeyVersion{v}, 1, nil
	result := t.changeKey(&next)
	result.KeyVersion = next.Current
	return result, nil
}

// setImportKey keeps the one-time key that material for keyId must be
// wrapped to. A later one replaces it.
func setImportKey(t *txn, c SetImportKey) (Result, *Refusal) {
	key, _, r := t.keyFor("keyId", c.KeyID, KeyImport)
	if r != nil {
		return Result{}, r
	}
	if c.ImportKey.ID == "" || len(c.ImportKey.Blob) == 0 || len(c.ImportKey.Public) == 0 {
		return Result{}, invalid("importKey", "has no material")
	}
	if r := t.checkRoot(c.ImportKey); r != nil {
		return Result{}, r
	}
	next := *key
	next.ImportKey = &c.ImportKey
	return t.changeKey(&next), nil
}

// reserveSeals books seals of one key version before they are made, in
// blocks, so that no sequence of leaders can go over the bound: what a leader
// booked and did not use is lost, never used twice.
func reserveSeals(t *txn, c ReserveSeals) (Result, *Refusal) {
	key, _, r := t.keyFor("keyId", c.KeyID, KeyProtect)
	if r != nil {
		return Result{}, r
	}
	if c.Version == 0 || int(c.Version) > len(key.Versions) || c.Count == 0 || c.Count > MaxSeals {
		return Result{}, invalid("version", "has no such version, or an impossible count")
	}
	v := key.Versions[c.Version-1]
	if v.Reserved+c.Count > MaxSeals {
		return Result{}, conflict("keyId: version %d of the key has sealed as often as one version may (2^32 times); rotateKey gives it a new one", c.Version).
			with("keyId", key.ID)
	}
	v.Reserved += c.Count
	next := *key
	next.Versions = slices.Clone(key.Versions)
	next.Versions[c.Version-1] = v
	t.putKey(&next)
	return Result{KeyID: key.ID, State: string(key.State)}, nil
}

// recordKeyUse keeps when keys were used last. It merges: repeating it, or
// two of them in either order, ends alike.
func recordKeyUse(t *txn, c RecordKeyUse) (Result, *Refusal) {
	done := 0
	for _, use := range c.Uses {
		key := t.keys.value([]byte(use.KeyID))
		if key == nil || use.At <= key.LastUsedAt || use.At > t.now {
			continue
		}
		next := *key
		next.LastUsedAt = use.At
		t.putKey(&next)
		done++
	}
	return Result{Done: done}, nil
}
