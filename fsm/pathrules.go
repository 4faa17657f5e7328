package fsm

import (
	"iter"
	"strconv"

	"github.com/strongroom/strongroom/internal/names"
)

// Bounds of a path rule.
const (
	maxPathRules    = 10_000
	maxOwner        = 256
	maxRequired     = 50
	maxTagValues    = 64
	maxTagValue     = 256
	maxKeepVersions = 10_000
	maxQuota        = 1 << 53 // what JSON numbers hold exactly
	minRulePeriod   = int64(1000)
	maxRulePeriod   = int64(3660 * dayMillis)
	maxRuleHorizon  = maxHorizon // the ledger forgets by then
)

// PathRules answers the rules with prefixes greater than after, in order.
func (s *State) PathRules(after string) iter.Seq[*PathRule] {
	return values(scan(s.pathRules.Root(), nil, following(after)))
}

// putPathRule makes or replaces a rule. It binds what comes after it: what is
// there stays as it is, and lintPaths tells where the two differ.
func putPathRule(t *txn, c PutPathRule) (Result, *Refusal) {
	rule := c.Rule
	if r := checkPathRule(&rule); r != nil {
		return Result{}, r
	}
	if rule.KeyRef != "" {
		if r := t.checkRuleKey(rule.KeyRef); r != nil {
			return Result{}, r
		}
	}
	old := t.pathRules.value([]byte(rule.Prefix))
	if r := checkRevision(old, c.Expected); r != nil {
		return Result{}, r
	}
	if old == nil && t.pathRules.tree.Len() >= maxPathRules {
		return Result{}, conflict("prefix: there are %d path rules, the most that there can be; deletePathRule makes room", maxPathRules)
	}
	rule.Revision, rule.CreatedAt, rule.CreatedBy = 1, t.now, t.by
	if old != nil {
		rule.Revision, rule.CreatedAt, rule.CreatedBy = old.Revision+1, old.CreatedAt, old.CreatedBy
	}
	rule.UpdatedAt, rule.UpdatedBy, rule.RequestID = t.now, t.by, c.Meta.RequestID
	rule.WalkAt, rule.WalkAfter = 0, ""
	t.changeRule(rule.Prefix, func() { t.putRule(&rule) })
	t.reconsider(rule.Prefix)
	return Result{Name: rule.Prefix, Revision: rule.Revision}, nil
}

func deletePathRule(t *txn, c DeletePathRule) (Result, *Refusal) {
	if r := checkPrefix(c.Prefix); r != nil {
		return Result{}, r
	}
	if r := checkReason(c.Reason); r != nil {
		return Result{}, r
	}
	old := t.pathRules.value([]byte(c.Prefix))
	if old == nil {
		return Result{}, notFound("prefix: there is no path rule of %s; listPathRules shows the rules", c.Prefix)
	}
	if r := checkRevision(old, c.Expected); r != nil {
		return Result{}, r
	}
	t.unscheduleWalk(old)
	t.changeRule(old.Prefix, func() { t.pathRules.remove([]byte(old.Prefix)) })
	t.reconsider(old.Prefix)
	return Result{Name: old.Prefix, Revision: old.Revision}, nil
}

// putRule stores a rule with the work that follows from it.
func (t *txn) putRule(rule *PathRule) {
	if old := t.pathRules.value([]byte(rule.Prefix)); old != nil {
		t.unscheduleWalk(old)
	}
	t.pathRules.put([]byte(rule.Prefix), rule)
	if rule.WalkAt != 0 {
		t.schedule(dueItem{at: rule.WalkAt, kind: dueWalk, id: rule.Prefix})
	}
}

func (t *txn) unscheduleWalk(rule *PathRule) {
	if rule.WalkAt != 0 {
		t.unschedule(dueItem{at: rule.WalkAt, kind: dueWalk, id: rule.Prefix})
	}
}

// checkRuleKey: a default that cannot be used would refuse every secret that
// names no key. What becomes of the key later is told to who makes a secret.
func (t *txn) checkRuleKey(ref string) *Refusal {
	id := t.keyByRef(ref)
	if id == "" {
		return notFound("kmsKeyId: there is no key %s; listKeys shows the keys", ref)
	}
	_, r := t.bindable("kmsKeyId", id)
	return r
}

func checkRevision(old *PathRule, expected *uint64) *Refusal {
	revision := uint64(0)
	if old != nil {
		revision = old.Revision
	}
	if expected == nil || *expected == revision {
		return nil
	}
	return conflict("expectedRevision: is %d, but the rule is at revision %d (0: there is none); listPathRules shows it, then decide again", *expected, revision).
		with("expectedRevision", strconv.FormatUint(*expected, 10)).
		with("revision", strconv.FormatUint(revision, 10))
}

