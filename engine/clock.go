package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/iam"
)

// DefaultMaxClockOffset is how far a clock may be off.
const DefaultMaxClockOffset = 5 * time.Second

const (
	clockEvery = 10 * time.Second
	// clockEvidence is for how long what a member said counts.
	clockEvidence = 60 * time.Second
)

// ClockQuery asks a member what time it is.
type ClockQuery struct{}

// ClockReading is what a member's clock shows.
type ClockReading struct {
	UnixMs int64 `json:"unixMs"`
}

// LocalClock answers for this node. The link serves it to members only.
func (e *Engine) LocalClock(context.Context, ClockQuery) (ClockReading, error) {
	return ClockReading{UnixMs: e.Now().UnixMilli()}, nil
}

// clock judges this node's clock by what others show. It does not say what
// time it is: a clock that is off makes the node refuse, never guess.
//
// The state's time is the latest at which a leader proposed something. A clock
// that is behind it by more than the bound is behind. The clocks of the other
// members count if more than half of those that answered within clockEvidence
// are off the same way, each by more than the bound and what its exchange
// leaves open. Where nobody answers the clock is trusted: a cluster of one has
// no other.
type clock struct {
	bound time.Duration

	mu    sync.Mutex
	seen  map[string]clockSample
	wrong bool // as it was told last
}

// clockSample is one exchange with a member.
type clockSample struct {
	ahead time.Duration // the member's clock, of this node's
	// unsure is half of the round trip: ahead is right to within it, as in NTP
	// (RFC 5905, section 8).
	unsure time.Duration
	at     time.Time
}

func newClock(bound time.Duration) *clock {
	return &clock{bound: bound, seen: map[string]clockSample{}}
}

// saw notes an exchange that began at sent and ended at got.
func (k *clock) saw(peer string, sent, got time.Time, reading ClockReading) {
	trip := got.Sub(sent)
	ahead := time.UnixMilli(reading.UnixMs).Sub(sent.Add(trip / 2))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen[peer] = clockSample{ahead: ahead, unsure: trip / 2, at: got}
}

// forget drops all evidence: the leadership for which it was gathered is over.
func (k *clock) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen, k.wrong = map[string]clockSample{}, false
}

// off answers by how much this node's clock is off, negative if it is behind;
// zero: by no more than the bound, as far as can be known.
func (k *clock) off(now time.Time, stateTime int64) time.Duration {
	if behind := time.UnixMilli(stateTime).Sub(now); behind > k.bound {
		return -behind
	}
	var ahead, behind []time.Duration
	k.mu.Lock()
	defer k.mu.Unlock()
	answered := 0
	for _, s := range k.seen {
		if age := now.Sub(s.at); age > clockEvidence {
			continue
		}
		answered++
		switch limit := k.bound + s.unsure; {
		case s.ahead > limit:
			behind = append(behind, s.ahead)
		case s.ahead < -limit:
			ahead = append(ahead, s.ahead)
		}
	}
	for _, agree := range [][]time.Duration{ahead, behind} {
		if 2*len(agree) > answered {
			slices.Sort(agree)
			return -agree[len(agree)/2]
		}
	}
	return 0
}

// fresh answers how far the members' clocks are ahead of this node's, without
// those of which too old a word is all there is.
func (k *clock) fresh(now time.Time) map[string]time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]time.Duration{}
	for peer, s := range k.seen {
		if now.Sub(s.at) <= clockEvidence {
			out[peer] = s.ahead
		}
	}
	return out
}

