package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps what a server holds in memory out of files and out of reach of
// other processes of the same user: no core dumps, no ptrace, no reading of
// /proc/PID/mem, and new files that only we may read.
func harden() error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("core dumps could not be turned off: %w", err)
	}
	return undumpable()
}

// undumpable is the part of harden that programs which we start do not inherit.
func undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("the process could not be made undumpable: %w", err)
	}
	return nil
}
