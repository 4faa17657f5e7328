package engine_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// inACluster gives the world members, as consensus and gossip would tell.
func (w *world) inACluster(views map[string]engine.MemberView) {
	w.engine.Cluster.Members = func() []wire.NodeStatus {
		var out []wire.NodeStatus
		for _, node := range []string{"n1", "n2", "n3"} {
			if v, there := views[node]; there {
				role := "follower"
				if node == "n1" {
					role = "leader"
				}
				if v.Waiting != "" {
					role = "nonVoter"
				}
				out = append(out, wire.NodeStatus{NodeID: node, Role: role, Alive: true, HSM: "ok"})
			}
		}
		return out
	}
	w.engine.Cluster.Membership.Views = func() map[string]engine.MemberView { return views }
}

func threeMembers(now time.Time) map[string]engine.MemberView {
	return map[string]engine.MemberView{
		"n1": {Address: "10.0.0.1:7401", InStepSince: now}, "n2": {Address: "10.0.0.2:7401", InStepSince: now},
		"n3": {Address: "10.0.0.3:7401", Waiting: "it is 12 entries behind"},
	}
}

func TestMembersAreShownWithWhatTheyWaitFor(t *testing.T) {
	w := newWorld(t)
	w.inACluster(threeMembers(w.now()))
	w.ok("cluster/addMember", `{"nodeId":"n4","address":"n4.example:7401","voter":false}`)
	got := into[wire.MembersResponse](t, w.ok("cluster/members", `{}`)).Members
	require.Len(t, got, 4)
	require.Equal(t, "leader", got[0].Role)
	require.True(t, got[0].Voter)
	require.Equal(t, "10.0.0.1:7401", got[0].Address)
	require.NotNil(t, got[1].InStepSince)
	require.Equal(t, "nonVoter", got[2].Role)
	require.Equal(t, "it is 12 entries behind", got[2].Waiting)
	require.Nil(t, got[2].InStepSince)
	require.Equal(t, "joining", got[3].Role)
	require.False(t, got[3].Voter)
	require.Equal(t, "admin", got[3].AnnouncedBy)
}

// A member whose HSM lacks the root key is told of with the way out.
func TestMemberWithoutTheRootKeyIsNamed(t *testing.T) {
	w := newWorld(t)
	w.withRoots()
	w.inACluster(threeMembers(w.now()))
	w.engine.Cluster.PeerRoots = func(_ context.Context, node string, _ engine.RootQuery) (engine.RootStatus, error) {
		if node == "n2" {
			return engine.RootStatus{}, errors.New("away")
		}
		return engine.RootStatus{InUse: [][]byte{[]byte("another")}}, nil
	}
	got := into[wire.MembersResponse](t, w.ok("cluster/members", `{}`)).Members
	require.Equal(t, "ok", got[0].RootKey)
	require.Equal(t, "unknown", got[1].RootKey)
	require.Equal(t, "missing", got[2].RootKey)
	require.Contains(t, got[2].Waiting, "hsm.admitTransportKeys")
}

func TestMembersThatCannotBeAddedAreRefused(t *testing.T) {
	w := newWorld(t)
	w.inACluster(threeMembers(w.now()))
	for body, says := range map[string]string{
		`{"nodeId":"N4","address":"a:1"}`:            "nodeId: must be a node id",
		`{"nodeId":"n4","address":":1"}`:             "address: must be host:port",
		`{"nodeId":"n4","address":"a:0"}`:            "address: must be host:port",
		`{"nodeId":"n2","address":"b:1"}`:            "nodeId: n2 is a member, at 10.0.0.2:7401",
		`{"nodeId":"n4","address":"10.0.0.2:7401"}`:  "address: 10.0.0.2:7401 is the address of n2; remove that node first",
		`{"nodeId":"n4","address":"a:1","voter":""}`: "voter",
	} {
		_, err := w.as(w.admin, "cluster/addMember", body)
		require.ErrorContains(t, err, says, body)
	}
	w.ok("cluster/addMember", `{"nodeId":"n4","address":"a:1"}`)
	_, err := w.as(w.admin, "cluster/addMember", `{"nodeId":"n5","address":"a:1"}`)
	w.refused(fault.Conflict, "is the address of n4", err)
}

