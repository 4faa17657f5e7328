package fsm

import (
	"bytes"
	"fmt"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/strongroom/strongroom/internal/names"
)

// What tests need to see or to force, and nobody else.

// ForceKeyState puts a key into a state that no command of this build leads
// to, as a later build's log could.
func ForceKeyState(m *Machine, id string, state KeyState) {
	s := m.State()
	t := s.begin(s.index, Meta{})
	next := *t.keys.value([]byte(id))
	next.State = state
	t.putKey(&next)
	m.state.Store(t.commit().at(s.index, s.time, s.hash))
}

// RegisteredKinds answers the numbers that this build knows.
func RegisteredKinds() []Kind {
	var out []Kind
	for k := range kinds {
		out = append(out, k)
	}
	return out
}

// RegisterTwice builds a table in which one kind stands twice.
func RegisterTwice() { register(kind(sweep), kind(sweep)) }

// RememberedWrites answers how many writes are remembered, by both trees.
func RememberedWrites(s *State) (byToken, byIndex int) { return s.writes.Len(), s.writeIndexes.Len() }

// RememberMax is the bound on them.
const RememberMax = rememberMax

// Dump answers every tree, records and indexes, as plain maps: two states
// are equal if their dumps are.
func Dump(s *State) map[string]any {
	out := map[string]any{"index": s.index, "time": s.time, "hash": s.hash, "genesis": s.genesis, "roots": s.roots}
	dump(out, "secrets", s.secrets.Root())
	dump(out, "versions", s.versions.Root())
	dump(out, "keys", s.keys.Root())
	dump(out, "principals", s.principals.Root())
	dump(out, "tokens", s.tokens.Root())
	dump(out, "policies", s.policies.Root())
	dump(out, "access", s.access.Root())
	dump(out, "writes", s.writes.Root())
	dump(out, "trusts", s.trusts.Root())
	dump(out, "aliases", s.aliases.Root())
	dump(out, "bindings", s.bindings.Root())
	dump(out, "chosen", s.chosen.Root())
	dump(out, "rotations", s.rotations.Root())
	dump(out, "expiries", s.expiries.Root())
	dump(out, "jobs", s.jobs.Root())
	dump(out, "pathRules", s.pathRules.Root())
	dump(out, "under", s.under.Root())
	dump(out, "bound", s.bound.Root())
	dump(out, "tokenHashes", s.tokenHashes.Root())
	dump(out, "tokenOwners", s.tokenOwners.Root())
	dump(out, "attached", s.attached.Root())
	dump(out, "writeIndexes", s.writeIndexes.Root())
	dump(out, "due", s.due.Root())
	dump(out, "changes", s.changes.Root())
	dump(out, "tagged", s.tagged.Root())
	dump(out, "secretRotations", s.secretRotations.Root())
	dump(out, "sessions", s.sessions.Root())
	dump(out, "consumers", s.consumers.Root())
	dump(out, "reads", s.reads.Root())
	dump(out, "horizons", s.horizons.Root())
	dump(out, "consumerCounts", s.consumerCounts.Root())
	dump(out, "usage", s.usage.Root())
	dump(out, "rateLimits", s.rateLimits.Root())
	dump(out, "groups", s.groups.Root())
	dump(out, "members", s.members.Root())
	dump(out, "memberships", s.memberships.Root())
	dump(out, "holders", s.holders.Root())
	dump(out, "revisions", s.revisions.Root())
	dump(out, "accessKeys", s.accessKeys.Root())
	dump(out, "accessKeyOwners", s.accessKeyOwners.Root())
	dump(out, "credentialUses", s.credentialUses.Root())
	dump(out, "approvals", s.approvals.Root())
	dump(out, "approvalsOf", s.approvalsOf.Root())
	dump(out, "approvalHashes", s.approvalHashes.Root())
	dump(out, "anchors", s.anchors.Root())
	dump(out, "cosignatures", s.cosignatures.Root())
	dump(out, "nodes", s.nodes.Root())
	dump(out, "joinTokens", s.joinTokens.Root())
	dump(out, "autopilot", s.autopilot.Root())
	dump(out, "levels", s.levels.Root())
	dump(out, "recoveries", s.recoveries.Root())
	dump(out, "glass", s.glass.Root())
	dump(out, "glassReads", s.glassReads.Root())
	dump(out, "glassOf", s.glassOf.Root())
	dump(out, "glassOpen", s.glassOpen.Root())
	dump(out, "glassCounts", s.glassCounts.Root())
	dump(out, "glassDuties", s.glassDuties.Root())
	dump(out, "detectors", s.detectors.Root())
	dump(out, "canaries", s.canaries.Root())
	dump(out, "compromised", s.compromised.Root())
	return out
}

