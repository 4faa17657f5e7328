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

// slowHome is a network on which everything that comes to one node, answers
// and requests, takes a while. What it sends arrives at once.
type slowHome struct{ slow sync.Map } // node id → *atomic.Bool

const wayHome = 200 * time.Millisecond

func (s *slowHome) of(id string) *atomic.Bool {
	flag, _ := s.slow.LoadOrStore(id, new(atomic.Bool))
	return flag.(*atomic.Bool)
}

func (s *slowHome) faults(id string) *raft.Faults {
	flag := s.of(id)
	travel := func(string) {
		if flag.Load() {
			<-time.After(wayHome)
		}
	}
	return &raft.Faults{AppendReturned: travel, Received: travel, ReadInTransfer: true}
}

// transfers hands leadership on a number of times while answers are slow to
// come home to the old leader, writes through the new one and then reads from
// the old one, which does not know yet. It answers how many reads there were
// and how many of them missed the write.
func transfers(t *testing.T, times int, verifyLeader bool, enough func(stale int) bool) (reads, stale int) {
	network := &slowHome{}
	c := cluster.StartWith(t, 3, cluster.Options{
		// The lease must outlive the slow way home, or the old leader steps
		// down before it can be wrong.
		Timing: raft.Timing{Heartbeat: time.Second, Election: time.Second, Lease: 500 * time.Millisecond},
		Faults: func(id string) *raft.Faults {
			f := network.faults(id)
			f.VerifyLeaderReads = verifyLeader
			return f
		},
	})
	for i := range times {
		old := c.Leader()
		before, after := fmt.Sprintf("v%d-before", i), fmt.Sprintf("v%d-after", i)
		c.MustWrite("register", before)
		network.of(old.ID).Store(true)
		next := handOver(t, c, old)
		if next != nil && write(next, after) {
			r, s := readAll(old, after)
			reads, stale = reads+r, stale+s
		}
		network.of(old.ID).Store(false)
		require.Contains(t, []string{before, after}, c.MustRead("register"))
		if enough(stale) {
			break
		}
	}
	return reads, stale
}

// handOver answers the new leader, nil if there is none: the network is bad.
func handOver(t *testing.T, c *cluster.Cluster, old *cluster.Node) *cluster.Node {
	others := c.Others(old)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- old.Raft().TransferLeadership(ctx, others[0].ID) }()
	var next *cluster.Node
	cluster.Await(t, "the transfer", func() bool {
		for _, n := range others {
			if _, self, _ := n.Raft().Leader(); self {
				next = n
				return true
			}
		}
		select {
		case err := <-done:
			done <- err
			return err != nil
		default:
			return false
		}
	})
	return next
}

func write(n *cluster.Node, value string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return n.Write(ctx, "register", value) == nil
}

// readAll reads the register from n at once and counts answers that are not
// want.
func readAll(n *cluster.Node, want string) (reads, stale int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var wrong, total atomic.Int64
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			total.Add(1)
			if value, err := n.Read(ctx, "register"); err == nil && value != want {
				wrong.Add(1)
			}
		})
	}
	work.Wait()
	return int(total.Load()), int(wrong.Load())
}

func TestNoStaleReadsAroundTransfersWithSlowAnswers(t *testing.T) {
	reads, stale := transfers(t, 12, false, func(int) bool { return false })
	t.Logf("%d reads from old leaders, %d stale", reads, stale)
	require.Positive(t, reads, "no transfer came about; nothing was tested")
	require.Zero(t, stale)
}

// The negative control: the same with the library's VerifyLeader, which takes
// an answer that was on its way already for a proof of now.
func TestVerifyLeaderAloneReadsStale(t *testing.T) {
	reads, stale := transfers(t, 60, true, func(stale int) bool { return stale > 0 })
	t.Logf("%d reads from old leaders, %d stale", reads, stale)
	require.Positive(t, stale, "the scenario does not show what the read gate is there for")
}

func TestOnlyTheLeaderReads(t *testing.T) {
	c := cluster.Start(t, 3)
	c.MustWrite("register", "v1")
	for _, n := range c.Others(c.Leader()) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := n.Read(ctx, "register")
		cancel()
		if err != nil { // it may have become the leader
			require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
		}
	}
}

// A leader that the majority no longer hears must not answer, and says so in
// time.
func TestIsolatedLeaderAnswersNoRead(t *testing.T) {
	var isolated sync.Map
	c := cluster.StartWith(t, 3, cluster.Options{Faults: func(id string) *raft.Faults {
		return &raft.Faults{Cut: func(string) bool { _, ok := isolated.Load(id); return ok }}
	}})
	c.MustWrite("register", "old")
	leader := c.Leader()
	isolated.Store(leader.ID, true)
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Patience)
	defer cancel()
	_, err := leader.Read(ctx, "register")
	require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
	require.NoError(t, ctx.Err(), "the read must end with the lease, not with the caller's patience")
	c.LeaderAmong(c.Others(leader)...)
	isolated.Delete(leader.ID)
	require.Equal(t, "old", c.MustRead("register"))
}

// BenchmarkReads measures consistent reads by 64 clients on one leader.
func BenchmarkReads(b *testing.B) {
	c := cluster.Start(b, 3)
	c.MustWrite("register", "v1")
	leader := c.Leader()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := leader.Read(context.Background(), "register"); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}