func TestRemovalAsksConsensusFirstAndIsForEver(t *testing.T) {
	w := newWorld(t)
	views := threeMembers(w.now())
	w.inACluster(views)
	w.engine.Cluster.Membership.Removing = func(node string, commit func() error) error {
		if node == "n2" {
			return fault.New(fault.Conflict, "nodeId: no majority would be left")
		}
		return commit()
	}
	w.engine.Cluster.Membership.Settle = func(_ context.Context, node string) bool { delete(views, node); return true }
	_, err := w.as(w.admin, "cluster/removeMember", `{"nodeId":"n2","reason":"no"}`)
	w.refused(fault.Conflict, "no majority", err)
	require.Nil(t, w.log.machine.State().ClusterNode("n2"), "nothing was written down")
	_, err = w.as(w.admin, "cluster/removeMember", `{"nodeId":"n3"}`)
	w.refused(fault.InvalidRequest, "reason:", err)

	require.True(t, into[wire.RemoveMemberResponse](t, w.ok("cluster/removeMember", `{"nodeId":"n3","reason":"its disk"}`)).Left)
	record := w.log.machine.State().ClusterNode("n3")
	require.True(t, record.Removed())
	require.Equal(t, "10.0.0.3:7401", record.Address)
	_, err = w.as(w.admin, "cluster/addMember", `{"nodeId":"n3","address":"a:1"}`)
	w.refused(fault.Conflict, "never comes back", err)
	_, err = w.as(w.admin, "cluster/createJoinToken", `{"nodeId":"n3"}`)
	w.refused(fault.Conflict, "never comes back", err)
	w.ok("cluster/addMember", `{"nodeId":"n4","address":"10.0.0.3:7401"}`)

	w.engine.Cluster.Membership.Settle = func(context.Context, string) bool { return false }
	require.False(t, into[wire.RemoveMemberResponse](t, w.ok("cluster/removeMember", `{"nodeId":"n4","reason":"a mistake"}`)).Left)
}

func TestAVoteIsTakenWhileTheOthersCanDoWithoutIt(t *testing.T) {
	w := newWorld(t)
	views := threeMembers(w.now())
	delete(views, "n3")
	w.inACluster(views)
	w.engine.Cluster.Membership.Removing = func(node string, commit func() error) error {
		if node == "n1" {
			return fault.New(fault.Conflict, "nodeId: without n1, 0 of 1 voters answer")
		}
		return commit()
	}
	settled := false
	w.engine.Cluster.Membership.SettleVote = func(context.Context, string) bool { return settled }
	_, err := w.as(w.admin, "cluster/setVoter", `{"nodeId":"n2","voter":false}`)
	w.refused(fault.Conflict, "n2, at 10.0.0.2:7401, has not said yet with which data folder", err)
	for _, node := range []string{"n1", "n2"} {
		command, err := fsm.Encode(fsm.AdmitNode{
			Meta:   fsm.Meta{Time: w.now().UnixMilli(), Principal: "strongroom", RequestID: "join-" + node},
			NodeID: node, Address: views[node].Address, Folder: []byte("folder of " + node + "    ")[:16], Member: true,
		})
		require.NoError(t, err)
		_, err = w.log.Propose(context.Background(), command)
		require.NoError(t, err)
	}
	shown := func() wire.Member {
		return into[wire.MembersResponse](t, w.ok("cluster/members", `{}`)).Members[1]
	}
	require.True(t, shown().Voter)

	_, err = w.as(w.admin, "cluster/setVoter", `{"nodeId":"n1","voter":false}`)
	w.refused(fault.Conflict, "without n1", err)
	require.False(t, w.log.machine.State().ClusterNode("n1").ReadOnly, "nothing was written down")
	_, err = w.as(w.admin, "cluster/setVoter", `{"nodeId":"n2"}`)
	w.refused(fault.InvalidRequest, "voter: must be true or false", err)
	_, err = w.as(w.admin, "cluster/setVoter", `{"nodeId":"n9","voter":true}`)
	w.refused(fault.NotFound, "no node n9", err)

	got := into[wire.SetVoterResponse](t, w.ok("cluster/setVoter", `{"nodeId":"n2","voter":false}`))
	require.Equal(t, wire.SetVoterResponse{NodeID: "n2"}, got, "it is written down, and not done yet")
	require.False(t, shown().Voter)
	require.Contains(t, shown().Waiting, "gives up its vote as soon as")
	settled = true
	require.True(t, into[wire.SetVoterResponse](t, w.ok("cluster/setVoter", `{"nodeId":"n2","voter":false}`)).Done)

	require.True(t, into[wire.SetVoterResponse](t, w.ok("cluster/setVoter", `{"nodeId":"n2","voter":true}`)).Done)
	require.Empty(t, shown().Waiting)
	var said []string
	for _, e := range w.events(audit.Filter{Events: []string{"cluster.set_voter"}, Outcome: audit.OK}) {
		said = append(said, e.Reason)
	}
	require.Len(t, said, 3)
	require.Contains(t, said[0], "n2: no vote")
	require.Contains(t, said[2], "n2: a vote")
}

