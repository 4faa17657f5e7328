package cluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

// follow reads a register on a node that follows, until it serves one itself.
func follow(t testing.TB, n *cluster.Node, register string) string {
	t.Helper()
	var out string
	cluster.Await(t, n.ID+" to serve a read", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		value, err := n.Follow(ctx, register)
		out = value
		return err == nil
	})
	return out
}

func TestFollowersServeWhatWasAcknowledged(t *testing.T) {
	c := cluster.Start(t, 3)
	for i := range 100 {
		want := fmt.Sprintf("v%d", i)
		c.MustWrite("register", want)
		for _, n := range c.Others(c.Leader()) {
			require.Equal(t, want, follow(t, n, "register"))
		}
	}
}

// Reads that come while a question is under way share the next one, and the
// leader's handler hears of each item once.
func TestOneQuestionServesAllReadsThatWait(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{}, 100)
	var holding atomic.Bool
	c := cluster.StartWith(t, 3, cluster.Options{
		Timing: raft.Timing{Heartbeat: 2 * time.Second, Election: 2 * time.Second, Lease: 500 * time.Millisecond},
		Faults: func(string) *raft.Faults {
			return &raft.Faults{AnswerReturned: func(string) {
				if holding.Load() {
					held <- struct{}{}
					<-hold
				}
			}}
		},
	})
	c.MustWrite("register", "v1")
	leader := c.Leader()
	n := c.Others(leader)[0]
	require.Equal(t, "v1", follow(t, n, "register"))

	var mu sync.Mutex
	var questions [][]string
	for _, any := range c.Nodes {
		any.Raft().AnswerFollowers(func() func(*fsm.State, string, [][]byte) [][]byte {
			return func(_ *fsm.State, peer string, items [][]byte) [][]byte {
				if peer != n.ID {
					t.Errorf("%s asks, and it is taken for %s", n.ID, peer)
				}
				var texts []string
				out := make([][]byte, len(items))
				for i, item := range items {
					texts, out[i] = append(texts, string(item)), append([]byte("re "), item...)
				}
				mu.Lock()
				questions = append(questions, texts)
				mu.Unlock()
				return out
			}
		})
	}
	holding.Store(true)
	var work sync.WaitGroup
	ask := func(i int) {
		work.Go(func() {
			got, err := n.Raft().AskLeader(context.Background(), fmt.Appendf(nil, "%d", i))
			if err == nil && string(got.Answer) != fmt.Sprintf("re %d", i) {
				t.Errorf("read %d got the answer to another: %q", i, got.Answer)
			}
		})
	}
	ask(0)
	<-held // its answer is here, and nobody has been told
	for i := range 20 {
		ask(i + 1)
	}
	cluster.Await(t, "the reads to wait", func() bool { return n.Raft().Asking() == 20 })
	holding.Store(false)
	close(hold)
	work.Wait()
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, questions, 2)
	require.Equal(t, []string{"0"}, questions[0])
	require.Len(t, questions[1], 20)
}

// A follower that the leader's entries do not reach, while its questions get
// through, has not applied what the answer is about: it serves nothing.
func TestAFollowerThatIsBehindServesNothing(t *testing.T) {
	var slow sync.Map
	gate := make(chan struct{})
	c := cluster.StartWith(t, 3, cluster.Options{
		Timing: raft.Timing{Heartbeat: 4 * time.Second, Election: 4 * time.Second, Lease: time.Second, StallMax: 4 * time.Second},
		Faults: func(id string) *raft.Faults {
			return &raft.Faults{Received: func(string) {
				if _, ok := slow.Load(id); ok {
					<-gate
				}
			}}
		},
	})
	c.MustWrite("register", "old")
	leader := c.Leader()
	behind, other := c.Others(leader)[0], c.Others(leader)[1]
	require.Equal(t, "old", follow(t, behind, "register"))
	slow.Store(behind.ID, true)
	c.MustWrite("register", "new")
	for range 3 {
		_, err := behind.Follow(context.Background(), "register")
		require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
	}
	require.Equal(t, "new", follow(t, other, "register"))
	slow.Delete(behind.ID)
	close(gate)
	require.Equal(t, "new", follow(t, behind, "register"))
}

