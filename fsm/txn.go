package fsm

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/strongroom/strongroom/internal/names"
)

// txn is the next state in the making. A refused command drops it, so a
// decision may write before it has seen everything, and still nothing of it
// is left.
type txn struct {
	prev  *State
	index uint64
	now   int64 // the command's time, never before the last one; never 0
	by    string

	genesis    *Genesis
	roots      *Roots
	secrets    table[*Secret]
	versions   table[*Version]
	keys       table[*Key]
	principals table[*Principal]
	tokens     table[*Token]
	policies   table[*Policy]
	access     table[*AccessPolicy]
	writes     table[*write]
	jobs       table[*Job]
	pathRules  table[*PathRule]
	sessions   table[*Session]
	consumers  table[*Consumer]
	reads      table[int64]
	horizons   table[*PastHorizon]
	trusts     table[*Trust]

	groups    table[*Group]
	members   table[*Membership]
	revisions table[*Policy]

	usage       table[Stored]
	rateLimits  table[*RateLimit]
	memberships table[*Membership]
	holders     table[struct{}]

	anchors table[*Anchor]

	cosignatures table[*Cosignature]
	nodes        table[*ClusterNode]
	joinTokens   table[*JoinToken]
	autopilot    table[*Autopilot]
	levels       table[*FeatureLevel]
	recoveries   table[*Recovery]

	approvals      table[*ApprovalRequest]
	approvalsOf    table[*ApprovalRequest]
	approvalHashes table[*ApprovalRequest]

	glass       table[*BreakGlassSession]
	glassReads  table[*GlassRead]
	glassOf     table[*BreakGlassSession]
	glassOpen   table[*BreakGlassSession]
	glassCounts table[GlassCount]
	glassDuties table[string]

	detectors   table[*Detectors]
	canaries    table[*CanaryMark]
	compromised table[struct{}]

	aliases      table[string]
	bindings     table[int]
	chosen       table[struct{}]
	rotations    table[string]
	expiries     table[expiring]
	under        table[int]
	bound        table[uint64]
	tokenHashes  table[*Token]
	tokenOwners  table[*Token]
	attached     table[struct{}]
	writeIndexes table[*write]
	due          table[dueItem]
	changes      table[struct{}]
	tagged       table[struct{}]

	secretRotations table[names.Path]
	consumerCounts  table[int]

	accessKeys      table[*AccessKey]
	accessKeyOwners table[*AccessKey]
	credentialUses  table[*CredentialUse]
}

