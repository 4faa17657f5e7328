package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/strongroom/strongroom/internal/fault"

	"github.com/strongroom/strongroom/internal/durable"
)

// Copy is this node's copy of a chain that another one writes, or wrote: the
// same files with the same names and bytes, as far as it has come. All that
// reads a trail reads a copy. It is safe for concurrent use.
type Copy struct {
	*Store
	disk    disk
	minFree int64

	// taking is held by the one that writes.
	taking sync.Mutex
	file   *os.File // nil: no event is there yet
	failed error    // nothing but a restart helps

	closing sync.Once
}

// ForkError says that what was offered is not what comes next in a chain:
// somebody changed it, there or here.
type ForkError struct {
	Node     string
	Sequence uint64 // of the first event that does not fit
	Reason   string
}

// Error says where and what.
func (e *ForkError) Error() string {
	return fmt.Sprintf("audit: the event %d of the chain of node %q does not fit the copy of it: %s", e.Sequence, e.Node, e.Reason)
}

// errHeld answers events that are there already, or that begin too late: who
// offers them looks again how far the copy is.
var errHeld = errors.New("audit: the copy is not where these events begin")

// IsHeld reports whether Take was offered events that are there already, or
// that begin too late: nothing is wrong.
func IsHeld(err error) bool { return errors.Is(err, errHeld) }

// newCopy is a copy of a chain of which nothing is there yet.
func newCopy(dir, node string, id ChainID, d disk, minFree int64) *Copy {
	c := &Copy{Store: newStore(node, dir), disk: d, minFree: minFree}
	c.id = id
	return c
}

