package engine

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// limits holds the buckets of the rate limits of the state. They are of the
// node that leads, in memory: a new leader begins with full ones.
type limits struct {
	mu      sync.Mutex
	of      any // see fsm.State.RateLimitsAsWhole
	rules   []rateRule
	buckets *lru.Cache[bucketKey, *bucket]
}

type rateRule struct {
	*fsm.RateLimit
	cidrs []netip.Prefix
}

// bucketKey names a bucket. A limit that is changed begins with new ones.
type bucketKey struct {
	limit    string
	revision uint64
	who      string
}

type bucket struct {
	*rate.Limiter
	refusing bool // the last one was refused, and told
}

// keptBuckets bounds the memory: whoever was not seen for the longest time
// begins with a full bucket again.
const keptBuckets = 100_000

func newLimits() *limits {
	buckets, err := lru.New[bucketKey, *bucket](keptBuckets)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &limits{buckets: buckets}
}

// overLimit is why something is refused: which limit, and for how long.
type overLimit struct {
	limit *fsm.RateLimit
	wait  time.Duration
	// news says that the one before was not refused. A flood is told once, it
	// must not fill the disk.
	news bool
}

// take takes one from the bucket of each limit of this kind that is about the
// caller, or from none and answers which is empty.
func (l *limits) take(c *call, kind string) *overLimit {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.follow(c.state)
	var full []*bucket
	for i := range l.rules {
		r := &l.rules[i]
		if r.Kind != kind || !r.about(c) {
			continue
		}
		b := l.bucket(r, c)
		if tokens := b.TokensAt(c.now); tokens < 1 {
			wait := time.Duration((1 - tokens) / float64(b.Limit()) * float64(time.Second))
			over := &overLimit{limit: r.RateLimit, wait: wait, news: !b.refusing}
			b.refusing = true
			return over
		}
		full = append(full, b)
	}
	for _, b := range full {
		b.AllowN(c.now, 1)
		b.refusing = false
	}
	return nil
}

// concern reports whether a limit of this kind is about the caller.
func (l *limits) concern(c *call, kind string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.follow(c.state)
	for i := range l.rules {
		if r := &l.rules[i]; r.Kind == kind && r.about(c) {
			return true
		}
	}
	return false
}

// follow takes over the rate limits of the state that a request is served at.
func (l *limits) follow(state *fsm.State) {
	if l.of == state.RateLimitsAsWhole() {
		return
	}
	l.of, l.rules = state.RateLimitsAsWhole(), nil
	for record := range state.RateLimits("") {
		r := rateRule{RateLimit: record}
		for _, text := range record.SourceCIDRs {
			if p, err := iam.ParseCIDR(text); err == nil { // it was checked when it was put
				r.cidrs = append(r.cidrs, p)
			}
		}
		l.rules = append(l.rules, r)
	}
}

// about reports whether the limit is for the caller.
func (r *rateRule) about(c *call) bool {
	if len(r.Principals)+len(r.Groups) > 0 && !slices.Contains(r.Principals, c.who.name) &&
		!slices.ContainsFunc(r.Groups, func(g string) bool { return g == fsm.Everyone || slices.Contains(c.who.groups, g) }) {
		return false
	}
	// Who comes from nobody knows where is limited wherever that is.
	return len(r.SourceCIDRs) == 0 || !c.from.Source.IsValid() || iam.SourceAllowed(r.cidrs, c.from.Source)
}

func (l *limits) bucket(r *rateRule, c *call) *bucket {
	key := bucketKey{r.Name, r.Revision, c.who.name}
	if r.Per == "source" {
		key.who = limited(c.from.Source).String()
	}
	b, ok := l.buckets.Get(key)
	if !ok {
		perSecond := float64(r.Count) / (float64(r.Period) / 1000)
		b = &bucket{Limiter: rate.NewLimiter(rate.Limit(perSecond), int(r.Burst))}
		l.buckets.Add(key, b)
	}
	return b
}

// within answers RateLimited if a limit of this kind is used up.
func (c *call) within(kind string) error {
	if c.follow != nil {
		if c.engine.limits.concern(c, kind) {
			return c.toLeader("rateLimit", nil) // which counts for all nodes
		}
		return nil
	}
	over := c.engine.limits.take(c, kind)
	if over == nil {
		return nil
	}
	c.engine.metrics.limited.WithLabelValues(over.limit.Name, kind).Inc()
	c.noteLimit = over.news
	seconds := int64(math.Ceil(over.wait.Seconds()))
	return fault.New(fault.RateLimited, "the rate limit %s allows %d %s in %s for each %s; retry in %d s",
		over.limit.Name, over.limit.Count, kindText[kind], time.Duration(over.limit.Period)*time.Millisecond, over.limit.Per, seconds).
		With("limit", over.limit.Name).With("retryAfter", strconv.FormatInt(max(1, seconds), 10))
}

var kindText = map[string]string{
	fsm.RateValueReads: "reads of values", fsm.RateFailures: "failed authentications", fsm.RateRequests: "requests",
}

// failedAuthentication answers err, or RateLimited if the source fails too
// often.
func (c *call) failedAuthentication(err error) error {
	if c.follow != nil {
		return c.toLeader("unauthenticated", err) // which counts for all nodes
	}
	if over := c.within(fsm.RateFailures); over != nil {
		return over
	}
	err = c.engine.limiter.failed(c.from.Source, c.now, err)
	if fault.Is(err, fault.RateLimited) {
		c.engine.metrics.limited.WithLabelValues(builtInLimit, fsm.RateFailures).Inc()
	}
	return err
}

// withinRequests holds a request against limits on requests. Waits are not
// counted: they are many looks. Nor is what can lift a limit that was set too
// low.
func (c *call) withinRequests() error {
	if c.op.Wait > 0 || c.op.Action == "iam:putRateLimit" || c.op.Action == "iam:listRateLimits" || c.op.Action == "iam:deleteRateLimit" {
		return nil
	}
	return c.within(fsm.RateRequests)
}
