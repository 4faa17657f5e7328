package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"iter"
)

// JoinToken lets one node become a member, once. Only the hash of its text is
// here.
type JoinToken struct {
	ID        string   `cbor:"1,keyasint,omitempty"`
	Hash      []byte   `cbor:"2,keyasint,omitempty"` // SHA-256 of the text
	NodeID    string   `cbor:"3,keyasint,omitempty"` // for this node only; "": any
	ReadOnly  bool     `cbor:"4,keyasint,omitempty"`
	CIDRs     []string `cbor:"5,keyasint,omitempty"` // where it must come from; held by the leader
	ExpiresAt int64    `cbor:"6,keyasint,omitempty"`
	CreatedAt int64    `cbor:"7,keyasint,omitempty"`
	CreatedBy string   `cbor:"8,keyasint,omitempty"`
	UsedAt    int64    `cbor:"9,keyasint,omitempty"`
	UsedBy    string   `cbor:"10,keyasint,omitempty"` // node
	RevokedAt int64    `cbor:"11,keyasint,omitempty"`
}

// SetJoinToken makes a join token, or revokes the one with Token.ID.
type SetJoinToken struct {
	Meta   Meta      `cbor:"1,keyasint,omitempty"`
	Token  JoinToken `cbor:"2,keyasint,omitempty"` // all that says who and when is set by Apply
	Revoke bool      `cbor:"3,keyasint,omitempty"`
}

// Bounds of join tokens.
const (
	maxJoinTokens   = 256
	maxJoinTokenTTL = 30 * 24 * hour
)

// Spent says why the token lets nobody in at now, "" if it does.
func (k *JoinToken) Spent(now int64) string {
	switch {
	case k.UsedAt != 0:
		return "used"
	case k.RevokedAt != 0:
		return "revoked"
	case k.ExpiresAt <= now:
		return "expired"
	}
	return ""
}

// JoinToken answers the join token with this id, nil if there is none.
func (s *State) JoinToken(id string) *JoinToken { return at(s.joinTokens, []byte(id)) }

// JoinTokens answers the join tokens with ids greater than after, in order.
func (s *State) JoinTokens(after string) iter.Seq[*JoinToken] {
	return values(scan(s.joinTokens.Root(), nil, following(after)))
}

// JoinTokenByHash answers the join token whose text has this SHA-256, also one
// that is spent; nil if there is none.
func (s *State) JoinTokenByHash(hash []byte) *JoinToken {
	for k := range s.JoinTokens("") {
		if bytes.Equal(k.Hash, hash) {
			return k
		}
	}
	return nil
}

func setJoinToken(t *txn, c SetJoinToken) (Result, *Refusal) {
	if r := checkName("tokenId", c.Token.ID); r != nil {
		return Result{}, r
	}
	if c.Revoke {
		return revokeJoinToken(t, c.Token.ID)
	}
	k := c.Token
	if r := checkJoinToken(&k); r != nil {
		return Result{}, r
	}
	switch {
	case k.ExpiresAt <= t.now || k.ExpiresAt > t.now+maxJoinTokenTTL:
		return Result{}, invalid("ttl", "must be at most 30d, and more than nothing")
	case t.joinTokens.value([]byte(k.ID)) != nil:
		return Result{}, alreadyExists("tokenId: there is a join token %s", k.ID)
	case k.NodeID != "" && t.nodes.value([]byte(k.NodeID)).Removed():
		return Result{}, removedNode(t.nodes.value([]byte(k.NodeID)))
	}
	for _, other := range t.joinTokens.collect(nil, 0) {
		if bytes.Equal(other.Hash, k.Hash) {
			return Result{}, alreadyExists("tokenId: another join token has the same text")
		}
	}
	if t.joinTokens.tree.Len() >= maxJoinTokens && !t.forgetSpentJoinTokens() {
		return Result{}, conflict("tokenId: there are %d join tokens that nobody has used, the most that there can be; revokeJoinToken makes room", maxJoinTokens)
	}
	k.CreatedAt, k.CreatedBy, k.UsedAt, k.UsedBy, k.RevokedAt = t.now, t.by, 0, "", 0
	t.joinTokens.put([]byte(k.ID), &k)
	return Result{TokenID: k.ID}, nil
}

func checkJoinToken(k *JoinToken) *Refusal {
	if len(k.Hash) != sha256.Size {
		return invalid("token", "must be the SHA-256 of a text")
	}
	if k.NodeID != "" {
		if r := checkName("nodeId", k.NodeID); r != nil {
			return r
		}
	}
	return checkList("boundCidrs", k.CIDRs)
}

// forgetSpentJoinTokens makes room: what lets nobody in is kept for people
// only, and the audit trail has it for ever.
func (t *txn) forgetSpentJoinTokens() bool {
	forgotten := false
	for _, k := range t.joinTokens.collect(nil, 0) {
		if k.Spent(t.now) != "" {
			t.joinTokens.remove([]byte(k.ID))
			forgotten = true
		}
	}
	return forgotten
}

func revokeJoinToken(t *txn, id string) (Result, *Refusal) {
	k := t.joinTokens.value([]byte(id))
	switch {
	case k == nil:
		return Result{}, notFound("tokenId: there is no join token %s; listJoinTokens shows them", id)
	case k.UsedAt != 0:
		return Result{}, conflict("tokenId: %s has used the token; removeMember removes that node", k.UsedBy)
	case k.RevokedAt != 0:
		return Result{TokenID: id, Unchanged: true}, nil
	}
	next := *k
	next.RevokedAt = t.now
	t.joinTokens.put([]byte(id), &next)
	return Result{TokenID: id}, nil
}

// useJoinToken spends the token that a node brings, which must be good for it.
func (t *txn) useJoinToken(c AdmitNode) (*JoinToken, *Refusal) {
	unknown := conflict("nodeId: %s is neither announced nor brings a join token that is good; announce it with addMember, or make a token with createJoinToken", c.NodeID)
	if len(c.TokenHash) == 0 {
		return nil, unknown
	}
	for _, k := range t.joinTokens.collect(nil, 0) {
		if !bytes.Equal(k.Hash, c.TokenHash) {
			continue
		}
		switch why := k.Spent(t.now); {
		case why != "":
			return nil, conflict("token: the join token %s was %s; make another one with createJoinToken", k.ID, spentWords[why])
		case k.NodeID != "" && k.NodeID != c.NodeID:
			return nil, conflict("token: the join token %s is for the node %s, not for %s", k.ID, k.NodeID, c.NodeID)
		}
		next := *k
		next.UsedAt, next.UsedBy = t.now, c.NodeID
		t.joinTokens.put([]byte(k.ID), &next)
		return &next, nil
	}
	return nil, unknown
}

var spentWords = map[string]string{"used": "used before", "revoked": "revoked", "expired": "good for a time that is over"}

func (t *txn) restoreJoinToken(k *JoinToken) (string, error) {
	if checkName("tokenId", k.ID) != nil || checkJoinToken(k) != nil {
		return "", errors.New("a join token is none that could have been made")
	}
	for _, at := range []int64{k.CreatedAt, k.ExpiresAt, k.UsedAt, k.RevokedAt} {
		if at < 0 || at > maxTime {
			return "", errors.New("a join token is of a time out of range")
		}
	}
	t.joinTokens.put([]byte(k.ID), k)
	return k.ID, nil
}
