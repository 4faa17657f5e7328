package torture

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// report is what a run has done so far, and what is kept of it if it fails.
type report struct {
	plan      plan
	began     time.Time
	steps     []step // those that were begun
	faults    map[string]int
	kinds     map[string]int
	recovered []time.Duration

	objects, operations, unknown int
	linear, undecided            int // histories by porcupine's verdict

	witness *witness
	kept    []*object // that broke a promise
}

// print says what was done, in the figures that docs/reliability.md quotes.
func (r *report) print(t testing.TB) {
	total := 0
	var families, kinds []string
	for _, name := range slices.Sorted(maps.Keys(r.faults)) {
		total += r.faults[name]
		families = append(families, fmt.Sprintf("%s %d", name, r.faults[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(r.kinds)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", name, r.kinds[name]))
	}
	slices.Sort(r.recovered)
	at := func(percent int) time.Duration {
		if len(r.recovered) == 0 {
			return 0
		}
		return r.recovered[(len(r.recovered)-1)*percent/100].Round(10 * time.Millisecond)
	}
	t.Logf("seed %d: %d faults in %v: %s", r.plan.seed, total, time.Since(r.began).Round(time.Second), strings.Join(families, ", "))
	t.Logf("%d operations on %d objects (%s), %d with an unknown outcome", r.operations, r.objects, strings.Join(kinds, ", "), r.unknown)
	t.Logf("%d histories linearizable by porcupine, %d undecided; %d answers with their events", r.linear, r.undecided, len(r.witness.answers))
	t.Logf("whole again after the end of a fault: half within %v, 9 in 10 within %v, all within %v", at(50), at(90), at(100))
}

// save keeps what explains a failure: the schedule, the histories and the logs
// of the nodes. No value, token or PIN is in them: values are names of tests,
// and logs hold none.
func (r *report) save(t testing.TB, l *Lab) {
	dir := os.Getenv("STRONGROOM_TORTURE_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "strongroom-torture")
	}
	dir = filepath.Join(dir, fmt.Sprintf("seed-%d-%d", r.plan.seed, os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Log(err)
		return
	}
	write := func(name string, what any) {
		raw, err := json.MarshalIndent(what, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), raw, 0o600)
		}
		if err != nil {
			t.Log(err)
		}
	}
	write("schedule.json", r.steps)
	for i, o := range r.kept {
		o.mu.Lock()
		write(fmt.Sprintf("history-%d.json", i), map[string]any{"class": o.class, "name": o.name, "operations": o.ops})
		o.mu.Unlock()
	}
	for _, n := range l.nodes {
		if err := copyFile(n.file("log"), filepath.Join(dir, n.name()+".log")); err != nil && !os.IsNotExist(err) {
			t.Log(err)
		}
		tail := n.said(max(0, n.here()-1500))
		t.Logf("end of the log of %s:\n%s", n.name(), tail)
	}
	t.Logf("seed %d; schedule, histories and logs are in %s", r.plan.seed, dir)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}