func checkPrefix(prefix string) *Refusal {
	if parsed, err := names.ParsePrefix(prefix); err != nil {
		return invalid("prefix", "%v", err)
	} else if parsed != prefix {
		return invalid("prefix", "must end in /; write %s", parsed)
	}
	return nil
}

// CheckPathRule answers the refusal of a rule that no state would take, nil
// for none. What is not even a rule must not reach the log, where it would
// stay: it may be something else that was put there by mistake.
func CheckPathRule(rule PathRule) *Refusal { return checkPathRule(&rule) }

// CheckPathRule answers the refusal of a rule that cannot be put now, nil for
// none: for one that is only tried out.
func (s *State) CheckPathRule(rule PathRule) *Refusal {
	if r := checkPathRule(&rule); r != nil || rule.KeyRef == "" {
		return r
	}
	return s.begin(s.index, Meta{}).checkRuleKey(rule.KeyRef)
}

// checkPathRule checks the shape of a rule, whatever the state.
func checkPathRule(rule *PathRule) *Refusal {
	if r := checkPrefix(rule.Prefix); r != nil {
		return r
	}
	if len(rule.Segments)+len(rule.RequiredTags) == 0 && rule.KeyRef == "" && rule.Owner == "" && rule.KeepVersions == 0 &&
		rule.RotationPeriod == 0 && rule.ConsumerHorizon == 0 && rule.MinRetention == 0 && rule.MaxSecrets+rule.MaxVersions+rule.MaxBytes == 0 && !rule.HSMEachRead {
		return invalid("prefix", "the rule says nothing; set at least one of segments, kmsKeyId, owner, rotationPeriod, consumerHorizon, requiredTags, keepVersions, minRetention, maxSecrets, maxVersions, maxBytes, hsmEachRead")
	}
	if _, err := names.ParseGrammar(rule.Segments); err != nil {
		return invalid("segments", "%v", err)
	}
	if n := prefixDepth(rule.Prefix) + len(rule.Segments); n > names.MaxSegments {
		return invalid("segments", "make paths of %d segments with the prefix; at most %d are allowed", n, names.MaxSegments)
	}
	if _, err := names.ParseKeyRef(rule.KeyRef); err != nil && rule.KeyRef != "" {
		return invalid("kmsKeyId", "%v", err)
	}
	if len(rule.Owner) > maxOwner {
		return invalid("owner", "has %d bytes; at most %d are allowed", len(rule.Owner), maxOwner)
	}
	if rule.ConsumerHorizon > maxRuleHorizon {
		return invalid("consumerHorizon", "must be 1s to 366d")
	}
	for _, period := range []struct {
		field string
		value int64
	}{{"rotationPeriod", rule.RotationPeriod}, {"consumerHorizon", rule.ConsumerHorizon}, {"minRetention", rule.MinRetention}} {
		if period.value != 0 && (period.value < minRulePeriod || period.value > maxRulePeriod) {
			return invalid(period.field, "must be 1s to 3660d")
		}
	}
	if rule.KeepVersions > maxKeepVersions {
		return invalid("keepVersions", "must be 1 to %d", maxKeepVersions)
	}
	if max(rule.MaxSecrets, rule.MaxVersions, rule.MaxBytes) > maxQuota {
		return invalid("maxSecrets", "maxVersions and maxBytes must be at most %d", uint64(maxQuota))
	}
	if r := checkRequired(rule.RequiredTags); r != nil {
		return r
	}
	return checkReason(rule.Reason)
}

func checkRequired(tags []RequiredTag) *Refusal {
	if len(tags) > maxRequired {
		return invalid("requiredTags", "has %d entries; at most %d are allowed", len(tags), maxRequired)
	}
	seen := map[string]bool{}
	for _, tag := range tags {
		switch {
		case checkName("requiredTags", tag.Name) != nil:
			return checkName("requiredTags", tag.Name)
		case seen[tag.Name]:
			return invalid("requiredTags", "names %s twice", tag.Name)
		case len(tag.Values) > maxTagValues:
			return invalid("requiredTags", "allows %d values of %s; at most %d are possible", len(tag.Values), tag.Name, maxTagValues)
		}
		seen[tag.Name] = true
		for _, value := range tag.Values {
			if value == "" || len(value) > maxTagValue {
				return invalid("requiredTags", "a value of %s must have 1 to %d bytes", tag.Name, maxTagValue)
			}
		}
	}
	return nil
}

// prefixDepth answers how many segments a prefix has.
func prefixDepth(prefix string) int {
	depth := -1
	for i := range len(prefix) {
		if prefix[i] == '/' {
			depth++
		}
	}
	return depth
}
