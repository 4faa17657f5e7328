package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"
)

func sum(line []byte) [sha256.Size]byte { return sha256.Sum256(line) }

// write is the one goroutine that appends. It takes all batches that wait and
// writes them as one group: one write(2), and one fsync if Synced.
func (t *Trail) write() {
	defer t.wg.Done()
	tick := time.NewTicker(t.cfg.SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-t.wake:
			t.watched(t.flush)
		case <-tick.C:
			t.watched(t.inspect)
		case <-t.quit:
			t.watched(t.flush)
			return
		}
	}
}

// watched runs what waits for the disk, so that Ready can tell when that does
// not answer.
func (t *Trail) watched(work func()) {
	t.busySince.Store(max(1, int64(time.Since(t.opened))))
	defer t.busySince.Store(0)
	work()
}

func (t *Trail) flush() {
	t.mu.Lock()
	group := t.pending
	t.pending = nil
	t.mu.Unlock()
	if len(group) == 0 {
		return
	}
	var err error
	if f := t.failure.Load(); f != nil {
		err = f.err
	} else {
		err = t.writeGroup(group)
	}
	for _, b := range group {
		b.err = err
		close(b.done)
	}
}

// writeGroup appends a group. On an error none of it counts: the chain goes
// on from the event before it, and what reached the file is cut by heal, or
// by the next Open.
func (t *Trail) writeGroup(group []*batch) error {
	head := t.head // only this goroutine changes it
	var buf []byte
	lengths := make([][]int, len(group))
	for i, b := range group {
		b.first = head.sequence + 1
		buf, lengths[i] = b.encode(buf, &head)
	}
	current := t.newest()
	if err := checkFile(t.file, current.path, current.size); err != nil {
		return t.fail(failure{why: "its file was changed from outside", lasting: true}, err).err
	}
	if current.count > 0 && current.size+int64(len(buf)) > t.cfg.SegmentBytes {
		if err := t.rotate(); err != nil {
			return err
		}
	}
	if n, err := t.disk.write(t.file, buf); err != nil {
		return t.fail(failure{why: reasonOf(err)}, fmt.Errorf("wrote %d of %d bytes: %w", n, len(buf), err)).err
	}
	if t.cfg.Durability >= Synced {
		if err := t.syncFile(); err != nil {
			return err
		}
	}
	t.publish(group, lengths, head)
	// Only now: who syncs then takes the head up to here for settled.
	t.dirty.Store(t.dirty.Load() || t.cfg.Durability == Written)
	return nil
}

// publish makes a written group visible to Head and Query.
func (t *Trail) publish(group []*batch, lengths [][]int, head chain) {
	t.mu.Lock()
	defer t.mu.Unlock()
	current := &t.segments[len(t.segments)-1]
	for i, b := range group {
		for j, at := range b.times {
			current.add(at, lengths[i][j])
		}
	}
	t.head = head
	t.metrics.wrote(head.sequence)
	if t.cfg.Durability >= Synced {
		t.settle(head)
	}
}

// syncFile brings what was written to the disk. After an fsync that failed
// the kernel may have dropped the pages and call them clean, so a second try
// would prove nothing: the failure lasts.
func (t *Trail) syncFile() error {
	t.fileMu.RLock()
	defer t.fileMu.RUnlock()
	t.mu.Lock()
	head := t.head // all of it is in this file, or in earlier ones that are synced
	t.mu.Unlock()
	started := time.Now()
	if err := t.disk.sync(t.file); err != nil {
		return t.fail(failure{why: "fsync failed: " + reasonOf(err), lasting: true}, err).err
	}
	t.metrics.synced(time.Since(started))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settle(head)
	return nil
}

// keepSynced is the goroutine behind Written: appends go on while it syncs.
// Under Synced there is nothing for it to do.
func (t *Trail) keepSynced() {
	defer t.wg.Done()
	tick := time.NewTicker(t.cfg.SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !t.lastingFailure() && t.dirty.Swap(false) {
				_ = t.syncFile() // the failure is kept and answered by Ready
			}
		case <-t.quit:
			return
		}
	}
}

