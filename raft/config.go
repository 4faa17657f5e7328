package raft

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/secret"

	hraft "github.com/hashicorp/raft"
)

// Config describes one node. Zero values of optional fields take the
// documented default.
type Config struct {
	NodeID    string // equals the node that Certificate names
	ClusterID string
	DataDir   string // made with mode 0700 if it is not there; for this node only

	// Storage answers the keys that the data folder is sealed under. It is
	// called once, when the folder is locked; fresh says that nothing was
	// ever stored in it. An error of it ends Open or Bootstrap as it is.
	Storage func(fresh bool) (*atrest.Keys, error)

	BindAddress      string // host:port of the node link
	AdvertiseAddress string // where members reach this node, as in the Raft configuration; default: the address bound
	APIAddress       string // handed to the other members by gossip
	Version          string // of this build, handed on likewise

	// Certificate answers this node's certificate for the node link, with
	// the URI SAN strongroom://<ClusterID>/node/<NodeID>. It is asked at
	// each handshake.
	Certificate func() (*tls.Certificate, error)
	// CAs signs the nodes of this cluster and nothing else.
	CAs *x509.CertPool

	// InitialMembers are accepted on the node link while this node knows no
	// Raft configuration yet, that is before it has heard from a leader.
	InitialMembers []Server

	// Join answers addresses (host:port) of the node links of members, for a
	// node that is none yet; nil: it is one of InitialMembers. JoinToken answers
	// the one-time token that it brings, if it was not announced; it is asked
	// only until the node is admitted.
	Join      func() []string
	JoinToken func() (secret.Bytes, error)
	// Admitted is called on the leader with what it decided about a node that
	// asked to take part. It must not block for long.
	Admitted func(Admission)

	Gossip   GossipConfig
	Timing   Timing
	Snapshot SnapshotConfig

	MaxCommandBytes int // of one Propose; default 2 MiB, at most fsm.MaxCommandBytes
	MaxConnections  int // that members may hold on the node link, each; default 512

	// LinkListener is used instead of binding BindAddress, if set. The node
	// closes it.
	LinkListener net.Listener

	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // nil: no metrics

	// Fatal is called, once, when this node must not go on: its log or state
	// cannot be trusted, or its disk hangs. The node has fenced itself by
	// then: it neither leads nor votes nor answers reads. Fatal must not
	// block and must not call Close.
	Fatal func(error)

	// MinFreeBytes is the room on the disk of the data folder below which this
	// node takes no writes. 0: no bound.
	MinFreeBytes int64
	// Faults is for tests only; nil in every program.
	Faults *Faults
}

// Server is one member of the cluster.
type Server struct {
	ID      string
	Address string // host:port of its node link
}

// GossipConfig is where members find hints about each other. Nothing that
// gossip says changes the membership or decides a read.
type GossipConfig struct {
	BindAddress      string   // host:port; port 0 takes any
	AdvertiseAddress string   // host:port; default: the address bound
	Seeds            []string // host:port of the gossip of other members
	// MoreSeeds answers further seeds each time that they are needed; nil: none.
	MoreSeeds func() []string
	Key       []byte // 32 bytes, the same on every member
}

// Timing holds the clocks of consensus. All members should have the same.
// Zero means the default.
type Timing struct {
	Heartbeat time.Duration // silence of the leader after which a follower doubts it; default 300 ms
	Election  time.Duration // one election; default 300 ms, not below Heartbeat
	Lease     time.Duration // a leader that heard no majority for so long steps down; default 140 ms, at most Heartbeat/2
	Commit    time.Duration // how late a follower may learn that an entry is committed; default 10 ms

	StallMax   time.Duration // a log write older than this silences the node; default 2 s
	StallFatal time.Duration // a log write older than this calls Fatal; default 30 s

	ApplyTimeout time.Duration // how long a command may wait to be taken in; default 5 s
}

// SnapshotConfig says when the log is compacted. Zero means the default.
type SnapshotConfig struct {
	Threshold uint64        // entries since the last one; default 8192
	Interval  time.Duration // how often the threshold is looked at; default 2 min
	Trailing  uint64        // entries kept for followers that are behind; default 10240
}

// Defaults and limits of Config.
const (
	DefaultMaxCommand     = 2 << 20
	LimitMaxCommand       = fsm.MaxCommandBytes
	DefaultMaxConnections = 512
	retainSnapshots       = 3
)

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

