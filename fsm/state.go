package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/strongroom/strongroom/internal/names"
)

// State is one immutable value: everything that the cluster agreed on up to
// one index. Records that it answers must not be changed.
type State struct {
	index uint64
	time  int64
	hash  [sha256.Size]byte
	trees
}

// trees holds the records and the indexes over them. Only the records go
// into a snapshot; the indexes follow from them.
//
// Keys of two parts are joined by a zero byte, which no grammar of names
// allows, so no two pairs share a key and every prefix scan is exact.
type trees struct {
	genesis *Genesis
	roots   *Roots // nil before genesis

	// Records.
	secrets    *iradix.Tree[*Secret]       // path
	versions   *iradix.Tree[*Version]      // path 0 number
	keys       *iradix.Tree[*Key]          // id
	principals *iradix.Tree[*Principal]    // name
	tokens     *iradix.Tree[*Token]        // id
	policies   *iradix.Tree[*Policy]       // name
	access     *iradix.Tree[*AccessPolicy] // name
	writes     *iradix.Tree[*write]        // principal 0 operation 0 client token
	jobs       *iradix.Tree[*Job]          // id
	pathRules  *iradix.Tree[*PathRule]     // prefix
	sessions   *iradix.Tree[*Session]      // number
	consumers  *iradix.Tree[*Consumer]     // path 0 principal 0 instance
	reads      *iradix.Tree[int64]         // path 0 number → last read
	horizons   *iradix.Tree[*PastHorizon]  // prefix
	trusts     *iradix.Tree[*Trust]        // name

	groups    *iradix.Tree[*Group]      // name
	members   *iradix.Tree[*Membership] // group 0 principal
	revisions *iradix.Tree[*Policy]     // past ones: name 0 revision

	// Indexes.
	aliases      *iradix.Tree[string]   // alias/NAME → key id
	bindings     *iradix.Tree[int]      // key id 0 path → live versions
	chosen       *iradix.Tree[struct{}] // key id 0 path of a secret, not purged, whose new versions go under the key
	rotations    *iradix.Tree[string]   // time key id → key id
	expiries     *iradix.Tree[expiring] // see expiryKey
	under        *iradix.Tree[int]      // root version key id → pieces of its material under that root
	bound        *iradix.Tree[uint64]   // key id → secrets with live versions
	tokenHashes  *iradix.Tree[*Token]   // hash
	tokenOwners  *iradix.Tree[*Token]   // principal 0 id
	attached     *iradix.Tree[struct{}] // policy 0 principal
	writeIndexes *iradix.Tree[*write]   // index, which is also the order of time
	due          *iradix.Tree[dueItem]  // time kind subject
	changes      *iradix.Tree[struct{}] // index path of the last change of each secret
	tagged       *iradix.Tree[struct{}] // see tagKey

	secretRotations *iradix.Tree[names.Path] // see secretRotationKey
	consumerCounts  *iradix.Tree[int]        // path → its consumers

	rateLimits      *iradix.Tree[*RateLimit]     // records: name
	usage           *iradix.Tree[Stored]         // prefix, of all that anything is stored below
	memberships     *iradix.Tree[*Membership]    // principal 0 group
	holders         *iradix.Tree[struct{}]       // see holderKey
	accessKeys      *iradix.Tree[*AccessKey]     // records: id
	accessKeyOwners *iradix.Tree[*AccessKey]     // index: principal 0 id
	credentialUses  *iradix.Tree[*CredentialUse] // records: id of a token or an access key

	anchors *iradix.Tree[*Anchor] // records: node 0 chain

	cosignatures *iradix.Tree[*Cosignature]  // records: node 0 chain witness
	nodes        *iradix.Tree[*ClusterNode]  // records: id
	joinTokens   *iradix.Tree[*JoinToken]    // records: id
	autopilot    *iradix.Tree[*Autopilot]    // records: one, or none
	levels       *iradix.Tree[*FeatureLevel] // records: one, or none

	approvals      *iradix.Tree[*ApprovalRequest] // id; the only record of the three
	approvalsOf    *iradix.Tree[*ApprovalRequest] // principal 0 id
	approvalHashes *iradix.Tree[*ApprovalRequest] // see approvalKey

	glass       *iradix.Tree[*BreakGlassSession] // records: id
	glassReads  *iradix.Tree[*GlassRead]         // records: session 0 path
	glassOf     *iradix.Tree[*BreakGlassSession] // index: principal 0 id
	glassOpen   *iradix.Tree[*BreakGlassSession] // index: principal → the session that was not closed
	glassCounts *iradix.Tree[GlassCount]         // index: session
	glassDuties *iradix.Tree[string]             // index: path 0 session → session, of secrets to be rotated

	detectors   *iradix.Tree[*Detectors]  // records: one, or none
	canaries    *iradix.Tree[*CanaryMark] // records: path
	compromised *iradix.Tree[struct{}]    // index: path 0 number
}