// storm writes numbers one after another while followers read, leadership moves
// and nodes are cut off, and answers how many reads there were and how many
// missed what had been acknowledged before they began.
func storm(t *testing.T, rounds int, seed uint64, noReadIndex bool) (reads, stale int64) {
	var cut sync.Map
	c := cluster.StartWith(t, 3, cluster.Options{Faults: func(id string) *raft.Faults {
		return &raft.Faults{
			NoReadIndex: noReadIndex,
			Cut:         func(string) bool { _, ok := cut.Load(id); return ok },
		}
	}})
	c.MustWrite("register", "0")
	var acknowledged, total, wrong atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, n := range c.Nodes {
		for range 4 {
			work.Go(func() {
				for ctx.Err() == nil {
					before := acknowledged.Load()
					one, done := context.WithTimeout(ctx, 5*time.Second)
					value, err := n.Follow(one, "register")
					done()
					if err != nil {
						continue
					}
					var got int64
					_, _ = fmt.Sscan(value, &got)
					total.Add(1)
					if got < before {
						wrong.Add(1)
					}
				}
			})
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range rounds {
		for range 5 {
			next := acknowledged.Load() + 1
			c.MustWrite("register", fmt.Sprint(next))
			acknowledged.Store(next)
		}
		switch i % 3 {
		case 0:
			leader := c.Leader()
			moving, done := context.WithTimeout(ctx, 10*time.Second)
			_ = leader.Raft().TransferLeadership(moving, c.Others(leader)[random.IntN(2)].ID)
			done()
		case 1:
			victim := c.Nodes[random.IntN(3)]
			cut.Store(victim.ID, true)
			next := acknowledged.Load() + 1
			c.LeaderAmong(c.Others(victim)...)
			c.MustWrite("register", fmt.Sprint(next))
			acknowledged.Store(next)
			cut.Delete(victim.ID)
		}
	}
	cancel()
	work.Wait()
	return total.Load(), wrong.Load()
}

func TestFollowersServeNothingStale(t *testing.T) {
	reads, stale := storm(t, 30, 1, false)
	t.Logf("%d reads served by followers, %d stale", reads, stale)
	require.Positive(t, reads)
	require.Zero(t, stale)
}

// The negative control: without the leader's word the same reads are stale.
func TestFollowersWithoutTheLeadersWordReadStale(t *testing.T) {
	_, stale := storm(t, 6, 1, true)
	require.Positive(t, stale, "the scenario does not show what the question is there for")
}

// A follower asks a leader that was deposed and does not know it: its answers
// come home slowly. Nothing of it may be served.
func TestFollowersOfADeposedLeaderServeNothingStale(t *testing.T) {
	reads, stale := deposed(t, 12, false, func(int) bool { return false })
	t.Logf("%d reads of followers, %d stale", reads, stale)
	require.Positive(t, reads, "no transfer came about; nothing was tested")
	require.Zero(t, stale)
}

// The negative control: the leader's word by the library's VerifyLeader.
func TestFollowersOfVerifyLeaderAloneReadStale(t *testing.T) {
	_, stale := deposed(t, 60, true, func(stale int) bool { return stale > 0 })
	require.Positive(t, stale, "the scenario does not show what the read gate is there for")
}

// deposed is transfers among five, with the reads on a node that hears nothing
// of the new leader and still takes the old one for it.
func deposed(t *testing.T, times int, verifyLeader bool, enough func(stale int) bool) (reads, stale int) {
	network := &slowHome{}
	var apart sync.Map // node id → the peer that it does not hear
	c := cluster.StartWith(t, 5, cluster.Options{
		Timing: raft.Timing{Heartbeat: time.Second, Election: time.Second, Lease: 500 * time.Millisecond},
		Faults: func(id string) *raft.Faults {
			f := network.faults(id)
			f.VerifyLeaderReads = verifyLeader
			f.Cut = func(peer string) bool { from, ok := apart.Load(id); return ok && from == peer }
			return f
		},
	})
	for i := range times {
		old := c.Leader()
		before, after := fmt.Sprintf("v%d-before", i), fmt.Sprintf("v%d-after", i)
		c.MustWrite("register", before)
		next, deaf := c.Others(old)[0], c.Others(old)[3]
		_ = follow(t, deaf, "register") // it is connected
		// The new leader does not reach this node, which goes on asking the old
		// one.
		apart.Store(next.ID, deaf.ID)
		network.of(old.ID).Store(true)
		if got := handOver(t, c, old); got == next && write(next, after) {
			r, wrong := followAll(deaf, after)
			reads, stale = reads+r, stale+wrong
		}
		network.of(old.ID).Store(false)
		apart.Delete(next.ID)
		require.Contains(t, []string{before, after}, c.MustRead("register"))
		if enough(stale) {
			break
		}
	}
	return reads, stale
}

func followAll(n *cluster.Node, want string) (reads, stale int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var wrong, total atomic.Int64
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			total.Add(1)
			if value, err := n.Follow(ctx, "register"); err == nil && value != want {
				wrong.Add(1)
			}
		})
	}
	work.Wait()
	return int(total.Load()), int(wrong.Load())
}

// A caller that gives up is not waited for.
func TestAReadOfAFollowerEndsWithItsCaller(t *testing.T) {
	c := cluster.Start(t, 3)
	c.MustWrite("register", "v1")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n := c.Others(c.Leader())[0]
	_, err := n.Follow(ctx, "register")
	require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
	require.Equal(t, "v1", follow(t, n, "register"))
}
