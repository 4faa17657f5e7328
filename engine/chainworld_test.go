package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
)

// peer is another member: a trail that this world's node copies.
type peer struct {
	t     testing.TB
	node  string
	dir   string
	trail *audit.Trail
	// held are copies that it has.
	held *audit.Copies

	mu   sync.Mutex
	down bool
	// changes, if set, changes what it answers.
	changes func(*engine.ChainRun)
}

func newPeer(t testing.TB, node string) *peer {
	o := &peer{t: t, node: node, dir: t.TempDir()}
	o.start()
	t.Cleanup(func() { _ = o.trail.Close() })
	return o
}

func (o *peer) start() {
	o.t.Helper()
	var err error
	o.trail, err = audit.Open(audit.Config{Dir: o.dir, Node: o.node, Durability: audit.Synced, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(o.t, err)
}

// wipe lets it lose its disk and come back under its name.
func (o *peer) wipe() {
	o.t.Helper()
	require.NoError(o.t, o.trail.Close())
	o.dir = o.t.TempDir()
	o.start()
}

func (o *peer) write(n int) {
	o.t.Helper()
	for i := range n {
		_, err := o.trail.Append(context.Background(), []audit.Event{{
			Event: "secrets.marked", Outcome: audit.OK, RequestID: fmt.Sprint(o.node, i), Time: time.UnixMilli(int64(1000 + i)),
		}})
		require.NoError(o.t, err)
	}
}

// engine answers as its engine would.
func (o *peer) engine() (*engine.Engine, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down {
		return nil, errors.New("down")
	}
	return &engine.Engine{Config: engine.Config{Node: o.node, Trail: o.trail, Copies: o.held}}, nil
}

func (o *peer) set(down bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = down
}

// among makes the world's node a member beside others, which keeps copies.
func (w *world) among(others ...*peer) {
	w.t.Helper()
	var err error
	w.engine.Copies, err = audit.OpenCopies(audit.CopiesConfig{Dir: w.dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = w.engine.Copies.Close() })
	of := func(node string) (*engine.Engine, error) {
		for _, o := range others {
			if o.node == node {
				return o.engine()
			}
		}
		return nil, errors.New("nobody")
	}
	w.engine.Cluster.Members = func() []wire.NodeStatus {
		out := []wire.NodeStatus{{NodeID: "n1", Role: "leader"}}
		for _, o := range others {
			out = append(out, wire.NodeStatus{NodeID: o.node, Role: "follower"})
		}
		return out
	}
	w.engine.Cluster.PeerChains = func(ctx context.Context, node string, q engine.ChainsQuery) (engine.ChainList, error) {
		e, err := of(node)
		if err != nil {
			return engine.ChainList{}, err
		}
		return e.LocalChains(ctx, q)
	}
	w.engine.Cluster.PeerChain = func(ctx context.Context, node string, q engine.ChainQuery) (engine.ChainRun, error) {
		e, err := of(node)
		if err != nil {
			return engine.ChainRun{}, err
		}
		run, err := e.LocalChain(ctx, context.Background(), "n1", q)
		for _, o := range others {
			if o.node == node && o.changes != nil {
				o.changes(&run)
			}
		}
		return run, err
	}
	w.engine.Cluster.PeerEvents = func(ctx context.Context, node string, q engine.TrailQuery) (engine.TrailPage, error) {
		e, err := of(node)
		if err != nil {
			return engine.TrailPage{}, err
		}
		return e.LocalEvents(ctx, q)
	}
}

// copying runs the copier until the test ends or stop is called.
func (w *world) copying() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.engine.RunCopies(ctx) })
	stop = func() { cancel(); running.Wait() }
	w.t.Cleanup(stop)
	return stop
}

func (w *world) awaitCopy(o *peer) *audit.Copy {
	w.t.Helper()
	id, err := o.trail.ChainID(context.Background())
	require.NoError(w.t, err)
	var c *audit.Copy
	require.Eventually(w.t, func() bool {
		c = w.engine.Copies.Find(o.node, id)
		return c != nil && c.Settled() == o.trail.Settled()
	}, 30*time.Second, time.Millisecond)
	return c
}

func (w *world) asked(filter string) wire.QueryEventsResponse {
	w.t.Helper()
	return into[wire.QueryEventsResponse](w.t, w.ok("audit/queryEvents", "{%s}", filter))
}
