package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Owner is whom a file is given to; -1 leaves it as it is.
type Owner struct{ UID, GID int }

// folder is an open folder that nobody but root and we can put names into, so
// what is decided about a name in it stays true.
type folder struct {
	fd   int
	path string
}

func (d *folder) close() error { return unix.Close(d.fd) }

// openFolder opens path from the root on, one name after the other and through
// no symbolic link. Whoever could rename a folder on the way could put another
// one in its place, so none may be writable by others; one with the sticky bit,
// such as /tmp, will do on the way, because names in it belong to their owners.
// The last one must not be writable by others at all: a name could be put there
// before we do.
func openFolder(path string) (*folder, error) {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/: %w", err)
	}
	d := &folder{fd, "/"}
	names := strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	for i, name := range names {
		if err := d.enter(name, i == len(names)-1); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

func (d *folder) enter(name string, last bool) error {
	if name == "" {
		return errors.New("the folder / does not take files of ours; name one below it")
	}
	path := filepath.Join(d.path, name)
	fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%s is a symbolic link or no folder; name the folder itself", path)
	} else if err != nil {
		return fmt.Errorf("folder %s: %w", path, err)
	}
	err = errors.Join(trusted(fd, path, last), unix.Close(d.fd))
	d.fd, d.path = fd, path
	return err
}

func trusted(fd int, path string, last bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("folder %s: %w", path, err)
	}
	if st.Uid != 0 && int(st.Uid) != unix.Geteuid() {
		return fmt.Errorf("folder %s belongs to user %d, who could put another file there; it must belong to root or to the user of this process", path, st.Uid)
	}
	if st.Mode&0o022 != 0 && (last || st.Mode&unix.S_ISVTX == 0) {
		return fmt.Errorf("folder %s may be written to by others (mode %#o), who could put another file there; chmod go-w it, or name another folder", path, st.Mode&0o7777)
	}
	return nil
}

// write puts content into the file name by a rename, so whoever reads it sees
// the old content or the new one, whole. It refuses to take the place of
// anything but a regular file of root or of ours or of the owner.
func (d *folder) write(name string, content []byte, mode uint32, owner Owner) error {
	if err := d.replaceable(name, owner); err != nil {
		return err
	}
	temp := "." + name + ".strongroom-" + strings.ToLower(rand.Text()[:10])
	fd, err := unix.Openat(d.fd, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(d.path, temp), err)
	}
	f := os.NewFile(uintptr(fd), filepath.Join(d.path, temp))
	err = fill(f, content, mode, owner)
	if err = errors.Join(err, f.Close()); err == nil {
		if err = unix.Renameat(d.fd, temp, d.fd, name); err == nil {
			// Without it the new name may be gone after a power cut, the
			// old version being confirmed as gone too.
			return unix.Fsync(d.fd)
		}
	}
	return errors.Join(fmt.Errorf("%s: %w", filepath.Join(d.path, name), err), unix.Unlinkat(d.fd, temp, 0))
}

// fill writes while only we may read, then gives the file away.
func fill(f *os.File, content []byte, mode uint32, owner Owner) error {
	if _, err := f.Write(content); err != nil {
		return err
	}
	if owner.UID >= 0 || owner.GID >= 0 {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	return errors.Join(unix.Fchmod(int(f.Fd()), mode), f.Sync())
}

func (d *folder) replaceable(name string, owner Owner) error {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	path := filepath.Join(d.path, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("%s is a symbolic link, and is not followed or replaced; remove it, or name the file itself", path)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file; remove it, or name another file", path)
	case st.Uid != 0 && int(st.Uid) != unix.Geteuid() && int(st.Uid) != owner.UID:
		return fmt.Errorf("%s belongs to user %d; remove it, or name another file", path, st.Uid)
	}
	return nil
}

// sweep removes what writes left behind that were cut off.
func (d *folder) sweep(name string) error {
	dir, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(dir), d.path)
	names, err := f.Readdirnames(-1)
	err = errors.Join(err, f.Close())
	for _, one := range names {
		if strings.HasPrefix(one, "."+name+".strongroom-") {
			err = errors.Join(err, unix.Unlinkat(d.fd, one, 0))
		}
	}
	return err
}

// WriteFile writes content to path, an absolute one, as the fields of a
// configuration say. See openFolder and write for what it refuses.
func WriteFile(path string, content []byte, mode uint32, owner Owner) error {
	d, err := openFolder(filepath.Dir(path))
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	return errors.Join(d.sweep(name), d.write(name, content, mode, owner), d.close())
}

// removeFile removes a file that WriteFile would replace.
func removeFile(path string, owner Owner) error {
	d, err := openFolder(filepath.Dir(path))
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	if err = d.replaceable(name, owner); err == nil {
		if err = unix.Unlinkat(d.fd, name, 0); errors.Is(err, unix.ENOENT) {
			err = nil
		}
	}
	return errors.Join(err, d.close())
}
