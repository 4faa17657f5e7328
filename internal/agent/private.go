package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// privateDir is the folder of one command: mode 0700, in memory where there is
// a file system for that, and removed at the end.
type privateDir struct {
	path     string
	inMemory bool
}

// newPrivateDir makes it. A disk is taken only where there is no tmpfs.
func newPrivateDir(bases ...string) (*privateDir, error) {
	for _, base := range bases {
		if base == "" || !inMemory(base) {
			continue
		}
		if path, err := os.MkdirTemp(base, "strongroom-exec-"); err == nil {
			return &privateDir{path, true}, nil
		}
	}
	path, err := os.MkdirTemp("", "strongroom-exec-")
	if err != nil {
		return nil, fmt.Errorf("--file: no folder for the files could be made: %w", err)
	}
	return &privateDir{path, inMemory(path)}, nil
}

func inMemory(path string) bool {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return false
	}
	return int64(st.Type) == unix.TMPFS_MAGIC || int64(st.Type) == unix.RAMFS_MAGIC
}

func (p *privateDir) file(name string) string { return filepath.Join(p.path, name) }

// write renews one file. The folder is ours and closed to others, so the way
// to it need not be looked at.
func (p *privateDir) write(name string, content []byte) error {
	fd, err := unix.Open(p.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	d := &folder{fd, p.path}
	defer d.close()
	return d.write(name, content, 0o600, Owner{-1, -1})
}

func (p *privateDir) remove() error {
	if p == nil {
		return nil
	}
	return os.RemoveAll(p.path)
}