func (c Config) withDefaults() Config {
	orDefault(&c.Timing.Heartbeat, 300*time.Millisecond)
	orDefault(&c.Timing.Election, max(300*time.Millisecond, c.Timing.Heartbeat))
	orDefault(&c.Timing.Lease, min(140*time.Millisecond, c.Timing.Heartbeat/2))
	orDefault(&c.Timing.Commit, 10*time.Millisecond)
	orDefault(&c.Timing.StallMax, 2*time.Second)
	orDefault(&c.Timing.StallFatal, max(30*time.Second, c.Timing.StallMax))
	orDefault(&c.Timing.ApplyTimeout, 5*time.Second)
	orDefault(&c.Snapshot.Threshold, 8192)
	orDefault(&c.Snapshot.Interval, 2*time.Minute)
	orDefault(&c.Snapshot.Trailing, 10240)
	orDefault(&c.MaxCommandBytes, DefaultMaxCommand)
	orDefault(&c.MaxConnections, DefaultMaxConnections)
	orDefault(&c.Logger, slog.New(slog.DiscardHandler))
	orDefault(&c.Faults, &Faults{})
	if c.Join == nil {
		c.Join = func() []string { return nil }
	}
	if c.Admitted == nil {
		c.Admitted = func(Admission) {}
	}
	if c.Fatal == nil {
		c.Fatal = func(error) {}
	}
	return c
}

// checkStore is what Bootstrap needs.
func (c Config) checkStore() error {
	switch {
	case c.NodeID == "":
		return errors.New("raft: NodeID is empty")
	case c.ClusterID == "":
		return errors.New("raft: ClusterID is empty")
	case c.DataDir == "":
		return errors.New("raft: DataDir is empty")
	case c.Storage == nil:
		return errors.New("raft: Storage is missing; a data folder has no mode without storage keys")
	}
	return nil
}

// check is what Open needs. The ratio of heartbeat and lease bounds how long
// an old leader takes itself for one; reads do not rely on it, but two
// leaders at once cost clients their requests.
func (c Config) check() error {
	if err := c.checkStore(); err != nil {
		return err
	}
	t := c.Timing
	switch {
	case c.Certificate == nil || c.CAs == nil:
		return errors.New("raft: the node link needs a certificate and its authorities; it has no mode without them")
	case len(c.Gossip.Key) != 32:
		return fmt.Errorf("raft: the gossip key must have 32 bytes; it has %d", len(c.Gossip.Key))
	case t.Heartbeat < 2*t.Lease:
		return fmt.Errorf("raft: heartbeat must be at least twice the lease (%v); it is %v", t.Lease, t.Heartbeat)
	case t.Election < t.Heartbeat:
		return fmt.Errorf("raft: election must be at least heartbeat (%v); it is %v", t.Heartbeat, t.Election)
	case t.StallMax < t.Heartbeat:
		return fmt.Errorf("raft: StallMax must be at least heartbeat (%v); it is %v", t.Heartbeat, t.StallMax)
	case t.StallFatal < t.StallMax:
		return fmt.Errorf("raft: StallFatal must be at least StallMax (%v); it is %v", t.StallMax, t.StallFatal)
	case c.MaxCommandBytes < 1024 || c.MaxCommandBytes > LimitMaxCommand:
		return fmt.Errorf("raft: MaxCommandBytes must be 1024 to %d; it is %d", LimitMaxCommand, c.MaxCommandBytes)
	}
	if host, _, err := net.SplitHostPort(c.Gossip.BindAddress); err != nil || host == "" {
		return fmt.Errorf("raft: the gossip address %q must be host:port", c.Gossip.BindAddress)
	}
	return nil
}

// library answers the configuration of hashicorp/raft. Pre-vote stays on:
// checkPreVote asserts that the transport can.
func (c Config) library() *hraft.Config {
	out := hraft.DefaultConfig()
	out.LocalID = hraft.ServerID(c.NodeID)
	out.HeartbeatTimeout = c.Timing.Heartbeat
	out.ElectionTimeout = c.Timing.Election
	out.LeaderLeaseTimeout = c.Timing.Lease
	out.CommitTimeout = c.Timing.Commit
	out.SnapshotThreshold = c.Snapshot.Threshold
	out.SnapshotInterval = c.Snapshot.Interval
	out.TrailingLogs = c.Snapshot.Trailing
	out.Logger = newLibraryLogger(c.Logger)
	out.NoLegacyTelemetry = true
	// A node that was removed says so (attend); the library would only go
	// silent.
	out.ShutdownOnRemove = false
	return out
}