// openCopy reads the copy in dir. What a crash left behind the last whole
// event is cut; all else that does not fit is a *BrokenError. It answers nil
// for a folder without an event, which a crash may leave too.
func openCopy(dir, node string, d disk, minFree int64) (c *Copy, err error) {
	c = newCopy(dir, node, ChainID{}, d, minFree)
	if err := c.load(); err != nil {
		return nil, err
	}
	head := c.pruned.start(node)
	for i := range c.segments {
		s := &c.segments[i]
		if s.sealed != nil {
			if err := s.take(&head); err != nil {
				return nil, err
			}
			continue
		}
		torn, err := s.walk(&head, nil)
		if err != nil {
			return nil, err
		}
		if torn > 0 && i < len(c.segments)-1 {
			return nil, &BrokenError{s.path, int(s.count) + 1, s.first + s.count, "the file ends in the middle of an event, and later files follow"}
		}
	}
	c.id = head.id
	if head.sequence == 0 {
		return nil, nil
	}
	if err := c.openLast(head); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// openLast opens the newest file for more, without its torn end, and brings
// what an earlier process left with the operating system to the disk: only
// that may be said to be held.
func (c *Copy) openLast(head chain) (err error) {
	c.settled = head
	if n := len(c.segments); n == 0 || c.segments[n-1].sealed != nil {
		return nil // the next event begins a file
	}
	last := &c.segments[len(c.segments)-1]
	if c.file, err = os.OpenFile(last.path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := cutTail(c.file, last.size); err != nil {
		return fmt.Errorf("audit: cut the torn end of a copy: %w", err)
	}
	if err := errors.Join(c.disk.sync(c.file), durable.SyncDir(c.dir)); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Take adds events that follow those which are there. When it answers nil they
// are on the disk; otherwise the copy is as it was. A *ForkError says that they
// do not fit: all of them are kept out.
func (c *Copy) Take(run Lines) error {
	c.taking.Lock()
	defer c.taking.Unlock()
	if c.failed != nil {
		return c.failed
	}
	c.mu.Lock()
	head := c.settled
	c.mu.Unlock()
	if run.First != head.sequence+1 {
		return errHeld
	}
	times, err := c.check(&head, run)
	if err != nil {
		return err
	}
	if err := c.room(int64(len(run.Data))); err != nil {
		return err
	}
	if err := c.begin(run); err != nil {
		return err
	}
	if err := c.write(run.Data); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last := &c.segments[len(c.segments)-1]
	run.All(func(sequence uint64, line []byte) bool {
		last.add(times[sequence-run.First], len(line)+1)
		return true
	})
	c.settle(head)
	return nil
}

// check holds each event against the chain and against the one form that a
// trail writes, and steps head over them. It answers their times.
func (c *Copy) check(head *chain, run Lines) ([]time.Time, error) {
	if run.Count < 1 || bytes.Count(run.Data, []byte{'\n'}) != run.Count || run.Data[len(run.Data)-1] != '\n' {
		return nil, &ForkError{c.node, run.First, "these are not as many whole events as was said"}
	}
	times := make([]time.Time, 0, run.Count)
	var fork error
	run.All(func(sequence uint64, line []byte) bool {
		at, err := head.next(line)
		if err == nil && len(line) >= maxLine {
			err = fmt.Errorf("it is longer than %d bytes", maxLine)
		}
		if err == nil {
			_, _, err = decodeLine(line)
		}
		if err == nil && sequence == 1 && c.id != head.hash {
			err = fmt.Errorf("it is the first event of another chain")
		}
		if err != nil {
			fork = &ForkError{c.node, sequence, err.Error()}
			return false
		}
		times = append(times, at)
		return true
	})
	return times, fork
}

// room refuses while the disk is nearly full: a copy stops well before the
// node's own trail has to.
func (c *Copy) room(bytes int64) error {
	if c.minFree <= 0 {
		return nil
	}
	free, err := c.disk.free(c.dir)
	if err != nil {
		return paused(err, reasonOf(err))
	}
	if free-bytes < 2*c.minFree {
		return paused(nil, fmt.Sprintf("its disk has %d bytes free, and copies leave %d to the node's own trail", free, 2*c.minFree))
	}
	return nil
}

func paused(cause error, reason string) error {
	return fault.Wrap(fault.AuditUnavailable, cause, "a copy of an audit trail cannot be written: %s; it goes on by itself once that has changed", reason)
}

// begin makes the file that the events go into, if it is not the newest.
func (c *Copy) begin(run Lines) error {
	if c.file != nil {
		if c.newest().count == 0 || run.File != run.First {
			return nil
		}
	}
	next, err := createSegment(c.dir, run.First)
	if errors.Is(err, os.ErrExist) {
		// The name of one that a crash left empty, before anything was known of
		// the chain.
		next, err = os.OpenFile(segmentPath(c.dir, run.First), os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0)
	}
	if err != nil {
		return paused(err, reasonOf(err))
	}
	old := c.file
	c.file = next
	c.mu.Lock()
	c.segments = append(c.segments, segment{path: next.Name(), first: run.First, prev: c.settled.hash})
	c.mu.Unlock()
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil { // all of it is synced
		return c.fail("closing a full file failed: "+reasonOf(err), err)
	}
	return nil
}

// write brings data to the disk behind what is there. What was written by
// halves is cut again. After an fsync that failed, or a cut, nothing is known
// of the file until it has been read again.
func (c *Copy) write(data []byte) error {
	last := c.newest()
	if err := checkFile(c.file, last.path, last.size); err != nil {
		return c.fail("its file was changed from outside", err)
	}
	if _, err := c.disk.write(c.file, data); err != nil {
		if _, cut := cutTail(c.file, last.size); cut != nil {
			return c.fail("what was written by halves could not be cut: "+reasonOf(cut), errors.Join(err, cut))
		}
		return paused(err, reasonOf(err))
	}
	if err := c.disk.sync(c.file); err != nil {
		return c.fail("fsync failed: "+reasonOf(err), err)
	}
	return nil
}

func (c *Copy) fail(reason string, cause error) error {
	c.failed = fault.Wrap(fault.Internal, cause, "a copy of an audit trail takes no events until the node is started again: %s", reason)
	return c.failed
}

// close lets go of the file. All of it is on the disk.
func (c *Copy) close() error {
	c.taking.Lock()
	defer c.taking.Unlock()
	if c.failed == nil {
		c.failed = fault.New(fault.AuditUnavailable, "the copies of audit trails are closed")
	}
	c.closing.Do(func() { close(c.quit) })
	if c.file == nil {
		return nil
	}
	f := c.file
	c.file = nil
	return f.Close()
}
