package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/strongroom/strongroom/internal/durable"
)

const lockName = "audit.lock"

// disk is what a trail asks of a disk that can be full, slow or broken.
// There is one; tests make it fail.
type disk struct {
	write func(*os.File, []byte) (int, error)
	sync  func(*os.File) error
	free  func(dir string) (int64, error)
}

func realDisk() disk { return disk{(*os.File).Write, (*os.File).Sync, freeBytes} }

// lockDir makes sure that one process at a time writes a trail. The lock is
// the kernel's: it ends with the process, however that ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written to it
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("audit: another process writes the trail in %s; stop it first", dir)
		}
		return nil, fmt.Errorf("audit: lock %s: %w", dir, err)
	}
	return f, nil
}

// createSegment makes an empty segment and makes its name last.
func createSegment(dir string, first uint64) (*os.File, error) {
	f, err := os.OpenFile(segmentPath(dir, first), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := durable.SyncDir(dir); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// checkFile finds out whether f is still the file at path that only we write:
// not unlinked, not replaced by another, not cut or appended to.
func checkFile(f *os.File, path string, size int64) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("the file of the trail was removed or renamed: %w", err)
	}
	if !os.SameFile(mine, named) {
		return errors.New("the file of the trail was replaced by another")
	}
	if mine.Size() != size {
		return fmt.Errorf("the file of the trail has %d bytes, and %d were written: somebody else changed it", mine.Size(), size)
	}
	return nil
}

// freeBytes is what an ordinary process may still write below dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs: %w", err)
	}
	free := st.Bavail * uint64(st.Bsize)
	return int64(min(free, 1<<62)), nil
}

// reasonOf is the operating system's own word for err, without our paths.
func reasonOf(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
