package cluster_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

// writer owns one register and counts up in it.
type writer struct {
	register string
	tried    int64
	acked    atomic.Int64
}

// run writes the next number to whoever leads until ctx ends. A number is
// never tried twice, so that what is read tells which write it was.
func (w *writer) run(ctx context.Context, c *cluster.Cluster) {
	for ctx.Err() == nil {
		for _, n := range c.Nodes {
			w.tried++
			attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
			err := n.Write(attempt, w.register, fmt.Sprintf("v%d", w.tried))
			cancel()
			if err == nil {
				w.acked.Store(w.tried)
			}
		}
	}
}

func TestKilledLeaderLosesNoAcknowledgedWrite(t *testing.T) {
	c := cluster.Start(t, 3)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var work sync.WaitGroup
	writers := make([]*writer, 16)
	for i := range writers {
		writers[i] = &writer{register: fmt.Sprintf("register-%d", i)}
		work.Go(func() { writers[i].run(ctx, c) })
	}
	progress := func() {
		seen := make([]int64, len(writers))
		for i, w := range writers {
			seen[i] = w.acked.Load()
		}
		cluster.Await(t, "every writer to go on", func() bool {
			for i, w := range writers {
				if w.acked.Load() <= seen[i] {
					return false
				}
			}
			return true
		})
	}
	for range 3 {
		progress()
		leader := c.Leader()
		c.Kill(leader)
		progress()
		c.StartNode(leader)
	}
	progress()
	cancel()
	work.Wait()
	for _, w := range writers {
		var got int64
		_, err := fmt.Sscanf(c.MustRead(w.register), "v%d", &got)
		require.NoError(t, err)
		require.GreaterOrEqual(t, got, w.acked.Load(), "%s went back behind an acknowledged write", w.register)
		require.LessOrEqual(t, got, w.tried)
	}
	sameHashes(t, c)
}

// sameHashes waits until all nodes have applied the same commands with the
// same decisions.
func sameHashes(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	cluster.Await(t, "equal states", func() bool {
		first := c.Nodes[0].Raft().Local()
		for _, n := range c.Nodes[1:] {
			s := n.Raft().Local()
			if s.Index() != first.Index() || s.Hash() != first.Hash() {
				return false
			}
		}
		return true
	})
}

// badDisk blocks the log writes of one node.
type badDisk struct {
	node    atomic.Pointer[string]
	blocked chan struct{} // closed: writes go on
	hit     chan struct{} // gets one when a write is blocked
	beats   atomic.Int64  // heartbeats of the node that were answered
}

func newBadDisk() *badDisk {
	return &badDisk{blocked: make(chan struct{}), hit: make(chan struct{}, 1)}
}

func (d *badDisk) is(id string) bool { bad := d.node.Load(); return bad != nil && *bad == id }

func (d *badDisk) faults(id string, noGuard bool) *raft.Faults {
	return &raft.Faults{
		NoStallGuard: noGuard,
		BeforeStore: func() {
			if d.is(id) {
				select {
				case d.hit <- struct{}{}:
				default:
				}
				<-d.blocked
			}
		},
		AppendReturned: func(string) {
			if d.is(id) {
				d.beats.Add(1)
			}
		},
	}
}

// stall starts a cluster whose leader's disk then hangs in a write.
func (d *badDisk) stall(t *testing.T, noGuard bool) (*cluster.Cluster, *cluster.Node, time.Time) {
	c := cluster.StartWith(t, 3, cluster.Options{
		Timing: raft.Timing{StallMax: 500 * time.Millisecond},
		Faults: func(id string) *raft.Faults { return d.faults(id, noGuard) },
	})
	t.Cleanup(func() { close(d.blocked) }) // before the cluster is stopped
	c.MustWrite("register", "v1")
	var leader *cluster.Node
	began := time.Now()
	cluster.Await(t, "a write that hangs", func() bool {
		leader = c.Leader()
		d.node.Store(&leader.ID)
		began = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		err := leader.Write(ctx, "register", "v2")
		select {
		case <-d.hit:
			require.True(t, fault.Is(err, fault.Uncertain), "a write that hangs has an unknown outcome: %v", err)
			return true
		default:
			return false
		}
	})
	return c, leader, began
}

func TestLeaderWithHangingDiskIsReplaced(t *testing.T) {
	d := newBadDisk()
	c, stalled, began := d.stall(t, false)
	next := c.LeaderAmong(c.Others(stalled)...)
	cluster.Await(t, "a write elsewhere", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return next.Write(ctx, "register", "v3") == nil
	})
	require.Less(t, time.Since(began), 5*time.Second)
	_, err := stalled.Read(context.Background(), "register")
	require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
}

// The negative control: heartbeats come from goroutines that know nothing of
// the disk. They go on, and nobody takes over.
func TestWithoutTheStallGuardTheClusterHangs(t *testing.T) {
	d := newBadDisk()
	c, stalled, began := d.stall(t, true)
	beats := d.beats.Load()
	cluster.Await(t, "heartbeats from the stalled leader", func() bool {
		return d.beats.Load() > beats+40 && time.Since(began) > 3*time.Second
	})
	for _, n := range c.Others(stalled) {
		leader, self, known := n.Raft().Leader()
		require.False(t, self)
		require.True(t, known)
		require.Equal(t, stalled.ID, leader)
	}
}

