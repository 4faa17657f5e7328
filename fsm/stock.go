package fsm

// Stock counts what a state holds.
type Stock struct {
	Secrets   map[SecretState]uint64  // tombstones of purged ones included
	Versions  map[VersionState]uint64 // "expired" as of the time of the question
	Consumers uint64                  // instances that the ledger knows
	// Behind are those that may still hold a version older than the current one
	// of its secret. Lines for all others of a secret count as one each.
	Behind uint64
}

// Stock counts by a walk over all secrets, versions and consumers: some tenths
// of a second for a million. now is in milliseconds since the Unix epoch.
//
// Whether an instance may hold a version is what the ledger has committed, by
// the clock of whoever asks and with the slack between nodes: a decision about
// a destruction also knows what the leader has not committed yet.
func (s *State) Stock(now int64) Stock {
	out := Stock{Secrets: map[SecretState]uint64{}, Versions: map[VersionState]uint64{}}
	for _, secret := range scan(s.secrets.Root(), nil, nil) {
		out.Secrets[secret.State]++
	}
	for _, v := range scan(s.versions.Root(), nil, nil) {
		out.Versions[v.StateAt(now)]++
	}
	var secret *Secret
	for _, c := range scan(s.consumers.Root(), nil, nil) {
		out.Consumers++
		if secret == nil || secret.Path != c.Path {
			secret = s.Secret(c.Path)
		}
		if secret != nil && c.behind(secret.Current, now) {
			out.Behind++
		}
	}
	return out
}

// StateAt is the state at now, in milliseconds since the Unix epoch: the stored
// one, or expired where time says so.
func (v *Version) StateAt(now int64) VersionState {
	if v.State == VersionActive && v.ExpiresAt != 0 && v.ExpiresAt <= now {
		return VersionExpired
	}
	return v.State
}

// behind reports whether c may hold, at now, a version older than current.
func (c *Consumer) behind(current uint64, now int64) bool {
	for _, h := range c.Holds {
		if h.Version < current && c.HeldUntil(h, 0) > now {
			return true
		}
	}
	return false
}
