// Command failover measures how long a cluster of three real processes, with
// the settings that it comes with, serves nobody when its leader is killed, when
// its leader's disk hangs, and when leadership is handed over. It starts a
// cluster of its own, prints a table, and asserts nothing.
//
//	make bench-failover
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"
)

type options struct {
	binary string
	port   int
	runs   int
	freeze bool
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/strongroom", "the program that is measured")
	flag.IntVar(&o.port, "base-port", 17600, "first port of the cluster")
	flag.IntVar(&o.runs, "runs", 20, "how often each thing is done")
	flag.BoolVar(&o.freeze, "freeze", os.Geteuid() == 0, "freeze disks too: wants root, mkfs.ext4 and loop devices")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

// series is one thing that was done a number of times.
type series struct {
	what  string
	wants string
	took  []time.Duration
}

func (s *series) at(share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s.took))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func run(ctx context.Context, o options, w io.Writer) (err error) {
	c, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { c.stop() }()
	if err := c.prepare(ctx); err != nil {
		return err
	}
	killWrite := &series{what: "kill -9 of the leader → next write served", wants: "median < 0.8 s, worst < 2 s"}
	killRead := &series{what: "kill -9 of the leader → next read served", wants: "median < 0.8 s, worst < 2 s"}
	for i := range o.runs {
		if err := c.kill(ctx, killWrite, killRead); err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
	}
	all := []*series{killWrite, killRead}
	hand := &series{what: "hand-over: the call", wants: "< 200 ms"}
	longest := &series{what: "hand-over: longest request of a client meanwhile", wants: "< 200 ms"}
	failed, requests := 0, 0
	for i := range o.runs {
		f, r, err := c.handOver(ctx, hand, longest)
		if err != nil {
			return fmt.Errorf("hand-over %d: %w", i+1, err)
		}
		failed, requests = failed+f, requests+r
	}
	all = append(all, hand, longest)
	if o.freeze {
		frozenWrite := &series{what: "disk of the leader frozen → next write served", wants: "< 5 s"}
		frozenRead := &series{what: "disk of the leader frozen → next read served", wants: "< 5 s"}
		if err := c.onLoopDevices(ctx); err != nil {
			return fmt.Errorf("disks that can be frozen: %w", err)
		}
		for i := range max(1, o.runs/4) {
			if err := c.freezeLeader(ctx, frozenWrite, frozenRead); err != nil {
				return fmt.Errorf("frozen disk %d: %w", i+1, err)
			}
		}
		all = append(all, frozenWrite, frozenRead)
	}
	fmt.Fprintf(w, "%d CPUs, %s, load %s; three nodes and the clients on one machine, settings as released\n\n", runtime.NumCPU(), runtime.Version(), load())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\truns\tmedian\tp90\tworst\twanted")
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%d\t%v\t%v\t%v\t%s\n", s.what, len(s.took), s.at(0.5).Round(time.Millisecond), s.at(0.9).Round(time.Millisecond), s.at(1).Round(time.Millisecond), s.wants)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nDuring hand-overs %d of %d client requests failed, none of them sent again (wanted: 0).\n", failed, requests)
	return nil
}

func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return string(raw[:min(len(raw), 14)])
}
