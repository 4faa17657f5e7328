package sink

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

// readBytes is how much of the trail is read at once.
const readBytes = 1 << 20

// record is an event on its way.
type record struct {
	at    cursor // the event itself
	prev  cursor // the one before it in the trail
	event audit.Event
	known bool   // event could be read
	body  []byte // in the format of the sink, one line without its newline
}

// trail is what a sink needs of an audit.Trail. It is an interface for one
// test: what a sink does when old events are gone cannot be seen otherwise.
type trail interface {
	Lines(ctx context.Context, after uint64, maxBytes int) (audit.Lines, error)
	Wait(ctx context.Context, after uint64) error
	Settled() audit.Head
	Oldest() uint64
}

// follower is one sink at work. All but what is atomic belongs to the
// goroutine of run.
type follower struct {
	Settings
	cfg     Config
	trail   trail
	target  target
	format  format
	log     *slog.Logger
	metrics counters
	store   cursorFile

	kick   chan struct{}                      // end a sleep
	wake   atomic.Pointer[context.CancelFunc] // end a wait for events
	reload atomic.Bool                        // open anew before the next delivery

	at    cursor // dealt with
	saved cursor // at, as it is on the disk
	since time.Time

	position atomic.Uint64 // at.sequence, for the metrics
	needed   atomic.Uint64 // saved.sequence+1, for OldestNeeded

	failures int       // in a row
	logged   time.Time // when trouble was last told
	told     string    // what it was
	silent   int       // failures since then
}

// run follows until ctx ends or the trail is closed.
func (f *follower) run(ctx context.Context) {
	defer func() {
		if err := f.target.close(); err != nil {
			f.log.Warn("an audit sink was not closed in good order", "error", err)
		}
	}()
	for begun := false; !begun; {
		err := f.begin(ctx)
		if begun = err == nil; !begun && !f.pause(ctx, err) {
			return
		}
	}
	for {
		more, err := f.step(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, errClosed):
			if err := f.save(); err != nil {
				f.log.Error("the cursor of an audit sink was not saved; the sink gets events again after the next start", "error", err)
			}
			return
		case err != nil:
			if !f.pause(ctx, err) {
				continue // ctx has ended
			}
		case !more:
			f.collect(ctx)
		}
	}
}

// errClosed: the trail has closed.
var errClosed = errors.New("the audit trail is closed")

// begin reads the cursor and holds it against the trail.
func (f *follower) begin(ctx context.Context) error {
	at, there, err := f.store.load()
	if err != nil {
		return err
	}
	if !there {
		if f.Newest {
			head := f.trail.Settled()
			at = cursor{head.Sequence, head.Hash}
		}
		if err := f.store.save(at); err != nil {
			return err
		}
	}
	same, err := f.sameTrail(ctx, at)
	if err != nil {
		return err
	}
	if !same {
		f.metrics.gaps.Inc()
		f.log.Error("the audit trail is not the one that this sink followed: it was replaced, or went back to an older copy; "+
			"what the sink did not get of the old one is lost to it, and it gets the whole of this one", "cursor", at.sequence, "oldest", f.trail.Oldest())
		at = cursor{}
	}
	f.at, f.saved = at, cursor{at.sequence, at.hash}
	f.position.Store(at.sequence)
	f.needed.Store(at.sequence + 1)
	return nil
}

// sameTrail reports whether the event at the cursor is the one that the sink
// was given. Where it is not kept any more, the event after it tells: it
// carries the hash.
func (f *follower) sameTrail(ctx context.Context, at cursor) (bool, error) {
	head := f.trail.Settled()
	switch {
	case at.sequence == 0, at.hash == [sha256.Size]byte{}: // none, or none that skip could find
		return true, nil
	case at.sequence > head.Sequence:
		return false, nil
	case at.sequence == head.Sequence:
		return at.hash == head.Hash, nil
	}
	lines, err := f.trail.Lines(ctx, at.sequence-1, 1)
	if err == nil {
		same := false
		lines.All(func(_ uint64, line []byte) bool { same = sha256.Sum256(line) == at.hash; return false })
		return same, nil
	}
	if !fault.Is(err, fault.NotFound) {
		return false, err
	}
	lines, err = f.trail.Lines(ctx, at.sequence, 1)
	if fault.Is(err, fault.NotFound) {
		return true, nil // nothing is left that could tell; step says that there is a gap
	}
	if err != nil {
		return false, err
	}
	same := false
	lines.All(func(_ uint64, line []byte) bool {
		_, prev, err := audit.Decode(line)
		same = err == nil && prev == at.hash
		return false
	})
	return same, nil
}

