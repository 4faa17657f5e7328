package fsm

import (
	"errors"
	"iter"
)

// AccessKey is a credential for signed requests. Its secret is not stored, in
// no form: an HSM derives it from ID and Generation.
type AccessKey struct {
	ID          string   `cbor:"1,keyasint,omitempty"` // may be shown
	Principal   string   `cbor:"2,keyasint,omitempty"`
	Generation  uint32   `cbor:"3,keyasint,omitempty"` // of the derivation, from 1
	Description string   `cbor:"4,keyasint,omitempty"`
	BoundCIDRs  []string `cbor:"5,keyasint,omitempty"`
	CreatedAt   int64    `cbor:"6,keyasint,omitempty"`
	CreatedBy   string   `cbor:"7,keyasint,omitempty"`
	ExpiresAt   int64    `cbor:"8,keyasint,omitempty"`
}

// CredentialUse is when, to the minute about, and from where a token or an
// access key was used last. It is a record beside that of the credential,
// which so stays the same one as long as it means the same.
type CredentialUse struct {
	ID     string `cbor:"1,keyasint,omitempty"` // of the token or the access key
	At     int64  `cbor:"2,keyasint,omitempty"`
	Source string `cbor:"3,keyasint,omitempty"` // the address, as events spell it
}

// Bounds of access keys.
const (
	// maxAccessKeys bounds the access keys of one principal: two for a change
	// without a gap, and room for a service in many places.
	maxAccessKeys = 100
	maxSource     = 64
)

// AccessKey answers the access key with this id, nil if there is none. Whether
// it has expired is the caller's decision.
func (s *State) AccessKey(id string) *AccessKey { return at(s.accessKeys, []byte(id)) }

// AccessKeys answers the access keys of a principal with ids greater than
// after, ordered by id; of all principals if principal is empty.
func (s *State) AccessKeys(principal, after string) iter.Seq[*AccessKey] {
	if principal == "" {
		return values(scan(s.accessKeys.Root(), nil, following(after)))
	}
	var from []byte
	if after != "" {
		from = append(pair(principal, after), 0)
	}
	return values(scan(s.accessKeyOwners.Root(), pair(principal, ""), from))
}

// CredentialUse answers when a token or an access key was used last, as far
// as the state knows; nil: never.
func (s *State) CredentialUse(id string) *CredentialUse { return at(s.credentialUses, []byte(id)) }

func createAccessKey(t *txn, c CreateAccessKey) (Result, *Refusal) {
	k := c.Key
	if r := t.checkAccessKey(k); r != nil {
		return Result{}, r
	}
	k.CreatedAt, k.CreatedBy = t.now, t.by
	t.putAccessKey(&k)
	return Result{TokenID: k.ID, Name: k.Principal, DueAt: k.ExpiresAt}, nil
}

func (t *txn) checkAccessKey(k AccessKey) *Refusal {
	if r := checkName("accessKeyId", k.ID); r != nil {
		return r
	}
	if _, r := t.trusted("principal", k.Principal); r != nil {
		return r
	}
	switch {
	case k.Generation == 0:
		return invalid("generation", "must be 1 or more")
	case len(k.BoundCIDRs) > maxCIDRs:
		return invalid("boundCidrs", "has %d entries; at most %d are allowed", len(k.BoundCIDRs), maxCIDRs)
	case t.accessKeys.value([]byte(k.ID)) != nil:
		return alreadyExists("accessKeyId: %s is taken", k.ID)
	case t.tokens.value([]byte(k.ID)) != nil:
		// One id names one credential: uses are kept by it.
		return alreadyExists("accessKeyId: %s is the id of a token", k.ID)
	case len(t.accessKeyOwners.collect(pair(k.Principal, ""), maxAccessKeys)) >= maxAccessKeys:
		return conflict("principal: has %d access keys, which is the most allowed; delete those that nobody uses", maxAccessKeys)
	}
	return t.checkLater("ttl", k.ExpiresAt)
}

