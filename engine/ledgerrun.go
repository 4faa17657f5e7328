package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Pace of the ledger.
const (
	flushEvery = 3 * time.Second
	// newsWithin is how soon a consumer, or a move, of which the state does not
	// know is committed; what was known before waits for flushEvery.
	newsWithin  = 200 * time.Millisecond
	settleEvery = time.Second
	// observeLimit is how many observations one command, or one answer of a
	// peer, holds.
	observeLimit = 2000
	askPatience  = 5 * time.Second
)

// keepLedger hands out values until ctx ends with the leadership, and commits
// who has them.
func (e *Engine) keepLedger(ctx context.Context) {
	defer e.ledger.shut()
	defer e.dateKeys.forget()
	for pause := 10 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, time.Second) {
		err := e.OpenLedger(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil && !fault.Is(err, fault.NoLeader) {
			e.Logger.Warn("no session of the consumers' ledger could be opened; values are not handed out until one is", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	settle := time.NewTicker(settleEvery)
	defer settle.Stop()
	e.settleSessions(ctx)
	told, done := e.ledger.listen()
	defer done()
	news, soon := time.NewTimer(time.Hour), false
	defer news.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
			if !soon {
				soon = true
				news.Reset(newsWithin)
			}
		case <-news.C:
			soon = false
			e.flushLedger(ctx)
		case <-flush.C:
			e.flushLedger(ctx)
		case <-settle.C:
			e.settleSessions(ctx)
		}
	}
}

// OpenLedger opens a session: from here on this node hands out values. The
// leader's work does it; a cluster of one in a test does it by itself.
func (e *Engine) OpenLedger(ctx context.Context) error {
	e.ledger.shut()
	trail, err := e.trailID(ctx)
	if err != nil {
		return err
	}
	result, err := e.proposeOwn(ctx, fsm.OpenLedger{
		Meta: fsm.Meta{Time: e.Now().UnixMilli()}, Node: e.Node, Trail: trail, Boot: e.BootID,
		Durable: e.DurableTrail, Sequence: e.Trail.Head().Sequence,
	})
	if err != nil {
		return err
	}
	e.ledger.settled(e.Log.Local())
	e.beginSigned(result.Session)
	if !e.ledger.open(result.Session) {
		return fault.New(fault.NoLeader, "another node leads by now, and has settled the session")
	}
	return nil
}

// trailID tells this node's trail from one that was begun anew, by its first
// event.
func (e *Engine) trailID(ctx context.Context) (string, error) {
	first, _, err := e.Trail.Query(ctx, audit.Filter{Limit: 1})
	if err != nil || len(first) == 0 {
		return "", err
	}
	return first[0].Time.UTC().Format(time.RFC3339Nano) + " " + first[0].RequestID, nil
}

// proposeOwn commits a command of the node's own. A refusal is an error.
func (e *Engine) proposeOwn(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	encoded, err := fsm.Encode(command)
	if err != nil {
		return fsm.Result{}, err
	}
	result, err := e.Log.Propose(ctx, encoded)
	if err == nil && result.Refused != nil {
		err = fault.New(fault.Kind(result.Refused.Code), "%s", result.Refused.Message)
	}
	return result, err
}

// flushLedger commits what this node saw. An idle node commits nothing. The
// place in the trail is taken first: what an event up to it tells of was in
// the ledger before, so it is in this batch or an earlier one.
func (e *Engine) flushLedger(ctx context.Context) {
	e.ledger.overdue()
	unsure := e.ledger.unsure()
	session, place := e.ledger.current(), e.Trail.Head().Sequence
	lines := e.ledger.batch()
	if session == 0 || len(lines) == 0 && len(unsure) == 0 {
		return
	}
	for first := true; first || len(lines) > 0; first = false {
		n := min(len(lines), observeLimit)
		command := fsm.Observe{Meta: fsm.Meta{Time: e.Now().UnixMilli()}, Observations: observations(lines[:n])}
		if n == len(lines) {
			command.Session, command.Sequence = session, place
		}
		if _, err := e.proposeOwn(ctx, command); err != nil {
			if ctx.Err() == nil && !fault.Is(err, fault.NoLeader) {
				e.Logger.Warn("what consumers hold could not be committed; it is tried again", "error", err)
			}
			return
		}
		e.ledger.committed(lines[:n])
		e.metrics.observed.Add(float64(n))
		lines = lines[n:]
	}
	// The commit came after the destructions whose outcome was not known: they
	// are in the state by now, or never will be.
	e.ledger.sure(unsure)
}

func observations(lines []line) []fsm.Observation {
	out := make([]fsm.Observation, len(lines))
	for i := range lines {
		out[i] = lines[i].Observation
	}
	return out
}

// LedgerQuery asks a node for what it handed out in a session that has ended.
type LedgerQuery struct {
	Session fsm.Session `json:"session"`
	After   string      `json:"after"` // place in the answer before
}

// LedgerPage is its answer. Lost says that there may have been more.
type LedgerPage struct {
	Observations []fsm.Observation `json:"observations"`
	More         bool              `json:"more"`
	Next         string            `json:"next"`
	Lost         bool              `json:"lost"`
}

// settleSessions asks the nodes of sessions that have ended for what they
// handed out and did not commit. Until a node has answered, destructions
// count on it.
func (e *Engine) settleSessions(ctx context.Context) {
	for s := range e.Log.Local().Sessions() {
		if s.EndedAt == 0 || s.Lost || ctx.Err() != nil {
			continue
		}
		if err := e.settleSession(ctx, s); err != nil && ctx.Err() == nil && !fault.Is(err, fault.NoLeader) {
			e.Logger.Debug("a member could not be asked yet for what it handed out", "member", s.Node, "error", err)
		}
	}
}

func (e *Engine) settleSession(ctx context.Context, s *fsm.Session) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	q := LedgerQuery{Session: *s}
	for {
		page, err := e.askLedger(ctx, s.Node, q)
		if err != nil {
			return err
		}
		meta := fsm.Meta{Time: e.Now().UnixMilli()}
		if len(page.Observations) > 0 {
			if _, err := e.proposeOwn(ctx, fsm.Observe{Meta: meta, Observations: page.Observations}); err != nil {
				return err
			}
		}
		if page.More && page.Next > q.After {
			q.After = page.Next
			continue
		}
		_, err = e.proposeOwn(ctx, fsm.SettleLedger{Meta: meta, Session: s.Number, Lost: page.Lost || page.More})
		if err == nil && page.Lost {
			e.Logger.Warn("a member cannot tell for sure what it handed out last; versions that it may have handed out are not destroyed until nobody can hold them",
				"member", s.Node, "session", s.Number)
		}
		return err
	}
}

