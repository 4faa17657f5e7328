package fsm

import (
	"strconv"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Stored counts what is kept below a prefix: secrets that are not purged, so
// also those in their recovery window, their versions that are not destroyed,
// and the bytes of the plaintexts of these.
type Stored struct {
	Secrets, Versions, Bytes uint64
}

// Quota is one bound of a path rule.
type Quota struct {
	Prefix string // of the rule
	Name   string // maxSecrets, maxVersions or maxBytes
	Limit  uint64
	Used   uint64
}

// StoredBelow answers what is kept below prefix ("/" or "/app/"), without a
// walk: it is counted with each change.
func (s *State) StoredBelow(prefix string) Stored { return at(s.usage, []byte(prefix)) }

// Quotas answers the bounds of the rule of a prefix, with what is used.
func (s *State) Quotas(rule *PathRule) []Quota { return quotasOf(rule, s.StoredBelow(rule.Prefix)) }

func quotasOf(rule *PathRule, used Stored) []Quota {
	var out []Quota
	for _, q := range []Quota{
		{rule.Prefix, "maxSecrets", rule.MaxSecrets, used.Secrets},
		{rule.Prefix, "maxVersions", rule.MaxVersions, used.Versions},
		{rule.Prefix, "maxBytes", rule.MaxBytes, used.Bytes},
	} {
		if q.Limit != 0 {
			out = append(out, q)
		}
	}
	return out
}

// checkQuotas refuses what has put more below a prefix than a rule allows. It
// is called when everything is in the tables, which a refusal drops: so it
// sees what would be, and counts nothing twice. All rules that cover the path
// hold. What is there already when a rule is put stays; only more is refused.
func (t *txn) checkQuotas(path names.Path) *Refusal {
	for _, rule := range t.ruleFor(path).Rules {
		before := at(t.prev.usage, []byte(rule.Prefix))
		now := t.usage.value([]byte(rule.Prefix))
		was := quotasOf(rule, before)
		for i, q := range quotasOf(rule, now) {
			if q.Used > q.Limit && q.Used > was[i].Used {
				return overQuota(was[i], q.Used-was[i].Used)
			}
		}
	}
	return nil
}

func overQuota(q Quota, more uint64) *Refusal {
	way := map[string]string{
		"maxSecrets":  "delete secrets below it, which count until they are purged",
		"maxVersions": "destroy versions that nobody uses any more",
		"maxBytes":    "destroy versions that nobody uses any more",
	}[q.Name]
	return refuse(fault.New(fault.RateLimited, "path: the rule %s has %s %d, %d are used and this needs %d more; %s, or raise the quota by putPathRule",
		q.Prefix, q.Name, q.Limit, q.Used, more, way)).
		with("quota", q.Name).with("prefix", q.Prefix).
		with("limit", strconv.FormatUint(q.Limit, 10)).with("used", strconv.FormatUint(q.Used, 10))
}

// countSecret and countVersion keep Stored in step with one record; nil: there
// is none.
func (t *txn) countSecret(path names.Path, old, now *Secret) {
	was, is := old != nil && old.State != SecretPurged, now.State != SecretPurged
	if was != is {
		t.count(path, func(s *Stored) { step(&s.Secrets, 1, is) })
	}
}

func (t *txn) countVersion(path names.Path, old, now *Version) {
	was, is := old != nil && old.State != VersionDestroyed, now != nil && now.State != VersionDestroyed
	if was == is {
		return // its size never changes
	}
	size := uint64(0)
	if is {
		size = uint64(now.Size)
	} else {
		size = uint64(old.Size)
	}
	t.count(path, func(s *Stored) {
		step(&s.Versions, 1, is)
		step(&s.Bytes, size, is)
	})
}

func step(n *uint64, by uint64, up bool) {
	if up {
		*n += by
	} else {
		*n -= by
	}
}

// count changes what is stored below each prefix of path.
func (t *txn) count(path names.Path, change func(*Stored)) {
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		prefix := []byte(path[:i+1])
		s := t.usage.value(prefix)
		change(&s)
		if s == (Stored{}) {
			t.usage.remove(prefix)
		} else {
			t.usage.put(prefix, s)
		}
	}
}
