package raft

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"

	hraft "github.com/hashicorp/raft"
)

// The third protocol of the node link: one question, one answer, and the end.
// Whoever has a certificate of the cluster's authority may ask, member or not:
//
//	question = length uint16 | JSON | length uint16 | text of a join token, or nothing
//	answer   = length uint16 | JSON
//
// The token is not in the JSON, so that no copy of it is left behind.
const (
	protocolJoin  = "strongroom-join/1"
	joinTimeout   = 5 * time.Second
	joinEvery     = 200 * time.Millisecond
	joinStrange   = 2 * time.Second // between questions of a node that nobody knows yet
	joinTold      = time.Minute     // between two events about the same node
	joinLeaderOut = 3 * time.Second // without a leader for so long, a node asks whether it is a member still

	maxJoinToken    = 256
	maxJoinQuestion = 1024
	maxJoinJSON     = 1<<16 - 1
)

// Outcomes of a question.
const (
	joinAdmitted = "admitted"
	joinBegins   = "begins"  // there has been no cluster yet; the leader to be is asked again
	joinRefused  = "refused" // for good: another id is needed, or a person
	joinStranger = "stranger"
	joinRetry    = "retry"
)

type joinQuestion struct {
	Address string `json:"address"`
	Folder  []byte `json:"folder"`
	// Empty: the folder holds nothing yet.
	Empty bool `json:"empty"`
	// Level is the feature level that its build knows.
	Level uint32 `json:"level,omitempty"`
}

// joinAnswer names members only to those that may take part or may come to.
type joinAnswer struct {
	Outcome string   `json:"outcome"`
	Reason  string   `json:"reason,omitempty"`
	Leader  *Server  `json:"leader,omitempty"`
	Members []Server `json:"members,omitempty"`
}

// Admission is what a leader decided about a node that asked to take part, for
// the audit trail.
type Admission struct {
	NodeID, Address string
	TokenID         string // of the join token that it came with
	Remote          netip.Addr
	Index           uint64
	Err             error // why not
	Removed         bool  // autopilot removed it
	// Level, if set, is the feature level to which NodeID, the leader, raised
	// the cluster.
	Level uint32
}

// answerJoin serves one question of peer. It closes conn.
func (n *Node) answerJoin(ctx context.Context, conn net.Conn, peer string) {
	defer func() { _ = conn.Close() }()
	err := conn.SetDeadline(time.Now().Add(joinTimeout))
	var q joinQuestion
	var token []byte
	if err == nil {
		q, token, err = readQuestion(conn)
	}
	if err != nil {
		n.cfg.Logger.Warn("closing a connection of the node link", "peer", peer, "remote", conn.RemoteAddr().String(), "error", err)
		return
	}
	remote, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	a := n.decideJoin(ctx, peer, q, token, remote.Addr().Unmap())
	clear(token)
	raw, err := json.Marshal(a)
	if err == nil {
		err = writeFrame(conn, raw)
	}
	if err != nil {
		n.cfg.Logger.Debug("a node that asked to take part has gone", "peer", peer, "error", err)
	}
}

// decideJoin answers a node that asks whether it may take part.
func (n *Node) decideJoin(ctx context.Context, peer string, q joinQuestion, token []byte, remote netip.Addr) joinAnswer {
	member := n.isMember(peer)
	if !member {
		n.seeRemoved(peer, remote)
	}
	if n.Standing() != nil {
		return joinAnswer{Outcome: joinRetry, Reason: "the node that was asked takes no part itself"}
	}
	if peer == n.cfg.NodeID {
		return joinAnswer{Outcome: joinRetry, Reason: "that is the node itself"}
	}
	state := n.machine.State()
	if record := state.ClusterNode(peer); (member || record != nil || len(token) > 0) && !record.Removed() && max(q.Level, fsm.FirstLevel) < state.Level() {
		return n.tooOld(peer, q, remote, state.Level())
	}
	if member && q.Empty && n.neverStoodForElection() {
		// This log has never left this node, so there has been no cluster that
		// the asking node could have forgotten.
		return joinAnswer{Outcome: joinBegins, Members: n.servers()}
	}
	if n.tenure() != nil {
		return n.decideAsLeader(ctx, peer, q, token, remote)
	}
	record := state.ClusterNode(peer)
	hash := sha256.Sum256(token)
	known := member || record != nil && !record.Removed() || len(token) > 0 && state.JoinTokenByHash(hash[:]) != nil
	switch {
	case record.Removed():
		return joinAnswer{Outcome: joinRefused, Reason: removedReason(record)}
	case !known:
		return joinAnswer{Outcome: joinStranger, Reason: strangerReason}
	}
	a := joinAnswer{Outcome: joinRetry, Reason: "no leader is known that could decide"}
	if address, id := n.raft.LeaderWithID(); id != "" && string(id) != n.cfg.NodeID {
		a.Leader, a.Reason = &Server{ID: string(id), Address: string(address)}, "the leader decides"
	}
	return a
}

