// Command million loads a state machine with a million secrets and prints
// what they take, and what finding one among them costs. `make million`
// runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/test/scale"
)

func main() {
	n := flag.Int("n", 1_000_000, "secrets")
	rounds := flag.Int("rounds", 200, "requests of each kind")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *n, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, n, rounds int) error {
	dir, err := os.MkdirTemp("", "strongroom-million-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w, err := newWorld(ctx, dir)
	if err != nil {
		return err
	}
	defer w.close()
	if err := load(out, w, dir, n); err != nil {
		return err
	}
	return pages(ctx, out, w, n, rounds)
}

// load fills the machine, and again by way of a snapshot: what follows is
// measured on the machine that was restored.
func load(out io.Writer, w *world, dir string, n int) error {
	before := heap()
	start := time.Now()
	if _, err := scale.Fill(w.log.machine, n); err != nil {
		return err
	}
	took := time.Since(start)
	fmt.Fprintf(out, "apply       %d secrets in %.1f s, %.1f µs each\n", n, took.Seconds(), float64(took.Microseconds())/float64(n))
	fmt.Fprintf(out, "memory      %d bytes of heap a secret; process %s\n", (heap()-before)/uint64(n), resident())

	path := filepath.Join(dir, "snapshot")
	start = time.Now()
	size, err := save(w.log.machine, path)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "snapshot    %.0f MiB in %.1f s, %d bytes a secret\n", float64(size)/(1<<20), time.Since(start).Seconds(), size/int64(n))

	hash := w.log.machine.State().Hash()
	*w.log.machine = *fsm.New() // the restored machine is alone in memory, as after a restart
	runtime.GC()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	start = time.Now()
	if err := w.log.machine.Restore(f); err != nil {
		return err
	}
	if w.log.machine.State().Hash() != hash {
		return fmt.Errorf("the restored state is another one")
	}
	took = time.Since(start)
	fmt.Fprintf(out, "restore     %.1f s; %d bytes of heap a secret; process %s\n", took.Seconds(), (heap()-before)/uint64(n), resident())
	return nil
}

func save(m *fsm.Machine, path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	size, err := m.Snapshot().WriteTo(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return size, err
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// resident answers the memory of this process as the kernel counts it.
func resident() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
