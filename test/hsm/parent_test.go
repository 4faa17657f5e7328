package hsm

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/pkcs11"
)

// lockedBuffer is a log that a test reads while others write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func itoa(n int) string { return strconv.Itoa(n) }

// parentMain is another server, which a test kills: it opens the device that
// its environment names, prints the worker's process id, and waits.
func parentMain() int {
	d, err := pkcs11.Open(context.Background(), pkcs11.Config{Module: os.Getenv("TEST_MODULE"), TokenLabel: label,
		PINFile: os.Getenv("TEST_PIN"), Env: []string{os.Getenv("TEST_ENV")}})
	if err != nil {
		return 1
	}
	fmt.Println(d.Health().WorkerPID)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	_ = d.Close()
	return 0
}

// The worker holds the PIN and a logged-in token: it must not outlive its
// parent, however that ends.
func TestWorkerEndsWithItsParent(t *testing.T) {
	for name, end := range map[string]func(parent *exec.Cmd, stdin interface{ Close() error }) error{
		"killed":  func(parent *exec.Cmd, _ interface{ Close() error }) error { return parent.Process.Kill() },
		"closing": func(_ *exec.Cmd, stdin interface{ Close() error }) error { return stdin.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			parent := exec.Command(os.Args[0], "hsm-parent")
			parent.Env = []string{"TEST_MODULE=" + b.cfg.Module, "TEST_PIN=" + b.cfg.PINFile, "TEST_ENV=" + b.cfg.Env[0]}
			stdin, err := parent.StdinPipe()
			require.NoError(t, err)
			stdout, err := parent.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, parent.Start())
			line, err := bufio.NewReader(stdout).ReadString('\n')
			require.NoError(t, err)
			worker, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			require.NotZero(t, worker)
			require.NoError(t, syscall.Kill(worker, 0), "the worker runs")
			require.NoError(t, end(parent, stdin))
			_ = parent.Wait() // killed: an error that is meant
			require.Eventually(t, func() bool { return gone(worker) }, patient, ping)
		})
	}
}

// gone reports whether a process has ended; as a zombie it has.
func gone(pid int) bool {
	text, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(after, "Z")
}

// A worker stopped by hand is of no use to anybody: it says so.
func TestWorkerByHandExplainsItself(t *testing.T) {
	out, err := exec.Command(os.Args[0], "hsm-worker").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "strongroom starts this process itself")
}
