package raft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"

	hraft "github.com/hashicorp/raft"
)

// Node is one node of the cluster. It is safe for concurrent use.
type Node struct {
	cfg     Config
	data    *dataDir
	logs    hraft.LogStore // data.logs behind the library's cache
	machine *machine
	mending mending
	// forgotten: see forgotten.go
	forgotten forgotten
	in        *inbound
	link      *link
	links     *linkListener
	guard     *guard
	space     space
	gossip    *gossip
	gate      *gate
	// follower asks the leader, and handler answers who follows: follow.go.
	follower *follower
	handler  atomic.Pointer[Handler]
	metrics  *metrics

	raft    *hraft.Raft
	started chan struct{} // closed when raft is set, or never will be
	catchUp catchUp

	transferring atomic.Bool
	failed       atomic.Bool
	refused      atomic.Pointer[string]   // why this node must not take part
	waiting      atomic.Pointer[string]   // why it is not admitted yet
	strange      atomic.Bool              // nobody knows it yet
	learned      atomic.Pointer[[]Server] // members that admitted this node
	equalAt      atomic.Uint64            // highest index at which a majority is known to have our state
	apart        atomic.Pointer[[]string] // members that have another state than this node
	pilot        pilot
	removals     sync.Mutex // held from the check of a removal to its commit

	mu         sync.Mutex
	office     *tenure
	leaderWork []func(context.Context)
	closing    bool

	stop      context.CancelFunc
	work      sync.WaitGroup // everything this node runs, proposals aside
	proposals sync.WaitGroup
	closed    chan struct{}
	closeErr  error
}

// Open starts the node on its data folder. m must be new; the node restores
// it and is from then on the only one to apply to it. Errors say what is
// wrong with the folder, the configuration or an address; nothing keeps
// running after one.
func Open(ctx context.Context, cfg Config, m *fsm.Machine) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, errors.Join(err, closeListener(cfg.LinkListener))
	}
	n := &Node{cfg: cfg, pilot: pilot{kicks: make(chan struct{}, 1)}, started: make(chan struct{}), closed: make(chan struct{})}
	n.machine = newMachine(m, n.fail, cfg.Faults)
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.abandon())
	}
	return n, nil
}

