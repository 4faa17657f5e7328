package audit

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// faultyDisk is the real disk until a test says otherwise. It counts.
type faultyDisk struct {
	mu     sync.Mutex
	now    disk
	writes int
	syncs  int
}

func (d *faultyDisk) disk() disk {
	d.now = realDisk()
	return disk{
		write: func(f *os.File, b []byte) (int, error) {
			d.mu.Lock()
			d.writes++
			write := d.now.write
			d.mu.Unlock()
			return write(f, b)
		},
		sync: func(f *os.File) error {
			d.mu.Lock()
			d.syncs++
			sync := d.now.sync
			d.mu.Unlock()
			return sync(f)
		},
		free: func(dir string) (int64, error) {
			d.mu.Lock()
			free := d.now.free
			d.mu.Unlock()
			return free(dir)
		},
	}
}

// set changes the disk from the next call on.
func (d *faultyDisk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.now)
}

func (d *faultyDisk) mend() { d.set(func(now *disk) { *now = realDisk() }) }

func (d *faultyDisk) hasFree(bytes int64) {
	d.set(func(now *disk) { now.free = func(string) (int64, error) { return bytes, nil } })
}

// fills makes each write take n bytes and then report that the disk is full.
func (d *faultyDisk) fills(n int) {
	d.set(func(now *disk) {
		now.write = func(f *os.File, b []byte) (int, error) {
			n, err := f.Write(b[:min(n, len(b))])
			return n, errors.Join(err, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC})
		}
	})
}

func (d *faultyDisk) failsSync() {
	d.set(func(now *disk) { now.sync = func(*os.File) error { return syscall.EIO } })
}

// hangs makes fsync, or write too, wait until the answer is called.
func (d *faultyDisk) hangs(writes bool) (release func()) {
	held := make(chan struct{})
	d.set(func(now *disk) {
		now.sync = func(f *os.File) error { <-held; return f.Sync() }
		if writes {
			now.write = func(f *os.File, b []byte) (int, error) { <-held; return f.Write(b) }
		}
	})
	return sync.OnceFunc(func() { d.mend(); close(held) })
}

func (d *faultyDisk) synced() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

// mustOpenOn opens a trail on a disk that can be made to fail.
func mustOpenOn(t testing.TB, cfg Config) (*Trail, *faultyDisk) {
	t.Helper()
	d := &faultyDisk{}
	trail, err := open(cfg, d.disk())
	require.NoError(t, err)
	t.Cleanup(func() { d.mend(); _ = trail.Close() })
	return trail, d
}

// pass lets time go by in a bubble of synctest, where none is lost.
func pass(d time.Duration) { <-time.After(d) }