// begin opens a transaction at index. Time is clamped to the last applied
// one, and to 1 because 0 stands for "not set" in records. A time that
// checkMeta will refuse leaves the clock alone: one absurd stamp must not
// bring everything due.
func (s *State) begin(index uint64, meta Meta) *txn {
	now := max(s.time, 1)
	if meta.Time <= maxTime {
		now = max(now, meta.Time)
	}
	return &txn{
		prev: s, index: index, now: now, by: meta.Principal, genesis: s.trees.genesis, roots: s.trees.roots,
		secrets:    table[*Secret]{tree: s.secrets},
		versions:   table[*Version]{tree: s.versions},
		keys:       table[*Key]{tree: s.keys},
		principals: table[*Principal]{tree: s.principals},
		tokens:     table[*Token]{tree: s.tokens},
		policies:   table[*Policy]{tree: s.policies},
		access:     table[*AccessPolicy]{tree: s.access},
		writes:     table[*write]{tree: s.writes},
		jobs:       table[*Job]{tree: s.jobs},
		pathRules:  table[*PathRule]{tree: s.pathRules},
		sessions:   table[*Session]{tree: s.sessions},
		consumers:  table[*Consumer]{tree: s.consumers},
		reads:      table[int64]{tree: s.reads},
		horizons:   table[*PastHorizon]{tree: s.horizons},
		trusts:     table[*Trust]{tree: s.trusts},

		groups:    table[*Group]{tree: s.groups},
		members:   table[*Membership]{tree: s.members},
		revisions: table[*Policy]{tree: s.revisions},

		usage:       table[Stored]{tree: s.usage},
		rateLimits:  table[*RateLimit]{tree: s.rateLimits},
		memberships: table[*Membership]{tree: s.memberships},
		holders:     table[struct{}]{tree: s.holders},

		anchors: table[*Anchor]{tree: s.anchors},

		cosignatures: table[*Cosignature]{tree: s.cosignatures},
		nodes:        table[*ClusterNode]{tree: s.nodes},
		joinTokens:   table[*JoinToken]{tree: s.joinTokens},
		autopilot:    table[*Autopilot]{tree: s.autopilot},
		levels:       table[*FeatureLevel]{tree: s.levels},
		recoveries:   table[*Recovery]{tree: s.recoveries},

		approvals:      table[*ApprovalRequest]{tree: s.approvals},
		approvalsOf:    table[*ApprovalRequest]{tree: s.approvalsOf},
		approvalHashes: table[*ApprovalRequest]{tree: s.approvalHashes},

		glass:       table[*BreakGlassSession]{tree: s.glass},
		glassReads:  table[*GlassRead]{tree: s.glassReads},
		glassOf:     table[*BreakGlassSession]{tree: s.glassOf},
		glassOpen:   table[*BreakGlassSession]{tree: s.glassOpen},
		glassCounts: table[GlassCount]{tree: s.glassCounts},
		glassDuties: table[string]{tree: s.glassDuties},

		detectors:   table[*Detectors]{tree: s.detectors},
		canaries:    table[*CanaryMark]{tree: s.canaries},
		compromised: table[struct{}]{tree: s.compromised},

		aliases:      table[string]{tree: s.aliases},
		bindings:     table[int]{tree: s.bindings},
		chosen:       table[struct{}]{tree: s.chosen},
		rotations:    table[string]{tree: s.rotations},
		expiries:     table[expiring]{tree: s.expiries},
		under:        table[int]{tree: s.under},
		bound:        table[uint64]{tree: s.bound},
		tokenHashes:  table[*Token]{tree: s.tokenHashes},
		tokenOwners:  table[*Token]{tree: s.tokenOwners},
		attached:     table[struct{}]{tree: s.attached},
		writeIndexes: table[*write]{tree: s.writeIndexes},
		due:          table[dueItem]{tree: s.due},
		changes:      table[struct{}]{tree: s.changes},
		tagged:       table[struct{}]{tree: s.tagged},

		secretRotations: table[names.Path]{tree: s.secretRotations},
		consumerCounts:  table[int]{tree: s.consumerCounts},

		accessKeys:      table[*AccessKey]{tree: s.accessKeys},
		accessKeyOwners: table[*AccessKey]{tree: s.accessKeyOwners},
		credentialUses:  table[*CredentialUse]{tree: s.credentialUses},
	}
}

// commit answers the trees with the writes in them; index, time and hash are
// set by the caller.
func (t *txn) commit() *State {
	return &State{trees: trees{
		genesis:    t.genesis,
		roots:      t.roots,
		secrets:    t.secrets.commit(),
		versions:   t.versions.commit(),
		keys:       t.keys.commit(),
		principals: t.principals.commit(),
		tokens:     t.tokens.commit(),
		policies:   t.policies.commit(),
		access:     t.access.commit(),
		trusts:     t.trusts.commit(),
		writes:     t.writes.commit(),
		jobs:       t.jobs.commit(),
		pathRules:  t.pathRules.commit(),
		sessions:   t.sessions.commit(),
		consumers:  t.consumers.commit(),
		reads:      t.reads.commit(),
		horizons:   t.horizons.commit(),

		groups:    t.groups.commit(),
		members:   t.members.commit(),
		revisions: t.revisions.commit(),

		usage:       t.usage.commit(),
		rateLimits:  t.rateLimits.commit(),
		memberships: t.memberships.commit(),
		holders:     t.holders.commit(),

		anchors: t.anchors.commit(),

		cosignatures: t.cosignatures.commit(),
		nodes:        t.nodes.commit(),
		joinTokens:   t.joinTokens.commit(),
		autopilot:    t.autopilot.commit(),
		levels:       t.levels.commit(),
		recoveries:   t.recoveries.commit(),

		approvals:      t.approvals.commit(),
		approvalsOf:    t.approvalsOf.commit(),
		approvalHashes: t.approvalHashes.commit(),

		glass:       t.glass.commit(),
		glassReads:  t.glassReads.commit(),
		glassOf:     t.glassOf.commit(),
		glassOpen:   t.glassOpen.commit(),
		glassCounts: t.glassCounts.commit(),
		glassDuties: t.glassDuties.commit(),

		detectors:   t.detectors.commit(),
		canaries:    t.canaries.commit(),
		compromised: t.compromised.commit(),

		aliases:      t.aliases.commit(),
		bindings:     t.bindings.commit(),
		chosen:       t.chosen.commit(),
		rotations:    t.rotations.commit(),
		expiries:     t.expiries.commit(),
		under:        t.under.commit(),
		bound:        t.bound.commit(),
		tokenHashes:  t.tokenHashes.commit(),
		tokenOwners:  t.tokenOwners.commit(),
		attached:     t.attached.commit(),
		writeIndexes: t.writeIndexes.commit(),
		due:          t.due.commit(),
		changes:      t.changes.commit(),
		tagged:       t.tagged.commit(),

		secretRotations: t.secretRotations.commit(),
		consumerCounts:  t.consumerCounts.commit(),

		accessKeys:      t.accessKeys.commit(),
		accessKeyOwners: t.accessKeyOwners.commit(),
		credentialUses:  t.credentialUses.commit(),
	}}
}