func closeListener(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

func (n *Node) open(ctx context.Context) error {
	if err := n.openStores(); err != nil {
		return errors.Join(err, closeListener(n.cfg.LinkListener))
	}
	if err := n.openLink(ctx); err != nil {
		return err
	}
	var err error
	if n.gossip, err = openGossip(n.cfg, n.self); err != nil {
		return err
	}
	if err := n.startRaft(); err != nil {
		return err
	}
	if err := n.checkMembers(); err != nil {
		return err
	}
	if n.metrics, err = newMetrics(n.cfg.Registerer, n); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.gate, n.follower = newGate(n), newFollower(n)
	n.work.Go(func() { n.gate.run(running) })
	n.work.Go(func() { n.follower.run(running) })
	n.work.Go(func() { n.lead(running) })
	n.work.Go(func() { n.watchDisk(running) })
	n.work.Go(func() { n.watchSpace(running) })
	n.work.Go(func() { n.watchMending(running) })
	n.work.Go(func() { n.gossip.run(running, n.memberCount) })
	n.work.Go(func() { n.cutStrangers(running) })
	n.work.Go(func() { n.attend(running) })
	n.work.Go(func() { n.machine.marker.run(running, n.fail) })
	n.work.Go(func() { n.compareStates(running) })
	n.OnLeadership(n.steer)
	n.OnLeadership(n.raiseLevel)
	n.OnLeadership(n.heed)
	n.link.run()
	return nil
}

func (n *Node) openStores() error {
	var err error
	if n.data, err = openDataDir(n.cfg); err != nil {
		return err
	}
	n.data.logs.mustStop = n.fail
	n.data.logs.before = n.cfg.Faults.BeforeStore
	n.data.logs.stored = func() {
		if err := n.data.mark(); err != nil {
			n.fail(err)
		}
	}
	n.data.snaps.stored = n.data.mark
	n.space.least = n.cfg.MinFreeBytes
	if err := n.space.look(n.cfg.DataDir); err != nil {
		return err
	}
	if err := n.data.verify(n.cfg.Logger, &n.mending); err != nil {
		return err
	}
	birth, err := n.data.logs.number(keyBirthTerm)
	if err != nil {
		return err
	}
	n.data.birth = max(birth, 1)
	n.logs, err = hraft.NewLogCache(512, n.data.logs)
	return err
}

func (n *Node) openLink(ctx context.Context) error {
	cert, err := n.cfg.Certificate()
	if err != nil {
		return errors.Join(fmt.Errorf("node link certificate: %w", err), closeListener(n.cfg.LinkListener))
	}
	id := &identity{cluster: n.cfg.ClusterID, certificate: n.cfg.Certificate, authorities: n.cfg.Authorities, member: n.isMember}
	if err := id.checkOwn(cert, n.cfg.NodeID); err != nil {
		return errors.Join(fmt.Errorf("node link certificate: %w", err), closeListener(n.cfg.LinkListener))
	}
	listener := n.cfg.LinkListener
	if listener == nil {
		var lc net.ListenConfig
		if listener, err = lc.Listen(ctx, "tcp", n.cfg.BindAddress); err != nil {
			return fmt.Errorf("node link: %w", err)
		}
	}
	n.in = newInbound(n.cfg.Faults, n.cfg.Logger)
	n.in.address, n.in.following, n.in.failed, n.in.voteless, n.in.standing, n.in.full = n.addressOf, n.following, n.failed.Load, n.voteless, n.Standing, n.space.full
	n.in.outgrown = n.outgrown
	n.link = newLink(n.cfg, id, listener, n.in)
	n.link.join = n.answerJoin
	n.link.level = n.answerLevel
	n.link.stranger = func(peer string, from net.Addr) {
		remote, _ := netip.ParseAddrPort(from.String())
		n.seeRemoved(peer, remote.Addr().Unmap())
	}
	n.link.reads = n.serveFollower
	n.link.marks = n.serveMarks
	n.links = &linkListener{link: n.link, closed: make(chan struct{})}
	return nil
}

func (n *Node) startRaft() (err error) {
	defer close(n.started)
	// The library panics over some damage that it finds while it starts.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("start raft: %v", p)
		}
	}()
	transport := hraft.NewNetworkTransportWithConfig(&hraft.NetworkTransportConfig{
		Stream:          outbound{n.link, n.servers},
		MaxPool:         3,
		MaxRPCsInFlight: 1,
		Timeout:         max(2*time.Second, 4*n.cfg.Timing.Heartbeat),
		Logger:          newLibraryLogger(n.cfg.Logger),
	})
	n.guard = newGuard(transport, n.in, n.silent, n.voteless, n.cfg.Faults)
	if err := checkPreVote(n.guard); err != nil {
		return err
	}
	n.raft, err = hraft.NewRaft(n.cfg.library(), n.machine, n.logs, n.data.logs, n.data.snaps, n.guard)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	return nil
}

// checkMembers: a node that knows nobody would refuse everybody, without end.
func (n *Node) checkMembers() error {
	if len(n.servers()) == 0 && len(n.cfg.Join()) == 0 {
		return errors.New("raft: this node has heard from no cluster yet, and its configuration names no initial members " +
			"that it may hear from, nor addresses of a cluster to join; set the initial members, the same as on the node where the cluster is " +
			"initialised, or where to join")
	}
	return nil
}

// servers answers the members of the latest configuration, or, while there is
// none, those that admitted this node, or the initial ones.
func (n *Node) servers() []Server {
	<-n.started
	if n.raft != nil {
		var out []Server
		for _, s := range n.raft.GetConfiguration().Configuration().Servers {
			out = append(out, Server{ID: string(s.ID), Address: string(s.Address)})
		}
		if len(out) > 0 {
			return out
		}
	}
	if learned := n.learned.Load(); learned != nil {
		return *learned
	}
	return n.cfg.InitialMembers
}

