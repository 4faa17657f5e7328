// Trail measures the audit trail of a busy node: it writes many events spread
// over thirty days, and asks what an operator asks.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/strongroom/strongroom/audit"
)

const (
	days       = 30
	batch      = 500
	principals = 200
	paths      = 5000
)

func main() {
	n := flag.Int("n", 10_000_000, "events to write")
	dir := flag.String("dir", "", "folder of a trail that an earlier run left (-keep)")
	keep := flag.Bool("keep", false, "leave the trail there")
	node := flag.String("node", "n1", "node whose trail it is")
	flag.Parse()
	if err := run(*n, *dir, *node, *keep, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(n int, dir, node string, keep bool, out io.Writer) error {
	made := dir == ""
	if made {
		var err error
		if dir, err = os.MkdirTemp("", "strongroom-trail-"); err != nil {
			return err
		}
	}
	if !keep {
		defer os.RemoveAll(dir)
	}
	began := time.Now()
	t, err := audit.Open(audit.Config{Dir: dir, Node: node})
	if err != nil {
		return err
	}
	defer t.Close()
	fmt.Fprintf(out, "open            %8.2f s\n", time.Since(began).Seconds())
	start := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	if made {
		if err := fill(t, n, start, out); err != nil {
			return err
		}
	}
	if err := untilSealed(dir); err != nil {
		return err
	}
	fmt.Fprintf(out, "sealed          %8.2f s after the start\n", time.Since(began).Seconds())
	if err := ask(t, start, out); err != nil {
		return err
	}
	return trace(t, n, out)
}

// untilSealed waits until all files but the newest are compressed.
func untilSealed(dir string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		plain, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
		if err != nil || len(plain) <= 1 {
			return err
		}
	}
	return nil
}

func requestID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }

// fill writes the events in batches, as many requests at once are.
func fill(t *audit.Trail, n int, start time.Time, out io.Writer) error {
	began := time.Now()
	step := days * 24 * time.Hour / time.Duration(n)
	events := make([]audit.Event, 0, batch)
	for i := range n {
		events = append(events, audit.Event{
			Time: start.Add(time.Duration(i) * step), Event: "secrets.get_value", Outcome: audit.OK, RequestID: requestID(i),
			Principal: fmt.Sprintf("svc-%d", i%principals), CredentialID: "tok-000000000000", SourceAddress: "10.1.2.3",
			Path: fmt.Sprintf("/app/prod/team-%d/secret-%d", i%97, i%paths), Version: 3, KeyID: "0b0d6f5e-0000-4000-8000-000000000001", Index: uint64(i), DurationMicros: 812,
		})
		if len(events) == batch || i == n-1 {
			if _, err := t.Append(context.Background(), events); err != nil {
				return err
			}
			events = events[:0]
		}
	}
	fmt.Fprintf(out, "write           %8.2f s, %d events a second\n", time.Since(began).Seconds(), int(float64(n)/time.Since(began).Seconds()))
	return nil
}

// ask asks for hours at eleven places of the month, and prints the median.
func ask(t *audit.Trail, start time.Time, out io.Writer) error {
	for _, q := range []struct {
		name   string
		filter audit.Filter
	}{
		{"an hour, all", audit.Filter{}},
		{"a principal", audit.Filter{Principal: "svc-7"}},
		{"a path", audit.Filter{Path: "/app/prod/team-7/secret-7"}},
		{"nothing found", audit.Filter{Principal: "nobody"}},
	} {
		var took []time.Duration
		found := 0
		for i := range 11 {
			q.filter.From = start.Add(time.Duration(i) * days * 24 / 11 * time.Hour)
			q.filter.To, q.filter.Limit = q.filter.From.Add(time.Hour), 1000
			began := time.Now()
			events, _, err := t.Query(context.Background(), q.filter)
			if err != nil {
				return err
			}
			took, found = append(took, time.Since(began)), found+len(events)
		}
		slices.Sort(took)
		fmt.Fprintf(out, "%-15s %8.1f ms, at most %.1f ms (%d found)\n", q.name, ms(took[5]), ms(took[10]), found)
	}
	return nil
}

// trace asks the whole trail for single requests, as audit trace does, and for
// what is rare in it.
func trace(t *audit.Trail, n int, out io.Writer) error {
	for _, q := range []struct {
		name   string
		filter func(i int) audit.Filter
	}{
		{"a request", func(i int) audit.Filter { return audit.Filter{RequestID: requestID(i * (n - 1) / 10)} }},
		{"no request", func(i int) audit.Filter { return audit.Filter{RequestID: requestID(n + i)} }},
		{"nobody's", func(i int) audit.Filter { return audit.Filter{Principal: fmt.Sprintf("nobody-%d", i)} }},
		{"no path", func(i int) audit.Filter { return audit.Filter{Path: fmt.Sprintf("/app/none/%d", i)} }},
	} {
		var took []time.Duration
		found := 0
		for i := range 11 {
			began := time.Now()
			events, _, err := t.Query(context.Background(), q.filter(i))
			if err != nil {
				return err
			}
			took, found = append(took, time.Since(began)), found+len(events)
		}
		slices.Sort(took)
		fmt.Fprintf(out, "all, %-10s %8.1f ms, at most %.1f ms (%d found)\n", q.name, ms(took[5]), ms(took[10]), found)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
