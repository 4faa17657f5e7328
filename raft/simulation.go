package raft

import (
	"context"
	"net"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Simulation stands in for what a node has around it: network, disk and
// gossip. With it a whole cluster runs in one process under simulated time
// (test/sim). Everything above is as in production: mutual TLS and identity,
// guard, gates, seals, admission. It is for the tests of this repository; no
// program sets it, and no configuration file reaches it. All of it must be set.
// The other side of the network is Config.LinkListener.
type Simulation struct {
	// Dial connects to the node link at address.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// OpenLog answers what keeps log, terms and votes in the place of raft.db.
	// It gets entries sealed and values signed. Its errors for what is not there
	// are those of raft-boltdb.
	OpenLog func() (LogDatabase, error)
	// BeforeFile is called before a small file or a snapshot is written in
	// DataDir. An error is that of the disk, and nothing is written.
	BeforeFile func(name string) error
	// Gossip stands in for memberlist. say answers what this node tells of
	// itself; hear takes what another one tells.
	Gossip func(id string, say func() []byte, hear func(id string, said []byte)) Gossiper
}

// LogDatabase is what raft-boltdb is for a node.
type LogDatabase interface {
	hraft.LogStore
	hraft.StableStore
	Close() error
}

func noQuestion(string) error { return nil }

func (c Config) beforeFile() func(string) error {
	if c.Simulation == nil {
		return noQuestion
	}
	return c.Simulation.BeforeFile
}

// Gossiper is what memberlist is for a node.
type Gossiper interface {
	Join(addresses []string) (int, error)
	UpdateNode(timeout time.Duration) error
	Leave(timeout time.Duration) error
	Shutdown() error
}

// simulateGossip is openGossip over a simulation.
func simulateGossip(cfg Config, self func() hint) *gossip {
	g := newGossip(cfg)
	say := func() []byte { return g.health(self()).encode(512) } // as long as memberlist allows
	hear := func(id string, said []byte) {
		h, _ := decodeHint(said)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.known[id] = known{hint: h}
	}
	g.list = cfg.Simulation.Gossip(cfg.NodeID, say, hear)
	return g
}
