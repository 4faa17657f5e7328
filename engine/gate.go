package engine

import (
	"context"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

// Do serves one request, in the one order that exists:
//
//  1. The trail can take an event. If not, nothing happens at all.
//  2. One consistent look at the state: it holds every write that was
//     acknowledged before this call, revocations included.
//  3. Who asks (token), what for (scope), and may it (iam). Denials are
//     events too.
//  4. The operation: it opens values, or seals them and commits a command.
//  5. The events are written: inner kms events first, the operation's last.
//     If they cannot be, the plaintext is wiped and the answer withheld.
//
// The error is always a *fault.Error or wraps none, which the front end shows
// as Internal.
func (e *Engine) Do(ctx context.Context, o *Operation, from Caller, body []byte) (Answer, error) {
	started := e.Now()
	if err := wire.Check(body); err != nil {
		// Nobody is known yet and nothing was asked: not an event.
		e.metrics.observe(o, err, e.Now().Sub(started))
		return Answer{}, err
	}
	answer, err := e.do(ctx, o, from, body, started)
	if notYet(err) != nil {
		return answer, err // it has not ended
	}
	e.metrics.observe(o, err, e.Now().Sub(started))
	return answer, err
}

func (e *Engine) do(ctx context.Context, o *Operation, from Caller, body []byte, started time.Time) (Answer, error) {
	if err := e.Trail.Ready(); err != nil {
		e.auditFailed(err)
		return Answer{}, err
	}
	began := e.ledger.mark()
	state, err := e.Log.ReadState(ctx)
	if err != nil {
		return Answer{}, err
	}
	c := &call{engine: e, op: o, from: from, state: state, index: state.Index(), now: started, started: started, began: from.Heard.since(began), mark: began}
	return e.serve(ctx, c, body)
}

// serve is what comes after the look at the state.
func (e *Engine) serve(ctx context.Context, c *call, body []byte) (Answer, error) {
	defer c.settleDeliveries(true) // those that nobody got
	c.event.Event = c.op.Event
	resp, err := c.authenticateAndRun(ctx, body)
	if c.follow != nil {
		err = c.stillFollowing(err)
	}
	if err != nil && !c.record(err) {
		c.wipeAll()
		return Answer{}, err
	}
	if auditErr := c.finish(ctx, err); auditErr != nil {
		c.wipeAll()
		e.auditFailed(auditErr)
		return Answer{}, auditErr
	}
	if err != nil {
		c.wipeAll()
		return Answer{Index: c.index}, err
	}
	return Answer{Response: resp, Index: c.index, Stream: c.stream, wipe: c.plaintexts}, nil
}

// authenticateAndRun is what the event tells of. A panic goes on to the front
// end, after its event: what was done by then was done by this caller.
func (c *call) authenticateAndRun(ctx context.Context, body []byte) (any, error) {
	defer func() {
		if p := recover(); p != nil {
			c.wipeAll()
			if err := c.finish(ctx, fault.New(fault.Internal, "a panic")); err != nil {
				c.engine.auditFailed(err)
			}
			panic(p)
		}
	}()
	if c.op.Open {
		return c.runOpen(ctx, body)
	}
	if err := c.authenticate(ctx, body); err != nil {
		return nil, err
	}
	return c.op.do(ctx, c, body)
}

// record says whether a failure belongs into the trail. A request for which
// nothing was done, because this node does not lead, is handed on and becomes
// an event where it is served. Failed authentications past the limiter's rate
// are counted, not written: a flood must not fill the disk. A look of one that
// waits is none either: the last one is.
func (c *call) record(err error) bool {
	if fault.Is(err, fault.NoLeader) {
		return len(c.inner) > 0
	}
	if notYet(err) != nil {
		return false
	}
	return !fault.Is(err, fault.RateLimited) || c.noteLimit
}

// finish writes the events of the request. It runs on a context of its own:
// a caller that hangs up must not take the event of what it was given along.
func (c *call) finish(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	c.settleDeliveries(err != nil)
	c.event.Outcome, c.event.Code = outcome(err)
	c.event.Index = c.index
	c.event.DurationMicros = c.engine.Now().Sub(c.started).Microseconds()
	events := append(c.inner, c.items...)
	events = append(events, c.event)
	for i := range events {
		events[i].Time = c.now
		events[i].RequestID = c.from.RequestID
		events[i].Principal = c.who.name
		events[i].CredentialID = c.who.credential
		events[i].SourceAddress = c.source()
		events[i].Via = c.from.Member
	}
	_, appendErr := c.engine.Trail.Append(ctx, events)
	if appendErr == nil {
		c.engine.metrics.denied(events) // no event, no count
		return nil
	}
	if fault.KindOf(appendErr) == fault.AuditUnavailable {
		return appendErr
	}
	return fault.Wrap(fault.AuditUnavailable, appendErr, "the audit trail could not take the event; nothing was answered")
}

// appendTimeout bounds the wait for the trail to take events.
const appendTimeout = 10 * time.Second

func outcome(err error) (outcome, code string) {
	switch kind := fault.KindOf(err); kind {
	case "":
		return audit.OK, ""
	case fault.AccessDenied, fault.Unauthenticated:
		return audit.Denied, string(kind)
	default:
		return audit.Failed, string(kind)
	}
}

// auditFailed gives up leadership: another node may still be able to write
// its trail.
func (e *Engine) auditFailed(err error) {
	e.Logger.Error("audit trail cannot be written; requests are refused", "error", err)
	if e.Cluster.StepDown != nil {
		e.Cluster.StepDown("audit trail cannot be written")
	}
}
