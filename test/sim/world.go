package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/pki"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

// options shape one run.
type options struct {
	Nodes    int
	Base     time.Duration // one way between two nodes
	Timing   raft.Timing
	Snapshot raft.SnapshotConfig
	// Without takes guards away, for negative controls; nil: none.
	Without func(*raft.Faults)
	// Pause is what a client waits between two requests, about.
	Pause time.Duration
}

func (o options) faults(string) *raft.Faults {
	f := &raft.Faults{}
	if o.Without != nil {
		o.Without(f)
	}
	return f
}

// world is one cluster in its bubble.
type world struct {
	t        testing.TB
	options  options
	random   *rand.Rand // of the goroutine of the run
	network  *network
	gossip   *gossipBus
	people   *people
	log      *eventLog
	history  *history
	first    []raft.Server
	dir      string
	wiped    *node // the one that the cluster must not take back, if any
	replaced bool  // a member was replaced, or is about to be
	all      atomic.Pointer[[]*node]
	clients  sync.WaitGroup
	quit     context.CancelFunc
	progress atomic.Int64 // writes that were acknowledged
}

// issue makes the certificates of every node there may be, as of the time at
// which bubbles begin.
func issue(t testing.TB) *people {
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	ca, err := pki.CreateCA("simulated", began)
	require.NoError(t, err)
	p := &people{pool: x509.NewCertPool(), certs: map[string]*tls.Certificate{}}
	require.True(t, p.pool.AppendCertsFromPEM(ca.Cert))
	for i := range 12 {
		id := fmt.Sprintf("n%d", i+1)
		pair, err := pki.IssueNode(ca, cluster.ID, id, began)
		require.NoError(t, err)
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		require.NoError(t, err)
		p.certs[id] = &cert
	}
	return p
}

// begin starts a cluster and waits until it serves. dir is on a real disk.
func begin(t testing.TB, p *people, dir string, seed uint64, o options) *world {
	part := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	network := newNetwork(part(1), o.Base)
	w := &world{
		t: t, options: o, random: part(2), network: network, people: p, history: newHistory(),
		gossip: &gossipBus{network: network, members: map[string]*gossiper{}}, log: &eventLog{began: time.Now()},
	}
	w.dir = dir
	for i := range o.Nodes {
		n := w.add(fmt.Sprintf("n%d", i+1), part(uint64(10+i)))
		w.first = append(w.first, raft.Server{ID: n.id, Address: n.id})
	}
	founder := w.members()[0]
	require.NoError(t, raft.Bootstrap(founder.config(&process{node: founder, dead: make(chan struct{})}), w.first, cluster.Genesis(t)))
	founder.disk.stop()
	for _, n := range w.members() {
		require.NoError(t, n.start())
	}
	w.await("the folder of every node", func() bool {
		l := w.leader()
		return l != nil && !slices.ContainsFunc(w.members(), func(n *node) bool {
			r := l.raft.Local().ClusterNode(n.id)
			return r == nil || r.Folder == nil
		})
	})
	return w
}

func (w *world) add(id string, random *rand.Rand) *node {
	n := &node{world: w, id: id, dir: filepath.Join(w.dir, id), disk: newDisk(random), cert: w.people.certs[id]}
	n.disk.crash = func() { n.crash("in a write of its disk", w.network.chance(0.5)) }
	require.NoError(w.t, n.place())
	// A new slice: clients read the old one.
	all := append(slices.Clone(w.members()), n)
	w.all.Store(&all)
	return n
}

// members answers every node that there ever was.
func (w *world) members() []*node {
	if all := w.all.Load(); all != nil {
		return *all
	}
	return nil
}

func (n *network) chance(p float64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.random.Float64() < p
}

// patience bounds a wait, in simulated time.
const patience = 2 * time.Minute

// await looks every few simulated milliseconds until done, and answers whether
// that was within the patience; it is a violation if not.
func (w *world) await(what string, done func() bool) bool {
	for late := time.Now().Add(patience); !done(); {
		if time.Now().After(late) {
			w.history.violation("waited %v in vain for %s", patience, what)
			return false
		}
		<-time.After(5 * time.Millisecond)
	}
	return true
}

// leader answers a process that leads and is ready, nil if there is none.
func (w *world) leader() *process {
	for _, n := range w.members() {
		if p := n.running(); p != nil {
			if _, self, _ := p.raft.Leader(); self {
				return p
			}
		}
	}
	return nil
}

// end stops everything and waits for it.
func (w *world) end() {
	if w.quit != nil {
		w.quit()
	}
	for _, n := range w.members() {
		n.crash("the run is over", false)
	}
	w.clients.Wait()
	for _, n := range w.members() {
		n.ending.Wait()
	}
}

const registers = 3

