package raft

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/secret"
)

// trusting answers a pool of authorities.
func trusting(t *testing.T, all ...*authority) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	for _, a := range all {
		require.True(t, pool.AppendCertsFromPEM(a.pair.Cert))
	}
	return pool
}

// changing answers a running node n1 of the members n1 and n2, of which n2 does
// not run, and what sets whom it trusts.
func changing(t *testing.T, old *authority, faults *Faults) (*Node, *atomic.Pointer[x509.CertPool], *atomic.Pointer[tls.Certificate]) {
	t.Helper()
	c, l := old.config(t)
	pool, cert := &atomic.Pointer[x509.CertPool]{}, &atomic.Pointer[tls.Certificate]{}
	pool.Store(trusting(t, old))
	cert.Store(old.issue(testCluster, "n1"))
	c.Authorities = pool.Load
	c.Certificate = func() (*tls.Certificate, error) { return cert.Load(), nil }
	c.Faults = faults
	require.NoError(t, Bootstrap(c, []Server{{ID: "n1", Address: l.Addr().String()}, {ID: "n2", Address: "127.0.0.1:1"}}, testGenesis(t)))
	return open(t, c), pool, cert
}

func dialAs(t *testing.T, n *Node, a *authority) net.Conn {
	t.Helper()
	config := a.identity(testCluster, "n2").client("n1", protocolRaft)
	config.VerifyConnection = nil // whom it talks to is not what is tested
	conn, err := tls.Dial("tcp", n.link.advertise, config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// The authority is replaced while connections are open: each step goes by what
// is trusted then, and the last one ends what rests on the old authority.
func TestAuthorityIsReplacedWhileTheNodeRuns(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	n, pool, cert := changing(t, old, &Faults{})
	before := dialAs(t, n, old)
	require.True(t, alive(t, before, "n2", "127.0.0.1:1"))
	require.False(t, accepted(t, n, withoutCheck(fresh.identity(testCluster, "n2").client("n1", protocolRaft))))

	pool.Store(trusting(t, old, fresh)) // the first step
	n.Retrust()
	require.True(t, alive(t, before, "n2", "127.0.0.1:1"), "a connection that is vouched for stays")
	during := dialAs(t, n, fresh)
	require.True(t, alive(t, during, "n2", "127.0.0.1:1"))

	cert.Store(fresh.issue(testCluster, "n1")) // the second
	insists := fresh.identity(testCluster, "n2")
	insists.authorities = func() *x509.CertPool { return trusting(t, fresh) }
	require.True(t, accepted(t, n, insists.client("n1", protocolRaft)), "the node shows its new certificate")

	pool.Store(trusting(t, fresh)) // the third
	n.Retrust()
	require.False(t, alive(t, before, "n2", "127.0.0.1:1"), "what was opened under the old authority is cut")
	require.True(t, alive(t, during, "n2", "127.0.0.1:1"))
	require.False(t, accepted(t, n, withoutCheck(old.identity(testCluster, "n2").client("n1", protocolRaft))), "the old authority is worth nothing")
	require.True(t, accepted(t, n, insists.client("n1", protocolRaft)))
}

func withoutCheck(c *tls.Config) *tls.Config {
	c.VerifyConnection = nil
	return c
}

// The negative control: a handshake alone says nothing about now.
func TestWithoutRetrustAnOldConnectionGoesOn(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	n, pool, _ := changing(t, old, &Faults{KeepUntrusted: true})
	before := dialAs(t, n, old)
	require.True(t, alive(t, before, "n2", "127.0.0.1:1"))
	pool.Store(trusting(t, fresh))
	n.Retrust()
	require.True(t, alive(t, before, "n2", "127.0.0.1:1"))
}

// Nobody needs to call Retrust: the node does by itself.
func TestConnectionsAreHeldAgainstNewAuthoritiesUnasked(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	n, pool, _ := changing(t, old, &Faults{})
	before := dialAs(t, n, old)
	require.True(t, alive(t, before, "n2", "127.0.0.1:1"))
	pool.Store(trusting(t, fresh))
	require.Eventually(t, func() bool { return !alive(t, before, "n2", "127.0.0.1:1") }, patience, 10*time.Millisecond)
}

// What this node has asked another member, over a connection whose other end
// lost trust, may be answered for a moment; nothing else is kept.
func TestUntrustedLinkConnectionsDrain(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	c, l := old.config(t)
	c = c.withDefaults()
	id := old.identity(testCluster, "n1")
	link := newLink(c, id, l, newInbound(&Faults{}, c.Logger))
	t.Cleanup(func() { require.NoError(t, link.close()) })
	peer, err := tls.Listen("tcp", "127.0.0.1:0", old.identity(testCluster, "n2").serverNow())
	require.NoError(t, err)
	t.Cleanup(func() { _ = peer.Close() })
	go func() {
		for {
			conn, err := peer.Accept()
			if err != nil {
				return
			}
			go func() { _ = conn.(*tls.Conn).Handshake() }()
		}
	}()
	for _, protocol := range []string{protocolLink, protocolRaft, protocolRead} {
		_, err := link.dial(context.Background(), "n2", peer.Addr().String(), protocol)
		require.NoError(t, err)
	}
	now := time.Now()
	require.Empty(t, link.untrusted(trusting(t, old, fresh), now))
	gone := trusting(t, fresh)
	require.Len(t, link.untrusted(gone, now), 2)
	require.Len(t, link.untrusted(gone, now.Add(linkDrain-1)), 2)
	require.Len(t, link.untrusted(gone, now.Add(linkDrain)), 3)
	require.Empty(t, link.untrusted(trusting(t, old), now.Add(linkDrain)), "trust that comes back keeps what is open")
}

// A key is replaced in three steps, at each of which all members hear each
// other, and afterwards the old one opens nothing.
func TestGossipKeyIsReplacedWhileMembersTalk(t *testing.T) {
	self := func() hint { return hint{api: "https://x", version: "test"} }
	start := func(id string, keys []secret.Bytes, seeds ...string) *gossip {
		g, err := openGossip(Config{NodeID: id, ClusterID: testCluster, Gossip: GossipConfig{BindAddress: "127.0.0.1:0", Keys: keys, Seeds: seeds}}.withDefaults(), self)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, g.close()) })
		g.join(context.Background())
		return g
	}
	meets := func(first *gossip, keys []secret.Bytes, id string) bool {
		g := start(id, keys, first.address("n1"))
		return g.alive() > 1
	}
	first := start("n1", testGossipKeys(7))
	require.False(t, meets(first, testGossipKeys(8), "a"), "the new key before the first step")
	require.NoError(t, setKeyring(first.ring, testGossipKeys(7, 8)))
	require.True(t, meets(first, testGossipKeys(7), "b"), "a member that has not taken the first step")
	require.True(t, meets(first, testGossipKeys(8, 7), "c"), "a member that has taken the second")
	require.NoError(t, setKeyring(first.ring, testGossipKeys(8, 7)))
	require.True(t, meets(first, testGossipKeys(7, 8), "d"), "a member that has only taken the first")
	require.True(t, meets(first, testGossipKeys(8), "e"), "a member that has taken the third")
	require.NoError(t, setKeyring(first.ring, testGossipKeys(8)))
	require.True(t, meets(first, testGossipKeys(8, 7), "f"), "a member that has not taken the third")
	require.False(t, meets(first, testGossipKeys(7), "g"), "whoever has the old key alone")
	require.NoError(t, setKeyring(first.ring, testGossipKeys(7)))
	require.True(t, meets(first, testGossipKeys(7), "h"), "the control: that key was the reason")
}

