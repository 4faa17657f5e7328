package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// react does what a file's onChange says. The order is: the file is in its
// place, then this, then the cluster is told.
func (o OnChange) react(ctx context.Context) error {
	switch {
	case len(o.Command) > 0:
		return o.run(ctx)
	case o.Signal != nil:
		return o.Signal.send()
	}
	return nil
}

// run runs the command, without a shell and without our credential. What it
// prints is dropped: our log must not hold what a program says of a value.
func (o OnChange) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout.D())
	defer cancel()
	cmd := exec.CommandContext(ctx, o.Command[0], o.Command[1:]...)
	cmd.Env = Inherited(os.Environ(), false)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("onChange.command %s did not end within onChange.timeout (%v)", o.Command[0], o.Timeout)
	} else if err != nil {
		return fmt.Errorf("onChange.command %s: %w; run it by hand to see what it prints", o.Command[0], err)
	}
	return nil
}

// send signals the process whose number is in the file. Whoever may write the
// file chooses the process; so it must be root's or ours, or the process must
// belong to whom the file belongs to.
func (p *PIDSignal) send() error {
	n, err := ParseSignal(p.Signal)
	if err != nil {
		return err
	}
	fd, err := unix.Open(p.PIDFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("onChange.signal.pidFile %s: %w", p.PIDFile, err)
	}
	f := os.NewFile(uintptr(fd), p.PIDFile)
	defer f.Close()
	var st, proc unix.Stat_t
	raw, err := io.ReadAll(io.LimitReader(f, 32))
	if err := errors.Join(err, unix.Fstat(fd, &st)); err != nil {
		return fmt.Errorf("onChange.signal.pidFile %s: %w", p.PIDFile, err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(raw)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("onChange.signal.pidFile %s does not hold the number of a process", p.PIDFile)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("onChange.signal.pidFile %s may be written by others, who would choose whom we signal; chmod go-w it", p.PIDFile)
	}
	if err := unix.Stat("/proc/"+strconv.Itoa(pid), &proc); err != nil {
		return fmt.Errorf("onChange.signal.pidFile %s: process %d does not run", p.PIDFile, pid)
	}
	if st.Uid != 0 && int(st.Uid) != unix.Geteuid() && st.Uid != proc.Uid {
		return fmt.Errorf("onChange.signal.pidFile %s belongs to user %d, and process %d does not", p.PIDFile, st.Uid, pid)
	}
	if err := unix.Kill(pid, n); err != nil {
		return fmt.Errorf("onChange.signal: process %d: %w", pid, err)
	}
	return nil
}