// DumpWithoutChanges is Dump without when secrets changed, which snapshots
// of older builds do not tell.
func DumpWithoutChanges(s *State) map[string]any {
	out := Dump(s)
	delete(out, "changes")
	secrets := map[string]Secret{}
	for _, one := range out["secrets"].(map[string]*Secret) {
		without := *one
		without.Changed = 0
		secrets[string(one.Path)] = without
	}
	out["secrets"] = secrets
	return out
}

// WithoutHistory is a dump without the changes of versions: a build that keeps
// more of them than the one that wrote a snapshot is right, too.
func WithoutHistory(dump map[string]any) map[string]any {
	versions := map[string]Version{}
	for key, v := range dump["versions"].(map[string]*Version) {
		without := *v
		without.Changes, without.Omitted = nil, 0
		versions[key] = without
	}
	dump["versions"] = versions
	return dump
}

func dump[T any](out map[string]any, name string, root *iradix.Node[T]) {
	tree := map[string]T{}
	for key, v := range scan(root, nil, nil) {
		tree[string(key)] = v
	}
	out[name] = tree
}

// FillWrites makes the machine remember n more writes, without a command for
// each, and answers the index that it is then at.
func FillWrites(m *Machine, n int) uint64 {
	s := m.State()
	t := s.begin(s.index, Meta{})
	index := s.index
	for range n {
		index++
		t.putWrite(&write{Principal: "p", Operation: "o", Token: fmt.Sprint(index), Time: s.time, Result: Result{Index: index}})
	}
	m.state.Store(t.commit().at(index, s.time, s.hash))
	return index
}

// ForceDeletionAt sets when a key is due for destruction.
func ForceDeletionAt(m *Machine, id string, at int64) {
	s := m.State()
	t := s.begin(s.index, Meta{})
	next := *t.keys.value([]byte(id))
	next.DeletionAt = at
	t.putKey(&next)
	m.state.Store(t.commit().at(s.index, s.time, s.hash))
}

// ForceVersion stores a secret and one of its versions, as no command would.
func ForceVersion(m *Machine, secret *Secret, v *Version) {
	s := m.State()
	t := s.begin(s.index, Meta{})
	t.secrets.put([]byte(secret.Path), secret)
	t.versions.put(versionKey(secret.Path, v.Number), v)
	m.state.Store(t.commit().at(s.index, s.time, s.hash))
}

// MonthStart answers the first millisecond of the month of a time.
func MonthStart(at int64) int64 { return monthStart(at) }

// TaggedLen answers how many entries the index of tags has.
func TaggedLen(s *State) int { return s.tagged.Len() }

// UTC spells a time as refusals do.
func UTC(at int64) string { return utc(at) }

// FillGlass notes n reads of versions in a session, without a command for
// each.
func FillGlass(m *Machine, id string, n int) {
	s := m.State()
	t := s.begin(s.index, Meta{})
	at := t.glass.value([]byte(id)).OpenedAt
	for i := range n {
		t.putGlassRead(nil, &GlassRead{
			Session: id, Path: names.Path(fmt.Sprint("/filled/", i)), SecretID: "filled", Versions: []GlassVersion{{Version: 1, At: at}}, DoneAt: at,
		})
	}
	m.state.Store(t.commit().at(s.index, s.time, s.hash))
}

// SnapshotOfGlass answers a snapshot in which the session and its read were
// changed behind the back of everything that checks.
func SnapshotOfGlass(m *Machine, id string, change func(*BreakGlassSession, *GlassRead)) []byte {
	s := m.State()
	t := s.begin(s.index, Meta{})
	session := *t.glass.value([]byte(id))
	read := *t.glassReads.collect(pair(id, ""), 1)[0]
	read.Versions = append([]GlassVersion(nil), read.Versions...)
	key := read.Path
	change(&session, &read)
	t.glass.remove([]byte(id))
	t.glass.put([]byte(session.ID), &session)
	t.glassReads.remove(pair(id, string(key)))
	t.glassReads.put(pair(session.ID, string(key)), &read)
	var out bytes.Buffer
	if _, err := (&Snapshot{state: t.commit().at(s.index, s.time, s.hash)}).WriteTo(&out); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// KindLevel answers the level that introduced a kind.
func KindLevel(k Kind) uint32 { return max(kinds[k].level, FirstLevel) }

// GrownLevel answers what a Sweep would need if its fields had come by later
// levels.
func GrownLevel(c Sweep) uint32 {
	e := grown(kind(sweep), 3, func(c Sweep) bool { return c.Session != 0 })
	return grown(e, 4, func(c Sweep) bool { return len(c.Closed) != 0 }).needs(c)
}