func emptyState() *State {
	return &State{trees: trees{
		secrets:    iradix.New[*Secret](),
		versions:   iradix.New[*Version](),
		keys:       iradix.New[*Key](),
		principals: iradix.New[*Principal](),
		tokens:     iradix.New[*Token](),
		policies:   iradix.New[*Policy](),
		access:     iradix.New[*AccessPolicy](),
		writes:     iradix.New[*write](),
		jobs:       iradix.New[*Job](),
		pathRules:  iradix.New[*PathRule](),
		sessions:   iradix.New[*Session](),
		consumers:  iradix.New[*Consumer](),
		reads:      iradix.New[int64](),
		horizons:   iradix.New[*PastHorizon](),
		trusts:     iradix.New[*Trust](),

		groups:    iradix.New[*Group](),
		members:   iradix.New[*Membership](),
		revisions: iradix.New[*Policy](),

		aliases:      iradix.New[string](),
		bindings:     iradix.New[int](),
		chosen:       iradix.New[struct{}](),
		rotations:    iradix.New[string](),
		expiries:     iradix.New[expiring](),
		under:        iradix.New[int](),
		bound:        iradix.New[uint64](),
		tokenHashes:  iradix.New[*Token](),
		tokenOwners:  iradix.New[*Token](),
		attached:     iradix.New[struct{}](),
		writeIndexes: iradix.New[*write](),
		due:          iradix.New[dueItem](),
		changes:      iradix.New[struct{}](),
		tagged:       iradix.New[struct{}](),

		secretRotations: iradix.New[names.Path](),
		consumerCounts:  iradix.New[int](),

		rateLimits:      iradix.New[*RateLimit](),
		usage:           iradix.New[Stored](),
		memberships:     iradix.New[*Membership](),
		holders:         iradix.New[struct{}](),
		accessKeys:      iradix.New[*AccessKey](),
		accessKeyOwners: iradix.New[*AccessKey](),
		credentialUses:  iradix.New[*CredentialUse](),

		anchors: iradix.New[*Anchor](),

		cosignatures: iradix.New[*Cosignature](),
		nodes:        iradix.New[*ClusterNode](),
		joinTokens:   iradix.New[*JoinToken](),
		autopilot:    iradix.New[*Autopilot](),
		levels:       iradix.New[*FeatureLevel](),

		approvals:      iradix.New[*ApprovalRequest](),
		approvalsOf:    iradix.New[*ApprovalRequest](),
		approvalHashes: iradix.New[*ApprovalRequest](),

		glass:       iradix.New[*BreakGlassSession](),
		glassReads:  iradix.New[*GlassRead](),
		glassOf:     iradix.New[*BreakGlassSession](),
		glassOpen:   iradix.New[*BreakGlassSession](),
		glassCounts: iradix.New[GlassCount](),
		glassDuties: iradix.New[string](),

		detectors:   iradix.New[*Detectors](),
		canaries:    iradix.New[*CanaryMark](),
		compromised: iradix.New[struct{}](),
	}}
}

// at answers s as the state at index.
func (s *State) at(index uint64, time int64, hash [sha256.Size]byte) *State {
	return &State{index: index, time: time, hash: hash, trees: s.trees}
}

// Index answers the index of the last command that was applied, 0: none.
func (s *State) Index() uint64 { return s.index }

// Time answers the time of the last command, in milliseconds since the Unix
// epoch. It never runs backwards.
func (s *State) Time() int64 { return s.time }

// Hash answers the chained hash over all commands and results so far. Equal
// indexes with unequal hashes mean that two replicas have parted.
func (s *State) Hash() [sha256.Size]byte { return s.hash }

// Genesis answers what init decided, nil before that.
func (s *State) Genesis() *Genesis { return s.genesis }

// Secret answers the secret at path, nil if there never was one. A purged
// secret is answered as the tombstone that it is: look at State.
func (s *State) Secret(path names.Path) *Secret { return at(s.secrets, []byte(path)) }

// Version answers one version of the secret at path, nil if there is none.
func (s *State) Version(path names.Path, number uint64) *Version {
	return at(s.versions, versionKey(path, number))
}

