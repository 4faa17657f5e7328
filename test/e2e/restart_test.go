package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
)

// A new release or configuration is brought to all nodes, one after the other,
// the leader too. None of 64 applications that use the Go client sees an
// error, reads anything but what it put last, or misses a version.
func TestARollingRestartFailsNoOperation(t *testing.T) {
	c := suite.Fresh(t, 3)
	const clients = 64
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var done atomic.Int64
	var failed atomic.Pointer[error]
	halt := func() { stop(); running.Wait() }
	defer halt()
	path := func(i int) string { return fmt.Sprintf("/app/e2e/rolling/c%d", i) }
	puts := make([]int, clients)
	for i := range clients {
		c.OK(1, "secrets/createSecret", `{"path":%q}`, path(i))
		application := goClient(t, c)
		running.Go(func() {
			for ctx.Err() == nil {
				if err := putAndGet(application, path(i), fmt.Sprintf("%d of %d", puts[i], i)); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				puts[i]++
				done.Add(1)
			}
		})
	}
	awaitMore := func() {
		from := done.Load()
		c.Await("all to go on", func() bool { return done.Load() >= from+2*clients || failed.Load() != nil })
	}
	awaitMore()
	for node := 1; node <= 3; node++ {
		c.Signal(node, syscall.SIGTERM)
		c.AwaitEnd(node)
		c.StartNode(node)
		c.AwaitReady(node)
		awaitMore()
	}
	halt()
	if err := failed.Load(); err != nil {
		require.NoError(t, *err)
	}
	application := goClient(t, c)
	for i := range clients {
		var secret wire.DescribeSecretResponse
		require.NoError(t, application.Do(t.Context(), "secrets", "describeSecret", &wire.PathRequest{Path: path(i)}, &secret))
		require.EqualValues(t, puts[i], secret.CurrentVersion, "each put made one version, and none was lost")
	}
	t.Logf("%d puts, each read back", done.Load())
}
