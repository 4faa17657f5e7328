package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What was acknowledged is kept, whoever dies; somebody else goes on within
// five seconds; the dead node comes back by nothing but being started.
func TestNothingAcknowledgedIsLostWhenLeadersAreKilled(t *testing.T) {
	c := suite.Shared(t)
	w := startWriters(t, c, "/app/e2e/kill", 16, 4)
	var gaps []time.Duration
	for range 3 {
		w.awaitMore(100)
		leader := c.Leader()
		killed := time.Now()
		c.Signal(leader, syscall.SIGKILL)
		first := w.firstAfter(killed)
		require.NotEqual(t, leader, first.node)
		gaps = append(gaps, first.done.Sub(killed))
		c.AwaitEnd(leader)
		w.awaitMore(50)
		c.StartNode(leader)
		c.AwaitReady(leader)
	}
	t.Logf("from kill to the first write that another node acknowledged: %v; %d writes in all", gaps, len(w.seen()))
	slices.Sort(gaps)
	// The middle one, because one of three may meet a machine that is busy
	// with something else.
	require.Less(t, gaps[1], 5*time.Second)
	for node := 1; node <= 3; node++ {
		w.check(t, node)
	}
}

// Power comes back to a room in which everything died at once: no person is
// needed, and nothing is missing.
func TestAClusterThatWasKilledAsAWholeComesBackByItself(t *testing.T) {
	c := suite.Fresh(t, 3)
	w := startWriters(t, c, "/app/e2e/blackout", 8, 2)
	c.OK(1, "kms/createKey", `{"alias":"alias/blackout"}`)
	c.OK(2, "secrets/createSecret", `{"path":"/app/e2e/bound","kmsKeyId":"alias/blackout","value":%q}`, "Ym91bmQ=")
	reader := c.Principal("survivor", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/**"]}]`)
	w.awaitMore(200)
	c.KillAll()
	// Half of the writers hold a request that nobody answered. They find the
	// cluster again when it is back.
	require.NoError(t, os.Remove(filepath.Join(c.Dir, "ready")), "a supervisor that was killed could not remove it")
	c.Up()
	w.awaitMore(50)
	for node := 1; node <= 3; node++ {
		w.check(t, node)
		r := c.Send(node, reader, "secrets/getSecretValue", `{"path":"/app/e2e/bound"}`)
		value, err := r.Value()
		require.NoError(t, err, "tokens, policies and keys are there too")
		require.Equal(t, "bound", value)
	}
	r := c.Send(1, c.Token, "kms/disableKey", `{"keyId":"alias/blackout"}`)
	require.Equal(t, "KeyInUse", r.Code(), "%s", r.Body)
}