// deleteAccessKey is final: the id is random, so the same secret never comes
// back.
func deleteAccessKey(t *txn, c DeleteAccessKey) (Result, *Refusal) {
	k := t.accessKeys.value([]byte(c.ID))
	if k == nil {
		return Result{}, notFound("accessKeyId: there is no access key %.64s", c.ID)
	}
	t.removeAccessKey(k)
	return Result{TokenID: k.ID, Name: k.Principal, State: "deleted"}, nil
}

// revokeTokens is one decision: no request is served between the end of the
// first credential and that of the last.
func revokeTokens(t *txn, c RevokeTokens) (Result, *Refusal) {
	p, r := t.principal("principal", c.Principal)
	if r != nil {
		return Result{}, r
	}
	result := Result{Name: p.Name}
	for _, k := range t.tokenOwners.collect(pair(p.Name, ""), 0) {
		if k.RevokedAt != 0 || k.ExpiresAt <= t.now {
			continue
		}
		next := *k
		next.RevokedAt = t.now
		t.putToken(&next)
		result.Done++
	}
	if c.AccessKeys {
		result.AccessKeys = t.removeAccessKeys(p.Name)
	}
	return result, nil
}

// recordCredentialUse merges: repeating it, or two of them in either order,
// ends alike. What has ended meanwhile is left out.
func recordCredentialUse(t *txn, c RecordCredentialUse) (Result, *Refusal) {
	done := 0
	for _, use := range c.Uses {
		old := t.credentialUses.value([]byte(use.ID))
		if !t.hasCredential(use.ID) || use.At <= 0 || use.At > t.now || len(use.Source) > maxSource || old != nil && use.At <= old.At {
			continue
		}
		t.credentialUses.put([]byte(use.ID), &use)
		done++
	}
	return Result{Done: done}, nil
}

func (t *txn) hasCredential(id string) bool {
	return t.tokens.value([]byte(id)) != nil || t.accessKeys.value([]byte(id)) != nil
}

func (t *txn) putAccessKey(k *AccessKey) {
	t.accessKeys.put([]byte(k.ID), k)
	t.accessKeyOwners.put(pair(k.Principal, k.ID), k)
	t.schedule(dueItem{at: k.ExpiresAt + tokenKept, kind: dueAccessKey, id: k.ID})
}

func (t *txn) removeAccessKey(k *AccessKey) {
	t.accessKeys.remove([]byte(k.ID))
	t.accessKeyOwners.remove(pair(k.Principal, k.ID))
	t.credentialUses.remove([]byte(k.ID))
	t.unschedule(dueItem{at: k.ExpiresAt + tokenKept, kind: dueAccessKey, id: k.ID})
}

// removeAccessKeys ends the access keys of a principal, and answers how many
// there were.
func (t *txn) removeAccessKeys(principal string) int {
	all := t.accessKeyOwners.collect(pair(principal, ""), 0)
	for _, k := range all {
		t.removeAccessKey(k)
	}
	return len(all)
}

func (t *txn) restoreAccessKey(k *AccessKey) (string, error) {
	switch {
	case t.principals.value([]byte(k.Principal)) == nil:
		return "", errors.New("an access key is of a principal that is not there")
	case k.Generation == 0 || t.hasCredential(k.ID):
		return "", errors.New("an access key is of no generation, or shares its id")
	case k.ExpiresAt < 0 || k.ExpiresAt > maxTime:
		return "", errors.New("an access key expires at a time out of range")
	}
	t.putAccessKey(k)
	return k.ID, nil
}

func (t *txn) restoreCredentialUse(u *CredentialUse) (string, error) {
	if !t.hasCredential(u.ID) || u.At <= 0 || u.At > maxTime {
		return "", errors.New("a credential that is not there was used, or at no time")
	}
	t.credentialUses.put([]byte(u.ID), u)
	return u.ID, nil
}