const strangerReason = "the node is neither a member nor announced, and brings no join token that is good; announce it with strongroom cluster add, or make a token with strongroom cluster join-token create"

func removedReason(r *fsm.ClusterNode) string {
	return fmt.Sprintf("this node was removed from the cluster (%s); a removed id never comes back: give the machine a new node id, a certificate of that, and an empty data folder", r.Reason)
}

// neverStoodForElection: this node was initialised, and nobody else has heard
// of that. A term is on the disk before anybody is asked for a vote, and
// pre-votes are asked in none.
func (n *Node) neverStoodForElection() bool {
	<-n.started
	return n.data.isMarked() && n.raft != nil && n.raft.CurrentTerm() == n.data.birth && n.raft.State() != hraft.Leader
}

// decideAsLeader commits the decision before it answers it.
func (n *Node) decideAsLeader(ctx context.Context, peer string, q joinQuestion, token []byte, remote netip.Addr) joinAnswer {
	state, err := n.ReadState(ctx)
	if err != nil {
		return joinAnswer{Outcome: joinRetry, Reason: "the leader has lost touch with the majority"}
	}
	member := n.isMember(peer)
	if record := state.ClusterNode(peer); record != nil && !record.Removed() && slices.Equal(record.Folder, q.Folder) && record.Address == q.Address {
		return n.admitted(ctx, peer, q, member) // as at each of its starts: nothing to write
	}
	n.pilot.asks(peer)
	if older := n.olderMember(state); older != "" {
		return joinAnswer{Outcome: joinRetry, Reason: older + " has not asked yet, and may be of a release that cannot read the decision"}
	}
	command := fsm.AdmitNode{
		Meta:   fsm.Meta{Time: time.Now().UnixMilli(), Principal: "strongroom", RequestID: "join-" + peer},
		NodeID: peer, Address: q.Address, Folder: q.Folder, Member: member,
	}
	if len(token) > 0 {
		hash := sha256.Sum256(token)
		command.TokenHash = hash[:]
		if k := state.JoinTokenByHash(hash[:]); k != nil && !within(k.CIDRs, remote) {
			err = fault.New(fault.Conflict, "token: the join token %s is not good for a node at %s", k.ID, remote)
		}
	}
	if address, ok := n.addressOf(peer); ok && address != q.Address {
		err = fault.New(fault.Conflict, "address: the node calls itself at %s; the configuration has it at %s. Set cluster.advertise of the node", q.Address, address)
	}
	if other := n.nodeAt(q.Address); err == nil && other != "" && other != peer {
		err = fault.New(fault.Conflict, "address: %s is the address of %s; remove that node first", q.Address, other)
	}
	var result fsm.Result
	// A folder that holds something, and that this history knows nothing of, is
	// of another one: of the part that was lost when the cluster was recovered
	// or restored, or of another cluster of this name. What is in it may have
	// been applied there, and would stay.
	record := state.ClusterNode(peer)
	foreign := !member && !q.Empty && (record == nil || record.Folder == nil)
	if err == nil && foreign && !record.Removed() {
		err = fault.New(fault.Conflict, "folder: %s comes with a data folder of another history of this cluster; give it an empty one", peer)
	}
	if err == nil {
		if r := state.WouldAdmit(command); r != nil {
			err = fault.New(fault.Kind(r.Code), "%s", r.Message)
		}
	}
	if err == nil {
		result, err = n.proposeCommand(ctx, command)
	}
	if fault.Is(err, fault.NoLeader) || fault.Is(err, fault.Uncertain) {
		return joinAnswer{Outcome: joinRetry, Reason: "the decision could not be committed"}
	}
	if err == nil || n.pilot.mayTell(peer) {
		n.cfg.Admitted(Admission{NodeID: peer, Address: q.Address, TokenID: result.TokenID, Remote: remote, Index: result.Index, Err: err})
	}
	if err != nil {
		n.cfg.Logger.Warn("a node was not admitted", "peer", peer, "remote", remote, "error", err)
		outcome := joinStranger // an administrator may still announce it, or mend its address
		if foreign || record.Removed() || record != nil && record.Folder != nil && !slices.Equal(record.Folder, q.Folder) {
			outcome = joinRefused
		}
		return joinAnswer{Outcome: outcome, Reason: publicText(err)}
	}
	return n.admitted(ctx, peer, q, member)
}

