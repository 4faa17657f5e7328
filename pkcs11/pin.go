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
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(statusRefused, err, "the PIN file %s cannot be read", path)
	}
	defer f.Close()
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
