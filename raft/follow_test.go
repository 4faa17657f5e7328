package raft

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/fault"
)

// Frames come out as they went in, and what is cut off, or longer than it
// says, is refused.
func TestFramesOfReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(rapid.SliceOf(rapid.Byte()), 0, 8).Draw(t, "items")
		want := answerFrame{
			id: rapid.Uint64().Draw(t, "id"), status: rapid.Uint64Range(0, 3).Draw(t, "status"), index: rapid.Uint64().Draw(t, "index"), items: items,
		}
		got, err := parseAnswer(appendAnswer(nil, want)[4:])
		require.NoError(t, err)
		require.Equal(t, want.id, got.id)
		require.Equal(t, want.index, got.index)
		require.Len(t, got.items, len(items))
		question := appendQuestion(nil, want.id, items)[4:]
		id, asked, err := parseQuestion(question)
		require.NoError(t, err)
		require.Equal(t, want.id, id)
		for i, item := range items {
			require.True(t, bytes.Equal(item, asked[i]) && bytes.Equal(item, got.items[i]))
		}
		_, _, err = parseQuestion(question[:rapid.IntRange(0, len(question)-1).Draw(t, "cut")])
		require.Error(t, err)
		_, _, err = parseQuestion(append(question, 0))
		require.Error(t, err)
	})
	for _, bad := range [][]byte{{}, {1}, {1, 1}, {1, 1, 9, 0}, {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		_, _, err := parseQuestion(bad)
		require.Error(t, err, "%v", bad)
	}
}

func FuzzFramesOfReads(f *testing.F) {
	f.Add(appendQuestion(nil, 1, [][]byte{{1, 2}, nil})[4:])
	f.Add(appendAnswer(nil, answerFrame{id: 1, index: 7, items: [][]byte{{1}}})[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, items, err := parseQuestion(b); err == nil {
			require.LessOrEqual(t, len(items), maxAsked)
		}
		if a, err := parseAnswer(b); err == nil {
			again, err := parseAnswer(appendAnswer(nil, a)[4:])
			require.NoError(t, err)
			require.Equal(t, a.index, again.index)
		}
	})
}

// A frame that says that it is too long is not read.
func TestAFrameIsBounded(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	go func() { _, _ = there.Write([]byte{0x7f, 0xff, 0xff, 0xff}) }()
	_, err := newFrameReader(here).next()
	require.ErrorContains(t, err, "a frame of")
}

// A member of an earlier release does not offer the protocol: its handshake
// fails, nothing is asked, and it is not dialled again at once.
func TestAnEarlierReleaseIsNotAsked(t *testing.T) {
	a := newAuthority(t)
	old := a.identity(testCluster, "n2").serverNow()
	old.NextProtos = []string{protocolRaft, protocolLink}
	l, err := tls.Listen("tcp", "127.0.0.1:0", old)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	var dialled atomic.Int32
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	c, listener := a.config(t)
	servers := []Server{{ID: "n1", Address: listener.Addr().String()}, {ID: "n2", Address: l.Addr().String()}}
	require.NoError(t, Bootstrap(c, servers, testGenesis(t)))
	n := open(t, c)
	f := newFollower(n)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	before := dialled.Load() // elections dial, too
	require.ErrorContains(t, f.connect(ctx, "n2"), "no application protocol")
	require.Greater(t, dialled.Load(), before)
	require.ErrorContains(t, f.connect(ctx, "n2"), "a moment ago")
	require.ErrorContains(t, f.connect(ctx, "n3"), "no member")
}

// Who asks a node that does not lead is told so; who sends garbage, or is no
// member any more, loses the connection, and nothing else happens.
func TestWhoAsksForReads(t *testing.T) {
	a := newAuthority(t)
	n := listening(t, a)
	dial := func() *tls.Conn {
		conn, err := tls.Dial("tcp", n.link.advertise, a.identity(testCluster, "n2").client("n1", protocolRead))
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	conn := dial()
	for id := range uint64(3) {
		_, err := conn.Write(appendQuestion(nil, id, [][]byte{nil, {1}}))
		require.NoError(t, err)
		payload, err := newFrameReader(conn).next()
		require.NoError(t, err)
		got, err := parseAnswer(payload)
		require.NoError(t, err)
		require.Equal(t, answerFrame{id: id, status: statusNoLeader, items: [][]byte{}}, got)
	}
	for _, garbage := range [][]byte{{0, 0, 0, 1, 0xff}, {0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{0}, 64)} {
		conn := dial()
		_, _ = conn.Write(garbage)
		_ = conn.CloseWrite()
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err, "it was answered")
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection was kept")
	}
	require.ErrorContains(t, n.answerQuestion(context.Background(), conn, "n9", appendQuestion(nil, 1, nil)[4:]), "no member")
	n.failed.Store(true)
	require.ErrorContains(t, n.answerQuestion(context.Background(), conn, "n2", appendQuestion(nil, 1, nil)[4:]), "has failed")
	n.failed.Store(false)
}

// Nobody leads: a read is told so at once, and an item that is too long never
// waits.
func TestAReadWithoutALeader(t *testing.T) {
	n := listening(t, newAuthority(t))
	_, err := n.AskLeader(context.Background(), nil)
	require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
	_, err = n.AskLeader(context.Background(), make([]byte, maxItem+1))
	require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
}