func TestNodeWithDeadDiskGivesUp(t *testing.T) {
	d := newBadDisk()
	c := cluster.StartWith(t, 1, cluster.Options{
		Timing: raft.Timing{StallMax: 300 * time.Millisecond, StallFatal: 600 * time.Millisecond},
		Faults: func(id string) *raft.Faults { return d.faults(id, false) },
	})
	n := c.Nodes[0]
	c.MustWrite("register", "v1")
	d.node.Store(&n.ID)
	t.Cleanup(func() { close(d.blocked) })
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Patience)
	defer cancel()
	go func() { _ = n.Write(ctx, "register", "v2") }()
	select {
	case err := <-n.Fatal:
		require.ErrorContains(t, err, "hangs")
	case <-ctx.Done():
		require.Fail(t, "the node goes on with a dead disk")
	}
	_, err := n.Read(ctx, "register")
	require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
}

func TestFollowerThatLagsGetsASnapshot(t *testing.T) {
	c := cluster.StartWith(t, 3, cluster.Options{
		Snapshot: raft.SnapshotConfig{Threshold: 16, Interval: 20 * time.Millisecond, Trailing: 1},
	})
	c.MustWrite("register", "v0")
	lagging := c.Others(c.Leader())[0]
	c.Stop(lagging)
	before := lagging.Snapshots()
	snapshots := func() (sum int) {
		for _, n := range c.Others(lagging) {
			sum += n.Snapshots()
		}
		return sum
	}
	written := 0
	have := snapshots()
	cluster.Await(t, "snapshots of both", func() bool {
		written++
		c.MustWrite("register", fmt.Sprintf("v%d", written))
		return snapshots() >= have+4 && written > 64
	})
	c.StartNode(lagging)
	want := fmt.Sprintf("v%d", written)
	cluster.Await(t, "the follower to catch up", func() bool {
		return cluster.Value(lagging.Raft().Local(), "register") == want
	})
	require.Greater(t, lagging.Snapshots(), before, "it caught up without a snapshot: the test shows nothing")
	sameHashes(t, c)
	// It stands on its own: after a restart it has it all.
	c.Stop(lagging)
	c.StartNode(lagging)
	sameHashes(t, c)
}

func TestTransferAndClose(t *testing.T) {
	c := cluster.Start(t, 3)
	ended := make(chan string, 16)
	for _, n := range c.Nodes {
		n.Raft().OnLeadership(func(ctx context.Context) {
			<-ctx.Done()
			ended <- n.ID
		})
	}
	leader := c.Leader()
	to := c.Others(leader)[0]
	cluster.Await(t, "a transfer", func() bool {
		leader = c.Leader()
		to = c.Others(leader)[0]
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return leader.Raft().TransferLeadership(ctx, to.ID) == nil
	})
	awaitEnd(t, ended, leader.ID)
	leader = c.Leader()
	c.Stop(leader)
	awaitEnd(t, ended, leader.ID)
	c.LeaderAmong(c.Others(leader)...)
}

// awaitEnd waits until the work of node id as a leader has ended.
func awaitEnd(t *testing.T, ended <-chan string, id string) {
	t.Helper()
	late := time.After(cluster.Patience)
	for {
		select {
		case got := <-ended:
			if got == id {
				return
			}
		case <-late:
			require.Fail(t, "the work of the old leader goes on", id)
		}
	}
}

func TestMembersTellOfEachOther(t *testing.T) {
	c := cluster.Start(t, 3)
	c.MustWrite("register", "v1")
	for _, n := range c.Nodes {
		n.Raft().SetHealth(raft.HSMHealthy, raft.TrailOK)
	}
	for _, n := range c.Nodes {
		cluster.Await(t, "gossip", func() bool {
			leaders := 0
			members := n.Raft().Members()
			for _, m := range members {
				if m.Role == raft.RoleLeader {
					leaders++
				}
				if !m.Alive || m.HSM != "ok" || m.Audit != "ok" || m.APIAddress != "https://"+m.ID || m.Version != "test" || m.AppliedIndex < 2 {
					return false
				}
			}
			return len(members) == 3 && leaders == 1
		})
	}
	gone := c.Others(c.Leader())[0]
	c.Stop(gone)
	left := c.Others(gone)[0]
	cluster.Await(t, "gossip to miss a member", func() bool {
		for _, m := range left.Raft().Members() {
			if m.ID == gone.ID {
				return !m.Alive
			}
		}
		return false
	})
}

func TestLinkConnectsMembersByName(t *testing.T) {
	c := cluster.Start(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, b := c.Nodes[0], c.Nodes[1]
	cluster.Await(t, "b to know the members", func() bool { return len(b.Raft().Members()) == 3 })
	conn, err := a.Raft().DialLink(ctx, b.ID)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	got, err := b.Raft().LinkListener().Accept()
	require.NoError(t, err)
	defer func() { _ = got.Close() }()
	require.Equal(t, a.ID, got.(interface{ PeerID() string }).PeerID())
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	text := make([]byte, 5)
	_, err = got.Read(text)
	require.NoError(t, err)
	require.Equal(t, "hello", string(text))
	_, err = a.Raft().DialLink(ctx, "stranger")
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}
