package sim

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
)

// disk is what a node has in the place of raft.db. A write takes its time, as
// an fsync does, and counts as durable when it has returned. When the machine
// stops in between, a write in flight is there or not, whole: bbolt promises
// that, and that it keeps it is for other tests.
type disk struct {
	mu      sync.Mutex
	random  *rand.Rand
	now     content // what the process reads
	durable content // what a crash leaves

	era     int // of the process that may write; another one's writes vanish
	stopped chan struct{}
	stalled chan struct{} // not nil: writes wait for its end
	slow    time.Duration
	lies    bool // fsync returns before anything is durable
	pending []func(*content)

	// crashAt counts down the writes until the machine stops in one; fails has
	// the next write fail.
	crashAt int
	fails   bool
	crash   func() // called in the write that crashAt has come to
}

type content struct {
	log         map[uint64]*hraft.Log
	first, last uint64
	stable      map[string][]byte
}

func (c *content) clone() content {
	return content{log: maps.Clone(c.log), first: c.first, last: c.last, stable: maps.Clone(c.stable)}
}

func newDisk(random *rand.Rand) *disk {
	empty := content{log: map[uint64]*hraft.Log{}, stable: map[string][]byte{}}
	return &disk{random: random, now: empty.clone(), durable: empty, crash: func() {}}
}

// boot starts a process on what is durable.
func (d *disk) boot() *database {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.durable.clone()
	d.era++
	d.stopped = make(chan struct{})
	d.pending = nil
	return &database{d, d.era}
}

// stop is the end of the process, with its machine or without: what an fsync
// has not returned for is there or not. It is not called while boot runs.
func (d *disk) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, apply := range d.pending {
		if d.lies || d.random.IntN(2) == 0 {
			break // and nothing after it
		}
		apply(&d.durable)
	}
	d.pending = nil
	d.era++
	if d.stopped != nil {
		close(d.stopped)
		d.stopped = nil
	}
}

// stall has writes wait until release is called.
func (d *disk) stall() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ch := make(chan struct{})
	d.stalled = ch
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.stalled == ch {
			d.stalled = nil
		}
		close(ch)
	})
}

func (d *disk) set(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

// rot flips a bit in an entry that is durable, and answers its index, 0 if
// there is none. The node is down.
func (d *disk) rot() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.durable.log) == 0 {
		return 0
	}
	indices := slices.Sorted(maps.Keys(d.durable.log))
	index := indices[len(indices)-1-d.random.IntN(min(len(indices), 8))]
	d.damage(index)
	return index
}

func (d *disk) damage(index uint64) {
	bad := *d.durable.log[index]
	bad.Data = slices.Clone(bad.Data)
	bad.Data[len(bad.Data)-1] ^= 1
	d.durable.log[index] = &bad
}

// database is the disk in the hands of one process.
type database struct {
	*disk
	of int
}

// write applies a change: at once for the process, durably when it returns.
func (d *database) write(apply func(*content)) error {
	d.mu.Lock()
	if d.era != d.of {
		d.mu.Unlock()
		return nil // the process is dead, and does not know
	}
	if d.fails {
		d.fails = false
		d.mu.Unlock()
		return syscall.EIO
	}
	apply(&d.now)
	d.pending = append(d.pending, apply)
	crash := false
	if d.crashAt > 0 {
		d.crashAt--
		crash = d.crashAt == 0
	}
	took := 100*time.Microsecond + time.Duration(d.random.Int64N(int64(time.Millisecond))) + d.slow
	stalled, stopped := d.stalled, d.stopped
	d.mu.Unlock()
	if crash {
		d.crash()
		return nil
	}
	if stalled != nil {
		select {
		case <-stalled:
		case <-stopped:
		}
	}
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stopped:
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.era == d.of && !d.lies {
		for _, apply := range d.pending {
			apply(&d.durable)
		}
		d.pending = nil
	}
	return nil
}

func (d *database) FirstIndex() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now.first, nil
}

func (d *database) LastIndex() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now.last, nil
}

func (d *database) GetLog(index uint64, out *hraft.Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.now.log[index]
	if !ok {
		return hraft.ErrLogNotFound
	}
	*out = *e
	out.Data = slices.Clone(e.Data)
	return nil
}

func (d *database) StoreLog(e *hraft.Log) error { return d.StoreLogs([]*hraft.Log{e}) }

func (d *database) StoreLogs(entries []*hraft.Log) error {
	kept := make([]*hraft.Log, len(entries))
	for i, e := range entries {
		own := *e
		kept[i] = &own
	}
	return d.write(func(c *content) {
		for _, e := range kept {
			c.log[e.Index] = e
			if c.first == 0 || e.Index < c.first {
				c.first = e.Index
			}
			c.last = max(c.last, e.Index)
		}
	})
}

func (d *database) DeleteRange(low, high uint64) error {
	return d.write(func(c *content) {
		for i := low; i <= high; i++ {
			delete(c.log, i)
		}
		c.first, c.last = 0, 0
		for i := range c.log {
			if c.first == 0 || i < c.first {
				c.first = i
			}
			c.last = max(c.last, i)
		}
	})
}

func (d *database) Set(key, value []byte) error {
	name, own := string(key), slices.Clone(value)
	err := d.write(func(c *content) { c.stable[name] = own })
	if err != nil {
		// The library panics when it cannot write its term: the process ends.
		d.crash()
		return nil
	}
	return nil
}

func (d *database) Get(key []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	value, ok := d.now.stable[string(key)]
	if !ok {
		return nil, boltstore.ErrKeyNotFound
	}
	return slices.Clone(value), nil
}

var errNotUsed = errors.New("the node's own store makes numbers of what Get answers")

func (d *database) SetUint64([]byte, uint64) error   { return errNotUsed }
func (d *database) GetUint64([]byte) (uint64, error) { return 0, errNotUsed }
func (d *database) Close() error                     { return nil }

// current is the process that may write now.
func (d *disk) current() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.era
}
