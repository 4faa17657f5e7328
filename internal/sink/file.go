package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/strongroom/strongroom/internal/durable"
)

// fileTarget appends lines to a file. Taken is what is on the disk. Whoever
// rotates the file from outside may rename or remove it: before each delivery
// the name is looked up, and where it is another file or none, it is opened
// anew.
type fileTarget struct {
	path     string
	maxBytes int64 // 0: it is not rotated by us
	keep     int

	file *os.File
	size int64
}

// deliver implements target: all records, or none and no part of one.
func (t *fileTarget) deliver(_ context.Context, records []record) (int, error) {
	if t.file != nil && t.replaced() {
		t.reload()
	}
	text := lines(records)
	if err := t.makeRoom(int64(len(text))); err != nil {
		return 0, err
	}
	n, err := t.file.Write(text)
	if err == nil {
		err = t.file.Sync()
	}
	if err != nil {
		return 0, t.takeBack(n, fmt.Errorf("the file cannot be written: %w", err))
	}
	t.size += int64(n)
	return len(records), nil
}

// takeBack cuts what a failed delivery has written, so that no half of a line
// stays, and lets go of the file: after an fsync that failed, only one that is
// opened anew tells the truth.
func (t *fileTarget) takeBack(written int, cause error) error {
	// A file that has grown by more than that holds what somebody else wrote.
	if info, err := t.file.Stat(); err == nil && written > 0 && info.Size() == t.size+int64(written) {
		cause = errors.Join(cause, t.file.Truncate(t.size))
	}
	return errors.Join(cause, t.close())
}

// replaced reports whether the name is not that of the open file any more. If
// it is, the size is looked up, since somebody may have cut the file.
func (t *fileTarget) replaced() bool {
	named, err := os.Lstat(t.path)
	if err != nil {
		return true
	}
	open, err := t.file.Stat()
	if err != nil || !os.SameFile(named, open) {
		return true
	}
	t.size = open.Size()
	return false
}

// makeRoom has a file open that takes so many bytes more.
func (t *fileTarget) makeRoom(more int64) error {
	if err := t.open(); err != nil {
		return err
	}
	if t.maxBytes == 0 || t.size == 0 || t.size+more <= t.maxBytes {
		return nil
	}
	if err := t.rotate(); err != nil {
		return err
	}
	return t.open()
}

// open opens the file for appending, if it is not open. A symbolic link is
// refused: whoever may write to the folder could lead us to a file of the
// server's.
func (t *fileTarget) open() (err error) {
	if t.file != nil {
		return nil
	}
	f, err := os.OpenFile(t.path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("%s is a symbolic link, which is not followed; name the file itself as path", t.path)
	}
	if err != nil {
		return fmt.Errorf("the file cannot be opened: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file; name one as path, or use the type stdout", t.path)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%s is written by another process; give each node a file of its own: %w", t.path, err)
	}
	size, err := wholeLines(f, info.Size())
	if err != nil {
		return fmt.Errorf("the file cannot be written: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(t.path)); err != nil {
		return fmt.Errorf("the folder of the file cannot be synced: %w", err)
	}
	t.file, t.size = f, size
	return nil
}

// wholeLines ends a last line that a crash has left torn, so that the next one
// begins by itself. Nothing is cut: the file may hold what is not ours.
func wholeLines(f *os.File, size int64) (int64, error) {
	if size == 0 {
		return 0, nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return size, nil
	}
	n, err := f.WriteString("\n")
	return size + int64(n), err
}

// rotate names path.1 what was path, path.2 what was path.1, and so on up to
// the first number that is free; without one, what was the last is gone. So a
// rotation that broke off goes on where it was, and costs no file.
func (t *fileTarget) rotate() error {
	if err := t.close(); err != nil {
		return fmt.Errorf("the file cannot be closed: %w", err)
	}
	free := 1
	for free < t.keep {
		if _, err := os.Lstat(t.numbered(free)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		free++
	}
	for i := free; i > 0; i-- {
		if err := os.Rename(t.numbered(i-1), t.numbered(i)); err != nil {
			return fmt.Errorf("the file cannot be rotated: %w", err)
		}
	}
	return nil
}

func (t *fileTarget) numbered(i int) string {
	if i == 0 {
		return t.path
	}
	return t.path + "." + strconv.Itoa(i)
}

// reload implements target. It opens the file at once, so that whoever has
// moved the old one away sees the new one.
func (t *fileTarget) reload() {
	_ = t.close() // what was delivered is on the disk
	_ = t.open()  // the next delivery tries again, and tells
}

// close implements target.
func (t *fileTarget) close() error {
	if t.file == nil {
		return nil
	}
	err := t.file.Close()
	t.file = nil
	return err
}
