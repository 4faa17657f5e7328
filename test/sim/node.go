package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

// node is one member: its disk and its certificate for ever, and its process
// while it runs.
type node struct {
	world *world
	id    string
	dir   string
	disk  *disk
	cert  *tls.Certificate
	joins bool // not one of the first members

	mu      sync.Mutex
	process *process       // nil: down
	ending  sync.WaitGroup // processes that are dead and being cleared away
}

// process is one start of a node. What it does after its death is done by
// nobody: its writes vanish, nothing of it arrives, what it answers is not
// taken.
type process struct {
	node *node
	raft *raft.Node // nil while it starts
	dead chan struct{}
}

func (p *process) alive() bool {
	select {
	case <-p.dead:
		return false
	default:
		return true
	}
}

// running answers the process, nil while the node is down or starts.
func (n *node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil || n.process.raft == nil {
		return nil
	}
	return n.process
}

// start boots a node that is down. An error is what raft.Open said. A node
// that ends again meanwhile was started all the same. No lock is held while
// time passes: who waits for one does not let it pass.
func (n *node) start() error {
	n.ending.Wait()
	p := &process{node: n, dead: make(chan struct{})}
	n.mu.Lock()
	if n.process != nil {
		n.mu.Unlock()
		return nil
	}
	n.process = p
	n.ending.Add(1)
	n.mu.Unlock()
	defer n.ending.Done()
	n.world.log.add("%s starts", n.id)
	cfg := n.config(p)
	cfg.LinkListener = n.world.network.listen(n.id)
	r, err := raft.Open(context.Background(), cfg, fsm.New())
	n.mu.Lock()
	if n.process == p && err == nil {
		p.raft = r
	} else if n.process == p {
		n.process = nil
	}
	n.mu.Unlock()
	switch {
	case err == nil && p.alive():
		r.SetHealth(raft.HSMHealthy, raft.TrailOK)
		return nil
	case err == nil:
		return r.Close(context.Background())
	case p.alive():
		return err
	}
	return nil
}

// crash ends the process between two instructions. gone: with its machine, so
// that nobody is told.
func (n *node) crash(why string, gone bool) {
	n.mu.Lock()
	p := n.process
	if p == nil {
		n.mu.Unlock()
		return
	}
	n.process = nil
	close(p.dead)
	opened := p.raft
	n.mu.Unlock()
	n.world.log.add("%s ends: %s", n.id, why)
	n.disk.stop()
	n.world.network.reset(n.id, gone)
	n.world.gossip.forget(n.id)
	if opened == nil {
		return // start clears it away
	}
	n.ending.Go(func() {
		if err := opened.Close(context.Background()); err != nil {
			n.world.log.add("%s: clearing away: %v", n.id, err)
		}
	})
}

func (n *node) config(p *process) raft.Config {
	w := n.world
	logger := slog.New(&handler{log: w.log, id: n.id, world: w, process: p})
	faults := w.options.faults(n.id)
	faults.Witness = func(index, term uint64, command []byte, hash [32]byte) {
		if p.alive() {
			w.history.applied(n.id, index, term, command, hash)
		}
	}
	var database *database
	out := raft.Config{
		NodeID: n.id, ClusterID: cluster.ID, DataDir: n.dir,
		Storage: func(bool) (*atrest.Keys, error) {
			return atrest.New(cluster.ID, n.id, map[uint32]secret.Bytes{1: secret.Copy(storageKey)})
		},
		BindAddress: n.id, AdvertiseAddress: n.id, APIAddress: "https://" + n.id, Version: "simulated",
		Certificate: func() (*tls.Certificate, error) { return n.cert, nil }, Authorities: func() *x509.CertPool { return w.people.pool },
		InitialMembers: w.first,
		Gossip:         raft.GossipConfig{BindAddress: "simulated:0", Keys: []secret.Bytes{secret.Copy(storageKey)}},
		Timing:         w.options.Timing, Snapshot: w.options.Snapshot,
		Logger: logger, Faults: faults,
		Fatal: func(err error) {
			if p.alive() {
				go n.crash("fatal: "+err.Error(), false)
			}
		},
		Simulation: &raft.Simulation{
			Dial: func(ctx context.Context, to string) (net.Conn, error) {
				if !p.alive() {
					return nil, errGone
				}
				return w.network.dial(ctx, n.id, to)
			},
			OpenLog: func() (raft.LogDatabase, error) {
				database = n.disk.boot()
				return database, nil
			},
			BeforeFile: func(string) error {
				if database == nil || database.of != n.disk.current() {
					return errGone
				}
				return nil
			},
			Gossip: w.gossip.add,
		},
	}
	if n.joins {
		out.InitialMembers = nil
		out.Join = func() []string {
			var all []string
			for _, s := range w.first {
				all = append(all, s.Address)
			}
			return all
		}
	}
	return out
}

