package engine

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// leaveTime is how long removeMember and setVoter wait for the configuration, which the
// leader brings in step anyway.
const leaveTime = 5 * time.Second

// Membership is what engine needs of consensus about who is a member; the
// command that wires the floors fills it in.
type Membership struct {
	// Removing calls commit, which writes down that a node is removed or shall have
	// no vote, unless the cluster could not go on without it; one after the other.
	Removing func(node string, commit func() error) error
	// Settle has the leader act on a removal, and reports whether the node has
	// left the configuration before ctx ended.
	Settle func(ctx context.Context, node string) bool
	// SettleVote is the same for a node that shall have no vote.
	SettleVote func(ctx context.Context, node string) bool
	// Views answers how the leader, which this node is, sees each member.
	Views func() map[string]MemberView
}

// MemberView is one member as the leader sees it.
type MemberView struct {
	Address     string
	InStepSince time.Time // zero: it is not in step
	Waiting     string    // why it is not, or has no vote yet
}

// Admission is what the leader decided about a node that asked to take part,
// that it removed because it was dead, or, with Level, about all of them.
type Admission struct {
	NodeID, Address string
	TokenID         string // of the join token that the node came with
	Source          string
	Index           uint64
	Removed         bool
	Level           uint32 // to which NodeID, the leader, raised the cluster
	Err             error
}

func memberOperations() []*Operation {
	return []*Operation{
		operation(row[wire.AddMemberRequest, wire.MemberResponse]{
			service: "cluster", name: "addMember", event: "cluster.add_member", write: true,
			summary: "Announce a node, which becomes a member when it starts with a certificate of the cluster.",
			scope:   func(_ *call, r *wire.AddMemberRequest) (scope, error) { return nodeScope("nodeId", r.NodeID) },
			run:     addMember,
		}),
		operation(row[wire.RemoveMemberRequest, wire.RemoveMemberResponse]{
			service: "cluster", name: "removeMember", event: "cluster.remove_member", write: true,
			summary: "Remove a member for ever: its id never comes back. Refused if those that stay could not go on.",
			scope:   func(_ *call, r *wire.RemoveMemberRequest) (scope, error) { return nodeScope("nodeId", r.NodeID) },
			run:     removeMember,
		}),
		operation(row[wire.SetVoterRequest, wire.SetVoterResponse]{
			service: "cluster", name: "setVoter", event: "cluster.set_voter", write: true,
			summary: "Make a member a voter, or a read replica without a vote. Refused if the others could not go on without it.",
			scope:   voterScope,
			run:     setVoter,
		}),
		operation(row[wire.MembersRequest, wire.MembersResponse]{
			service: "cluster", name: "members", event: "cluster.members",
			summary: "Show the members, who votes, who is in step, and what the others lack.",
			scope:   func(*call, *wire.MembersRequest) (scope, error) { return scope{}, nil },
			run:     members,
		}),
	}
}

// nodePattern is what internal/config takes as node.id.
var nodePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func nodeScope(field, node string) (scope, error) {
	if !nodePattern.MatchString(node) {
		return scope{}, fault.Invalid(field, "must be a node id: 1 to 63 of a-z, 0-9 and -, beginning with a letter or a digit")
	}
	return scope{subject: node}, nil
}

func checkNodeAddress(address string) error {
	host, text, err := net.SplitHostPort(address)
	port, portErr := strconv.ParseUint(text, 10, 16)
	if err != nil || portErr != nil || host == "" || port == 0 || len(address) > 255 {
		return fault.Invalid("address", "must be host:port of the node's link (cluster.advertise of that node)")
	}
	return nil
}

func (c *call) member(node string) *wire.NodeStatus {
	for _, m := range c.status().Nodes {
		if m.NodeID == node {
			return &m
		}
	}
	return nil
}

func (e *Engine) memberViews() map[string]MemberView {
	if e.Cluster.Membership.Views == nil {
		return nil
	}
	return e.Cluster.Membership.Views()
}

