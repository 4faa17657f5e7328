// Package durable writes small files that survive a power cut.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// temporary is what a file is called until it is whole.
const temporary = ".tmp"

// syncs is what is asked of the kernel, on a file and on its folder. There is
// one; tests make it fail.
type syncs func(*os.File) error

// Replace puts content, with mode 0600, into the file at path, which may be
// there. Whoever reads the file, also after a crash or a power cut at any
// moment, finds the old content or the new one, whole. With nil the new one is
// on the disk; with an error it may be either, and the caller must go on as if
// it were the old one. One writer at a time: path with the suffix ".tmp" is
// the writer's.
func Replace(path string, content []byte) error {
	return replace(path, content, (*os.File).Sync)
}

func replace(path string, content []byte, sync syncs) error {
	fresh := path + temporary
	// What a crash has left there may have another mode, or be a link to what
	// must not be written. A folder is nothing of ours, and stays.
	if err := unix.Unlink(fresh); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove", Path: fresh, Err: err}
	}
	if err := fill(fresh, content, sync); err != nil {
		return err
	}
	// The content is on the disk before its name is: the other way round a power
	// cut could leave the name of an empty file.
	if err := os.Rename(fresh, path); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return syncDir(filepath.Dir(path), sync)
}

// Create makes the file at path, with mode 0600, and is fs.ErrExist if anything
// is there, a link that leads nowhere included. With nil the file is whole and
// on the disk; with an error it is not there, unless a crash came between.
func Create(path string, content []byte) error {
	return create(path, content, (*os.File).Sync)
}

func create(path string, content []byte, sync syncs) error {
	if err := fill(path, content, sync); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path), sync); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// fill makes a file that is not there, or none.
func fill(path string, content []byte, sync syncs) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// SyncDir makes the names in the folder last: those that were made, renamed or
// removed before the call are so after a power cut.
func SyncDir(dir string) error { return syncDir(dir, (*os.File).Sync) }

func syncDir(dir string, sync syncs) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(sync(f), f.Close())
}