func (e *Engine) askLedger(ctx context.Context, node string, q LedgerQuery) (LedgerPage, error) {
	if node == e.Node {
		return e.LocalLedger(ctx, q)
	}
	if e.Cluster.PeerLedger == nil {
		return LedgerPage{}, fault.New(fault.NoLeader, "member %s cannot be asked", node)
	}
	return e.Cluster.PeerLedger(ctx, node, q)
}

// LocalLedger answers for this node, and is the end of the session here: what
// has not been handed out in it by now never will be. It answers what is in
// memory and, in case the process is a new one, what the trail tells since the
// last commit. It does not authorise: the caller is this node or another
// member.
func (e *Engine) LocalLedger(ctx context.Context, q LedgerQuery) (LedgerPage, error) {
	e.ledger.fence(q.Session.Number)
	merged := map[string]fsm.Observation{}
	add := func(o fsm.Observation) {
		key := keyOf(o).text()
		if old, there := merged[key]; there {
			o = old.Merge(o)
		}
		merged[key] = o
	}
	for _, o := range e.ledger.all() {
		if o.Session <= q.Session.Number {
			add(o)
		}
	}
	whole, err := e.rebuild(ctx, q.Session, add)
	if err != nil {
		return LedgerPage{}, err
	}
	page := LedgerPage{Lost: !whole, Observations: []fsm.Observation{}}
	keys := make([]string, 0, len(merged))
	for key := range merged {
		if key > q.After {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if len(keys) > observeLimit {
		keys, page.More = keys[:observeLimit], true
		page.Next = keys[len(keys)-1]
	}
	for _, key := range keys {
		page.Observations = append(page.Observations, merged[key])
	}
	return page, nil
}

// rebuild reads what this node handed out in the session from its trail. It
// answers false if the trail may have lost some of it: it is not the one that
// was written then, or the system went down before it was on the disk.
func (e *Engine) rebuild(ctx context.Context, s fsm.Session, add func(fsm.Observation)) (whole bool, err error) {
	trail, err := e.trailID(ctx)
	if err != nil {
		return false, err
	}
	whole = trail == s.Trail && e.Trail.Head().Sequence >= s.Sequence && (s.Durable || e.BootID == s.Boot && s.Boot != "")
	filter := audit.Filter{
		Events: []string{"secrets.get_value", "secrets.generate", "secrets.confirm_version"}, Outcome: audit.OK,
		After: s.Sequence, Limit: 1000,
	}
	if trail != s.Trail {
		return false, nil
	}
	for {
		events, more, err := e.Trail.Query(ctx, filter)
		if err != nil {
			return false, err
		}
		for i := range events {
			if events[i].Consumer != nil && events[i].Consumer.Session == s.Number {
				observe(&events[i], add)
			}
			filter.After = events[i].Sequence
		}
		if !more {
			return whole, nil
		}
	}
}

// observe answers what an event tells the ledger. It does not tell which
// secret it was, of those that had the path: at worst one more is waited for.
func observe(e *audit.Event, add func(fsm.Observation)) {
	at := e.Time.UnixMilli()
	seen := fsm.Observation{
		Path: e.Path, Version: e.Version, Principal: e.Principal, Instance: e.Consumer.Instance, Session: e.Consumer.Session,
		First: at, Last: at, Stamp: e.Consumer.Stamp, Until: e.Consumer.HoldUntil,
	}
	if e.Consumer.Uses != 0 && e.Consumer.Uses != e.Version {
		said := seen
		said.Version, said.Last, said.Stamp, said.Said, said.SaidAt = e.Consumer.Uses, 0, 0, e.Consumer.UsesStamp, at
		add(said)
	} else if e.Consumer.Uses != 0 {
		seen.Last, seen.Said, seen.SaidAt = 0, e.Consumer.UsesStamp, at // nothing was handed out
	}
	add(seen)
}

// destroy proposes one destruction while the version is not handed out, with
// all that is known of its consumers.
func (c *call) destroy(ctx context.Context, command fsm.DestroyVersion) (fsm.Result, error) {
	for range maxRaces {
		if !c.engine.ledger.await(ctx) {
			return fsm.Result{}, fault.New(fault.NoLeader, "this node has only begun to lead; retry")
		}
		session, observed, release := c.engine.ledger.closeLanded(ctx, fsm.ClosedVersion{Path: command.Path, Version: command.Version})
		command.Session, command.Observed = session, observed
		result, err := c.propose(ctx, command)
		release(err == nil || fault.Is(err, fault.NoLeader))
		if err != nil || result.Refused == nil {
			return result, err
		}
		if !result.Refused.Race {
			return result, c.refusedDestruction(ctx, result.Refused, command)
		}
	}
	return fsm.Result{}, fault.New(fault.NoLeader, "the leadership changed while the destruction was decided; nothing was destroyed; retry")
}

func (c *call) refusedDestruction(ctx context.Context, r *fsm.Refusal, command fsm.DestroyVersion) error {
	err := c.refused(r)
	var f *fault.Error
	if r.Code != string(fault.VersionInUse) || !errors.As(err, &f) {
		return err
	}
	if refreshErr := c.refresh(ctx); refreshErr != nil {
		return refreshErr
	}
	c.engine.metrics.inUse.Inc()
	return c.inUse(f, names.Path(command.Path), command.Version)
}