func addMember(ctx context.Context, c *call, r *wire.AddMemberRequest) (*wire.MemberResponse, error) {
	if err := checkNodeAddress(r.Address); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		return &wire.MemberResponse{NodeID: done.Name}, nil
	}
	// The first members may have no record yet; consensus knows them.
	for node, v := range c.engine.memberViews() {
		switch {
		case node == r.NodeID:
			return nil, fault.New(fault.AlreadyExists, "nodeId: %s is a member, at %s; to move it, remove it and add the machine with a new id; to give or take its vote, use setVoter", node, v.Address)
		case v.Address == r.Address:
			return nil, fault.New(fault.Conflict, "address: %s is the address of %s; remove that node first", r.Address, node).With("nodeId", node)
		}
	}
	if _, err := c.commit(ctx, fsm.SetNode{Meta: meta, NodeID: r.NodeID, Address: r.Address, ReadOnly: r.Voter != nil && !*r.Voter}); err != nil {
		return nil, err
	}
	return &wire.MemberResponse{NodeID: r.NodeID}, nil
}

func removeMember(ctx context.Context, c *call, r *wire.RemoveMemberRequest) (*wire.RemoveMemberResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	done, err := c.replayed(meta)
	if err != nil {
		return nil, err
	}
	if done == nil {
		record, view := c.state.ClusterNode(r.NodeID), c.engine.memberViews()[r.NodeID]
		if record == nil && view.Address == "" && c.member(r.NodeID) == nil {
			return nil, fault.New(fault.NotFound, "nodeId: %s is no member and was not announced; cluster members shows them", r.NodeID)
		}
		commit := func() error {
			_, err := c.commit(ctx, fsm.SetNode{Meta: meta, NodeID: r.NodeID, Address: view.Address, Remove: true, Reason: r.Reason})
			return err
		}
		if removing := c.engine.Cluster.Membership.Removing; removing != nil && !record.Removed() {
			err = removing(r.NodeID, commit)
		} else {
			err = commit()
		}
		if err != nil {
			return nil, err
		}
	}
	out := &wire.RemoveMemberResponse{NodeID: r.NodeID, Left: true}
	if settle := c.engine.Cluster.Membership.Settle; settle != nil {
		ctx, cancel := context.WithTimeout(ctx, leaveTime)
		defer cancel()
		out.Left = settle(ctx, r.NodeID)
	}
	return out, nil
}

// voterScope names the node and which of the two is asked for, for the trail.
func voterScope(_ *call, r *wire.SetVoterRequest) (scope, error) {
	s, err := nodeScope("nodeId", r.NodeID)
	switch {
	case err != nil || r.Voter == nil:
	case *r.Voter:
		s.subject += ": a vote"
	default:
		s.subject += ": no vote"
	}
	return s, err
}

// setVoter writes down what shall be, as removeMember does; a vote that is taken
// away is asked for of consensus first.
func setVoter(ctx context.Context, c *call, r *wire.SetVoterRequest) (*wire.SetVoterResponse, error) {
	if r.Voter == nil {
		return nil, fault.Invalid("voter", "must be true or false")
	}
	voter := *r.Voter
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	done, err := c.replayed(meta)
	if err != nil {
		return nil, err
	}
	if done == nil {
		if view, is := c.engine.memberViews()[r.NodeID]; is && c.state.ClusterNode(r.NodeID) == nil {
			return nil, fault.New(fault.Conflict, "nodeId: %s, at %s, has not said yet with which data folder it takes part; restart it with this release, and ask again", r.NodeID, view.Address)
		}
		commit := func() error {
			_, err := c.commit(ctx, fsm.SetVote{Meta: meta, NodeID: r.NodeID, ReadOnly: !voter})
			return err
		}
		if removing := c.engine.Cluster.Membership.Removing; removing != nil && !voter {
			err = removing(r.NodeID, commit)
		} else {
			err = commit()
		}
		if err != nil {
			return nil, err
		}
	}
	return &wire.SetVoterResponse{NodeID: r.NodeID, Voter: voter, Done: c.voteSettles(ctx, r.NodeID, voter)}, nil
}

// voteSettles waits a little for a vote to be given up. One is given after
// longer than a request waits.
func (c *call) voteSettles(ctx context.Context, node string, voter bool) bool {
	if voter {
		m := c.member(node)
		return m != nil && m.Role != roleNonVoter
	}
	settle := c.engine.Cluster.Membership.SettleVote
	if settle == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	return settle(ctx, node)
}

