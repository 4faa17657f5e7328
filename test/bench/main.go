// Command bench measures Strongroom against the floors of the machine that it
// runs on: what a bare TLS server, bare hashicorp/raft with raft-boltdb, and a
// bare SoftHSM do with the same sizes, in the same run. It prints operations a
// second, p50 and p99, and the ratio to the floor.
//
//	go run ./test/bench -env .strongroom/env    against a cluster that runs
//	make bench                                  starts one of its own
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type options struct {
	env      string
	secrets  int
	duration time.Duration
	conns    string
	out      string
	module   string
	follow   bool
}

func main() {
	var o options
	flag.StringVar(&o.env, "env", ".strongroom/env", "environment file of the cluster")
	flag.IntVar(&o.secrets, "secrets", 10_000, "how many secrets of 1 KiB to read from")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "length of each measurement")
	flag.StringVar(&o.conns, "connections", "1,16,64", "numbers of connections")
	flag.StringVar(&o.out, "json", "bench.json", "where to write the figures as JSON (empty: nowhere)")
	flag.StringVar(&o.module, "module", "/usr/lib/softhsm/libsofthsm2.so", "SoftHSM, for its floor")
	flag.BoolVar(&o.follow, "followers", false, "measure reads through a node that follows, and what they cost the leader, and nothing else")
	flag.Parse()
	if err := run(context.Background(), o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one line of the table.
type figure struct {
	Name        string  `json:"name"`
	Connections int     `json:"connections"`
	PerSecond   float64 `json:"perSecond"`
	P50Micros   float64 `json:"p50Micros"`
	P99Micros   float64 `json:"p99Micros"`
	Errors      int     `json:"errors"`
	Floor       string  `json:"floor,omitempty"`
	Ratio       float64 `json:"ratio,omitempty"` // of PerSecond to the floor's
}

type report struct {
	Time    time.Time `json:"time"`
	CPUs    int       `json:"cpus"`
	Go      string    `json:"go"`
	Secrets int       `json:"secrets"`
	Seconds float64   `json:"secondsEach"`
	Figures []figure  `json:"figures"`
}

func run(ctx context.Context, o options, w io.Writer) error {
	var conns []int
	for _, text := range strings.Split(o.conns, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return fmt.Errorf("-connections: %q is not a list of numbers", o.conns)
		}
		conns = append(conns, n)
	}
	target, err := newTarget(o.env)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "preparing %d secrets of %d bytes …\n", o.secrets, valueBytes)
	if err := target.prepare(ctx, o.secrets); err != nil {
		return err
	}
	if o.follow {
		return followers(ctx, o, conns, target, w)
	}
	r := report{Time: time.Now().UTC(), CPUs: runtime.NumCPU(), Go: runtime.Version(), Secrets: o.secrets, Seconds: o.duration.Seconds()}
	floors, closeFloors, err := newFloors(o.module)
	if err != nil {
		return err
	}
	defer closeFloors()
	for _, n := range conns {
		for _, c := range target.cases(o.secrets) {
			floor := measure(ctx, floors[c.floor], n, o.duration)
			floor.Name = "floor: " + c.floor
			got := measure(ctx, c.load, n, o.duration)
			got.Name, got.Floor = c.name, c.floor
			if floor.PerSecond > 0 {
				got.Ratio = got.PerSecond / floor.PerSecond
			}
			r.Figures = append(r.Figures, floor, got)
			fmt.Fprintf(w, "  %-24s %3d connections: %8.0f/s (%.0f%% of its floor)\n", got.Name, n, got.PerSecond, 100*got.Ratio)
		}
	}
	print(w, r)
	return write(o.out, r)
}

func print(w io.Writer, r report) {
	fmt.Fprintf(w, "\n%d CPUs, %s, %.0f s each, three nodes and this client on the same machine\n\n", r.CPUs, r.Go, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "what\tconnections\tper second\tp50 ms\tp99 ms\terrors\tratio to floor\t")
	for _, f := range r.Figures {
		ratio := ""
		if f.Floor != "" {
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.2f\t%.2f\t%d\t%s\t\n", f.Name, f.Connections, f.PerSecond, f.P50Micros/1000, f.P99Micros/1000, f.Errors, ratio)
	}
	_ = t.Flush()
}

func write(path string, r report) error {
	if path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path, append(raw, '\n'), 0o600))
}