// admitted brings the node into the configuration, without a vote.
func (n *Node) admitted(ctx context.Context, peer string, q joinQuestion, member bool) joinAnswer {
	if !member {
		err := n.await(ctx, func() error {
			return n.raft.AddNonvoter(hraft.ServerID(peer), hraft.ServerAddress(q.Address), 0, n.cfg.Timing.ApplyTimeout).Error()
		})
		if err != nil {
			return joinAnswer{Outcome: joinRetry, Reason: "the membership could not be changed now"}
		}
	}
	return joinAnswer{Outcome: joinAdmitted, Members: n.servers()}
}

// olderMember answers a member that may be of a release that does not know the
// command, and would stop at it: it has never asked. Once there is a record of
// any node, somebody has decided that all can read it.
func (n *Node) olderMember(state *fsm.State) string {
	for range state.ClusterNodes("") {
		return ""
	}
	for _, s := range n.servers() {
		if s.ID != n.cfg.NodeID && !n.pilot.hasAsked(s.ID) {
			return s.ID
		}
	}
	return ""
}

func publicText(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Kind != fault.Internal {
		return f.Message
	}
	return "the leader cannot say why"
}

func within(cidrs []string, a netip.Addr) bool {
	return len(cidrs) == 0 || slices.ContainsFunc(cidrs, func(text string) bool {
		prefix, err := netip.ParsePrefix(text)
		return err == nil && prefix.Contains(a)
	})
}

// nodeAt answers the member that has the address, "" if none has.
func (n *Node) nodeAt(address string) string {
	for _, s := range n.servers() {
		if s.Address == address {
			return s.ID
		}
	}
	return ""
}

// proposeCommand proposes a command of the leader's own; a refusal is an
// error.
func (n *Node) proposeCommand(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	encoded, err := fsm.Encode(c)
	if err != nil {
		return fsm.Result{}, err
	}
	result, err := n.Propose(ctx, encoded)
	if err == nil && result.Refused != nil {
		err = fault.New(fault.Kind(result.Refused.Code), "%s", result.Refused.Message)
	}
	return result, err
}

