package torture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Each node has a disk of its own below its folder: an ext4 in a sparse file,
// with its log, snapshots and trail. It can be filled and frozen without
// anybody else noticing.

func (n *node) makeDisk(mib int) error {
	image := filepath.Join(n.lab.dir, n.name()+".ext4")
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(mib)<<20), f.Close()); err != nil {
		return err
	}
	n.disk = filepath.Join(n.dir, "disk")
	if err := os.Mkdir(n.disk, 0o700); err != nil {
		return err
	}
	return errors.Join(
		run("mkfs.ext4", "-q", "-m", "0", image),
		run("mount", "-o", "loop,errors=remount-ro", image, n.disk),
		os.Chmod(n.disk, 0o700),
	)
}

// fill takes the disk's room to the last byte.
func (n *node) fill() error {
	filler, err := os.Create(filepath.Join(n.disk, "filler"))
	if err != nil {
		return err
	}
	// The kernel gives large pieces first; what is left over is written.
	for piece, at := int64(1<<28), int64(0); piece >= 4096; {
		if err := syscall.Fallocate(int(filler.Fd()), 0, at, piece); err != nil {
			piece /= 2
			continue
		}
		at += piece
	}
	return filler.Close()
}

// free gives the room back.
func (n *node) free() error { return os.Remove(filepath.Join(n.disk, "filler")) }

// room is how many bytes of the disk are left.
func (n *node) room() (int64, error) {
	var s syscall.Statfs_t
	err := syscall.Statfs(n.disk, &s)
	return int64(s.Bavail) * s.Bsize, err
}

// freeze makes the disk of a node hang until thaw is called. A process that
// waits for a frozen disk cannot be killed, so a shell holds it: it thaws when
// its input ends, also when we do not live to say so.
func (n *node) freeze() (thaw func() error, err error) {
	cmd := exec.Command("bash", "-c", `fsfreeze -f "$1" && echo frozen && read -r _; fsfreeze -u "$1"`, "bash", n.disk)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	thaw = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	said := make([]byte, len("frozen\n"))
	if _, err := io.ReadFull(out, said); err != nil {
		return nil, errors.Join(fmt.Errorf("the disk of %s does not freeze: %w", n.name(), err), thaw())
	}
	return thaw, nil
}