// clockStatus says of each member how far its clock is off. That of this node
// is off by as much as it refuses for. If it does not, what is right is the
// middle of all clocks.
func (c *call) clockStatus(out *wire.StatusResponse) {
	e := c.engine
	now := e.Now()
	out.MaxClockOffset = wire.Duration(e.clock.bound)
	ahead, off := e.clock.fresh(now), e.clock.off(now, c.state.Time())
	if len(ahead) == 0 && off == 0 {
		return // nobody was heard
	}
	own := off
	if off == 0 {
		own = -middle(append(slices.Collect(maps.Values(ahead)), 0))
	}
	for i := range out.Nodes {
		n := &out.Nodes[i]
		of, heard := ahead[n.NodeID]
		if n.NodeID == e.Node {
			heard, n.RefusesTimed = true, off != 0
		}
		if heard {
			shown := wire.Offset((own + of).Round(time.Millisecond))
			n.ClockOffset = &shown
		}
	}
}

// middle answers the median.
func middle(of []time.Duration) time.Duration {
	slices.Sort(of)
	half := len(of) / 2
	if len(of)%2 == 1 {
		return of[half]
	}
	return (of[half-1] + of[half]) / 2
}

// keepClock asks the other members for their time until ctx ends with the
// leadership.
func (e *Engine) keepClock(ctx context.Context) {
	defer e.clock.forget()
	e.askClocks(ctx)
	every(ctx, clockEvery, e.askClocks)
}

// askClocks asks all other members once, and says when the clock becomes off
// or is good again. A member that does not answer keeps its last word until
// that is too old.
func (e *Engine) askClocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	if e.Cluster.PeerClock != nil && e.Cluster.Members != nil {
		var asked sync.WaitGroup
		for _, m := range e.Cluster.Members() {
			if m.NodeID == e.Node {
				continue
			}
			asked.Go(func() {
				sent := e.Now()
				if reading, err := e.Cluster.PeerClock(ctx, m.NodeID, ClockQuery{}); err == nil {
					e.clock.saw(m.NodeID, sent, e.Now(), reading)
				}
			})
		}
		asked.Wait()
	}
	off := e.clock.off(e.Now(), e.Log.Local().Time())
	switch {
	case !e.clock.turned(off != 0):
	case off != 0:
		e.Logger.Warn("the clock of this node is off; it refuses what is restricted to times until it is right", "offset", clockText(off))
	default:
		e.Logger.Warn("the clock of this node is right again; what is restricted to times is served")
	}
}

// turned reports whether wrong is news.
func (k *clock) turned(wrong bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	news := k.wrong != wrong
	k.wrong = wrong
	return news
}

// clockText writes an offset to a tenth of a second, such as -7.2s.
func clockText(off time.Duration) string { return fmt.Sprintf("%.1fs", off.Seconds()) }

// clockDenied is deny for a clock that is off. It does not tell when the window
// opens: this node does not know what time it is.
func (c *call) clockDenied(action iam.Action, d *audit.Decision, off time.Duration) error {
	denied := c.denied(action, d)
	where := "ahead of the other members'"
	if off < 0 {
		where = "behind the other members'"
	}
	// denied made it for this request alone, so it may be worded anew.
	whose := "this node"
	if c.follow != nil {
		whose = "the leader"
	}
	denied.Message = fmt.Sprintf("%s is restricted to times, and the clock of %s is about %.1f s %s; it refuses until an administrator has set the clock right, or another node leads",
		action, whose, off.Abs().Seconds(), where)
	return denied.With("clockOffset", clockText(off))
}

// clockCollector answers what this node saw of the members' clocks last, while
// it leads.
type clockCollector struct {
	engine *Engine
	offset *prometheus.Desc
}

func newClockCollector(e *Engine) *clockCollector {
	return &clockCollector{e, prometheus.NewDesc("strongroom_clock_offset_seconds",
		"How far the clock of a member is ahead of this node's, as this node, the leader, saw it last.", []string{"peer"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *clockCollector) Describe(out chan<- *prometheus.Desc) { out <- c.offset }

// Collect implements prometheus.Collector. What is too old to count is not
// there.
func (c *clockCollector) Collect(out chan<- prometheus.Metric) {
	for peer, ahead := range c.engine.clock.fresh(c.engine.Now()) {
		out <- prometheus.MustNewConstMetric(c.offset, prometheus.GaugeValue, ahead.Seconds(), peer)
	}
}
