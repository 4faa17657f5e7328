// Package cluster runs a whole cluster of raft nodes in one process, over
// real TCP, certificates and disks, for tests. What it cannot do is lose what
// was not synced; killing processes and cutting power is for other tests.
package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/pki"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/raft"
)

// Patience is how long a test waits for what must come. It is for loaded
// machines, not a promise.
const Patience = 60 * time.Second

// ID is the cluster id of every test cluster.
const ID = "c1"

// Options shape a cluster. Zero values mean the defaults of package raft.
type Options struct {
	Timing   raft.Timing
	Snapshot raft.SnapshotConfig
	// Faults is called for each node, once for its whole life.
	Faults func(id string) *raft.Faults
}

// Cluster is a number of nodes. Its methods are for the goroutine of the
// test, those of Node for any.
type Cluster struct {
	t       testing.TB
	options Options
	ca      pki.Pair
	key     []byte
	Nodes   []*Node
}

// Node is one member, which may be down.
type Node struct {
	ID      string
	Address string
	DataDir string
	// Fatal gets what the node calls Fatal with.
	Fatal chan error
	// Joins: it is none of the first members. Token is the join token that it
	// brings, if any.
	Joins bool
	Token string
	// Admitted, if set, is called with what this node decided about others.
	Admitted func(raft.Admission)

	cluster *Cluster
	cert    tls.Certificate
	faults  *raft.Faults
	// StorageKeys are the node's, by generation, where a program has its HSM
	// keep them.
	StorageKeys map[uint32][]byte
	dead        atomic.Bool
	gossip      string
	raft        atomic.Pointer[raft.Node]
	machine     *fsm.Machine
}

// NewStorageKey answers a storage key.
func NewStorageKey(t testing.TB) []byte {
	key := make([]byte, atrest.KeyBytes)
	_, err := rand.Read(key)
	require.NoError(t, err)
	return key
}

// storage answers the storage keys of the node.
func (n *Node) storage(bool) (*atrest.Keys, error) {
	keys := map[uint32]secret.Bytes{}
	for generation, key := range n.StorageKeys {
		keys[generation] = secret.Copy(key)
	}
	return atrest.New(ID, n.ID, keys)
}

// newMachine is what the build that the node counts as would apply to.
func (n *Node) newMachine() *fsm.Machine { return fsm.NewAt(max(n.faults.Level, fsm.Level)) }

func (n *Node) admitted(a raft.Admission) {
	if n.Admitted != nil {
		n.Admitted(a)
	}
}

// SetLevel has the node, which is down, count as of a build that knows level.
func (n *Node) SetLevel(level uint32) { n.faults.Level = level }

// Raft answers the running node, nil while it is down.
func (n *Node) Raft() *raft.Node { return n.raft.Load() }

// Start starts a cluster of n nodes, named "n1" and so on, and waits for a
// leader. The test stops it when it ends.
func Start(t testing.TB, n int) *Cluster { return StartWith(t, n, Options{}) }

// StartWith is Start with options.
func StartWith(t testing.TB, n int, options Options) *Cluster {
	t.Helper()
	ca, err := pki.CreateCA("test", time.Now())
	require.NoError(t, err)
	c := &Cluster{t: t, options: options, ca: ca, key: []byte("0123456789abcdef0123456789abcdef")}
	var listeners []net.Listener
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		listeners = append(listeners, l)
		c.Nodes = append(c.Nodes, c.node(fmt.Sprintf("n%d", i+1), l.Addr().String()))
	}
	require.NoError(t, raft.Bootstrap(c.config(c.Nodes[0]), c.servers(), Genesis(t)))
	t.Cleanup(c.stopAll)
	for i, node := range c.Nodes {
		c.open(node, listeners[i])
	}
	c.Leader()
	return c
}