// wipe empties the node's disk. It is down. It never takes part again under
// its id.
func (n *node) wipe() error {
	n.ending.Wait()
	n.world.wiped = n
	n.disk.set(func() {
		fresh := newDisk(n.disk.random)
		n.disk.now, n.disk.durable = fresh.now, fresh.durable
	})
	if err := os.RemoveAll(n.dir); err != nil {
		return err
	}
	return n.place()
}

// place makes the folder with a file where raft.db would be.
func (n *node) place() error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.dir, "raft.db"), []byte("simulated\n"), 0o600)
}

var storageKey = []byte("0123456789abcdef0123456789abcdef")

// handler takes what nodes log into the log of the run, and from it who leads.
type handler struct {
	log     *eventLog
	world   *world
	id      string
	process *process
	attrs   []slog.Attr
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.attrs = append(append([]slog.Attr(nil), h.attrs...), attrs...)
	return &out
}

func (h *handler) WithGroup(string) slog.Handler { return h }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	if !h.process.alive() {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", h.id, r.Message)
	each := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		if r.Message == "this node leads the cluster" && a.Key == "term" {
			h.world.history.leads(h.id, a.Value.Uint64())
		}
		return true
	}
	for _, a := range h.attrs {
		each(a)
	}
	r.Attrs(each)
	h.log.add("%s", b.String())
	return nil
}

// eventLog is what happened, with simulated times: the end of it, if there was
// much.
type eventLog struct {
	began time.Time
	mu    sync.Mutex
	lines []string
}

const keepLines = 4000

func (l *eventLog) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) >= 2*keepLines {
		l.lines = append(l.lines[:0], l.lines[keepLines:]...)
	}
	l.lines = append(l.lines, fmt.Sprintf("%9.4fs ", time.Since(l.began).Seconds())+fmt.Sprintf(format, args...))
}

func (l *eventLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-keepLines):], "\n")
}

// gossipBus stands in for memberlist: what a node says, the others hear if
// nothing is between them.
type gossipBus struct {
	network *network
	mu      sync.Mutex
	members map[string]*gossiper
}

type gossiper struct {
	bus  *gossipBus
	id   string
	say  func() []byte
	hear func(id string, said []byte)
}

func (b *gossipBus) add(id string, say func() []byte, hear func(string, []byte)) raft.Gossiper {
	g := &gossiper{b, id, say, hear}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members[id] = g
	return g
}

func (b *gossipBus) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.members, id)
}

func (g *gossiper) UpdateNode(time.Duration) error {
	g.bus.mu.Lock()
	var others []*gossiper
	for _, o := range g.bus.members {
		if g.bus.members[g.id] == g && !g.bus.network.isCut(line{g.id, o.id}) {
			others = append(others, o)
		}
	}
	g.bus.mu.Unlock()
	said := g.say()
	for _, o := range others {
		o.hear(g.id, said)
	}
	return nil
}

func (g *gossiper) Join([]string) (int, error) { return 0, nil }
func (g *gossiper) Leave(time.Duration) error  { return nil }

func (g *gossiper) Shutdown() error {
	g.bus.mu.Lock()
	defer g.bus.mu.Unlock()
	if g.bus.members[g.id] == g {
		delete(g.bus.members, g.id)
	}
	return nil
}

// people are the certificates, made once: all bubbles begin at the same time.
type people struct {
	pool  *x509.CertPool
	certs map[string]*tls.Certificate
}