// The putX functions below store a record together with the indexes that
// follow from it. Restore uses them too, so a restored index cannot differ
// from one that grew.

// putSecret stores s, a copy that the caller owns, as changed by this
// command.
func (t *txn) putSecret(s *Secret) {
	s.Changed = t.index
	t.keepSecret(s)
}

// keepSecret is putSecret for what no reader of the secret would notice.
func (t *txn) keepSecret(s *Secret) {
	old := t.secrets.value([]byte(s.Path))
	if old != nil && old.State != SecretPurged && (old.KeyID != s.KeyID || s.State == SecretPurged) {
		t.chosen.remove(pair(old.KeyID, string(s.Path)))
	}
	if old != nil && old.Changed != s.Changed {
		t.changes.remove(changeKey(old.Changed, old.Path))
	}
	t.changes.put(changeKey(s.Changed, s.Path), struct{}{})
	if old != nil {
		t.unscheduleKeep(old)
	}
	if s.keepDue() {
		t.schedule(dueItem{at: s.KeepAt, kind: dueKeep, path: s.Path})
	}
	t.indexRotation(old, s)
	if s.State != SecretPurged {
		t.chosen.put(pair(s.KeyID, string(s.Path)), struct{}{})
	}
	t.indexTags(old, s)
	t.countSecret(s.Path, old, s)
	t.secrets.put([]byte(s.Path), s)
	if s.State == SecretPurged {
		t.canaries.remove([]byte(s.Path))
	}
	if s.State == SecretPendingDeletion {
		t.schedule(dueItem{at: s.PurgeAt, kind: duePurge, path: s.Path})
	}
	if old != nil && (old.Current != s.Current || s.State == SecretPurged) {
		t.rotatedGlass(s.Path)
	}
}

// putVersion stores v in place of old, nil for a new version, and keeps
// bindings and due work in step.
func (t *txn) putVersion(path names.Path, old, v *Version) {
	if old != nil {
		t.unindexVersion(path, old)
	}
	t.countVersion(path, old, v)
	t.versions.put(versionKey(path, v.Number), v)
	if v.State != VersionDestroyed {
		t.bind(v.KeyID, path, 1)
	}
	if v.State == VersionPendingDestroy {
		t.schedule(dueItem{at: v.DestroyAt, kind: dueDestroy, path: path, number: v.Number})
	}
	if key := expiryKey(path, v); key != nil {
		t.expiries.put(key, expiring{path, v.Number})
	}
	if key := compromisedKey(path, v); key != nil {
		t.compromised.put(key, struct{}{})
	}
	if old != nil && v.State == VersionDestroyed {
		t.rotatedGlass(path)
	}
}

