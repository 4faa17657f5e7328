package raft

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/stretchr/testify/require"

	hraft "github.com/hashicorp/raft"
)

// listening answers a running node n1 whose configuration names n1 and n2;
// n2 does not run, so nothing happens but what the test does.
func listening(t *testing.T, a *authority) *Node {
	t.Helper()
	c, l := a.config(t)
	servers := []Server{{ID: "n1", Address: l.Addr().String()}, {ID: "n2", Address: "127.0.0.1:1"}}
	require.NoError(t, Bootstrap(c, servers, testGenesis(t)))
	return open(t, c)
}

// accepted reports whether the node lets a client with config in. In TLS 1.3
// the client learns of a refusal only when it reads.
func accepted(t *testing.T, n *Node, config *tls.Config) bool {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", n.link.advertise, config)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	return alive(t, conn, "n2", "127.0.0.1:1")
}

// alive asks for a pre-vote in the name of id, and reports whether there is
// an answer.
func alive(t *testing.T, conn net.Conn, id, address string) bool {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	request := hraft.RequestPreVoteRequest{RPCHeader: hraft.RPCHeader{ProtocolVersion: 3, ID: []byte(id), Addr: []byte(address)}}
	if err := send(conn, rpcRequestPreVote, &request); err != nil {
		return false
	}
	var text string
	return codec.NewDecoder(bufio.NewReader(conn), &codec.MsgpackHandle{}).Decode(&text) == nil
}

func send(conn net.Conn, kind byte, request any) error {
	var b bytes.Buffer
	b.WriteByte(kind)
	if err := codec.NewEncoder(&b, &codec.MsgpackHandle{}).Encode(request); err != nil {
		return err
	}
	_, err := conn.Write(b.Bytes())
	return err
}

func TestOnlyMembersGetOntoTheNodeLink(t *testing.T) {
	ours := newAuthority(t)
	theirs := newAuthority(t)
	n := listening(t, ours)
	client := func(a *authority, cluster, node, protocol string) *tls.Config {
		c := a.identity(cluster, node).client("n1", protocol)
		c.VerifyConnection = nil // a rogue does not care whom it talks to
		return c
	}
	require.True(t, accepted(t, n, client(ours, testCluster, "n2", protocolRaft)), "a member must get in, or the rest shows nothing")

	nobody := client(ours, testCluster, "n2", protocolRaft)
	nobody.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	old := client(ours, testCluster, "n2", protocolRaft)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	silent := client(ours, testCluster, "n2", protocolRaft)
	silent.NextProtos = nil
	for name, config := range map[string]*tls.Config{
		"no certificate":            nobody,
		"another authority":         client(theirs, testCluster, "n2", protocolRaft),
		"another cluster":           client(ours, "c2", "n2", protocolRaft),
		"not a member":              client(ours, testCluster, "n3", protocolRaft),
		"a name with a slash":       client(ours, testCluster, "n2/n1", protocolRaft),
		"an unknown protocol":       client(ours, testCluster, "n2", "h2"),
		"no protocol":               silent,
		"an old TLS":                old,
		"not a member, on the link": client(ours, testCluster, "n3", protocolLink),
	} {
		require.False(t, accepted(t, n, config), name)
	}
}