func (c *Cluster) node(id, address string) *Node {
	pair, err := pki.IssueNode(c.ca, ID, id, time.Now())
	require.NoError(c.t, err)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	require.NoError(c.t, err)
	n := &Node{
		StorageKeys: map[uint32][]byte{1: NewStorageKey(c.t)}, ID: id, Address: address, DataDir: filepath.Join(c.t.TempDir(), id), Fatal: make(chan error, 1),
		cluster: c, cert: cert, faults: &raft.Faults{}, gossip: "127.0.0.1:0",
	}
	if c.options.Faults != nil {
		n.faults = c.options.Faults(id)
	}
	cut := n.faults.Cut
	n.faults.Cut = func(peer string) bool { return n.dead.Load() || cut != nil && cut(peer) }
	return n
}

func (c *Cluster) servers() []raft.Server {
	var out []raft.Server
	for _, n := range c.Nodes {
		if !n.Joins {
			out = append(out, raft.Server{ID: n.ID, Address: n.Address})
		}
	}
	return out
}

// Add makes a node that is none of the first members, at an address of its own
// or at the given one. It does not start it.
func (c *Cluster) Add(id, address string) *Node {
	c.t.Helper()
	if address == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(c.t, err)
		address = l.Addr().String()
		require.NoError(c.t, l.Close())
	}
	n := c.node(id, address)
	n.Joins = true
	c.Nodes = append(c.Nodes, n)
	return n
}

// Wipe empties the folder of a node that is down.
func (c *Cluster) Wipe(n *Node) {
	c.t.Helper()
	require.Nil(c.t, n.Raft(), "the node is down")
	require.NoError(c.t, os.RemoveAll(n.DataDir))
}

func (c *Cluster) config(n *Node) raft.Config {
	pool := x509.NewCertPool()
	require.True(c.t, pool.AppendCertsFromPEM(c.ca.Cert))
	out := raft.Config{
		NodeID: n.ID, ClusterID: ID, DataDir: n.DataDir, Storage: n.storage,
		BindAddress: n.Address, AdvertiseAddress: n.Address, APIAddress: "https://" + n.ID, Version: "test",
		Certificate: func() (*tls.Certificate, error) { return &n.cert, nil }, Authorities: func() *x509.CertPool { return pool },
		InitialMembers: c.servers(),
		Gossip:         raft.GossipConfig{BindAddress: n.gossip, Keys: []secret.Bytes{secret.Copy(c.key)}},
		Timing:         c.options.Timing, Snapshot: c.options.Snapshot,
		Faults: n.faults, Admitted: n.admitted,
		Fatal: func(err error) {
			select {
			case n.Fatal <- err:
			default:
			}
		},
	}
	if n.Joins {
		out.InitialMembers = nil
		out.Join = func() []string {
			var addresses []string
			for _, s := range c.servers() {
				addresses = append(addresses, s.Address)
			}
			return addresses
		}
		if n.Token != "" {
			out.JoinToken = func() (secret.Bytes, error) { return secret.Copy([]byte(n.Token)), nil }
		}
	}
	for _, other := range c.Nodes {
		if other != n && other.gossip != "127.0.0.1:0" {
			out.Gossip.Seeds = append(out.Gossip.Seeds, other.gossip)
		}
	}
	return out
}

func (c *Cluster) open(n *Node, l net.Listener) {
	c.t.Helper()
	config := c.config(n)
	config.LinkListener = l
	n.machine = n.newMachine()
	r, err := raft.Open(context.Background(), config, n.machine)
	require.NoError(c.t, err)
	n.gossip = r.GossipAddress()
	n.raft.Store(r)
}

// StartNode starts a node that is down, on its old folder and address.
func (c *Cluster) StartNode(n *Node) {
	c.t.Helper()
	n.dead.Store(false)
	c.open(n, nil)
}

// RefusesToStart answers why a node that is down does not start.
func (c *Cluster) RefusesToStart(n *Node) error {
	c.t.Helper()
	_, err := raft.Open(context.Background(), c.config(n), n.newMachine())
	require.Error(c.t, err)
	return err
}

// Config is what a node is opened with.
func (c *Cluster) Config(n *Node) raft.Config { return c.config(n) }

// Stop closes the node in good order.
func (c *Cluster) Stop(n *Node) {
	c.t.Helper()
	r := n.raft.Swap(nil)
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	require.NoError(c.t, r.Close(ctx))
}

