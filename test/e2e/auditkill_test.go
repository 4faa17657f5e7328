package e2e_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// auditKills is how many nodes are killed: a few in every run, and what
// STRONGROOM_AUDIT_KILLS says in `make torture-audit`.
func auditKills(t *testing.T) int {
	text := os.Getenv("STRONGROOM_AUDIT_KILLS")
	if text == "" {
		return 8
	}
	kills, err := strconv.Atoi(text)
	require.NoError(t, err, "STRONGROOM_AUDIT_KILLS is a number of kills")
	return kills
}

// TestKilledNodesOweNoEvent kills nodes with signal 9 at random moments under
// load, leaders more often than others. What any client was answered, right,
// denied or failed, has its event in the trails that are left, and all of them
// are whole.
func TestKilledNodesOweNoEvent(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	c := suite.Fresh(t, 3)
	j := startJudge(t, c, "/app/e2e/killed", 8, seed)
	leaders := 0
	kills := auditKills(t)
	for range kills {
		// The moment is random in time and in what the load is at.
		j.awaitMore(1 + random.IntN(40))
		<-time.After(time.Duration(random.IntN(50_000)) * time.Microsecond)
		node := 1 + random.IntN(3)
		if leader := c.Leader(); random.IntN(3) > 0 {
			node = leader
			leaders++
		}
		c.Signal(node, syscall.SIGKILL)
		c.AwaitEnd(node)
		c.StartNode(node)
		// One at a time: three nodes survive one failure.
		for node := 1; node <= 3; node++ {
			c.AwaitReady(node)
		}
	}
	j.awaitMore(200)
	j.halt()
	c.Stop()
	t.Logf("%d kills, %d of them of the leader", kills, leaders)
	j.hold(t, chains(t, c))
}
