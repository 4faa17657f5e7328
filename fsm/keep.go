package fsm

import (
	"fmt"
	"slices"

	"github.com/strongroom/strongroom/internal/names"
)

// ownName is who does what nobody asked for by a request.
const ownName = "strongroom:leader"

// walkStep bounds how many secrets one item of a Sweep looks at after a rule
// has changed, and walkCost how many of them count as one item.
const (
	walkStep = 1000
	walkCost = 20
)

// keptHeldFor is for how long a version that consumers may hold is left
// alone, at most: by then they may have moved to another one.
const keptHeldFor = int64(60 * 60 * 1000)

// Kept is one version that a rule had destroyed.
type Kept struct {
	Path    string `cbor:"1,keyasint,omitempty"`
	Version uint64 `cbor:"2,keyasint,omitempty"`
	KeyID   string `cbor:"3,keyasint,omitempty"`
	Reason  string `cbor:"4,keyasint,omitempty"`
}

// review has a Sweep look whether s, a copy that the caller owns and stores,
// has more versions than its rule keeps. It is called for whatever may make a
// version one too many, and only notes when: what is destroyed for good is
// decided at the index of the Sweep, by the rule of then.
func (t *txn) review(s *Secret) {
	if rule := t.ruleFor(s.Path); rule.KeepVersions != 0 && s.Current > rule.KeepVersions {
		s.KeepAt = t.now
	}
}

// mayDestroy decides whether a version that its rule does not keep may go
// without a person's say, and from when on. Not before a person acts may go
// what readers are or may be sent to (the current version, those after it,
// and all that a label is on, previous too), and what a person has decided
// about: a disabled version is evidence or a brake, and a pending destruction
// has its own time. Who may still hold the version is asked besides.
func mayDestroy(s *Secret, v *Version, rule EffectiveRule) (at int64, may bool) {
	if v.Number >= s.Current || v.State != VersionActive {
		return 0, false
	}
	for _, number := range s.Labels {
		if number == v.Number {
			return 0, false
		}
	}
	return retainedUntil(v, rule), true
}

// keepLast destroys, at most limit of them, the versions at path that its
// rule does not keep, oldest first, and notes in the secret when to look
// again. It answers what it destroyed and what the work counts for. As with
// every destruction, the node of the Sweep must have stopped handing out what
// goes (closed; nil: there is no ledger yet), and nobody may still hold it:
// then it stays readable, and is looked at again later.
func (t *txn) keepLast(path names.Path, limit int, c Sweep, closed map[ClosedVersion]bool) ([]Kept, int) {
	s := *t.secrets.value([]byte(path))
	rule := t.ruleFor(path)
	s.KeepAt = 0
	if rule.KeepVersions == 0 {
		t.keepSecret(&s)
		return nil, 1
	}
	reason := fmt.Sprintf("keepVersions %d of the rule %s", rule.KeepVersions, rule.From.KeepVersions)
	versions := t.stored(&s)
	var gone []Kept
	for _, v := range surplus(&s, slices.Values(versions), rule.KeepVersions) {
		at, may := mayDestroy(&s, v, rule)
		if !may {
			continue
		}
		if until, count := t.heldUntil(path, v, c.Session, t.own(c.Meta)); count > 0 {
			at = max(at, min(until, t.now+keptHeldFor))
		}
		switch {
		case at > t.now:
		case len(gone) == limit || closed != nil && !closed[ClosedVersion{Path: string(path), Version: v.Number}]:
			at = t.now // the next Sweep goes on
		default:
			next := *v
			next.DestroyedBy, next.DestroyRequest, next.Reason = ownName, "", reason
			t.erase(&s, v, &next)
			gone = append(gone, Kept{Path: string(path), Version: v.Number, KeyID: v.KeyID, Reason: reason})
			continue
		}
		if s.KeepAt == 0 || at < s.KeepAt {
			s.KeepAt = at
		}
	}
	rest := t.stored(&s)
	s.KeptFrom = s.Latest + 1
	if len(rest) > 0 {
		s.KeptFrom = rest[0].Number
	}
	if len(gone) == 0 {
		t.keepSecret(&s)
	} else {
		s.UpdatedAt = t.now
		t.putSecret(&s)
	}
	return gone, 1 + len(gone) + len(versions)/walkCost
}

