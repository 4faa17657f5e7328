package engine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// What one replay may cost: so many events of each trail, the oldest first,
// and so much time.
const (
	maxReplayed  = 50_000
	replayPage   = 1000
	replayTime   = 20 * time.Second
	maxSince     = 90 * 24 * time.Hour
	replayMember = 5 * time.Second // for one page of one member
)

// sinceTime reads how far back a replay goes.
func (c *call) sinceTime(since *wire.Duration, byDefault time.Duration) (time.Time, error) {
	d := byDefault
	if since != nil {
		d = time.Duration(*since)
	}
	if d > maxSince {
		return time.Time{}, fault.Invalid("since", "must be at most 90d")
	}
	return c.now.Add(-d), nil
}

// trailReader asks one member for a page of its trail.
type trailReader struct {
	node  string
	after uint64 // where to begin
	read  func(context.Context, TrailQuery) (TrailPage, error)
}

// trailReaders answers one for each member, this node first.
func (e *Engine) trailReaders() []trailReader {
	out := []trailReader{{e.Node, 0, e.LocalEvents}}
	if e.Cluster.Members == nil || e.Cluster.PeerEvents == nil {
		return out
	}
	for _, m := range e.Cluster.Members() {
		if m.NodeID == e.Node {
			continue
		}
		out = append(out, trailReader{m.NodeID, 0, func(ctx context.Context, q TrailQuery) (TrailPage, error) {
			return e.Cluster.PeerEvents(ctx, m.NodeID, q)
		}})
	}
	return out
}

// replayer asks the questions of the trails again, in states of its choice.
type replayer struct {
	c   *call
	out wire.Replayed
	// kept are the rights of askers in each state, by principal and claims.
	kept map[replayKey]*keptAsker
	// reached is how far each chain was replayed, by its place in a cursor, and
	// whole says of which all was.
	reached map[string]uint64
	whole   map[string]bool
}

type replayKey struct {
	state *fsm.State
	who   string
}

// keptAsker holds from when it was made until the first grant in it ends.
type keptAsker struct {
	rights *rights
	from   int64
}

func (c *call) newReplayer(since time.Time) *replayer {
	return &replayer{
		c: c, out: wire.Replayed{Since: wire.Millis(since.UnixMilli())}, kept: map[replayKey]*keptAsker{},
		reached: map[string]uint64{}, whole: map[string]bool{},
	}
}

// run calls each for every question of the trails since the begin of the
// replay, as far as their number allows.
func (r *replayer) run(ctx context.Context, each func(*replay) error) error {
	select {
	case r.c.engine.replaying <- struct{}{}:
		defer func() { <-r.c.engine.replaying }()
	default:
		return fault.New(fault.RateLimited, "since: the trails are being replayed for somebody else on this node; try again in a moment")
	}
	bounded, cancel := context.WithTimeout(ctx, replayTime)
	defer cancel()
	replay := func(reader trailReader) error {
		stopped, err := r.trail(bounded, reader, each)
		if err != nil {
			return err
		}
		if stopped != nil && (r.out.StoppedAt == nil || stopped.Before(r.out.StoppedAt.Time)) {
			r.out.StoppedAt = stopped
		}
		return ctx.Err()
	}
	for _, reader := range r.c.engine.trailReaders() {
		if err := replay(reader); err != nil {
			return err
		}
	}
	if err := r.copies(replay); err != nil {
		return err
	}
	slices.Sort(r.out.Unreachable)
	return nil
}

// copies replays the chains that nobody answered for from the copies of this
// node, each from where it was left.
func (r *replayer) copies(replay func(trailReader) error) error {
	e := r.c.engine
	if e.Copies == nil {
		return nil
	}
	for _, c := range e.Copies.All() {
		id := c.ID()
		place := c.Node() + "/" + shortChain(id[:])
		if r.whole[place] || r.whole[c.Node()+"/"] {
			continue
		}
		failed := len(r.out.Unreachable)
		if err := replay(trailReader{c.Node(), r.reached[place], func(ctx context.Context, q TrailQuery) (TrailPage, error) {
			return eventsOf(ctx, c, id, q)
		}}); err != nil {
			return err
		}
		if len(r.out.Unreachable) > failed {
			continue
		}
		r.out.FromCopies = append(r.out.FromCopies, wire.AnsweredByCopy{Node: c.Node(), Chain: shortChain(id[:]), Through: c.Settled().Sequence})
		if current := e.currentChain(c.Node()); current == "" || current == shortChain(id[:]) {
			r.out.Unreachable = leaving(r.out.Unreachable, func(node string) bool { return node == c.Node() })
		}
	}
	return nil
}

// trail replays one trail. It answers where it stopped short; nil: nowhere.
func (r *replayer) trail(ctx context.Context, reader trailReader, each func(*replay) error) (stopped *wire.Time, err error) {
	q := TrailQuery{From: r.out.Since.Milli(), To: r.c.now.UnixMilli(), Limit: replayPage, After: reader.after}
	last, place := r.out.Since, reader.node
	for seen := 0; ; seen += replayPage {
		if seen >= maxReplayed || ctx.Err() != nil {
			r.whole[place] = true // as far as one replay goes
			return last, nil
		}
		one, cancel := context.WithTimeout(ctx, replayMember)
		page, err := reader.read(one, q)
		cancel()
		if err != nil {
			r.c.engine.Logger.Warn("the audit trail of a member could not be asked", "member", reader.node, "error", err)
			r.out.Unreachable = append(r.out.Unreachable, reader.node)
			return nil, nil
		}
		for i := range page.Events {
			e := &page.Events[i]
			q.After, last = e.Sequence, e.Time
			if err := r.event(e, each); err != nil {
				return nil, err
			}
		}
		place = reader.node + "/" + page.Chain
		r.reached[place] = q.After
		if !page.More || len(page.Events) == 0 {
			r.whole[place] = true
			return nil, nil
		}
	}
}

func (r *replayer) event(e *wire.AuditEvent, each func(*replay) error) error {
	q, asked, known := r.c.engine.replayOf(r.c.state, e)
	if !asked {
		return nil
	}
	if !known || r.c.state.Principal(q.principal) == nil {
		r.out.Unreplayable++
		return nil
	}
	r.out.Questions++
	return each(&q)
}

// ask decides a question in state, at the time when it was asked. It answers
// false for a principal that is not there.
func (r *replayer) ask(state *fsm.State, q *replay) (iam.Decision, *asker, error) {
	at := q.at.UnixMilli()
	key := replayKey{state, q.principal + " " + strings.Join(q.claims, " ")}
	kept := r.kept[key]
	if kept == nil || at < kept.from || kept.rights.until != 0 && at >= kept.rights.until {
		principal := state.Principal(q.principal)
		if principal == nil {
			return iam.Decision{Reason: iam.ReasonIAM}, nil, nil
		}
		claims := slices.Compact(slices.Sorted(slices.Values(q.claims)))
		rights, err := r.c.engine.rightsAt(state, principal, claims, at)
		if err != nil {
			return iam.Decision{}, nil, err
		}
		kept = &keptAsker{rights, at}
		r.kept[key] = kept
	}
	a := &asker{
		state: state, rules: kept.rights.rules, principal: q.principal, method: q.method, groups: kept.rights.groups, source: q.source, at: q.at,
	}
	a.approvedBy = r.c.whoApproved(q.approval)
	return q.target.decide(a), a, nil
}