func (t *txn) unindexVersion(path names.Path, v *Version) {
	if v.State != VersionDestroyed {
		t.bind(v.KeyID, path, -1)
	}
	if v.State == VersionPendingDestroy {
		t.unschedule(dueItem{at: v.DestroyAt, kind: dueDestroy, path: path, number: v.Number})
	}
	if key := expiryKey(path, v); key != nil {
		t.expiries.remove(key)
	}
	if key := compromisedKey(path, v); key != nil {
		t.compromised.remove(key)
	}
}

// bind changes by delta how many live versions path has under the key.
func (t *txn) bind(keyID string, path names.Path, delta int) {
	key := pair(keyID, string(path))
	before := t.bindings.value(key)
	after := before + delta
	switch {
	case before == 0:
		t.bindings.put(key, after)
		t.bound.put([]byte(keyID), t.bound.value([]byte(keyID))+1)
	case after > 0:
		t.bindings.put(key, after)
	default:
		t.bindings.remove(key)
		if rest := t.bound.value([]byte(keyID)) - 1; rest > 0 {
			t.bound.put([]byte(keyID), rest)
		} else {
			t.bound.remove([]byte(keyID))
		}
	}
}

// putKey stores k in place of the record of the same key, if there is one.
func (t *txn) putKey(k *Key) {
	old := t.keys.value([]byte(k.ID))
	t.indexRoots(old, k)
	if old != nil {
		for _, alias := range old.Aliases {
			t.aliases.remove([]byte(alias))
		}
		if old.State == KeyPendingDeletion {
			t.unschedule(dueItem{at: old.DeletionAt, kind: dueKey, id: old.ID})
		}
		if old.NextRotationAt != 0 {
			t.rotations.remove(rotationKey(old))
		}
	}
	t.keys.put([]byte(k.ID), k)
	for _, alias := range k.Aliases {
		t.aliases.put([]byte(alias), k.ID)
	}
	if k.State == KeyPendingDeletion {
		t.schedule(dueItem{at: k.DeletionAt, kind: dueKey, id: k.ID})
	}
	if k.NextRotationAt != 0 {
		t.rotations.put(rotationKey(k), k.ID)
	}
}

// rotationKey orders keys by when they are to be rotated.
func rotationKey(k *Key) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(k.NextRotationAt)), k.ID...)
}

func (t *txn) putJob(j *Job) {
	if old := t.jobs.value([]byte(j.ID)); old != nil && old.FinishedAt != 0 {
		t.unschedule(dueItem{at: old.FinishedAt + jobKept, kind: dueJob, id: old.ID})
	}
	t.jobs.put([]byte(j.ID), j)
	if j.FinishedAt != 0 {
		t.schedule(dueItem{at: j.FinishedAt + jobKept, kind: dueJob, id: j.ID})
	}
}

// putPrincipal stores p in place of the record of the same name, if there is
// one.
func (t *txn) putPrincipal(p *Principal) {
	var attached []Attachment
	if old := t.principals.value([]byte(p.Name)); old != nil {
		attached = old.Attached
		for _, policy := range old.Policies {
			t.attached.remove(pair(policy, p.Name))
		}
	}
	t.indexAttached(principalHolder+p.Name, attached, p.Attached)
	t.principals.put([]byte(p.Name), p)
	for _, policy := range p.Policies {
		t.attached.put(pair(policy, p.Name), struct{}{})
	}
}

func (t *txn) putToken(k *Token) {
	t.tokens.put([]byte(k.ID), k)
	t.tokenHashes.put(k.Hash, k)
	t.tokenOwners.put(pair(k.Principal, k.ID), k)
	t.schedule(dueItem{at: k.forgetAt(), kind: dueToken, id: k.ID})
}

func (t *txn) removeToken(k *Token) {
	t.tokens.remove([]byte(k.ID))
	t.tokenHashes.remove(k.Hash)
	t.tokenOwners.remove(pair(k.Principal, k.ID))
	t.credentialUses.remove([]byte(k.ID))
	t.unschedule(dueItem{at: k.forgetAt(), kind: dueToken, id: k.ID})
}

func (t *txn) schedule(d dueItem) { t.due.put(d.key(), d) }

func (t *txn) unschedule(d dueItem) { t.due.remove(d.key()) }

// sorted answers the keys of a map in order: nothing here may depend on the
// order in which Go walks a map.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