// A member must not speak for another one: AppendEntries, InstallSnapshot and
// TimeoutNow are obeyed without a look at the membership.
func TestMemberCannotSpeakForAnother(t *testing.T) {
	a := newAuthority(t)
	n := listening(t, a)
	dial := func() net.Conn {
		conn, err := tls.Dial("tcp", n.link.advertise, a.identity(testCluster, "n2").client("n1", protocolRaft))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	require.True(t, alive(t, dial(), "n2", "127.0.0.1:1"))
	require.False(t, alive(t, dial(), "n1", "127.0.0.1:1"))
	require.False(t, alive(t, dial(), "n3", "127.0.0.1:1"))
	require.False(t, alive(t, dial(), "", "127.0.0.1:1"))
	require.False(t, alive(t, dial(), "n2", n.link.advertise), "votes are remembered by address")

	before := n.raft.CurrentTerm()
	forged := hraft.RPCHeader{ProtocolVersion: 3, ID: []byte("n3"), Addr: []byte("127.0.0.1:1")}
	for kind, request := range map[byte]any{
		rpcAppendEntries:   &hraft.AppendEntriesRequest{RPCHeader: forged, Term: before + 100},
		rpcRequestVote:     &hraft.RequestVoteRequest{RPCHeader: forged, Term: before + 100},
		rpcInstallSnapshot: &hraft.InstallSnapshotRequest{RPCHeader: forged, Term: before + 100, SnapshotVersion: 1, LastLogIndex: 1000, Size: 1},
		rpcTimeoutNow:      &hraft.TimeoutNowRequest{RPCHeader: forged},
	} {
		conn := dial()
		require.NoError(t, send(conn, kind, request))
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err, "request %d was answered", kind)
		require.Less(t, n.raft.CurrentTerm(), before+100, "request %d was obeyed", kind)
	}
}

func TestGarbageOnTheLinkEndsTheConnectionOnly(t *testing.T) {
	a := newAuthority(t)
	n := listening(t, a)
	for _, garbage := range [][]byte{{99}, {rpcAppendEntries, 0xc1}, {rpcInstallSnapshot, 0xdf, 0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{rpcAppendEntries}, 4096)} {
		conn, err := tls.Dial("tcp", n.link.advertise, a.identity(testCluster, "n2").client("n1", protocolRaft))
		require.NoError(t, err)
		// The node may be gone at the first byte: what becomes of the rest of
		// them, and of our goodbye, is a matter of who is faster.
		_, _ = conn.Write(garbage)
		_ = conn.CloseWrite()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = conn.Read(make([]byte, 1))
		require.Error(t, err, "it was answered")
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection was kept")
		_ = conn.Close()
	}
	conn, err := tls.Dial("tcp", n.link.advertise, a.identity(testCluster, "n2").client("n1", protocolRaft))
	require.NoError(t, err)
	require.True(t, alive(t, conn, "n2", "127.0.0.1:1"))
	require.NoError(t, conn.Close())
}

