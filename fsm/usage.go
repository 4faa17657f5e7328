package fsm

import "iter"

// Usage is what one secret takes.
type Usage struct {
	Versions uint64 // stored: not destroyed
	Bytes    uint64 // of their plaintexts
	// Millis adds up how long each version was stored this month (UTC), in
	// milliseconds: from the time of the command that made it to that of the
	// one that destroyed it.
	Millis int64
}

// Usages answers the secrets below prefix ("/" or "/app/"), tombstones
// included, each with what it takes at the time now, ordered by the bytes of
// their paths. One walk over both trees: a version's key is the path of its
// secret, a zero byte and the number, so both are in one order.
func (s *State) Usages(prefix string, now int64) iter.Seq2[*Secret, Usage] {
	return func(yield func(*Secret, Usage) bool) {
		month := monthStart(now)
		versions := s.versions.Root().Iterator()
		versions.SeekLowerBound([]byte(prefix))
		key, v, more := versions.Next()
		for _, secret := range scan(s.secrets.Root(), []byte(prefix), nil) {
			u := Usage{Millis: secret.pastIn(month)}
			for ; more && isVersionOf(key, string(secret.Path)); key, v, more = versions.Next() {
				if v.State != VersionDestroyed {
					u.Versions++
					u.Bytes += uint64(v.Size)
				}
				u.Millis += v.millisIn(month, now)
			}
			if !yield(secret, u) {
				return
			}
		}
	}
}

func isVersionOf(key []byte, path string) bool {
	return len(key) == len(path)+1+8 && key[len(path)] == 0 && string(key[:len(path)]) == path
}

// millisIn answers how long v was stored from the time month on, until now.
func (v *Version) millisIn(month, now int64) int64 {
	end := now
	if v.State == VersionDestroyed {
		end = v.DestroyedAt
	}
	return max(0, end-max(v.CreatedAt, month))
}

// pastIn answers how long versions of retired secrets of the path of s were
// stored in the month.
func (s *Secret) pastIn(month int64) int64 {
	if s.PastMonth != month {
		return 0
	}
	return s.PastMillis
}

const dayMillis = 24 * 60 * 60 * 1000

// monthStart answers the first millisecond of the month, UTC, in which the
// time at lies: days since 0000-03-01 in the proleptic Gregorian calendar, in
// eras of 400 years, as in ISO 8601. Package time is not for a state machine,
// which has no business with clocks and zones.
func monthStart(at int64) int64 {
	days := at / dayMillis
	fromMarch := (days + 719468) % 146097 // of the era
	year := (fromMarch - fromMarch/1460 + fromMarch/36524 - fromMarch/146096) / 365
	ofYear := fromMarch - (365*year + year/4 - year/100)
	month := (5*ofYear + 2) / 153 // 0: March
	return (days - (ofYear - (153*month+2)/5)) * dayMillis
}
