package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a running command.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// startChild starts cmd. If we are killed, the kernel kills the command too:
// nobody would renew it any more, and whoever starts in our place speaks for
// it to the cluster. That wish is tied to the thread that forked, which
// therefore waits with it.
func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd, make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState says how it ended
			close(c.ended)
		}
	}()
	err := <-started
	cmd.Env = nil // let go of the values; strings cannot be wiped
	if err != nil {
		return nil, err
	}
	return c, nil
}

// code is the exit code as a shell tells it.
func (c *child) code() int {
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return c.cmd.ProcessState.ExitCode()
}

func (c *child) signal(s os.Signal) error {
	if err := c.cmd.Process.Signal(s); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// adoptOrphans makes us the parent of what the command leaves behind, so that
// it can be found.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// childrenOf answers our children but one, by what /proc says.
func childrenOf(parent, but int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == but {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// pid (name) state parent …; the name may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			out = append(out, pid)
		}
	}
	return out
}

// reap takes leave of adopted processes that have ended.
func reap(but int) {
	for _, pid := range childrenOf(os.Getpid(), but) {
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // one that runs is left alone
	}
}

// killRest ends what a command that has ended left running: it was given the
// same values. Each round adopts the children of those that it ended. It
// reports whether nothing is left.
func killRest(patience time.Duration) bool {
	for begun := time.Now(); time.Since(begun) < patience; {
		rest := childrenOf(os.Getpid(), 0)
		if len(rest) == 0 {
			return true
		}
		for _, pid := range rest {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == 0 && err == nil {
				time.Sleep(5 * time.Millisecond) // killed, and not gone yet
			}
		}
	}
	return false
}

// ParseSignal reads the name of a signal, with or without SIG.
func ParseSignal(name string) (syscall.Signal, error) {
	if n := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG")); n != 0 {
		return n, nil
	}
	return 0, errors.New("there is no signal of this name; use one such as HUP, USR1 or TERM")
}

// ExitError is an exit code that is the command's, or says as a shell does
// that it could not be run.
type ExitError struct {
	Code int
	Err  error // nil: the command has said what there was to say
}

// Error is for code 126 and 127.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("the command ended with code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap answers the cause.
func (e *ExitError) Unwrap() error { return e.Err }

func cannotRun(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return &ExitError{126, err}
	}
	return &ExitError{127, err}
}