// addressOf answers where the member id is, if it is one.
func (n *Node) addressOf(id string) (string, bool) {
	for _, s := range n.servers() {
		if s.ID == id {
			return s.Address, true
		}
	}
	return "", false
}

func (n *Node) isMember(id string) bool {
	_, ok := n.addressOf(id)
	return ok
}

// following reports whether this node follows a leader of term.
func (n *Node) following(term uint64) bool {
	<-n.started
	return n.raft != nil && n.raft.State() == hraft.Follower && n.raft.CurrentTerm() == term
}

func (n *Node) memberCount() int { return len(n.servers()) }

// fail ends this node: it answers and sends nothing of a leader's any more,
// and the host is told, once.
func (n *Node) fail(err error) {
	if n.failed.Swap(true) {
		return
	}
	n.cfg.Logger.Error("this node must stop", "error", err)
	n.cfg.Fatal(err)
}

// silent reports whether this node must not act as a leader: its log has
// failed or hangs. Followers hear nothing and elect another.
func (n *Node) silent() bool {
	if n.failed.Load() || n.refused.Load() != nil {
		return true
	}
	return !n.cfg.Faults.NoStallGuard && n.data.logs.stalledFor() > n.cfg.Timing.StallMax
}

// voteless reports whether this node must neither vote nor stand for
// election: see mending.
func (n *Node) voteless() bool { return n.mending.going() && !n.cfg.Faults.VoteWhileMending }

// watchDisk ends the node when a log write does not return. A process that
// waits for a dead disk cannot be told from one that is dead, except that it
// holds its clients.
func (n *Node) watchDisk(ctx context.Context) {
	tick := time.NewTicker(max(time.Millisecond, n.cfg.Timing.StallMax/8))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if d := n.data.logs.stalledFor(); d > n.cfg.Timing.StallFatal {
			n.fail(fmt.Errorf("a write of the log has not returned for %v: the disk of %s hangs", d.Round(time.Millisecond), n.cfg.DataDir))
		}
	}
}

// cutStrangers closes connections of members that were removed, and of those
// whose certificates nobody vouches for any more.
func (n *Node) cutStrangers(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.link.cut(n.isMember)
			n.Retrust()
		case <-ctx.Done():
			return
		}
	}
}

// Term answers the current term.
func (n *Node) Term() uint64 { return n.raft.CurrentTerm() }

// Moved answers a channel that is closed when something was applied after
// this call: by then, Local has it.
func (n *Node) Moved() <-chan struct{} {
	_, moved := n.machine.progress()
	return moved
}

// Local answers the state of this node, which may be behind. It is never nil.
func (n *Node) Local() *fsm.State { return n.machine.State() }

// Leader answers who leads, as far as this node knows. self is true only
// when this node leads and is ready to serve; while it leads and is not,
// nobody is known.
func (n *Node) Leader() (id string, self, known bool) {
	if n.tenure() != nil {
		return n.cfg.NodeID, true, true
	}
	_, leader := n.raft.LeaderWithID()
	if leader == "" || string(leader) == n.cfg.NodeID {
		return "", false, false
	}
	return string(leader), false, true
}

// SetHealth gossips the state of this node's HSM, a word of at most 32 bytes,
// and whether its audit trail takes events: TrailOK or TrailDown.
func (n *Node) SetHealth(hsm, trail string) { n.gossip.setHealth(hsm, trail) }

// LinkListener answers the listener for connections of the link protocol
// from members; each has a method PeerID() string. Closing it leaves the
// node link open.
func (n *Node) LinkListener() net.Listener { return n.links }

// DialLink opens a connection of the link protocol to a member.
func (n *Node) DialLink(ctx context.Context, nodeID string) (net.Conn, error) {
	if address, ok := n.addressOf(nodeID); ok {
		return n.link.dial(ctx, nodeID, address, protocolLink)
	}
	return nil, fault.New(fault.NotFound, "node %q is no member of this cluster", nodeID)
}