// surplus answers those of versions, in rising order, that are beyond the
// newest keep, counted from the current one down. Versions after the current
// one wait to become it, or are where a rollback came from: they neither
// count nor go. Nor does what nobody can be sent to without a person's act.
func surplus(s *Secret, versions func(func(*Version) bool), keep uint64) []*Version {
	var counted []*Version
	for v := range versions {
		if v.Number <= s.Current && v.State == VersionActive {
			counted = append(counted, v)
		}
	}
	if uint64(len(counted)) <= keep {
		return nil
	}
	return counted[:uint64(len(counted))-keep]
}

// keepable answers up to limit versions at path that keepLast would destroy
// at now, as far as the ledger knows who holds them. What it leaves out
// because it is held is put off by keepLast, so Sweeps get on.
func (s *State) keepable(path names.Path, now int64, limit int) []ClosedVersion {
	secret, rule := s.Secret(path), s.RuleFor(path)
	var out []ClosedVersion
	for _, v := range s.Surplus(secret, rule) {
		if at, may := mayDestroy(secret, v, rule); may && at <= now && len(out) < limit && !s.held(path, v, now) {
			out = append(out, ClosedVersion{Path: string(path), Version: v.Number})
		}
	}
	return out
}

// held reports whether somebody may hold v at now.
func (s *State) held(path names.Path, v *Version, now int64) bool {
	var session uint64
	for one := range s.Sessions() {
		if one.EndedAt == 0 {
			session = one.Number
		}
	}
	for c := range s.Consumers(path) {
		if c.Holding(v.Number, session) > now {
			return true
		}
	}
	return len(s.Unknown(path, v, now).Nodes) > 0
}

// Surplus answers the versions of s that its rule does not keep and that are
// still there, oldest first.
func (s *State) Surplus(secret *Secret, rule EffectiveRule) []*Version {
	if rule.KeepVersions == 0 || secret.Current <= rule.KeepVersions {
		return nil
	}
	from := versionKey(secret.Path, secret.KeptFrom)
	return surplus(secret, values(scan(s.versions.Root(), pair(string(secret.Path), ""), from)), rule.KeepVersions)
}

// stored answers the versions of s that are not destroyed, in rising order.
// It copies, because a scan must not go on over a tree that is written.
func (t *txn) stored(s *Secret) []*Version {
	var out []*Version
	for _, v := range scan(t.versions.root(), pair(string(s.Path), ""), versionKey(s.Path, s.KeptFrom)) {
		if v.State != VersionDestroyed {
			out = append(out, v)
		}
	}
	return out
}

// keepDue reports whether a Sweep is to look at s. Inside a recovery window
// nothing goes: what is restored is whole.
func (s *Secret) keepDue() bool { return s.State == SecretActive && s.KeepAt != 0 }

func (t *txn) unscheduleKeep(s *Secret) {
	if s.keepDue() {
		t.unschedule(dueItem{at: s.KeepAt, kind: dueKeep, path: s.Path})
	}
}

// reconsider has Sweeps go over the secrets for which a change of the rules
// at prefix may have made versions too many. They are below the rule that
// says keepVersions there; without one nothing is destroyed.
func (t *txn) reconsider(prefix string) {
	from := effective(t.rulesAbout(prefix)).From.KeepVersions
	if from == "" {
		return
	}
	next := *t.pathRules.value([]byte(from))
	next.WalkAt, next.WalkAfter = t.now, ""
	t.putRule(&next)
}

// walkRule looks at the next secrets below a rule that changed, and answers
// what that counts for. It comes to an end: the place it has come to rises
// with each step.
func (t *txn) walkRule(prefix string) int {
	rule := *t.pathRules.value([]byte(prefix))
	var step []*Secret
	for _, s := range scan(t.secrets.root(), []byte(prefix), following(rule.WalkAfter)) {
		if step = append(step, s); len(step) == walkStep {
			break
		}
	}
	for _, s := range step {
		next := *s
		if t.review(&next); next.KeepAt != s.KeepAt && s.State != SecretPurged {
			t.keepSecret(&next)
		}
	}
	if len(step) < walkStep {
		rule.WalkAt, rule.WalkAfter = 0, ""
	} else {
		rule.WalkAfter = string(step[len(step)-1].Path)
	}
	t.putRule(&rule)
	return 1 + len(step)/walkCost
}