func members(ctx context.Context, c *call, _ *wire.MembersRequest) (*wire.MembersResponse, error) {
	out := &wire.MembersResponse{Members: []wire.Member{}}
	views := c.engine.memberViews()
	roots := c.engine.rootHolders(ctx, c.state)
	known := map[string]bool{}
	for _, n := range c.status().Nodes {
		record, view := c.state.ClusterNode(n.NodeID), views[n.NodeID]
		known[n.NodeID] = true
		m := wire.Member{
			NodeID: n.NodeID, Address: view.Address, Role: n.Role, Voter: n.Role != roleNonVoter, Alive: n.Alive,
			AppliedIndex: n.AppliedIndex, Waiting: view.Waiting, HSM: n.HSM, RootKey: roots[n.NodeID], Version: n.Version,
		}
		if !view.InStepSince.IsZero() {
			m.InStepSince = wire.Millis(view.InStepSince.UnixMilli())
		}
		if record != nil {
			m.Voter = !record.ReadOnly
			m.AnnouncedAt, m.AnnouncedBy, m.JoinTokenID = wire.Millis(record.AnnouncedAt), record.AnnouncedBy, record.TokenID
		}
		if record.Removed() {
			m.Waiting = "it was removed, and leaves the configuration"
		}
		if !m.Voter && n.Role != roleNonVoter && !record.Removed() {
			m.Waiting = keepsVoteText
		}
		if m.RootKey == "missing" {
			m.Waiting = withoutRootText
		}
		out.Members = append(out.Members, m)
	}
	for r := range c.state.ClusterNodes("") {
		if known[r.ID] || r.Removed() {
			continue
		}
		out.Members = append(out.Members, wire.Member{
			NodeID: r.ID, Address: r.Address, Role: "joining", Voter: !r.ReadOnly, Waiting: "it was announced, and has not come yet", RootKey: "unknown",
			AnnouncedAt: wire.Millis(r.AnnouncedAt), AnnouncedBy: r.AnnouncedBy,
		})
	}
	return out, nil
}

const keepsVoteText = "it gives up its vote as soon as a majority of the other voters answers and is in step"

const withoutRootText = "its HSM does not have the root key: name its transport key (strongroom hsm transport-key) in hsm.admitTransportKeys of the others and rotate the root key, " +
	"or bring the root key in with strongroom hsm export-root-to and import-root; it gets no vote before that"

// rootHolders answers of each member whether its HSM serves with the root key.
func (e *Engine) rootHolders(ctx context.Context, state *fsm.State) map[string]string {
	out := map[string]string{}
	if e.Cluster.Members != nil {
		for _, m := range e.Cluster.Members() {
			out[m.NodeID] = "unknown"
		}
	}
	roots := state.Roots()
	if roots == nil || e.Cluster.Roots == nil {
		return out
	}
	statuses, _ := e.askRoots(ctx, RootQuery{})
	for node, s := range statuses {
		out[node] = "missing"
		if slices.ContainsFunc(s.InUse, func(check []byte) bool { return slices.Equal(check, roots.Current.MACCheck) }) {
			out[node] = "ok"
		}
	}
	return out
}

// RecordAdmission writes what the leader decided about a node into the trail.
func (e *Engine) RecordAdmission(ctx context.Context, a Admission) {
	meta := fsm.Meta{Principal: ownName, RequestID: "join-" + a.NodeID}
	event := audit.Event{Event: "cluster.admit_member", Reason: "node " + a.NodeID + " at " + a.Address, SourceAddress: a.Source, Index: a.Index}
	if a.TokenID != "" {
		event.Reason += " by the join token " + a.TokenID
	}
	if a.Removed {
		event.Event, event.Reason = "cluster.remove_dead_member", "node "+a.NodeID
	}
	if a.Level != 0 {
		event.Event, event.Reason = "cluster.raise_level", fmt.Sprintf("all members know feature level %d", a.Level)
		meta.RequestID = fmt.Sprintf("level-%d", a.Level)
	}
	if a.Err != nil {
		event.Reason = fmt.Sprintf("%.900s: %s", event.Reason, publicReason(a.Err))
	}
	e.record(ctx, meta, event, a.Err)
}
