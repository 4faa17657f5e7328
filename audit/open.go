package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Open locks the folder, checks every event that is in it, and goes on after
// the last. Bytes after the last whole event, which a killed process or a
// power cut can leave, are cut, and an event says how many. A trail that is
// broken anywhere else is not opened: the error, a *BrokenError, names file
// and sequence.
//
// Reading takes about a second per GiB.
func Open(cfg Config) (*Trail, error) { return open(cfg, realDisk()) }

func open(cfg Config, d disk) (*Trail, error) {
	if err := complete(&cfg); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	t := &Trail{
		Store: newStore(cfg.Node, cfg.Dir), cfg: cfg, disk: d, lock: lock, quorum: newQuorum(cfg.Node),
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), head: chain{node: cfg.Node}, opened: time.Now(),
	}
	t.metrics = newMetrics(func() bool { return t.Ready() != nil })
	if err := t.start(); err != nil {
		err = errors.Join(err, lock.Close())
		if t.file != nil {
			err = errors.Join(err, t.file.Close())
		}
		return nil, err
	}
	return t, nil
}

func complete(cfg *Config) error {
	if cfg.Dir == "" {
		return errors.New("audit: no folder")
	}
	if _, err := names.ParseName(cfg.Node); err != nil {
		return fmt.Errorf("audit: name of the node %w", err)
	}
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = defaultSegmentBytes
	}
	if cfg.SyncInterval <= 0 {
		cfg.SyncInterval = defaultSyncInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// start reads the trail, writes the events of the start, and only then starts
// the goroutines: until it returns nobody else touches t.
func (t *Trail) start() error {
	torn, err := t.read()
	if err != nil {
		return err
	}
	if err := t.openCurrent(torn); err != nil {
		return err
	}
	if err := t.checkSpace(); err != nil {
		// The node starts and says so by Ready; what it writes now is small.
		t.cfg.Logger.Warn("the audit trail is short of room", "error", err)
	}
	if err := t.writeStart(torn); err != nil {
		return err
	}
	if err := t.metrics.register(t.cfg.Registerer); err != nil {
		return err
	}
	t.inspect()
	t.wg.Add(3)
	go t.write()
	go t.keepSynced()
	go t.keepSealed()
	return nil
}

// read walks all segments and answers the torn bytes at the end of the last.
func (t *Trail) read() (torn int64, err error) {
	if err := t.load(); err != nil {
		return 0, err
	}
	t.head = t.pruned.start(t.node)
	for i := range t.segments {
		s := &t.segments[i]
		if s.sealed != nil {
			if err := s.take(&t.head); err != nil {
				return 0, err
			}
			continue
		}
		if torn, err = s.walk(&t.head, nil); err != nil {
			return 0, err
		}
		if torn > 0 && i < len(t.segments)-1 {
			return 0, &BrokenError{s.path, int(s.count) + 1, s.first + s.count, "the file ends in the middle of an event, and later files follow"}
		}
	}
	return torn, nil
}

// openCurrent opens the last segment for appending, without its torn tail.
func (t *Trail) openCurrent(torn int64) (err error) {
	if n := len(t.segments); n == 0 || t.segments[n-1].sealed != nil {
		if t.file, err = createSegment(t.cfg.Dir, t.head.sequence+1); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		t.segments = append(t.segments, segment{path: t.file.Name(), first: t.head.sequence + 1, prev: t.head.hash})
		return nil
	}
	current := &t.segments[len(t.segments)-1]
	if t.file, err = os.OpenFile(current.path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := cutTail(t.file, current.size); err != nil {
		return fmt.Errorf("audit: cut %d torn bytes: %w", torn, err)
	}
	return nil
}

// writeStart writes the event of this start, and of the repair if there was
// one, and brings all to the disk: what an earlier process left in the
// operating system's memory, too.
func (t *Trail) writeStart(torn int64) error {
	// The id tells a trail from another one of the same node, by its first event.
	events := []Event{{Event: EventOpen, Outcome: OK, RequestID: uuid.NewString()}}
	if torn > 0 {
		t.cfg.Logger.Warn("the audit trail ended in the middle of an event, which was never acknowledged", "dir", t.cfg.Dir, "tornBytes", torn)
		events = append(events, Event{Event: EventRecovered, Outcome: OK, Reason: fmt.Sprintf("%d torn bytes after the last whole event were cut", torn)})
	}
	first, err := t.appendNow(events)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	t.cfg.Logger.Debug("the audit trail is open", "dir", t.cfg.Dir, "sequence", first)
	if err := t.syncFile(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if err := durable.SyncDir(t.cfg.Dir); err != nil {
		return fault.Wrap(fault.AuditUnavailable, err, "the audit trail cannot be written")
	}
	return nil
}
