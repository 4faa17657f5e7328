package torture

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What STRONGROOM_TORTURE and STRONGROOM_SEED say, as make torture sets them.
func fromEnvironment(t *testing.T) (minutes int, seed uint64) {
	minutes, err := strconv.Atoi(os.Getenv("STRONGROOM_TORTURE"))
	require.NoError(t, err, "STRONGROOM_TORTURE is a number of minutes")
	seed = uint64(time.Now().UnixNano())
	if text := os.Getenv("STRONGROOM_SEED"); text != "" {
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "STRONGROOM_SEED is a number")
	}
	return minutes, seed
}

// TestTorture is the short form, with every family of faults on each of its
// targets; with STRONGROOM_TORTURE it is one schedule of that many minutes,
// drawn from STRONGROOM_SEED. STRONGROOM_FAMILY leaves one family of it.
func TestTorture(t *testing.T) {
	p := plan{seed: 1, steps: eachOnce(), clients: 8, pace: 30 * time.Millisecond, diskMiB: 256}
	if os.Getenv("STRONGROOM_TORTURE") != "" {
		minutes, seed := fromEnvironment(t)
		p = plan{seed: seed, until: time.Duration(minutes) * time.Minute, clients: 12, pace: 15 * time.Millisecond, diskMiB: 512 + 64*minutes}
		p.steps = schedule(seed, 20*minutes) // more than there is time for
	}
	if only := os.Getenv("STRONGROOM_FAMILY"); only != "" {
		p.steps = slices.DeleteFunc(p.steps, func(s step) bool { return s.Family != only })
		require.NotEmpty(t, p.steps, "STRONGROOM_FAMILY is the name of a family of faults")
	}
	t.Logf("seed %d", p.seed)
	torture(t, suite.Binary(), p)
}

// The same seed draws the same schedule, and another one another.
func TestASeedIsASchedule(t *testing.T) {
	require.Equal(t, schedule(7, 200), schedule(7, 200))
	require.NotEqual(t, schedule(7, 200), schedule(8, 200))
	drawn := map[string]bool{}
	for _, s := range schedule(7, 2000) {
		drawn[s.Family] = true
		require.Contains(t, fmt.Sprint(s), s.Family)
	}
	for _, f := range families() {
		require.True(t, drawn[f.name], f.name)
	}
	require.LessOrEqual(t, spares(schedule(7, 2000)), mostSpares)
}