func TestJoinTokenIsShownOnceAndKeptAsAHash(t *testing.T) {
	w := newWorld(t)
	made := into[wire.CreateJoinTokenResponse](t, w.ok("cluster/createJoinToken", `{"nodeId":"n4","voter":false,"ttl":"2h","boundCidrs":["10.0.0.0/8"]}`))
	text := string(made.Token.Expose())
	sum := sha256.Sum256([]byte(text))
	kept := w.log.machine.State().JoinTokenByHash(sum[:])
	require.Equal(t, made.TokenID, kept.ID)
	list := w.ok("cluster/listJoinTokens", `{}`)
	require.NotContains(t, list, text)
	token := into[wire.ListJoinTokensResponse](t, list).Tokens[0]
	require.Equal(t, "good", token.State)
	require.False(t, token.Voter)
	require.Equal(t, []string{"10.0.0.0/8"}, token.BoundCIDRs)
	_, err := w.as(text, "cluster/status", `{}`)
	w.refused(fault.Unauthenticated, "", err)
	for body, says := range map[string]string{
		`{"ttl":"31d"}`: "ttl:", `{"ttl":"0s"}`: "ttl:", `{"boundCidrs":["x"]}`: "boundCidrs", `{"nodeId":"a/b"}`: "nodeId:",
	} {
		_, err := w.as(w.admin, "cluster/createJoinToken", body)
		w.refused(fault.InvalidRequest, says, err)
	}
	w.setNow(w.now().Add(3 * time.Hour))
	require.Equal(t, "expired", into[wire.ListJoinTokensResponse](t, w.ok("cluster/listJoinTokens", `{}`)).Tokens[0].State)
	w.ok("cluster/revokeJoinToken", `{"tokenId":%q}`, made.TokenID)
	require.Equal(t, "revoked", into[wire.ListJoinTokensResponse](t, w.ok("cluster/listJoinTokens", `{}`)).Tokens[0].State)
}

func TestAutopilotSettingsHaveDefaultsAndRevisions(t *testing.T) {
	w := newWorld(t)
	got := into[wire.AutopilotResponse](t, w.ok("cluster/getAutopilot", `{}`))
	require.Equal(t, wire.AutopilotResponse{Stabilization: wire.Duration(10 * time.Second), MaxTrailing: 250, MinVoters: 3}, got)
	w.ok("cluster/setAutopilot", `{"removeDeadAfter":"24h","expectedRevision":0}`)
	got = into[wire.AutopilotResponse](t, w.ok("cluster/getAutopilot", `{}`))
	require.Equal(t, wire.Duration(24*time.Hour), got.RemoveDeadAfter)
	require.EqualValues(t, 1, got.Revision)
	for body, says := range map[string]string{
		`{"stabilization":"0s"}`: "stabilization:", `{"stabilization":"2h"}`: "stabilization:", `{"maxTrailing":0}`: "maxTrailing:",
		`{"removeDeadAfter":"1s"}`: "removeDeadAfter:", `{"minVoters":0}`: "minVoters:",
	} {
		_, err := w.as(w.admin, "cluster/setAutopilot", body)
		w.refused(fault.InvalidRequest, says, err)
	}
	_, err := w.as(w.admin, "cluster/setAutopilot", `{"expectedRevision":0}`)
	w.refused(fault.Conflict, "expectedRevision:", err)
}

// What consensus decides by itself is in the trail, refusals too.
func TestAdmissionsAreInTheTrail(t *testing.T) {
	w := newWorld(t)
	w.engine.RecordAdmission(context.Background(), engine.Admission{NodeID: "n4", Address: "a:1", TokenID: "j1", Source: "10.0.0.4", Index: 7})
	w.engine.RecordAdmission(context.Background(), engine.Admission{NodeID: "n5", Address: "b:1", Err: fault.New(fault.Conflict, "token: was used before")})
	w.engine.RecordAdmission(context.Background(), engine.Admission{NodeID: "n6", Removed: true})
	w.engine.RecordAdmission(context.Background(), engine.Admission{NodeID: "n1", Level: 2, Index: 9})
	events := w.events(audit.Filter{})
	events = events[len(events)-4:]
	require.Equal(t, "cluster.admit_member", events[0].Event)
	require.Equal(t, "node n4 at a:1 by the join token j1", events[0].Reason)
	require.Equal(t, "10.0.0.4", events[0].SourceAddress)
	require.Equal(t, audit.OK, events[0].Outcome)
	require.Equal(t, audit.Failed, events[1].Outcome)
	require.Contains(t, events[1].Reason, "was used before")
	require.Equal(t, "cluster.remove_dead_member", events[2].Event)
	require.Equal(t, "cluster.raise_level", events[3].Event)
	require.Equal(t, "all members know feature level 2", events[3].Reason)
	require.EqualValues(t, 9, events[3].Index)
}
