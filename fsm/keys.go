package fsm

import (
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// usageEncrypt is the usage of keys that secrets are bound to.
const usageEncrypt = "encrypt"

// Bounds of what one key gathers, so that its record stays small.
const (
	maxPathsShown  = 20 // bound paths that a KeyInUse refusal names
	maxAliases     = 64
	maxKeyVersions = 1000
)

func createKey(t *txn, c CreateKey) (Result, *Refusal) {
	k := c.Key
	if r := t.checkKey(k); r != nil {
		return Result{}, r
	}
	t.addKey(k)
	return Result{KeyID: k.ID, State: string(k.State)}, nil
}

// addKey stores a key that checkKey let pass.
func (t *txn) addKey(k Key) {
	k.Aliases = slices.Sorted(slices.Values(k.Aliases))
	k.CreatedAt, k.CreatedBy, k.UpdatedAt = t.now, t.by, t.now
	t.putKey(&k)
}

// checkKey decides whether k may be added.
func (t *txn) checkKey(k Key) *Refusal {
	if _, err := names.ParseKeyRef(k.ID); err != nil || strings.HasPrefix(k.ID, names.AliasPrefix) {
		return invalid("keyId", "must be a UUID in lower case")
	}
	if t.keys.value([]byte(k.ID)) != nil {
		return alreadyExists("keyId: %s is taken", k.ID)
	}
	if k.State != KeyActive && k.State != KeyPendingImport {
		return invalid("state", "a new key is active or pendingImport")
	}
	if r := t.checkPurpose(k); r != nil {
		return r
	}
	if r := checkMaterial(k); r != nil {
		return r
	}
	for _, piece := range k.Pieces() {
		if r := t.checkRoot(piece); r != nil {
			return r
		}
	}
	if len(k.Aliases) > maxAliases {
		return invalid("alias", "a key has at most %d aliases", maxAliases)
	}
	seen := map[string]bool{}
	for _, alias := range k.Aliases {
		if r := t.checkAlias(alias); r != nil {
			return r
		}
		if seen[alias] {
			return alreadyExists("alias: %s is taken; choose another name", alias)
		}
		seen[alias] = true
	}
	return nil
}

// checkPurpose decides whether the cluster may make k for itself. There is one
// key for a purpose: two leaders in a hand-over do not make two.
func (t *txn) checkPurpose(k Key) *Refusal {
	switch {
	case k.Purpose == "":
		return nil
	case k.Purpose != PurposeAudit || k.Spec != wrapped.ECP256 || k.Usage != wrapped.Sign || k.State != KeyActive || len(k.Aliases) > 0:
		return invalid("purpose", "is none of this release, or the key is not made for it")
	}
	for _, other := range scan(t.keys.root(), nil, nil) {
		if other.Purpose == k.Purpose {
			return race("purpose: there is a key for %s", k.Purpose).with("keyId", other.ID)
		}
	}
	return nil
}

// checkMaterial checks that the versions of k are of this key, dense from 1,
// with the last one current.
func checkMaterial(k Key) *Refusal {
	for _, part := range []struct{ field, text string }{{"spec", k.Spec}, {"usage", k.Usage}, {"origin", k.Origin}} {
		if r := checkName(part.field, part.text); r != nil {
			return r
		}
	}
	if len(k.Versions) == 0 && k.State != KeyPendingImport || uint64(k.Current) != uint64(len(k.Versions)) {
		return invalid("key", "its current version must be the last one that it has")
	}
	for i, v := range k.Versions {
		if r := checkKeyVersion(k, uint32(i)+1, v); r != nil {
			return r
		}
	}
	return nil
}

// checkKeyVersion checks that v is version number of k and of no other key.
func checkKeyVersion(k Key, number uint32, v KeyVersion) *Refusal {
	w := v.Wrapped
	if w.ID != k.ID || w.Version != number || w.Spec != k.Spec || w.Usage != k.Usage || len(w.Blob) == 0 {
		return invalid("key", "the material of version %d was wrapped for another key", number)
	}
	return nil
}

// keyFor answers the key if action goes with its state, and the cell of the
// table that says so.
func (t *txn) keyFor(field, keyID string, action KeyAction) (*Key, KeyRule, *Refusal) {
	key := t.keys.value([]byte(keyID))
	if key == nil {
		return nil, KeyRule{}, notFound("%s: there is no key %.64s", field, keyID)
	}
	if key.Purpose != "" && action != KeyOpen && action != KeyRotate {
		return nil, KeyRule{}, conflict("%s: the key is the cluster's own, for %s: it can be rotated, and nothing else", field, key.Purpose).with("keyId", key.ID)
	}
	rule := RuleFor(key.State, action)
	if rule.Refused != "" {
		return nil, rule, refusedKey(field, key, action, rule)
	}
	if rule.IfUnbound {
		return key, rule, t.checkUnbound(field, key)
	}
	return key, rule, nil
}

// bindable answers the key if new versions may be bound to it.
func (t *txn) bindable(field, keyID string) (*Key, *Refusal) {
	key, _, r := t.keyFor(field, keyID, KeyProtect)
	if r != nil {
		return nil, r
	}
	if key.Usage != usageEncrypt || key.Spec != wrapped.AES256 {
		return nil, invalid(field, "secrets are bound to keys of spec %s for %s; this one is of spec %s for %s",
			wrapped.AES256, usageEncrypt, key.Spec, key.Usage)
	}
	return key, nil
}

// checkUnbound refuses while anything live is bound to key. It is decided
// here because only here no other write can come in between.
func (t *txn) checkUnbound(field string, key *Key) *Refusal {
	count := t.bound.value([]byte(key.ID))
	if count == 0 {
		return nil
	}
	noun := "secrets have"
	if count == 1 {
		noun = "secret has"
	}
	r := refuse(fault.New(fault.KeyInUse,
		"%s: %d %s live versions under the key; retireKey moves them to another key and disables this one, listBoundSecrets shows them",
		field, count, noun)).with("keyId", key.ID)
	r.Count = count
	for path := range boundPaths(t.bindings.root(), key.ID, "") {
		if r.Paths = append(r.Paths, string(path)); len(r.Paths) == maxPathsShown {
			break
		}
	}
	return r
}

func updateKey(t *txn, c UpdateKey) (Result, *Refusal) {
	key := t.keys.value([]byte(c.KeyID))
	if key == nil {
		return Result{}, notFound("keyId: there is no key %.64s", c.KeyID)
	}
	next := *key
	if c.Description != nil {
		next.Description = *c.Description
	}
	if c.SetTags {
		next.Tags = c.Tags
	}
	return t.changeKey(&next), nil
}

// changeKey stores next, a copy that the caller owns, in place of the record
// of the same key.
func (t *txn) changeKey(next *Key) Result {
	next.UpdatedAt, next.UpdatedBy = t.now, t.by
	t.putKey(next)
	return Result{KeyID: next.ID, State: string(next.State), DueAt: next.DeletionAt}
}

// checkAlias decides whether alias may be given to a key.
func (t *txn) checkAlias(alias string) *Refusal {
	if r := aliasForm(alias); r != nil {
		return r
	}
	if t.aliases.value([]byte(alias)) != "" {
		return alreadyExists("alias: %s is taken; updateAlias moves it, or choose another name", alias)
	}
	return nil
}

func aliasForm(alias string) *Refusal {
	if _, err := names.ParseKeyRef(alias); err != nil || !strings.HasPrefix(alias, names.AliasPrefix) {
		return invalid("alias", "must be alias/NAME")
	}
	return nil
}

func createAlias(t *txn, c CreateAlias) (Result, *Refusal) {
	if r := t.checkAlias(c.Alias); r != nil {
		return Result{}, r
	}
	return t.giveAlias(c.Alias, c.KeyID)
}

// updateAlias moves an alias to another key, in one step: there is no moment
// in which it names none.
func updateAlias(t *txn, c UpdateAlias) (Result, *Refusal) {
	old, r := t.aliasOwner(c.Alias)
	if r != nil {
		return Result{}, r
	}
	if old.ID == c.KeyID {
		return Result{KeyID: old.ID, Name: c.Alias, State: string(old.State)}, nil
	}
	t.dropAlias(old, c.Alias)
	return t.giveAlias(c.Alias, c.KeyID)
}

func deleteAlias(t *txn, c DeleteAlias) (Result, *Refusal) {
	if c.Alias == names.DefaultAlias {
		return Result{}, conflict("alias: %s names the key of secrets that name no other; updateAlias moves it to another key", c.Alias)
	}
	old, r := t.aliasOwner(c.Alias)
	if r != nil {
		return Result{}, r
	}
	t.dropAlias(old, c.Alias)
	return Result{KeyID: old.ID, Name: c.Alias}, nil
}

func (t *txn) aliasOwner(alias string) (*Key, *Refusal) {
	if r := aliasForm(alias); r != nil {
		return nil, r
	}
	key := t.keys.value([]byte(t.aliases.value([]byte(alias))))
	if key == nil {
		return nil, notFound("alias: there is no %s; createAlias makes one", alias)
	}
	return key, nil
}

// giveAlias adds alias to a key that is not destroyed.
func (t *txn) giveAlias(alias, keyID string) (Result, *Refusal) {
	key := t.keys.value([]byte(keyID))
	switch {
	case key == nil:
		return Result{}, notFound("keyId: there is no key %.64s", keyID)
	case key.State == KeyDestroyed || key.State == KeyPendingDeletion:
		return Result{}, conflict("keyId: a key that is %s gets no alias", key.State).with("keyId", key.ID).with("state", string(key.State))
	case alias == names.DefaultAlias && (key.Usage != usageEncrypt || key.Spec != wrapped.AES256):
		return Result{}, invalid("keyId", "%s must name a key of spec %s for %s", alias, wrapped.AES256, usageEncrypt)
	case len(key.Aliases) >= maxAliases:
		return Result{}, conflict("keyId: the key has %d aliases, the most that a key can have", len(key.Aliases))
	}
	next := *key
	next.Aliases = append(slices.Clone(key.Aliases), alias)
	slices.Sort(next.Aliases)
	result := t.changeKey(&next)
	result.Name = alias
	return result, nil
}

func (t *txn) dropAlias(key *Key, alias string) {
	next := *key
	next.Aliases = slices.DeleteFunc(slices.Clone(key.Aliases), func(a string) bool { return a == alias })
	if len(next.Aliases) == 0 {
		next.Aliases = nil // as a restored record has it
	}
	t.changeKey(&next)
}
