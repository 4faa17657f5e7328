package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// tortureTime is how long faults go on: a short form in every run, and what
// STRONGROOM_TORTURE says, in minutes, in `make torture`.
func tortureTime(t *testing.T) time.Duration {
	text := os.Getenv("STRONGROOM_TORTURE")
	if text == "" {
		return 12 * time.Second
	}
	minutes, err := strconv.Atoi(text)
	require.NoError(t, err, "STRONGROOM_TORTURE is a number of minutes")
	return time.Duration(minutes) * time.Minute
}

// observers read while everything happens, and hold each answer against what
// was acknowledged before it was asked for.
type observers struct {
	w     *writers
	mu    sync.Mutex
	reads int
	stale []string
}

// floor answers the highest version of path that was acknowledged by now.
func (w *writers) floor(path string) uint64 {
	var out uint64
	for _, a := range w.seen() {
		if a.path == path {
			out = max(out, a.version)
		}
	}
	return out
}

func (o *observers) run(ctx context.Context, reader int) {
	for i := reader; ctx.Err() == nil; i++ {
		path := o.w.paths[i%len(o.w.paths)]
		floor := o.w.floor(path)
		if floor == 0 {
			<-time.After(10 * time.Millisecond) // nothing is written there yet
			continue
		}
		patience, cancel := context.WithTimeout(context.Background(), localcluster.Patience)
		r, node, err := o.w.c.Persist(patience, []int{1 + i%3, 1 + (i+1)%3, 1 + (i+2)%3}, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path))
		cancel()
		var got struct{ Version uint64 }
		if err == nil {
			err = json.Unmarshal(r.Body, &got)
		}
		o.mu.Lock()
		o.reads++
		if err != nil || r.Status != 200 || got.Version < floor {
			o.stale = append(o.stale, fmt.Sprintf("node%d answered version %d of %s after %d was acknowledged: %v %s", node, got.Version, path, floor, err, r.Body))
		}
		o.mu.Unlock()
	}
}

// TestTorture kills, stops and pauses nodes and HSM workers at random, one
// after another, under writers and readers. Whatever was acknowledged is
// there, and no read is older than what was acknowledged before it began.
func TestTorture(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := suite.Fresh(t, 3)
	w := startWriters(t, c, "/app/e2e/torture", 8, 4)
	o := &observers{w: w}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var watching sync.WaitGroup
	for i := range 4 {
		watching.Go(func() { o.run(ctx, i) })
	}
	pause := func(d time.Duration) { <-time.After(d) }
	restart := func(node int) {
		c.AwaitEnd(node)
		pause(time.Duration(random.IntN(1500)) * time.Millisecond)
		c.StartNode(node)
	}
	faults := []struct {
		name string
		do   func(node int)
	}{
		{"kill -9", func(node int) { c.Signal(node, syscall.SIGKILL); restart(node) }},
		{"kill -9 of the leader", func(int) { node := c.Leader(); c.Signal(node, syscall.SIGKILL); restart(node) }},
		{"stop", func(node int) { c.Signal(node, syscall.SIGTERM); restart(node) }},
		{"pause", func(node int) {
			c.Signal(node, syscall.SIGSTOP)
			pause(time.Duration(200+random.IntN(2500)) * time.Millisecond)
			c.Signal(node, syscall.SIGCONT)
		}},
		{"kill of the HSM worker", func(node int) {
			if worker, there := c.Worker(node); there {
				_ = syscall.Kill(worker.PID, syscall.SIGKILL)
			}
		}},
		{"transfer", func(node int) { _ = c.CLI("", "cluster", "transfer-leadership", "--to", localcluster.Name(node)) }},
	}
	counts := map[string]int{}
	for end := time.Now().Add(tortureTime(t)); time.Now().Before(end); {
		f := faults[random.IntN(len(faults))]
		f.do(1 + random.IntN(3))
		counts[f.name]++
		// One at a time: three nodes survive one failure.
		for node := 1; node <= 3; node++ {
			c.AwaitReady(node)
		}
		w.awaitMore(10)
	}
	cancel()
	watching.Wait()
	w.halt()
	t.Logf("%v; %d writes, %d reads", counts, len(w.acks), o.reads)
	require.Empty(t, o.stale)
	require.NotZero(t, o.reads)
	for node := 1; node <= 3; node++ {
		w.check(t, node)
	}
}
