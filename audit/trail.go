// Package audit is the trail of what happened: append-only, hash-chained, and
// fail-closed. Without a trail that takes the event there is no answer.
package audit

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/internal/fault"
)

// Durability says when Append answers.
type Durability int

const (
	// Written: the operating system has the event, so a killed process loses
	// nothing. It is on the disk within about SyncInterval.
	Written Durability = iota
	// Synced: the event is on the disk, so a power cut loses nothing. Events
	// that arrive together share one fsync.
	Synced
	// Quorum: as Synced, and a majority of the voting members has the event on
	// its disk, so a node that burns down loses nothing.
	Quorum
)

// Config describes one node's trail.
type Config struct {
	Dir          string // made with mode 0700
	Node         string // name of the node, as for names.ParseName
	Durability   Durability
	SegmentBytes int64         // a file of this size is followed by the next; default 64 MiB
	SyncInterval time.Duration // default 100 ms; also how often the disk is looked at, and healing tried
	MinFreeBytes int64         // free space below which no event is taken; 0: no bound
	KeepPlain    bool          // full segments are not compressed
	Logger       *slog.Logger
	Registerer   prometheus.Registerer // nil: no metrics
}

const (
	defaultSegmentBytes = 64 << 20
	defaultSyncInterval = 100 * time.Millisecond
	// stallAfter is how long one group may take before Ready says that the
	// disk hangs.
	stallAfter = 5 * time.Second
	// healInterval is between two attempts to take events again.
	healInterval = time.Second
)

// Trail is the open trail of this node. It is safe for concurrent use.
type Trail struct {
	*Store  // the last segment is the current one
	cfg     Config
	metrics *metrics
	disk    disk
	lock    *os.File

	wake chan struct{} // to the writer: there are batches
	full chan struct{} // to the one who seals: there are full segments
	wg   sync.WaitGroup
	// closing runs once; closeErr is what it answered.
	closing  sync.Once
	closeErr error

	closed  bool     // under mu
	pending []*batch // under mu
	head    chain    // under mu: of what was answered

	failure   atomic.Pointer[failure] // nil: works
	healed    time.Time               // when healing was last tried; the writer's
	torn      int64                   // bytes that healing has cut since it last worked; the writer's
	opened    time.Time
	quorum    *quorum
	busySince atomic.Int64 // time after opened at which the writer began to wait for the disk, 0: it does not

	// fileMu keeps the syncer's file open while it syncs; only the writer
	// changes file.
	fileMu sync.RWMutex
	file   *os.File
	dirty  atomic.Bool // written since the last fsync
}

// batch is one Append on its way through the writer.
type batch struct {
	bodies []byte               // encoded bodies, one after the other
	ends   []int                // where each ends
	linked map[int]*linkedEvent // by place: those that bodies does not hold
	times  []time.Time
	first  uint64
	err    error
	done   chan struct{} // closed when first and err are set
}

// Ready answers nil when the trail can take an event now, and
// fault.AuditUnavailable otherwise. It is cheap: ask before each request.
func (t *Trail) Ready() error {
	if f := t.failure.Load(); f != nil {
		return f.err
	}
	if since := t.busySince.Load(); since != 0 && time.Since(t.opened)-time.Duration(since) > stallAfter {
		return unavailable(nil, "the disk does not answer")
	}
	if t.cfg.Durability == Quorum && t.quorum.stuck(t.Settled().Sequence) {
		return unavailable(nil, reasonNoMajority)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return unavailable(nil, "it is closed")
	}
	return nil
}

// Append writes events, all or none and next to each other, and returns when
// they are durable as configured. It stamps Node, Sequence and, where it is
// zero, Time, and gives an entry of KMS that has no Sequence the one of the
// event that it tells of, when that is among events. events itself is not
// changed. It answers the sequence of the first.
//
// An error means that the caller must not answer its own caller.
// fault.AuditUnavailable: the trail cannot be written. When ctx ends first, or
// an fsync fails, the events may still be in the file: they then tell of
// something that was not answered, which is harmless. fault.Internal: an event is malformed or would
// take more than 256 KiB; nothing was written.
func (t *Trail) Append(ctx context.Context, events []Event) (first uint64, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	started := time.Now()
	b, err := newBatch(events, started)
	if err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, unavailable(err, "the request ran out of time")
	}
	if err := t.enqueue(b); err != nil {
		return 0, err
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return 0, unavailable(ctx.Err(), "the disk did not take the event in time")
	}
	if b.err != nil {
		return 0, b.err
	}
	if t.cfg.Durability == Quorum {
		if err := t.untilSafe(ctx, b.first+uint64(len(events))-1); err != nil {
			return 0, err
		}
	}
	t.metrics.appended(events, time.Since(started))
	return b.first, nil
}

func (t *Trail) enqueue(b *batch) error {
	if err := t.Ready(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return unavailable(nil, "it is closed")
	}
	t.pending = append(t.pending, b)
	select {
	case t.wake <- struct{}{}:
	default: // it knows already
	}
	return nil
}

// newBatch encodes what does not depend on the place in the chain, so that
// the writer, of which there is one, has little to do per event.
func newBatch(events []Event, now time.Time) (*batch, error) {
	b := &batch{done: make(chan struct{}), ends: make([]int, len(events)), times: make([]time.Time, len(events))}
	places := links(events)
	for i := range events {
		e := events[i]
		if e.Time.IsZero() {
			e.Time = now
		}
		if err := e.check(); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "an event for the audit trail is malformed")
		}
		start := len(b.bodies)
		b.bodies = appendBody(b.bodies, &e)
		if len(b.bodies)-start+len(e.KMS)*linkBytes > maxLine-1024 { // leaves room for prefix and checksum
			return nil, fault.New(fault.Internal, "an event for the audit trail has more than %d bytes", maxLine-1024)
		}
		if places != nil && places[i] != nil {
			if b.linked == nil {
				b.linked = make(map[int]*linkedEvent)
			}
			e.KMS = slices.Clone(e.KMS)
			b.linked[i] = &linkedEvent{e, places[i]}
			b.bodies = b.bodies[:start]
		}
		b.ends[i], b.times[i] = len(b.bodies), e.Time.UTC().Truncate(time.Millisecond)
	}
	return b, nil
}

// encode writes the lines of b, whose first is set, after at, and steps at over them. It answers
// the length of each line.
func (b *batch) encode(buf []byte, at *chain) (out []byte, lengths []int) {
	lengths = make([]int, len(b.ends))
	start := 0
	for i, end := range b.ends {
		line := len(buf)
		buf = appendPrefix(buf, at.node, at.sequence+1, at.hash)
		if l := b.linked[i]; l != nil {
			buf = appendBody(buf, l.fill(b.first))
		}
		buf = append(buf, b.bodies[start:end]...)
		buf = appendCRC(buf, line)
		at.step(sum(buf[line:]))
		buf = append(buf, '\n')
		lengths[i], start = len(buf)-line, end
	}
	return buf, lengths
}

// Head answers the newest event.
func (t *Trail) Head() Head {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Head{Node: t.head.node, Sequence: t.head.sequence, Hash: t.head.hash}
}

// Close writes what was handed in, syncs, and lets go of the folder. Later
// calls answer the same.
func (t *Trail) Close() error {
	t.closing.Do(func() {
		t.mu.Lock()
		t.closed = true
		t.mu.Unlock()
		close(t.quit)
		t.wg.Wait()
		t.closeErr = t.release()
	})
	return t.closeErr
}