// load starts clients, each of which sends one request after the other.
func (w *world) load(clients int) {
	ctx, quit := context.WithCancel(context.Background())
	w.quit = quit
	for i := range clients {
		random := rand.New(rand.NewPCG(w.random.Uint64(), uint64(i)))
		w.clients.Go(func() {
			c := client{w, fmt.Sprintf("c%d", i+1), random, 0}
			for ctx.Err() == nil {
				c.one(ctx)
				select {
				case <-time.After(w.options.Pause/2 + time.Duration(random.Int64N(int64(w.options.Pause)))):
				case <-ctx.Done():
				}
			}
		})
	}
}

type client struct {
	*world
	name   string
	random *rand.Rand
	tried  int
}

// one sends a request to any node: a write or a read as a leader serves them,
// or a read as a follower does.
func (c *client) one(ctx context.Context) {
	n := c.members()[c.random.IntN(len(c.members()))]
	if l := c.leader(); l != nil && c.random.IntN(3) > 0 {
		n = l.node
	}
	p := n.running()
	if p == nil {
		return
	}
	register := fmt.Sprintf("r%d", c.random.IntN(registers))
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	switch c.random.IntN(3) {
	case 0:
		c.tried++
		c.put(ctx, p, register, fmt.Sprintf("%s-%d", c.name, c.tried))
	case 1:
		c.get(ctx, p, register, func() (*fsm.State, error) { return p.raft.ReadState(ctx) })
	default:
		c.get(ctx, p, register, func() (*fsm.State, error) {
			reading, err := p.raft.AskLeader(ctx, nil)
			return reading.State, err
		})
	}
}

func (c *client) get(_ context.Context, p *process, register string, read func() (*fsm.State, error)) {
	o := &op{client: c.name + "@" + p.node.id, register: register}
	c.history.begin(o, nil)
	state, err := read()
	if err == nil && p.alive() {
		c.history.end(o, state.Index(), cluster.Value(state, register))
	}
}

func (c *client) put(ctx context.Context, p *process, register, value string) bool {
	command, err := fsm.Encode(fsm.PutPolicy{
		Meta: fsm.Meta{Time: time.Now().UnixMilli(), Principal: "admin", RequestID: value},
		Name: register, Statements: []fsm.Statement{{Effect: "allow", Actions: []string{value}, Paths: []string{"/x/*"}}},
	})
	if err != nil {
		c.history.violation("encode: %v", err)
		return false
	}
	o := &op{client: c.name + "@" + p.node.id, write: true, register: register, value: value}
	c.history.begin(o, command)
	result, err := p.raft.Propose(ctx, command)
	switch {
	case !p.alive():
	case err == nil && result.Refused != nil:
		c.history.violation("refused: %s", result.Refused.Message)
	case err == nil:
		c.history.end(o, result.Index, value)
		c.progress.Add(1)
		return true
	case isNoLeader(err):
		c.history.not(o)
	}
	return false
}

// recover mends everything, starts everybody, and holds the cluster to what it
// promises then: it serves through every node, and all states are the same.
func (w *world) recover() {
	w.log.add("everything is mended")
	w.network.mend()
	for _, n := range w.members() {
		n.disk.set(func() { n.disk.slow, n.disk.crashAt, n.disk.fails = 0, 0, false })
		if err := n.start(); err != nil {
			w.history.violation("%s does not start: %v", n.id, err)
			return
		}
	}
	had := w.progress.Load()
	if !w.await("writes after everything was mended", func() bool { return w.progress.Load() > had+5 }) {
		return
	}
	w.quit()
	w.clients.Wait()
	last := &client{w, "last", w.random, 0}
	ok := w.await("a last write", func() bool {
		l := w.leader()
		if l == nil {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		last.tried++
		return last.put(ctx, l, "r0", fmt.Sprintf("last-%d", last.tried))
	})
	if !ok {
		return
	}
	w.await("equal states everywhere", func() bool {
		l := w.leader()
		if l == nil {
			return false
		}
		want := l.raft.Local()
		for _, n := range w.members() {
			record, p := want.ClusterNode(n.id), n.running()
			if record == nil || record.Removed() || w.wiped == n {
				continue
			}
			if p == nil || p.raft.Standing() != nil || p.raft.Mending() {
				return false
			}
			if got := p.raft.Local(); got.Index() != want.Index() || got.Hash() != want.Hash() {
				return false
			}
		}
		return want.Index() >= w.history.highest()
	})
	w.await("a read through every node", func() bool {
		for _, n := range w.members() {
			if p := n.running(); p == nil || p.raft.Standing() == nil && !w.reads(last, p) {
				return false
			}
		}
		return true
	})
}

func (w *world) reads(c *client, p *process) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	served := false
	c.get(ctx, p, "r0", func() (*fsm.State, error) {
		state, err := p.raft.ReadState(ctx)
		if err != nil {
			var reading raft.Reading
			reading, err = p.raft.AskLeader(ctx, nil)
			state = reading.State
		}
		served = err == nil
		return state, err
	})
	return served
}

// scratch is a folder for the small files of nodes, in memory where there is
// one: the disks of a simulation are simulated.
func scratch(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "strongroom-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	return dir
}
