package engine

import (
	"context"
	"strconv"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// maxLooks bounds how often a read looks at the state again because a version
// of the secret was being destroyed, or a leadership began, in between.
const maxLooks = 100

// reader is who a value is handed to.
type reader struct {
	instance string
	// uses is the version that the reader says it uses now, nil: it says nothing.
	uses *uint64
}

// handOut picks a version and notes that it is handed to the caller, before
// it is opened. It is the only way to a value that leaves the process.
func (c *call) handOut(ctx context.Context, path names.Path, to reader, pick func() (*fsm.Secret, *fsm.Version, error)) (*fsm.Secret, *fsm.Version, error) {
	if c.follow != nil {
		return c.handOutLent(path, to, pick)
	}
	for range maxLooks {
		s, v, err := pick()
		if err != nil {
			return nil, nil, err
		}
		if c.sessionEnded() {
			c.engine.ledger.end(c.mark.session)
		}
		d, wait, ok := c.engine.ledger.hand(c.mark, c.seen(s, v, to))
		if ok {
			d.note, d.news = c.noteConsumer(d.seen, to), c.isNews(d.seen)
			c.deliveries = append(c.deliveries, d)
			c.hearUse(s, v, to)
			return s, v, nil
		}
		if err := c.lookAgain(ctx, wait); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fault.New(fault.Conflict, "path: versions of %s were destroyed each time this one was about to be read; retry", path)
}

// sessionEnded reports whether the session of the mark has ended in the state
// that was looked at after it. A node that led, lost that to others, and leads
// again has not heard of it yet, or not come to open another one: destructions
// since then count on it that nothing was handed out in the one before.
func (c *call) sessionEnded() bool {
	if c.mark.session == 0 {
		return false
	}
	s := c.state.Session(c.mark.session)
	return s == nil || s.EndedAt != 0
}

// lookAgain takes a new mark, and a new look at the state after it.
func (c *call) lookAgain(ctx context.Context, wait <-chan struct{}) error {
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return fault.Wrap(fault.NoLeader, ctx.Err(), "the version is being destroyed, and the outcome is not known yet; retry")
		}
	}
	if !c.engine.ledger.await(ctx) {
		return fault.New(fault.NoLeader, "this node does not hand out values yet, or not any more; retry")
	}
	c.mark = c.engine.ledger.mark()
	return c.refresh(ctx)
}

// seen is what the ledger notes of a delivery. Times are those at which the
// request began: a reader counts from when it asked.
func (c *call) seen(s *fsm.Secret, v *fsm.Version, to reader) fsm.Observation {
	_, horizon := c.state.Horizon(s.Path)
	at := c.now.UnixMilli()
	o := fsm.Observation{
		Path: string(s.Path), SecretID: s.ID, Version: v.Number, Principal: c.who.name, Instance: to.instance,
		First: at, Last: at, Until: at + horizon,
	}
	if c.from.Member != "" {
		// The node that handed the request on serves the next ones by itself, for
		// as long as this makes destructions wait.
		o.Until += horizon / lease
	}
	if c.says(to) && *to.uses == v.Number {
		o.Last, o.Said, o.SaidAt = 0, c.began.stamp, at // nothing is handed out
	}
	return o
}

// lease is the part of the horizon for which a node that follows hands out, by
// what the state holds, what it handed on once.
const lease = 4

// isNews reports whether others should know of a delivery soon.
func (c *call) isNews(o fsm.Observation) bool {
	return !c.state.Knows(o) || c.from.Member != "" && o.Last != 0 && !c.state.Holds(o)
}

// says reports whether what the reader says counts: it is as old as the
// request, so it is of no use in a session that began later.
func (c *call) says(to reader) bool { return to.uses != nil && c.began.session == c.mark.session }

// hearUse notes the version that the reader says it uses while it is handed
// another one. About a version that is not there it can say nothing.
func (c *call) hearUse(s *fsm.Secret, v *fsm.Version, to reader) {
	if !c.says(to) || *to.uses == v.Number {
		return
	}
	used := c.state.Version(s.Path, *to.uses)
	if used == nil || used.State == fsm.VersionDestroyed {
		return
	}
	o := c.seen(s, used, to)
	o.Last, o.Session = 0, c.mark.session
	c.engine.ledger.say(o)
	if !c.state.Knows(o) {
		c.engine.ledger.heard()
	}
}

// noteConsumer puts into the event what the ledger can be rebuilt from.
func (c *call) noteConsumer(o fsm.Observation, to reader) *audit.Consumer {
	note := &audit.Consumer{Instance: o.Instance, Session: o.Session, HoldUntil: o.Until}
	if c.says(to) {
		note.Uses, note.UsesStamp = *to.uses, c.began.stamp
	}
	c.event.Consumer = note
	return note
}

// settleDeliveries ends what was on its way. It is called before the events
// are written: what a written event tells of is in the ledger.
func (c *call) settleDeliveries(failed bool) {
	for _, d := range c.deliveries {
		if d.lent != nil {
			c.settleLent(d, failed)
		} else if failed {
			c.engine.ledger.drop(d)
		} else {
			c.engine.ledger.handed(d)
		}
	}
	c.deliveries = nil
}

// takeBack drops the last delivery: it failed, others of the request may not.
func (c *call) takeBack() {
	last := len(c.deliveries) - 1
	if d := c.deliveries[last]; d.lent != nil {
		c.settleLent(d, true)
	} else {
		c.engine.ledger.drop(d)
	}
	c.deliveries = c.deliveries[:last]
	c.event.Consumer = nil
}

func numberText(n uint64) string { return strconv.FormatUint(n, 10) }