// Versions answers all versions of the secret at path, newest first,
// destroyed ones included.
func (s *State) Versions(path names.Path) iter.Seq[*Version] {
	return func(yield func(*Version) bool) {
		it := s.versions.Root().ReverseIterator()
		it.SeekPrefix(pair(string(path), ""))
		for _, v, ok := it.Previous(); ok; _, v, ok = it.Previous() {
			if !yield(v) {
				return
			}
		}
	}
}

// Secrets answers the secrets below prefix ("/" or "/app/"), ordered by the
// bytes of their paths, tombstones included.
func (s *State) Secrets(prefix string) iter.Seq[*Secret] { return s.SecretsFrom(prefix, "") }

// SecretsFrom is Secrets without those whose path is not greater than after.
func (s *State) SecretsFrom(prefix, after string) iter.Seq[*Secret] {
	return values(scan(s.secrets.Root(), []byte(prefix), following(after)))
}

// Key answers the key with this id, nil if there is none.
func (s *State) Key(id string) *Key { return at(s.keys, []byte(id)) }

// KeyByRef answers the key that ref names: an id, or "alias/" and a name.
func (s *State) KeyByRef(ref string) *Key {
	if id, ok := s.aliases.Get([]byte(ref)); ok {
		return s.Key(id)
	}
	return s.Key(ref)
}

// Aliases answers the aliases greater than after, in order, each with its
// key.
func (s *State) Aliases(after string) iter.Seq2[string, *Key] {
	return func(yield func(string, *Key) bool) {
		for alias, id := range scan(s.aliases.Root(), nil, following(after)) {
			if !yield(string(alias), s.Key(id)) {
				return
			}
		}
	}
}

// Keys answers the keys with ids greater than after, ordered by id.
func (s *State) Keys(after string) iter.Seq[*Key] {
	return values(scan(s.keys.Root(), nil, following(after)))
}

// KeyFor answers the cluster's own key for a purpose, nil if it has none yet.
func (s *State) KeyFor(purpose string) *Key {
	for key := range s.Keys("") {
		if key.Purpose == purpose {
			return key
		}
	}
	return nil
}

// BoundCount answers how many secrets have live versions under the key: not
// destroyed, of a secret that is not purged.
func (s *State) BoundCount(keyID string) uint64 { return at(s.bound, []byte(keyID)) }

// BoundPaths answers the paths greater than after with live versions under
// the key, in order, and how many live versions each has under it.
func (s *State) BoundPaths(keyID, after string) iter.Seq2[names.Path, int] {
	return boundPaths(s.bindings.Root(), keyID, after)
}

func boundPaths(root *iradix.Node[int], keyID, after string) iter.Seq2[names.Path, int] {
	prefix := pair(keyID, "")
	var from []byte
	if after != "" {
		from = append(pair(keyID, after), 0)
	}
	return func(yield func(names.Path, int) bool) {
		for key, live := range scan(root, prefix, from) {
			if !yield(names.Path(key[len(prefix):]), live) {
				return
			}
		}
	}
}

// BoundUnder reports whether the secret at path has live versions under the
// key.
func (s *State) BoundUnder(keyID string, path names.Path) bool {
	return at(s.bindings, pair(keyID, string(path))) != 0
}

// ChosenPaths answers the paths greater than after of the secrets, not
// purged, whose new versions go under the key, in order. What has live
// versions under the key is BoundPaths.
func (s *State) ChosenPaths(keyID, after string) iter.Seq[names.Path] {
	return chosenPaths(s.chosen.Root(), keyID, after)
}

func chosenPaths(root *iradix.Node[struct{}], keyID, after string) iter.Seq[names.Path] {
	prefix := pair(keyID, "")
	var from []byte
	if after != "" {
		from = append(pair(keyID, after), 0)
	}
	return func(yield func(names.Path) bool) {
		for key := range scan(root, prefix, from) {
			if !yield(names.Path(key[len(prefix):])) {
				return
			}
		}
	}
}

// RotationsDue answers the keys whose rotation is due at now, the longest
// due first. A key that is not active waits until it is.
func (s *State) RotationsDue(now int64) iter.Seq[*Key] {
	return func(yield func(*Key) bool) {
		for _, id := range scan(s.rotations.Root(), nil, nil) {
			key := s.Key(id)
			if key.NextRotationAt > now {
				return
			}
			if RuleFor(key.State, KeyRotate).Refused == "" && !yield(key) {
				return
			}
		}
	}
}

