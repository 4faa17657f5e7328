package raft

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/strongroom/strongroom/fsm"
)

// The protocol by which nodes that follow ask, protocolRead, is frames: four
// bytes, the length of the rest in big endian, and the rest. Numbers are
// unsigned varints; an item is its length and its bytes.
//
//	question: id, number of items, items
//	answer:   id, status, index, number of items, items
const (
	statusOK       = 0
	statusNoLeader = 1
)

// frameTime is what the rest of a frame, or an answer, may take on its way.
const frameTime = 5 * time.Second

type answerFrame struct {
	id, status, index uint64
	items             [][]byte
}

// serveFollower answers the questions of peer on conn until ctx or conn ends.
// It closes conn.
func (n *Node) serveFollower(ctx context.Context, conn net.Conn, peer string) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	r := newFrameReader(conn)
	for {
		payload, err := r.next()
		if err == nil {
			err = n.answerQuestion(ctx, conn, peer, payload)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
			n.cfg.Logger.Warn("closing a connection on which a member asked for reads", "peer", peer, "error", err)
		}
		return
	}
}

func (n *Node) answerQuestion(ctx context.Context, conn net.Conn, peer string, payload []byte) error {
	id, items, err := parseQuestion(payload)
	if err != nil {
		return err
	}
	if n.failed.Load() || n.cfg.Faults.cut(peer) {
		return errors.New("this node has failed and takes no part")
	}
	if !n.isMember(peer) {
		return fmt.Errorf("%q is no member of this cluster", peer)
	}
	got := n.answerFor(ctx, peer, items)
	got.id = id
	if err := conn.SetWriteDeadline(time.Now().Add(frameTime)); err != nil {
		return err
	}
	_, err = conn.Write(appendAnswer(nil, got))
	return err
}

// answerFor is the leader's word: a round of its read gate that begins after
// the question came, then what the handler says to its items at the state of
// that round. What that state holds is what the one who asks must have applied.
func (n *Node) answerFor(ctx context.Context, peer string, items [][]byte) answerFrame {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	decide := func(_ *fsm.State, _ string, items [][]byte) [][]byte { return make([][]byte, len(items)) }
	if begin := n.handler.Load(); begin != nil {
		decide = (*begin)()
	}
	state, err := n.ReadState(ctx)
	if err != nil {
		return answerFrame{status: statusNoLeader}
	}
	return answerFrame{index: state.Index(), items: decide(state, peer, items)}
}

// frameReader reads frames. There is no bound on the wait for one to begin.
type frameReader struct {
	conn net.Conn
	r    *bufio.Reader
}

func newFrameReader(conn net.Conn) *frameReader {
	return &frameReader{conn, bufio.NewReaderSize(conn, 16<<10)}
}

func (f *frameReader) next() ([]byte, error) {
	if err := f.conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if _, err := f.r.Peek(1); err != nil {
		return nil, err
	}
	if err := f.conn.SetReadDeadline(time.Now().Add(frameTime)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", size)
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(f.r, payload)
	return payload, err
}

// framed puts the length before what make appends.
func framed(b []byte, fill func([]byte) []byte) []byte {
	at := len(b)
	b = fill(append(b, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

func appendItems(b []byte, items [][]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(items)))
	for _, item := range items {
		b = append(binary.AppendUvarint(b, uint64(len(item))), item...)
	}
	return b
}

func appendQuestion(b []byte, id uint64, items [][]byte) []byte {
	return framed(b, func(b []byte) []byte { return appendItems(binary.AppendUvarint(b, id), items) })
}

func appendAnswer(b []byte, a answerFrame) []byte {
	return framed(b, func(b []byte) []byte {
		b = binary.AppendUvarint(b, a.id)
		b = binary.AppendUvarint(b, a.status)
		b = binary.AppendUvarint(b, a.index)
		return appendItems(b, a.items)
	})
}

var errFrame = errors.New("a frame that is cut off or has something behind it")

// number takes one off b.
func number(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, errFrame
	}
	return v, b[n:], nil
}

// parseItems reads items to the end of b. They share its memory.
func parseItems(b []byte) ([][]byte, error) {
	count, b, err := number(b)
	if err != nil {
		return nil, err
	}
	if count > maxAsked {
		return nil, fmt.Errorf("a frame of %d items", count)
	}
	items := make([][]byte, 0, count)
	for range count {
		var size uint64
		if size, b, err = number(b); err != nil {
			return nil, err
		}
		if size > uint64(len(b)) {
			return nil, errFrame
		}
		items, b = append(items, b[:size:size]), b[size:]
	}
	if len(b) != 0 {
		return nil, errFrame
	}
	return items, nil
}

func parseQuestion(b []byte) (id uint64, items [][]byte, err error) {
	if id, b, err = number(b); err != nil {
		return 0, nil, err
	}
	items, err = parseItems(b)
	return id, items, err
}

func parseAnswer(b []byte) (a answerFrame, err error) {
	for _, field := range []*uint64{&a.id, &a.status, &a.index} {
		if *field, b, err = number(b); err != nil {
			return answerFrame{}, err
		}
	}
	a.items, err = parseItems(b)
	return a, err
}