// Strangers that never finish a handshake must not keep members out.
func TestIdleStrangersDoNotKeepMembersOut(t *testing.T) {
	a := newAuthority(t)
	n := listening(t, a)
	for range maxHandshakes + 16 {
		conn, err := net.Dial("tcp", n.link.advertise)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	require.True(t, accepted(t, n, a.identity(testCluster, "n2").client("n1", protocolRaft)))
	require.Eventually(t, func() bool {
		n.link.mu.Lock()
		defer n.link.mu.Unlock()
		return len(n.link.handshakes) <= maxHandshakes
	}, patience, time.Millisecond)
}

func TestMemberHasABoundedNumberOfConnections(t *testing.T) {
	a := newAuthority(t)
	c, l := a.config(t)
	c.MaxConnections = 2
	servers := []Server{{ID: "n1", Address: l.Addr().String()}, {ID: "n2", Address: "127.0.0.1:1"}}
	require.NoError(t, Bootstrap(c, servers, testGenesis(t)))
	n := open(t, c)
	for i := range 3 {
		conn, err := tls.Dial("tcp", n.link.advertise, a.identity(testCluster, "n2").client("n1", protocolRaft))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.Equal(t, i < 2, alive(t, conn, "n2", "127.0.0.1:1"), "connection %d", i+1)
	}
}

// The dialing side insists on the node that it means.
func TestDialRefusesAnotherNodeAtTheAddress(t *testing.T) {
	a := newAuthority(t)
	n := listening(t, a)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := n.link.dial(ctx, "n2", n.link.advertise, protocolRaft)
	require.ErrorContains(t, err, `the peer is node "n1", not "n2"`)

	rogue := newAuthority(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*rogue.issue(testCluster, "n2")}, NextProtos: []string{protocolRaft}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	_, err = n.link.dial(ctx, "n2", l.Addr().String(), protocolRaft)
	require.ErrorContains(t, err, "unknown authority")

	_, err = outbound{n.link, n.servers}.Dial("127.0.0.1:9", time.Second)
	require.ErrorContains(t, err, "no member")
}

func TestGossipWithAnotherKeyOrLabelDoesNotJoin(t *testing.T) {
	self := func() hint { return hint{api: "https://x", version: "test"} }
	base := Config{NodeID: "n1", ClusterID: testCluster, Gossip: GossipConfig{BindAddress: "127.0.0.1:0", Keys: testGossipKeys(7)}}.withDefaults()
	first, err := openGossip(base, self)
	require.NoError(t, err)
	defer func() { require.NoError(t, first.close()) }()
	join := func(change func(*Config)) *gossip {
		c := base
		c.NodeID = "n2"
		c.Gossip.Seeds = []string{first.address("n1")}
		change(&c)
		g, err := openGossip(c, self)
		require.NoError(t, err)
		g.join(context.Background())
		return g
	}
	for name, change := range map[string]func(*Config){
		"key":   func(c *Config) { c.Gossip.Keys = testGossipKeys(8) },
		"label": func(c *Config) { c.ClusterID = "c2" },
	} {
		stranger := join(change)
		require.Equal(t, 1, stranger.alive(), name)
		require.Equal(t, 1, first.alive(), name)
		require.NoError(t, stranger.close())
	}
	friend := join(func(*Config) {})
	require.Equal(t, 2, friend.alive())
	require.Eventually(t, func() bool { return first.hints()["n2"].api == "https://x" }, patience, time.Millisecond)
	require.NoError(t, friend.close())
}

func TestHintsComeBack(t *testing.T) {
	in := hint{applied: 1 << 40, api: "https://node.example.com:8200", version: "1.2.3", hsm: HSMHealthy, audit: TrailDown, disk: diskShort, level: 3}
	b := in.encode(512)
	require.NotEmpty(t, b)
	out, ok := decodeHint(b)
	require.True(t, ok)
	require.Equal(t, in, out)
	// What builds sent that said nothing of their level, of their disk, of their trail.
	older := map[int]hint{}
	at := len(b) - 1
	in.level = 0
	older[at] = in
	at -= len(diskShort) + 1
	in.disk = ""
	older[at] = in
	at -= len(TrailDown) + 1
	in.audit = ""
	older[at] = in
	for i := range b {
		got, ok := decodeHint(b[:i])
		want, is := older[i]
		require.Equal(t, is, ok, "cut at %d", i)
		require.Equal(t, want, got, "cut at %d", i)
	}
	long := string(bytes.Repeat([]byte("x"), 4096))
	require.LessOrEqual(t, len(hint{applied: 1 << 63, api: long, version: long, hsm: long, audit: long}.encode(512)), 512)
}

func FuzzHint(f *testing.F) {
	f.Add(hint{applied: 7, api: "a", version: "b", hsm: "c", audit: "d"}.encode(512))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := decodeHint(b); ok {
			again, ok := decodeHint(h.encode(1 << 16))
			if !ok || again.applied != h.applied || again.api != h.api || again.version != h.version || again.audit[:min(len(again.audit), stateString)] != h.audit[:min(len(h.audit), stateString)] {
				t.Fatal("a hint changed on its way")
			}
		}
	})
}

func TestAMemberIsFitForLeadershipByWhatItSays(t *testing.T) {
	fit := Member{Role: RoleFollower, Alive: true, HSM: HSMHealthy, Audit: TrailOK}
	require.True(t, fit.Fit())
	for name, change := range map[string]func(*Member){
		"leads":            func(m *Member) { m.Role = RoleLeader },
		"does not vote":    func(m *Member) { m.Role = RoleNonVoter },
		"is silent":        func(m *Member) { m.Alive = false },
		"HSM down":         func(m *Member) { m.HSM = "down" },
		"HSM unsaid":       func(m *Member) { m.HSM = "" },
		"audit trail down": func(m *Member) { m.Audit = TrailDown },
	} {
		m := fit
		change(&m)
		require.False(t, m.Fit(), name)
	}
	older := fit
	older.Audit = ""
	require.True(t, older.Fit(), "a release that says nothing of its trail is as fit as it was")
}