// Keys change in any way while messages are read under them; the race detector
// is the judge of the reading.
func TestKeyringChangesUnderReaders(t *testing.T) {
	ring, err := newKeyring(testGossipKeys(1))
	require.NoError(t, err)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, key := range ring.GetKeys() {
				_ = key[0]
			}
		}
	}()
	for _, numbers := range [][]byte{{1, 2}, {2, 1}, {2}, {2, 3, 4}, {4, 2}, {5, 2}, {2, 3, 4, 5}, {3, 5}, {6}, {6}} {
		require.NoError(t, setKeyring(ring, testGossipKeys(numbers...)))
		var held []byte
		for _, key := range ring.GetKeys() {
			held = append(held, key[0])
		}
		require.ElementsMatch(t, numbers, held)
		require.Equal(t, numbers[0], held[0], "the first one is sent with")
	}
	close(stop)
	<-ended
}

func TestGossipKeysAreChecked(t *testing.T) {
	n := open(t, bootstrapped(t))
	require.Error(t, n.UseGossipKeys(nil))
	require.Error(t, n.UseGossipKeys([]secret.Bytes{secret.New(make([]byte, 16))}))
	require.NoError(t, n.UseGossipKeys(testGossipKeys(9, 7)))
	require.Equal(t, byte(9), n.gossip.ring.GetPrimaryKey()[0])
}
