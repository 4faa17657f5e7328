package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// followers measures the same reads at the leader and through a node that
// follows, with what each costs the processors of the leader's node: server and
// HSM worker, from /proc. A third node, which has no part in the reads but
// copies their events and feeds its detectors, tells what of it is for those.
func followers(ctx context.Context, o options, conns []int, t *target, w io.Writer) error {
	leader, follower, idle, err := t.roles(ctx)
	if err != nil {
		return err
	}
	cases := []struct{ name, operation, body string }{
		{"describeSecret", "secrets/describeSecret", fmt.Sprintf(`{"path":%q}`, secretPath(0))},
		{"getSecretValue 1 KiB", "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, secretPath(0))},
	}
	fmt.Fprintf(w, "%-22s %5s  %10s %8s %8s  %s\n", "what", "conns", "per second", "p50 ms", "p99 ms", "leader's CPU, µs a read")
	for _, n := range conns {
		for _, c := range cases {
			costs := map[string]float64{}
			for _, at := range []member{leader, follower} {
				here := *t
				here.base = "https://" + strings.TrimPrefix(at.APIAddress, "https://")
				load := func(ctx context.Context, _ int) error { return here.call(ctx, c.operation, c.body, nil) }
				drive(ctx, load, n, o.duration/10)
				before, err := cpuOf(o.env, leader, idle)
				if err != nil {
					return err
				}
				f := measureOnly(ctx, load, n, o.duration)
				after, err := cpuOf(o.env, leader, idle)
				if err != nil {
					return err
				}
				reads := f.PerSecond * o.duration.Seconds()
				third := float64((after[1] - before[1]).Microseconds()) / reads
				place := "leader"
				if at != leader {
					place = "follower"
				}
				costs[place] = float64((after[0] - before[0]).Microseconds()) / reads
				fmt.Fprintf(w, "%-22s %5d  %10.0f %8.2f %8.2f  %6.0f at the %s, third node's %.0f; %d errors\n", c.name, n, f.PerSecond, f.P50Micros/1000, f.P99Micros/1000, costs[place], place, third, f.Errors)
			}
			fmt.Fprintf(w, "%-22s %5d  a read through the follower costs the leader %.0f%% of one of its own\n", c.name, n, 100*costs["follower"]/costs["leader"])
		}
	}
	return nil
}

type member struct{ NodeID, APIAddress, Role string }

// roles answers the leader and two nodes that follow.
func (t *target) roles(ctx context.Context) (leader, follower, idle member, err error) {
	var status struct{ Nodes []member }
	if err := t.call(ctx, "cluster/status", "{}", &status); err != nil {
		return leader, follower, idle, err
	}
	for _, n := range status.Nodes {
		if n.Role == "leader" {
			leader = n
		} else {
			follower, idle = n, follower
		}
	}
	if leader.NodeID == "" || idle.NodeID == "" {
		return leader, follower, idle, fmt.Errorf("the cluster has no leader, or not two nodes that follow")
	}
	return leader, follower, idle, nil
}

// clockTick is the unit of times in /proc/PID/stat.
const clockTick = 10 * time.Millisecond

// cpuOf answers the processor times of nodes.
func cpuOf(env string, nodes ...member) (out []time.Duration, err error) {
	for _, n := range nodes {
		one, err := cpuOfNode(env, n.NodeID)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// cpuOfNode answers that of a node's server and of its children. The env file
// of a local cluster is in its folder.
func cpuOfNode(env, node string) (time.Duration, error) {
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(env), node, "pid"))
	if err != nil {
		return 0, err
	}
	pid := strings.TrimSpace(string(raw))
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var ticks int64
	for _, path := range processes {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 13 || fields[1] != pid && filepath.Base(filepath.Dir(path)) != pid {
			continue
		}
		for _, field := range fields[11:13] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * clockTick, nil
}
