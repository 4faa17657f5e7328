package raft

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	hraft "github.com/hashicorp/raft"
)

// pretends is a member that takes part in nothing but the comparison: it shows
// its certificate, and answer has the connection. It answers its address.
func pretends(t *testing.T, a *authority, id string, answer func(conn net.Conn)) string {
	t.Helper()
	config := a.identity(testCluster, id).serverNow()
	config.NextProtos = []string{protocolMarks}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if conn.(*tls.Conn).Handshake() == nil {
					answer(conn)
				}
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// leadingBeside answers a node that leads a cluster of one, with members beside
// it that have no vote.
func leadingBeside(t *testing.T, a *authority, members map[string]string) *Node {
	t.Helper()
	c, l := a.config(t)
	c.Faults = &Faults{MarkEvery: 1}
	require.NoError(t, Bootstrap(c, []Server{{ID: "n1", Address: l.Addr().String()}}, testGenesis(t)))
	n := open(t, c)
	awaitReady(t, n)
	for id, address := range members {
		require.NoError(t, n.raft.AddNonvoter(hraft.ServerID(id), hraft.ServerAddress(address), 0, patience).Error())
	}
	_, err := n.Propose(context.Background(), sweep(t))
	require.NoError(t, err)
	return n
}

// A process that is stopped, or that hangs, still has its connections accepted
// by its machine. Whoever waits for its marks without a bound compares with
// nobody any more.
func TestAMemberThatAnswersNothingHoldsNothingUp(t *testing.T) {
	a := newAuthority(t)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	var silentAsked, talksAsked atomic.Int32
	members := map[string]string{
		"n2": pretends(t, a, "n2", func(net.Conn) { silentAsked.Add(1); <-over }),
		"n3": pretends(t, a, "n3", func(conn net.Conn) {
			silentAsked.Add(1)
			_, _ = conn.Write([]byte{0, 0, 1}) // and no more
			<-over
		}),
		"n4": pretends(t, a, "n4", func(conn net.Conn) {
			talksAsked.Add(1)
			raw, err := json.Marshal(marks{Chain: []mark{{Index: 1 << 40, Chain: []byte("of another")}}})
			if err == nil {
				_, _ = conn.Write(framed(nil, func(b []byte) []byte { return append(b, raw...) }))
			}
		}),
	}
	n := leadingBeside(t, a, members)

	heard := make(chan map[string]marks, 1)
	go func() {
		c := comparing{heard: map[string]marks{}, rests: map[string]time.Time{}}
		n.askAll(context.Background(), &c)
		heard <- c.heard
	}()
	select {
	case got := <-heard:
		require.Contains(t, got, "n4", "who answers is heard, whoever else is silent")
		require.NotContains(t, got, "n2")
		require.NotContains(t, got, "n3")
	case <-time.After(patience):
		require.Fail(t, "a member that answers nothing holds up the comparison")
	}

	// The node's own round, too, goes on behind them, and closing the node waits
	// for none of them.
	require.Eventually(t, func() bool { return silentAsked.Load() >= 4 && talksAsked.Load() >= 2 }, patience, time.Millisecond)
	shut(t, n)
}

// The library sometimes never answers a change of members that it took in just
// before it lost leadership.
func TestAChangeThatIsNeverAnsweredDoesNotKeepANodeFromStopping(t *testing.T) {
	n := open(t, bootstrapped(t))
	awaitReady(t, n)
	never := make(chan struct{})
	begun := make(chan struct{})
	t.Cleanup(func() { close(never) })
	ctx, cancel := context.WithCancel(context.Background())
	given := make(chan error, 1)
	go func() {
		given <- n.await(ctx, func() error {
			close(begun)
			<-never
			return nil
		})
	}()
	<-begun
	cancel()
	require.ErrorIs(t, <-given, context.Canceled)
	shut(t, n)
}
