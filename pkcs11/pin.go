package pkcs11

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

const maxPIN = 256

// readPIN reads a secret file. Only a worker calls it: the PIN never enters
// the server's memory. A file that others could read, or that another user
// could change, is refused rather than used; the error names the file and
// the way out. The caller wipes what it gets.
func readPIN(path string) ([]byte, error) {
	pin, _, err := readPINFile(path)
	return pin, err
}

// readPINFile is readPIN, and tells which file it was. One that changes while
// it is read is nobody's yet.
func readPINFile(path string) ([]byte, fileState, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileState{}, fail(statusRefused, err, "the PIN file %s cannot be read", path)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, fileState{}, fail(statusRefused, err, "the PIN file %s cannot be read", path)
	}
	pin, err := readPINFrom(f, path)
	if err != nil {
		return nil, fileState{}, err
	}
	after, err := f.Stat()
	if err != nil || stateIn(before) != stateIn(after) {
		clear(pin[:cap(pin)])
		return nil, fileState{}, fail(statusRefused, err, "the PIN file %s changed while it was read", path)
	}
	return pin, stateIn(after), nil
}

func readPINFrom(f *os.File, path string) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fail(statusRefused, err, "the PIN file %s cannot be read", path)
	}
	if err := checkSecretFile(info); err != nil {
		return nil, fail(statusRefused, err, "the PIN file %s is refused", path)
	}
	buffer := make([]byte, maxPIN+2)
	n, err := io.ReadFull(f, buffer)
	if err == nil {
		clear(buffer)
		return nil, fail(statusRefused, nil, "the PIN file %s has more than %d bytes", path, maxPIN)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(buffer)
		return nil, fail(statusRefused, err, "the PIN file %s cannot be read", path)
	}
	pin := bytes.TrimSuffix(bytes.TrimSuffix(buffer[:n], []byte("\n")), []byte("\r"))
	if len(pin) == 0 {
		return nil, fail(statusRefused, nil, "the PIN file %s is empty", path)
	}
	return pin, nil
}

func checkSecretFile(info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if mode := info.Mode().Perm(); mode != 0o600 && mode != 0o400 {
		return fmt.Errorf("its mode is %04o; make it 0600 or 0400 (chmod 600)", mode)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("its owner cannot be told")
	}
	if int(owner.Uid) != os.Geteuid() && owner.Uid != 0 {
		return fmt.Errorf("it belongs to user %d; it must belong to user %d or to root (chown)", owner.Uid, os.Geteuid())
	}
	return nil
}
