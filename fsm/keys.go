package fsm

import (
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// usageEncrypt is the usage of keys that secrets are bound to.
const usageEncrypt = "encrypt"

// maxPathsShown bounds the bound paths that a KeyInUse refusal names.
const maxPathsShown = 20

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
	if r := checkMaterial(k); r != nil {
		return r
	}
	seen := map[string]bool{}
	for _, alias := range k.Aliases {
		if _, err := names.ParseKeyRef(alias); err != nil || !strings.HasPrefix(alias, names.AliasPrefix) {
			return invalid("alias", "must be alias/NAME")
		}
		if t.aliases.value([]byte(alias)) != "" || seen[alias] {
			return alreadyExists("alias: %s is taken; choose another name", alias)
		}
		seen[alias] = true
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
		w := v.Wrapped
		if w.ID != k.ID || uint64(w.Version) != uint64(i)+1 || w.Spec != k.Spec || w.Usage != k.Usage || len(w.Blob) == 0 {
			return invalid("key", "the material of version %d was wrapped for another key", i+1)
		}
	}
	return nil
}

// keyMove says what the state table of the design (kms.md) lets a change of
// state do.
type keyMove int

const (
	moveRefused keyMove = iota
	moveNothing         // already so
	moveFree
	moveIfUnbound // only while no live version is bound
)

// keyMoves is the columns "disable" and "enable" of that table, by the state
// that the key is in. What is not in it is refused.
var keyMoves = map[KeyState]map[KeyState]keyMove{
	KeyDisabled: {
		KeyActive:        moveIfUnbound,
		KeyRetiring:      moveIfUnbound,
		KeyDisabled:      moveNothing,
		KeyPendingImport: moveFree,
	},
	KeyActive: {
		KeyActive:   moveNothing,
		KeyRetiring: moveFree,
		KeyDisabled: moveFree,
	},
}

func setKeyState(t *txn, c SetKeyState) (Result, *Refusal) {
	key := t.keys.value([]byte(c.KeyID))
	if key == nil {
		return Result{}, notFound("keyId: there is no key %.64s", c.KeyID)
	}
	if key.State == KeyDestroyed {
		return Result{}, notFound("keyId: the key was destroyed; describeKey tells its story")
	}
	moves, known := keyMoves[c.State]
	if !known {
		return Result{}, invalid("state", "a key can be set to %s or %s", KeyActive, KeyDisabled)
	}
	move := moves[key.State]
	if move == moveRefused {
		return Result{}, conflict("keyId: a key that is %s cannot be set to %s; describeKey tells how it came there", key.State, c.State).
			with("keyId", key.ID).with("state", string(key.State))
	}
	if move == moveIfUnbound {
		if r := t.checkUnbound(key); r != nil {
			return Result{}, r
		}
	}
	if move != moveNothing {
		next := *key
		next.State, next.UpdatedAt = c.State, t.now
		t.putKey(&next)
	}
	return Result{KeyID: key.ID, State: string(c.State)}, nil
}

// checkUnbound refuses while anything live is bound to key. It is decided
// here because only here no other write can come in between.
func (t *txn) checkUnbound(key *Key) *Refusal {
	count := t.bound.value([]byte(key.ID))
	if count == 0 {
		return nil
	}
	r := refuse(fault.New(fault.KeyInUse, "keyId: %d secrets have live versions under the key; destroy or delete them first, listBoundSecrets shows them", count)).
		with("keyId", key.ID)
	r.Count = count
	for path := range boundPaths(t.bindings.root(), key.ID, "") {
		if r.Paths = append(r.Paths, string(path)); len(r.Paths) == maxPathsShown {
			break
		}
	}
	return r
}
