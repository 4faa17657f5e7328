package raft

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// asks sends a question in the name of node, and answers the answer, nil if
// there is none.
func asks(t *testing.T, n *Node, a *authority, cluster, node string, frames ...[]byte) *joinAnswer {
	t.Helper()
	config := a.identity(cluster, node).client("n1", protocolJoin)
	config.VerifyConnection = nil // a rogue does not care whom it talks to
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", n.link.advertise, config)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	for _, f := range frames {
		_, _ = conn.Write(f) // the node may have closed it already
	}
	raw, err := readFrame(conn, maxJoinJSON)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection was kept")
	if err != nil {
		return nil
	}
	var out joinAnswer
	require.NoError(t, json.Unmarshal(raw, &out))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "one question, one answer")
	return &out
}

// question is that of a node at address.
func question(t *testing.T, address string, empty bool, token string) [][]byte {
	t.Helper()
	raw, err := json.Marshal(joinQuestion{Address: address, Folder: bytes.Repeat([]byte{9}, folderBytes), Empty: empty})
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, writeFrame(&b, raw))
	require.NoError(t, writeFrame(&b, []byte(token)))
	return [][]byte{b.Bytes()}
}

// A node whose log has never left it says that there has been no cluster, to
// members alone. Strangers learn nothing, no address either.
func TestWhoAsksABeginningNode(t *testing.T) {
	a := newAuthority(t)
	n := listening(t, a)
	require.Equal(t, uint64(1), n.Term())
	got := asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:1", true, "")...)
	require.Equal(t, joinBegins, got.Outcome)
	require.Len(t, got.Members, 2)
	require.Equal(t, joinRetry, asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:1", false, "")...).Outcome, "its folder holds something: the leader decides")

	got = asks(t, n, a, testCluster, "n3", question(t, "127.0.0.1:2", true, "guessed")...)
	require.Equal(t, joinStranger, got.Outcome)
	require.Empty(t, got.Members)
	require.Nil(t, got.Leader)
	require.Nil(t, asks(t, n, newAuthority(t), testCluster, "n2", question(t, "127.0.0.1:1", true, "")...), "another authority")
	require.Nil(t, asks(t, n, a, "c2", "n2", question(t, "127.0.0.1:1", true, "")...), "another cluster")
}

func TestGarbageForAQuestionIsNotAnswered(t *testing.T) {
	a := newAuthority(t)
	n := listening(t, a)
	for name, garbage := range map[string][]byte{
		"no JSON": {0, 3, 'x', 'y', 'z', 0, 0}, "too long": {0xff, 0xff}, "a long token": append(question(t, "a:1", true, "")[0][:0:0], append([]byte{0, 2, '{', '}'}, 1, 1)...),
		"a type": {0, 14, '{', '"', 'f', 'o', 'l', 'd', 'e', 'r', '"', ':', '1', '1', '}', ' ', 0, 0},
	} {
		require.Nil(t, asks(t, n, a, testCluster, "n2", garbage), name)
	}
	require.NotNil(t, asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:1", true, "")...), "others are answered still")
}

// A leader never says that there has been no cluster, and a member with a
// folder that it does not know is written down by a command.
func TestLeaderDecidesAboutFolders(t *testing.T) {
	a := newAuthority(t)
	c, l := a.config(t)
	require.NoError(t, Bootstrap(c, []Server{{ID: "n1", Address: l.Addr().String()}}, testGenesis(t)))
	told := make(chan Admission, 16)
	c.Admitted = func(a Admission) { told <- a }
	n := open(t, c)
	awaitReady(t, n)
	own := <-told
	require.Equal(t, "n1", own.NodeID)
	require.NoError(t, own.Err)
	require.Equal(t, n.data.folder, n.Local().ClusterNode("n1").Folder)

	require.Equal(t, joinStranger, asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:1", true, "")...).Outcome)
	require.Error(t, (<-told).Err)
	last := n.raft.LastIndex()
	for range 3 {
		require.Equal(t, joinStranger, asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:1", true, "guessed")...).Outcome)
	}
	require.Equal(t, last, n.raft.LastIndex(), "strangers do not fill the log")
	require.Empty(t, told, "nor the trail")

	_, err := n.proposeCommand(context.Background(), fsm.SetNode{Meta: fsm.Meta{Time: time.Now().UnixMilli()}, NodeID: "n2", Address: "127.0.0.1:1"})
	require.NoError(t, err)
	got := asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:2", true, "")...)
	require.Equal(t, joinStranger, got.Outcome)
	require.Contains(t, got.Reason, "announced at 127.0.0.1:1")
	got = asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:1", true, "")...)
	require.Equal(t, joinAdmitted, got.Outcome)
	require.Len(t, got.Members, 2)
	require.Equal(t, RoleNonVoter, n.Members()[1].Role, "it gets no vote for asking")
	require.Equal(t, uint64(2), n.Term(), "nobody was disturbed")

	_, err = n.proposeCommand(context.Background(), fsm.SetNode{Meta: fsm.Meta{Time: time.Now().UnixMilli()}, NodeID: "n2", Remove: true, Reason: "gone"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.True(t, n.Settle(ctx, "n2"))
	got = asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:1", true, "")...)
	require.Equal(t, joinRefused, got.Outcome)
	require.Contains(t, got.Reason, "never comes back")
}

// A node that was not admitted obeys nobody, also not a member.
func TestNodeThatWaitsTakesNoPart(t *testing.T) {
	a := newAuthority(t)
	c, l := a.config(t)
	c.InitialMembers = []Server{{ID: "n1", Address: l.Addr().String()}, {ID: "n2", Address: "127.0.0.1:1"}}
	n := open(t, c)
	require.Error(t, n.Standing())
	require.False(t, accepted(t, n, a.identity(testCluster, "n2").client("n1", protocolRaft)), "it answered a request for a vote")
	require.Equal(t, joinRetry, asks(t, n, a, testCluster, "n2", question(t, "127.0.0.1:1", true, "")...).Outcome, "nor can it say that there was no cluster")
	shut(t, n)

	// Without the guard it would have answered.
	c, l = a.config(t)
	c.InitialMembers = []Server{{ID: "n1", Address: l.Addr().String()}, {ID: "n2", Address: "127.0.0.1:1"}}
	c.Faults = &Faults{NoAdmission: true}
	n = open(t, c)
	require.True(t, accepted(t, n, a.identity(testCluster, "n2").client("n1", protocolRaft)))
}

func TestFolderKeepsItsID(t *testing.T) {
	c := bootstrapped(t)
	n := open(t, c)
	id := bytes.Clone(n.data.folder)
	require.NoError(t, n.Standing())
	require.Eventually(t, func() bool { return n.Local().ClusterNode("n1") != nil }, patience, time.Millisecond, "the cluster knows the folder")
	shut(t, n)
	n = open(t, reopen(t, c))
	require.Equal(t, id, n.data.folder)
	shut(t, n)

	// A folder of a release without such files took part already.
	for _, name := range []string{folderFile, admittedFile} {
		require.NoError(t, os.Remove(filepath.Join(c.DataDir, name)))
	}
	n = open(t, reopen(t, c))
	require.NotEqual(t, id, n.data.folder)
	require.Eventually(t, func() bool { return n.Standing() != nil }, patience, time.Millisecond, "the cluster knows it with another folder")
	require.ErrorContains(t, n.Standing(), "another data folder")
	_, err := n.ReadState(context.Background())
	require.Error(t, err, "it serves no more")
	shut(t, n)

	require.NoError(t, os.WriteFile(filepath.Join(c.DataDir, folderFile), []byte("garbage\n"), 0o600))
	_, err = Open(context.Background(), reopen(t, c), fsm.New())
	require.ErrorContains(t, err, "is not one that this version can read")
	require.NoError(t, writeFolderID(c.DataDir, folderFile, bytes.Repeat([]byte{1}, folderBytes)))
	require.NoError(t, writeFolderID(c.DataDir, admittedFile, bytes.Repeat([]byte{2}, folderBytes)))
	_, err = Open(context.Background(), reopen(t, c), fsm.New())
	require.ErrorContains(t, err, "are of two folders")
}

func FuzzQuestion(f *testing.F) {
	f.Add([]byte{0, 2, '{', '}', 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		defer func() { _ = here.Close() }()
		go func() {
			_, _ = there.Write(b)
			_ = there.Close()
		}()
		if q, token, err := readQuestion(here); err == nil && (len(q.Folder) > maxJoinQuestion || len(token) > maxJoinToken) {
			t.Fatal("a question beyond its bounds")
		}
	})
}