// NextRotationAt answers when the next automatic rotation of a key is due, in
// milliseconds since the Unix epoch, 0 if none is planned. It is in the past if
// one is overdue.
func (s *State) NextRotationAt() int64 {
	for _, id := range scan(s.rotations.Root(), nil, nil) {
		if key := s.Key(id); RuleFor(key.State, KeyRotate).Refused == "" {
			return key.NextRotationAt
		}
	}
	return 0
}

// Job answers the job with this id, nil if there is none. Jobs are forgotten
// 90 days after they ended.
func (s *State) Job(id string) *Job { return at(s.jobs, []byte(id)) }

// Jobs answers the jobs with ids greater than after, ordered by id.
func (s *State) Jobs(after string) iter.Seq[*Job] {
	return values(scan(s.jobs.Root(), nil, following(after)))
}

// Principal answers the principal of this name, nil if there is none.
func (s *State) Principal(name string) *Principal { return at(s.principals, []byte(name)) }

// Principals answers the principals with names greater than after, in order.
func (s *State) Principals(after string) iter.Seq[*Principal] {
	return values(scan(s.principals.Root(), nil, following(after)))
}

// TokenByHash answers the token whose text has this SHA-256, also when it is
// revoked or has expired: whether it is good is the caller's decision, from
// RevokedAt and ExpiresAt at the time of the request. Tokens are forgotten
// 30 days after they expired.
func (s *State) TokenByHash(hash []byte) *Token { return at(s.tokenHashes, hash) }

// Token answers the token with this id, nil if there is none.
func (s *State) Token(id string) *Token { return at(s.tokens, []byte(id)) }

// Tokens answers the tokens of a principal with ids greater than after,
// ordered by id; of all principals if principal is empty.
func (s *State) Tokens(principal, after string) iter.Seq[*Token] {
	if principal == "" {
		return values(scan(s.tokens.Root(), nil, following(after)))
	}
	var from []byte
	if after != "" {
		from = append(pair(principal, after), 0)
	}
	return values(scan(s.tokenOwners.Root(), pair(principal, ""), from))
}

// Policy answers the policy of this name, nil if there is none.
func (s *State) Policy(name string) *Policy { return at(s.policies, []byte(name)) }

// Policies answers the policies with names greater than after, in order.
func (s *State) Policies(after string) iter.Seq[*Policy] {
	return values(scan(s.policies.Root(), nil, following(after)))
}

// AccessPolicy answers the access policy of this name, nil if there is none.
func (s *State) AccessPolicy(name string) *AccessPolicy { return at(s.access, []byte(name)) }

// AccessPolicies answers the access policies with names greater than after,
// in order.
func (s *State) AccessPolicies(after string) iter.Seq[*AccessPolicy] {
	return values(scan(s.access.Root(), nil, following(after)))
}

// at answers the zero value for a key that is not there.
func at[T any](tree *iradix.Tree[T], key []byte) T {
	v, _ := tree.Get(key)
	return v
}

// scan answers the entries whose keys start with prefix and are not less
// than from, in order. The tree must not be written meanwhile.
func scan[T any](root *iradix.Node[T], prefix, from []byte) iter.Seq2[[]byte, T] {
	if string(from) < string(prefix) {
		from = prefix
	}
	return func(yield func([]byte, T) bool) {
		it := root.Iterator()
		it.SeekLowerBound(from)
		for key, v, ok := it.Next(); ok; key, v, ok = it.Next() {
			if len(key) < len(prefix) || string(key[:len(prefix)]) != string(prefix) || !yield(key, v) {
				return
			}
		}
	}
}

func values[K, V any](entries iter.Seq2[K, V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, v := range entries {
			if !yield(v) {
				return
			}
		}
	}
}

// following is the least key greater than after; nil, the least of all, if
// after is empty.
func following(after string) []byte {
	if after == "" {
		return nil
	}
	return append([]byte(after), 0)
}

// pair joins two parts of a key.
func pair(a, b string) []byte {
	out := make([]byte, 0, len(a)+1+len(b))
	out = append(out, a...)
	out = append(out, 0)
	return append(out, b...)
}

// splitVersionKey is the way back from versionKey.
func splitVersionKey(key []byte) (names.Path, uint64) {
	at := len(key) - 8
	return names.Path(key[:at-1]), binary.BigEndian.Uint64(key[at:])
}

func versionKey(path names.Path, number uint64) []byte {
	return binary.BigEndian.AppendUint64(pair(string(path), ""), number)
}