// step deals with the next events. more says that there may be others already.
func (f *follower) step(ctx context.Context) (more bool, err error) {
	if f.reload.Swap(false) {
		f.target.reload()
	}
	if err := f.wait(ctx); errors.Is(err, errWoken) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	records, end, more, err := f.read(ctx)
	if err != nil {
		return false, err
	}
	if len(records) > 0 {
		taken, err := f.target.deliver(ctx, records)
		f.metrics.sent.Add(float64(taken))
		if taken > 0 && taken < len(records) {
			f.move(records[taken-1].at)
		}
		if err != nil {
			return false, f.back(err)
		}
	}
	f.recovered()
	f.move(end)
	return more, f.saveIfDue()
}

// errWoken: Reload was called.
var errWoken = errors.New("woken")

// rewind is an error of a target that has lost what it said that it has taken.
type rewind struct {
	error
	to cursor
}

// back goes back in the trail if the error says so. The cursor is saved at
// once: it must not be found ahead of what the sink has.
func (f *follower) back(err error) error {
	var lost rewind
	if !errors.As(err, &lost) {
		return err
	}
	f.move(lost.to)
	return errors.Join(err, f.save())
}

// wait returns when there are events after the cursor. A cursor that is ahead
// of its file is saved meanwhile.
func (f *follower) wait(ctx context.Context) error {
	for {
		waiting, cancel := context.WithCancel(ctx)
		f.wake.Store(&cancel)
		if f.reload.Load() { // looked at after wake was there: no call is missed
			cancel()
			return errWoken
		}
		var late *time.Timer
		if f.at != f.saved {
			late = time.AfterFunc(time.Until(f.since.Add(f.cfg.saveEvery)), cancel)
		}
		err := f.trail.Wait(waiting, f.at.sequence)
		ended := waiting.Err() != nil
		cancel()
		if late != nil {
			late.Stop()
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !ended:
			return errClosed
		case f.reload.Load():
			return errWoken
		}
		if err := f.save(); err != nil {
			return err
		}
	}
}

// read answers the next events that the sink wants, and the last event that
// was looked at.
func (f *follower) read(ctx context.Context) (records []record, end cursor, more bool, err error) {
	lines, err := f.trail.Lines(ctx, f.at.sequence, min(readBytes, f.BatchBytes))
	if fault.Is(err, fault.NotFound) {
		return nil, f.skip(ctx), true, nil
	}
	if err != nil {
		return nil, f.at, false, err
	}
	end, size := f.at, 0
	more = lines.First+uint64(lines.Count) <= f.trail.Settled().Sequence
	lines.All(func(sequence uint64, line []byte) bool {
		r := record{at: cursor{sequence, sha256.Sum256(line)}}
		e, prev, err := audit.Decode(line)
		r.event, r.known, r.prev = e, err == nil, cursor{sequence - 1, prev}
		if f.wants(r) {
			r.body = f.format(line, r)
			if len(records) == f.BatchEvents || len(records) > 0 && size+len(r.body) > f.BatchBytes {
				more = true
				return false
			}
			size += len(r.body)
			records = append(records, r)
		}
		end = r.at
		return true
	})
	return records, end, more, nil
}

// skip passes over what is not kept any more. The sink does not get it, and
// nothing is put in its place.
func (f *follower) skip(ctx context.Context) cursor {
	oldest := f.trail.Oldest()
	f.metrics.gaps.Inc()
	f.log.Error("an audit sink has fallen behind what the trail keeps: events are lost to it",
		"first", f.at.sequence+1, "last", oldest-1, "count", oldest-1-f.at.sequence)
	at := cursor{sequence: oldest - 1}
	if lines, err := f.trail.Lines(ctx, at.sequence, 1); err == nil {
		lines.All(func(_ uint64, line []byte) bool {
			if _, prev, err := audit.Decode(line); err == nil {
				at.hash = prev
			}
			return false
		})
	}
	return at
}

// wants applies the filters. What cannot be read passes: it is a reason to
// look at the trail, and not to be silent.
func (f *follower) wants(r record) bool {
	return !r.known || matches(f.Events, r.event.Event) && matches(f.Outcomes, r.event.Outcome)
}

// matches reports whether a pattern of the list stands for name. An empty
// list stands for everything.
func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if start, any := strings.CutSuffix(p, "*"); p == name || any && strings.HasPrefix(name, start) {
			return true
		}
	}
	return len(patterns) == 0
}

func (f *follower) move(to cursor) {
	if f.at == f.saved {
		f.since = time.Now()
	}
	f.at = to
	f.position.Store(to.sequence)
}

func (f *follower) saveIfDue() error {
	if time.Since(f.since) < f.cfg.saveEvery && f.BatchTime < f.cfg.saveEvery {
		return nil
	}
	return f.save()
}

func (f *follower) save() error {
	if f.at == f.saved {
		return nil
	}
	if err := f.store.save(f.at); err != nil {
		f.since = time.Now() // not at once again
		return err
	}
	f.saved = f.at
	f.needed.Store(f.at.sequence + 1)
	return nil
}
