package raft

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
)

var errSilenced = errors.New("this node withholds what a leader sends: its log cannot be written")

var errMending = errors.New("this node neither votes nor stands for election: its log is being fetched anew")

// guard stands between hashicorp/raft and the network. It embeds the
// library's transport so that it keeps RequestPreVote: a wrapper without that
// method turns pre-vote off without a word.
//
// It does three things. It notes when each acknowledged AppendEntries was
// sent, which is what makes reads safe (gate.go). It sends nothing of a
// leader's while the local log hangs or has failed, so that the followers
// elect another. And it refuses pipelining: a pipeline's empty appends would
// keep the followers quiet past a stall, and a stalled pipeline wedges a
// follower.
type guard struct {
	*hraft.NetworkTransport
	in       *inbound
	silent   func() bool
	voteless func() bool
	faults   *Faults

	mu   sync.Mutex
	term uint64
	acks map[hraft.ServerID]time.Time // send time of the newest acknowledged one, all of term
	last map[hraft.ServerID]uint64    // the end of the log that came with it
	wake chan struct{}
}

var _ hraft.WithPreVote = (*guard)(nil)

func newGuard(inner *hraft.NetworkTransport, in *inbound, silent, voteless func() bool, faults *Faults) *guard {
	return &guard{
		NetworkTransport: inner, in: in, silent: silent, voteless: voteless, faults: faults,
		acks: map[hraft.ServerID]time.Time{}, last: map[hraft.ServerID]uint64{}, wake: make(chan struct{}, 1),
	}
}

func (g *guard) allow(peer hraft.ServerID) error {
	switch {
	case g.silent():
		return errSilenced
	case g.faults.cut(string(peer)):
		return errors.New("cut off by a test")
	}
	return nil
}

// AppendEntries implements hraft.Transport.
func (g *guard) AppendEntries(id hraft.ServerID, target hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	if err := g.allow(id); err != nil {
		return err
	}
	*resp = hraft.AppendEntriesResponse{} // the library uses it again: nothing old may look like an answer
	// Before the first byte leaves: what the peer answers, it decided later.
	sent := time.Now()
	err := g.NetworkTransport.AppendEntries(id, target, args, resp)
	if g.faults.AppendReturned != nil {
		g.faults.AppendReturned(string(id))
	}
	if err == nil && resp.Success && resp.Term == args.Term {
		g.acknowledged(id, args.Term, sent, resp.LastLog)
	}
	return err
}

func (g *guard) acknowledged(id hraft.ServerID, term uint64, sent time.Time, last uint64) {
	g.mu.Lock()
	if term > g.term {
		g.term = term
		clear(g.acks)
		clear(g.last)
	}
	if term == g.term && sent.After(g.acks[id]) {
		g.acks[id], g.last[id] = sent, last
	}
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// acknowledgedSince reports whether id has acknowledged, in term, something
// that was sent at or after t.
func (g *guard) acknowledgedSince(id hraft.ServerID, term uint64, t time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	sent, ok := g.acks[id]
	return ok && g.term == term && !sent.Before(t)
}

// progress answers when the newest acknowledged request to id was sent in
// term, and where the log of id ended then. For autopilot, not for reads.
func (g *guard) progress(id string, term uint64) (sent time.Time, last uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.term != term {
		return time.Time{}, 0
	}
	return g.acks[hraft.ServerID(id)], g.last[hraft.ServerID(id)]
}

// InstallSnapshot implements hraft.Transport.
func (g *guard) InstallSnapshot(id hraft.ServerID, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader) error {
	if err := g.allow(id); err != nil {
		return err
	}
	return g.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
}

// stand is allow for an election.
func (g *guard) stand(peer hraft.ServerID) error {
	if g.voteless() {
		return errMending
	}
	return g.allow(peer)
}

// RequestVote implements hraft.Transport. A silenced node must not come to
// lead, nor one whose log is being mended.
func (g *guard) RequestVote(id hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestVoteRequest, resp *hraft.RequestVoteResponse) error {
	if err := g.stand(id); err != nil {
		return err
	}
	return g.NetworkTransport.RequestVote(id, target, args, resp)
}

// RequestPreVote implements hraft.WithPreVote: see RequestVote.
func (g *guard) RequestPreVote(id hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestPreVoteRequest, resp *hraft.RequestPreVoteResponse) error {
	if err := g.stand(id); err != nil {
		return err
	}
	return g.NetworkTransport.RequestPreVote(id, target, args, resp)
}

// TimeoutNow implements hraft.Transport.
func (g *guard) TimeoutNow(id hraft.ServerID, target hraft.ServerAddress, args *hraft.TimeoutNowRequest, resp *hraft.TimeoutNowResponse) error {
	if g.faults.cut(string(id)) {
		return errors.New("cut off by a test")
	}
	return g.NetworkTransport.TimeoutNow(id, target, args, resp)
}

// AppendEntriesPipeline implements hraft.Transport.
func (g *guard) AppendEntriesPipeline(hraft.ServerID, hraft.ServerAddress) (hraft.AppendPipeline, error) {
	return nil, hraft.ErrPipelineReplicationNotSupported
}

// Consumer implements hraft.Transport: requests come from our own receiving
// side, which knows whom each came from.
func (g *guard) Consumer() <-chan hraft.RPC { return g.in.requests }

// SetHeartbeatHandler implements hraft.Transport.
func (g *guard) SetHeartbeatHandler(handle func(hraft.RPC)) { g.in.setHeartbeat(handle) }

// checkPreVote fails when the library would run without pre-vote over t.
func checkPreVote(t hraft.Transport) error {
	if _, ok := t.(hraft.WithPreVote); !ok {
		return fmt.Errorf("raft: the transport %T hides RequestPreVote, which turns pre-vote off", t)
	}
	return nil
}
