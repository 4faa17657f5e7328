package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// insideVariable marks the process that lives in the lab's namespaces.
const insideVariable = "STRONGROOM_TORTURE_INSIDE"

// Enter runs this program again in a network and a mount namespace of its own,
// and answers its exit code. In that process it runs inside instead. Whatever
// is made there, interfaces and mounts, ends with the process, however it
// ends: nothing is left on the machine.
//
// Only root may make them. Without that it says so and answers 1: a test that
// did nothing must not pass.
func Enter(inside func() int) int {
	if os.Getenv(insideVariable) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "torture: the lab cannot be made:", err)
			return 1
		}
		return inside()
	}
	// The signal at our death is of this thread, so it must live as long as we.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(1, exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "torture: no network and mount namespaces can be made here (%v); run it as root on Linux, in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN\n", err)
		return 1
	}
	return 0
}

// settle keeps what is mounted here from being seen outside, and looks for the
// programs that faults are made with.
func settle() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	// A path without the folders of root's programs is no reason to fail.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	for _, program := range []string{"ip", "tc", "nft", "nsenter", "unshare", "mkfs.ext4", "mount", "umount", "fsfreeze", "gcc"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w; make testdeps installs it", err)
		}
	}
	return run("ip", "link", "set", "lo", "up")
}

// run runs a program that must succeed.
func run(program string, args ...string) error {
	_, err := output(program, args...)
	return err
}

// output is what a program that must succeed prints.
func output(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %v: %w: %s", program, args, err, out)
	}
	return string(out), nil
}