// attend asks whether this node may take part, until the leader has said so,
// and again whenever no leader is heard of: one that was removed while it was
// away learns of it here.
func (n *Node) attend(ctx context.Context) {
	tick := time.NewTicker(joinEvery)
	defer tick.Stop()
	if n.cfg.Faults.NeverAsks {
		return
	}
	confirmed, heard, asked := false, time.Now(), time.Time{}
	for {
		_, self, known := n.Leader()
		if known {
			heard = time.Now()
		}
		switch record := n.machine.State().ClusterNode(n.cfg.NodeID); {
		case n.refused.Load() != nil:
		case record.Removed() && !n.leads():
			n.refuse(removedReason(record))
		case self && !confirmed:
			confirmed = n.admitSelf(ctx)
		case !self && (!confirmed || time.Since(heard) > joinLeaderOut) && time.Since(asked) >= n.askEvery():
			confirmed = n.ask(ctx) || confirmed
			asked = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// askEvery: a node that must wait for a person does not ask all the time, and
// one that takes part has no hurry.
func (n *Node) askEvery() time.Duration {
	if _, _, known := n.Leader(); n.strange.Load() || n.data.admitted.Load() && !known {
		return joinStrange
	}
	return joinEvery
}

func (n *Node) leads() bool {
	_, lead := n.leading()
	return lead
}

// admitSelf notes the leader's own folder.
func (n *Node) admitSelf(ctx context.Context) bool {
	q := n.question()
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	switch a := n.decideAsLeader(ctx, n.cfg.NodeID, q, nil, netip.Addr{}); a.Outcome {
	case joinAdmitted:
		return true
	case joinRefused, joinStranger:
		n.refuse(a.Reason)
	}
	return false
}

func (n *Node) question() joinQuestion {
	return joinQuestion{Address: n.link.advertise, Folder: n.data.folder, Empty: !n.data.isMarked(), Level: n.cfg.level()}
}

// ask asks the members and the addresses of the configuration in turn, and
// reports whether the leader has admitted this node.
func (n *Node) ask(ctx context.Context) bool {
	targets := n.joinTargets()
	strange := false
	why := "nobody answers; look at cluster.join and cluster.initialMembers"
	for i := 0; i < len(targets); i++ {
		a, err := n.askOne(ctx, targets[i])
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			n.cfg.Logger.Debug("asking to take part", "address", targets[i].Address, "error", err)
			continue
		}
		switch a.Outcome {
		case joinAdmitted, joinBegins:
			if len(a.Members) > 0 {
				n.learned.Store(&a.Members)
			}
			if err := n.data.admit(); err != nil {
				n.fail(err)
				return false
			}
			return a.Outcome == joinAdmitted
		case joinRefused:
			n.refuse(a.Reason)
			return false
		}
		why = a.Reason
		strange = a.Outcome == joinStranger
		if l := a.Leader; l != nil && l.ID != n.cfg.NodeID && !slices.Contains(targets, *l) && len(targets) < 64 {
			targets = append(targets, *l)
		}
	}
	defer n.strange.Store(strange)
	if old := n.waiting.Swap(&why); (old == nil || *old != why) && !n.data.admitted.Load() {
		n.cfg.Logger.Warn("this node waits to be admitted to the cluster", "reason", why)
	}
	return false
}

// joinTargets answers whom to ask: the leader, if one is known; else everybody.
// An address of the configuration may be of any node.
func (n *Node) joinTargets() []Server {
	if id, self, known := n.Leader(); known && !self {
		if address, ok := n.addressOf(id); ok {
			return []Server{{ID: id, Address: address}}
		}
	}
	var out []Server
	for _, s := range n.servers() {
		if s.ID != n.cfg.NodeID {
			out = append(out, s)
		}
	}
	for _, address := range n.cfg.Join() {
		if address != n.link.advertise && !slices.ContainsFunc(out, func(s Server) bool { return s.Address == address }) {
			out = append(out, Server{Address: address})
		}
	}
	return out
}

func (n *Node) askOne(ctx context.Context, to Server) (joinAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if n.cfg.Faults.cut(to.ID) {
		return joinAnswer{}, errors.New("cut off by a test")
	}
	conn, err := n.link.dial(ctx, to.ID, to.Address, protocolJoin)
	if err != nil {
		return joinAnswer{}, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	raw, err := json.Marshal(n.question())
	if err != nil {
		return joinAnswer{}, err
	}
	var token secret.Bytes
	if !n.data.admitted.Load() && n.cfg.JoinToken != nil {
		if token, err = n.cfg.JoinToken(); err != nil {
			return joinAnswer{}, err
		}
		defer token.Wipe()
	}
	if err := errors.Join(writeFrame(conn, raw), writeToken(conn, token)); err != nil {
		return joinAnswer{}, err
	}
	raw, err = readFrame(conn, maxJoinJSON)
	if err != nil {
		return joinAnswer{}, err
	}
	var a joinAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return joinAnswer{}, errors.New("the answer is unreadable")
	}
	return a, nil
}