// Kill cuts the node off at once, mid-sentence, and then closes it.
func (c *Cluster) Kill(n *Node) {
	c.t.Helper()
	n.dead.Store(true)
	c.Stop(n)
}

func (c *Cluster) stopAll() {
	for _, n := range c.Nodes {
		c.Stop(n)
	}
}

// Leader waits for a node that leads and serves.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	return c.LeaderAmong(c.Nodes...)
}

// LeaderAmong waits for one of nodes to lead and serve.
func (c *Cluster) LeaderAmong(nodes ...*Node) *Node {
	c.t.Helper()
	var leader *Node
	Await(c.t, "a leader", func() bool {
		for _, n := range nodes {
			if r := n.Raft(); r != nil {
				if _, self, _ := r.Leader(); self {
					leader = n
					return true
				}
			}
		}
		return false
	})
	return leader
}

// Others answers every node but n.
func (c *Cluster) Others(n *Node) []*Node {
	var out []*Node
	for _, other := range c.Nodes {
		if other != n {
			out = append(out, other)
		}
	}
	return out
}

// Await polls until done, for at most Patience.
func Await(t testing.TB, what string, done func() bool) {
	t.Helper()
	require.Eventually(t, done, Patience, 2*time.Millisecond, "waiting for %s", what)
}

// DamageEntry flips a bit in an entry, if it is there, of the log of a node
// that is down.
func (n *Node) DamageEntry(t testing.TB, index uint64) {
	t.Helper()
	n.withDatabase(t, func(db *boltstore.BoltStore) {
		var e hraft.Log
		err := db.GetLog(index, &e)
		if errors.Is(err, hraft.ErrLogNotFound) {
			return
		}
		require.NoError(t, err)
		e.Data[len(e.Data)-1] ^= 1
		require.NoError(t, db.StoreLog(&e))
	})
}

// LogRange answers the first and last index in the log of a node that is down.
func (n *Node) LogRange(t testing.TB) (first, last uint64) {
	t.Helper()
	n.withDatabase(t, func(db *boltstore.BoltStore) {
		var err error
		first, err = db.FirstIndex()
		require.NoError(t, err)
		last, err = db.LastIndex()
		require.NoError(t, err)
	})
	return first, last
}

// Tamper puts to in the place of from, which has the same length, in the state
// of a node to which nothing is applied meanwhile, as bad memory would: index
// and state hash stay.
func (n *Node) Tamper(t testing.TB, from, to string) {
	t.Helper()
	require.Len(t, to, len(from))
	var b bytes.Buffer
	_, err := n.machine.Snapshot().WriteTo(&b)
	require.NoError(t, err)
	require.Contains(t, b.String(), from)
	body := bytes.ReplaceAll(b.Bytes()[:b.Len()-sha256.Size], []byte(from), []byte(to))
	sum := sha256.Sum256(body)
	require.NoError(t, n.machine.Restore(bytes.NewReader(append(body, sum[:]...))))
}

func (n *Node) withDatabase(t testing.TB, do func(*boltstore.BoltStore)) {
	t.Helper()
	db, err := boltstore.NewBoltStore(filepath.Join(n.DataDir, "raft.db"))
	require.NoError(t, err)
	do(db)
	require.NoError(t, db.Close())
}

// SnapshotIndex answers the index of the newest snapshot that the node has on
// disk, 0 if there is none.
func (n *Node) SnapshotIndex(t testing.TB) uint64 {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(n.DataDir, "snapshots"))
	require.NoError(t, err)
	var newest, term, index, at uint64
	for _, e := range entries {
		if count, _ := fmt.Sscanf(e.Name(), "%d-%d-%d", &term, &index, &at); count == 3 && filepath.Ext(e.Name()) != ".tmp" {
			newest = max(newest, index)
		}
	}
	return newest
}

// Snapshots answers how many snapshots the node has on disk.
func (n *Node) Snapshots() int {
	entries, err := os.ReadDir(filepath.Join(n.DataDir, "snapshots"))
	if err != nil {
		return 0
	}
	count := 0
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".tmp" {
			count++
		}
	}
	return count
}