// rotate ends the current file, which is on the disk from then on, and begins
// the next.
func (t *Trail) rotate() error {
	if err := t.syncFile(); err != nil {
		return err
	}
	next, err := createSegment(t.cfg.Dir, t.head.sequence+1)
	if err != nil {
		return t.fail(failure{why: "no new file: " + reasonOf(err)}, err).err
	}
	t.fileMu.Lock()
	old := t.file
	t.file = next
	t.fileMu.Unlock()
	t.mu.Lock()
	t.segments = append(t.segments, segment{path: next.Name(), first: t.head.sequence + 1, prev: t.head.hash})
	t.mu.Unlock()
	select {
	case t.full <- struct{}{}:
	default: // it knows already
	}
	if err := old.Close(); err != nil {
		return t.fail(failure{why: "closing a full file failed: " + reasonOf(err), lasting: true}, err).err
	}
	return nil
}

// inspect looks at the disk between groups, so that Ready knows before the
// next request does, and tries to heal: once a second at most, for each
// success is an event and a disk at its bound goes to and fro.
func (t *Trail) inspect() {
	f := t.failure.Load()
	if f != nil && f.lasting {
		return
	}
	current := t.newest()
	if f == nil {
		if err := checkFile(t.file, current.path, current.size); err != nil {
			t.fail(failure{why: "its file was changed from outside", lasting: true}, err)
			return
		}
	}
	if err := t.checkSpace(); err != nil {
		t.fail(failure{why: err.Error(), space: true}, err)
		return
	}
	if f != nil && time.Since(t.healed) >= healInterval {
		t.healed = time.Now()
		t.heal(f)
	}
}

func (t *Trail) checkSpace() error {
	if t.cfg.MinFreeBytes <= 0 {
		return nil
	}
	free, err := t.disk.free(t.cfg.Dir)
	if err != nil {
		return err
	}
	if free < t.cfg.MinFreeBytes {
		return fmt.Errorf("its disk has %d bytes free, and %d are required", free, t.cfg.MinFreeBytes)
	}
	return nil
}

// heal ends a failure that was one of room or of a single write: it cuts what
// was torn, begins a new file, and proves by an event that the disk takes
// events again. The event is the record of the gap in service; there is none
// in the chain. Until all of that has worked, Ready keeps answering f.
func (t *Trail) heal(f *failure) {
	current := t.newest()
	torn, err := cutTail(t.file, current.size)
	if err != nil {
		return // tried again in a second
	}
	t.torn += torn
	if err := checkFile(t.file, current.path, current.size); err != nil {
		t.fail(failure{why: "its file was changed from outside", lasting: true}, err)
		return
	}
	if !f.space && current.count > 0 && t.rotate() != nil {
		return
	}
	if _, err := t.appendNow([]Event{{
		Event: EventRecovered, Outcome: OK,
		Reason: fmt.Sprintf("no event was taken since %s (%s); %d torn bytes were cut", f.since.UTC().Format(timeLayout), f.why, t.torn),
	}}); err != nil {
		return
	}
	if !t.failure.CompareAndSwap(f, nil) {
		return // an fsync failed meanwhile
	}
	t.cfg.Logger.Info("the audit trail takes events again", "dir", t.cfg.Dir, "tornBytes", t.torn)
	t.torn = 0
}

// appendNow writes events of the trail's own, on the goroutine that writes.
func (t *Trail) appendNow(events []Event) (first uint64, err error) {
	b, err := newBatch(events, time.Now())
	if err != nil {
		return 0, err
	}
	if err := t.writeGroup([]*batch{b}); err != nil {
		return 0, err
	}
	return b.first, nil
}

// cutTail cuts f to size and answers by how much.
func cutTail(f *os.File, size int64) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() <= size {
		return 0, nil
	}
	if err := f.Truncate(size); err != nil {
		return 0, err
	}
	return st.Size() - size, nil
}

// release syncs and closes the files once nobody uses them.
func (t *Trail) release() error {
	var err error
	if !t.lastingFailure() {
		err = t.syncFile()
	}
	return errors.Join(err, t.file.Close(), t.lock.Close())
}
