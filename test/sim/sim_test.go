package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// outcome is what came of a run.
type outcome struct {
	wrong                 []string
	log                   string
	acked, unknown, reads int
	simulated             time.Duration
}

// run performs a schedule in a bubble of its own.
func run(t *testing.T, p *people, dir string, s schedule) outcome {
	var out outcome
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := begin(t, p, filepath.Join(dir, fmt.Sprint(s.seed)), s.seed, s.options)
		w.load(4)
		w.perform(s.steps)
		w.recover()
		w.end()
		out.wrong, out.log = w.history.check(), w.log.String()
		out.acked, out.unknown, out.reads = w.history.counts()
		out.simulated = time.Since(began)
	})
	require.NoError(t, os.RemoveAll(filepath.Join(dir, fmt.Sprint(s.seed))))
	return out
}

// TestSchedules runs the schedules of the first seeds; STRONGROOM_SIM_SEEDS is
// how many, STRONGROOM_SIM_SEED the first one.
func TestSchedules(t *testing.T) {
	count, first := number(t, "STRONGROOM_SIM_SEEDS", 60), number(t, "STRONGROOM_SIM_SEED", 1)
	p, dir := issue(t), scratch(t)
	began := time.Now()
	var acked, unknown, reads, simulated, steps atomic.Int64
	t.Run("all", func(t *testing.T) {
		for seed := first; seed < first+count; seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				s := draw(seed)
				out := run(t, p, dir, s)
				for _, wrong := range out.wrong {
					t.Error(wrong)
				}
				if t.Failed() {
					t.Logf("seed %d; again with STRONGROOM_SIM_SEED=%d STRONGROOM_SIM_SEEDS=1\n%s", seed, seed, out.log)
				}
				acked.Add(int64(out.acked))
				unknown.Add(int64(out.unknown))
				reads.Add(int64(out.reads))
				simulated.Add(int64(out.simulated))
				steps.Add(int64(len(s.steps)))
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d schedules with %d faults in %v, %.0f a minute; %v simulated, %.0f times real time; %d writes acknowledged, %d of unknown outcome, %d reads",
		count, steps.Load(), took.Round(time.Millisecond), float64(count)/took.Minutes(), time.Duration(simulated.Load()).Round(time.Second),
		float64(simulated.Load())/float64(took), acked.Load(), unknown.Load(), reads.Load())
	require.Positive(t, acked.Load())
	require.Positive(t, reads.Load())
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 32)
	require.NoError(t, err)
	return n
}
