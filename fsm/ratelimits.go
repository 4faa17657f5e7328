package fsm

import "iter"

// RateLimit bounds how often something may be done, by one principal or from
// one source address. Whoever leads holds the buckets, in memory; here is only
// how large they are.
type RateLimit struct {
	Name        string   `cbor:"1,keyasint,omitempty"`
	Revision    uint64   `cbor:"2,keyasint,omitempty"`
	Kind        string   `cbor:"3,keyasint,omitempty"` // see the RateKinds
	Per         string   `cbor:"4,keyasint,omitempty"` // "principal" or "source"
	Principals  []string `cbor:"5,keyasint,omitempty"` // it is for these; none: for all
	Groups      []string `cbor:"6,keyasint,omitempty"`
	SourceCIDRs []string `cbor:"7,keyasint,omitempty"`
	Count       uint64   `cbor:"8,keyasint,omitempty"`  // so many in a Period
	Period      int64    `cbor:"9,keyasint,omitempty"`  // milliseconds
	Burst       uint64   `cbor:"10,keyasint,omitempty"` // so many at once
	Reason      string   `cbor:"11,keyasint,omitempty"`
	UpdatedAt   int64    `cbor:"12,keyasint,omitempty"`
	UpdatedBy   string   `cbor:"13,keyasint,omitempty"`
	RequestID   string   `cbor:"14,keyasint,omitempty"`
}

// What a RateLimit can count.
const (
	RateValueReads = "valueReads"
	RateFailures   = "authenticationFailures"
	RateRequests   = "requests"
)

// PutRateLimit makes or replaces a rate limit.
type PutRateLimit struct {
	Meta  Meta      `cbor:"1,keyasint,omitempty"`
	Limit RateLimit `cbor:"2,keyasint,omitempty"` // Revision and all that says who and when are set by Apply
	// Expected, if set, must be the revision there is (0: none yet).
	Expected *uint64 `cbor:"3,keyasint,omitempty"`
}

// DeleteRateLimit removes a rate limit.
type DeleteRateLimit struct {
	Meta Meta   `cbor:"1,keyasint,omitempty"`
	Name string `cbor:"2,keyasint,omitempty"`
}

// Bounds of rate limits.
const (
	maxRateLimits = 256 // each request may be held against all of them
	maxRate       = 1_000_000_000
	minRatePeriod = 1000
	maxRatePeriod = dayMillis
)

// RateLimits answers the rate limits with names greater than after, in order.
func (s *State) RateLimits(after string) iter.Seq[*RateLimit] {
	return values(scan(s.rateLimits.Root(), nil, following(after)))
}

// RateLimit answers the rate limit of this name, nil if there is none.
func (s *State) RateLimit(name string) *RateLimit { return at(s.rateLimits, []byte(name)) }

// RateLimitsAsWhole stands for all rate limits: two states for which it is
// equal have the same. It is comparable.
func (s *State) RateLimitsAsWhole() any { return s.rateLimits }

func putRateLimit(t *txn, c PutRateLimit) (Result, *Refusal) {
	l := c.Limit
	if r := checkRateLimit(l); r != nil {
		return Result{}, r
	}
	at := uint64(0)
	if old := t.rateLimits.value([]byte(l.Name)); old != nil {
		at = old.Revision
	} else if t.rateLimits.tree.Len() >= maxRateLimits {
		return Result{}, conflict("name: there are %d rate limits, the most that there can be; deleteRateLimit makes room", maxRateLimits)
	}
	if c.Expected != nil && *c.Expected != at {
		return Result{}, conflict("expectedRevision: the rate limit is at revision %d, not %d; look at it again", at, *c.Expected)
	}
	l.Revision, l.UpdatedAt, l.UpdatedBy, l.RequestID = at+1, t.now, t.by, c.Meta.RequestID
	t.rateLimits.put([]byte(l.Name), &l)
	return Result{Name: l.Name, Revision: l.Revision}, nil
}

func checkRateLimit(l RateLimit) *Refusal {
	if r := checkName("name", l.Name); r != nil {
		return r
	}
	switch {
	case l.Kind != RateValueReads && l.Kind != RateFailures && l.Kind != RateRequests:
		return invalid("kind", "must be %s, %s or %s", RateValueReads, RateFailures, RateRequests)
	case l.Per != "principal" && l.Per != "source":
		return invalid("per", "must be principal or source")
	case l.Kind == RateFailures && (l.Per != "source" || len(l.Principals)+len(l.Groups) > 0):
		return invalid("per", "must be source, for all principals: who fails to authenticate is nobody yet")
	case l.Count < 1 || l.Count > maxRate:
		return invalid("count", "must be 1 to %d", maxRate)
	case l.Period < minRatePeriod || l.Period > maxRatePeriod:
		return invalid("period", "must be 1s to 24h")
	case l.Burst < 1 || l.Burst > maxRate:
		return invalid("burst", "must be 1 to %d", maxRate)
	case len(l.Reason) > maxReason:
		return invalid("reason", "has %d bytes; at most %d are allowed", len(l.Reason), maxReason)
	}
	for _, list := range []struct {
		name  string
		items []string
	}{{"principals", l.Principals}, {"groups", l.Groups}, {"sourceCidrs", l.SourceCIDRs}} {
		if r := checkList(list.name, list.items); r != nil {
			return r
		}
	}
	if r := checkNames("principals", l.Principals); r != nil {
		return r
	}
	return checkNames("groups", l.Groups)
}

func deleteRateLimit(t *txn, c DeleteRateLimit) (Result, *Refusal) {
	if r := checkName("name", c.Name); r != nil {
		return Result{}, r
	}
	if t.rateLimits.value([]byte(c.Name)) == nil {
		return Result{}, notFound("name: there is no rate limit %s; listRateLimits shows them", c.Name)
	}
	t.rateLimits.remove([]byte(c.Name))
	return Result{Name: c.Name}, nil
}

func (t *txn) restoreRateLimit(l *RateLimit) (string, error) {
	if checkRateLimit(*l) != nil || l.Revision == 0 {
		return "", errBadRateLimit
	}
	t.rateLimits.put([]byte(l.Name), l)
	return l.Name, nil
}
