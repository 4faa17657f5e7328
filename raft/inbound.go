package raft

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/strongroom/strongroom/fsm"

	hraft "github.com/hashicorp/raft"
)

// The wire format is that of hraft.NetworkTransport, which sends the
// requests: a type byte and a message in msgpack; the answer is an error text
// and a message. The receiving side is ours because the library's does not
// tell which connection a request came on, and AppendEntries, InstallSnapshot
// and TimeoutNow are not checked against the membership by anybody.
const (
	rpcAppendEntries byte = iota
	rpcRequestVote
	rpcInstallSnapshot
	rpcTimeoutNow
	rpcRequestPreVote
)

// Bounds of the receiving side.
const (
	maxRequest     = 64 * (LimitMaxCommand + 4096) // the library sends at most 64 entries at once
	maxSnapshot    = 64 << 30
	answerTimeout  = 10 * time.Second
	requestTimeout = 30 * time.Second // from a request's first byte to its last, snapshots aside
	stallTimeout   = 30 * time.Second // between two reads of a snapshot
)

// inbound receives the requests of other members.
type inbound struct {
	requests  chan hraft.RPC
	heartbeat atomic.Pointer[func(hraft.RPC)]
	address   func(id string) (string, bool) // of a member
	following func(term uint64) bool         // whether this node follows in term
	failed    func() bool
	voteless  func() bool              // whether this node must not vote or be made to lead
	standing  func() error             // whether this node may take part
	full      func() bool              // whether there is no room for entries
	outgrown  func(level uint32) error // whether this build does not know a feature level
	faults    *Faults
	log       *slog.Logger
}

func newInbound(faults *Faults, log *slog.Logger) *inbound {
	return &inbound{requests: make(chan hraft.RPC), faults: faults, log: log}
}

func (in *inbound) setHeartbeat(handle func(hraft.RPC)) { in.heartbeat.Store(&handle) }

// serve answers the requests of peer on conn until ctx ends or conn does. It
// closes conn.
func (in *inbound) serve(ctx context.Context, conn net.Conn, peer string) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	s := newSession(in, conn, peer)
	for {
		err := s.next(ctx)
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			in.log.Warn("closing a connection of the node link", "peer", peer, "remote", conn.RemoteAddr().String(), "error", err)
		}
		return
	}
}

// session is one connection and the member at its other end.
type session struct {
	*inbound
	conn   net.Conn
	peer   string
	budget *budgetReader
	r      *bufio.Reader
	w      *bufio.Writer
	dec    *codec.Decoder
	enc    *codec.Encoder
}

func newSession(in *inbound, conn net.Conn, peer string) *session {
	budget := &budgetReader{from: conn}
	r := bufio.NewReaderSize(budget, 256<<10)
	w := bufio.NewWriter(conn)
	handle := &codec.MsgpackHandle{}
	handle.TimeNotBuiltin = true // as the library's transport
	return &session{
		inbound: in, conn: conn, peer: peer, budget: budget, r: r, w: w,
		dec: codec.NewDecoder(r, &codec.MsgpackHandle{}),
		enc: codec.NewEncoder(w, handle),
	}
}

// next answers one request.
func (s *session) next(ctx context.Context) error {
	s.budget.left = maxRequest
	if err := s.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	kind, err := s.r.ReadByte()
	if err != nil {
		return err
	}
	if err := s.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	answer := make(chan hraft.RPCResponse, 1)
	rpc, err := s.decode(kind)
	if err != nil {
		return err
	}
	rpc.RespChan = answer
	if no := refusal(rpc.Command); no != nil && s.voteless() {
		return s.answer(hraft.RPCResponse{Response: no, Error: errMending})
	}
	if s.full() {
		switch c := rpc.Command.(type) {
		case *hraft.InstallSnapshotRequest:
			return errNoRoom // nobody reads what follows, so the connection is of no use
		case *hraft.AppendEntriesRequest:
			if len(c.Entries) > 0 {
				return s.answer(hraft.RPCResponse{Response: &hraft.AppendEntriesResponse{}, Error: errNoRoom})
			}
		}
	}
	if err := s.hand(ctx, rpc); err != nil {
		return err
	}
	select {
	case got := <-answer:
		return s.answer(got)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decode reads one message and checks that it says it is from whom it is.
func (s *session) decode(kind byte) (hraft.RPC, error) {
	var rpc hraft.RPC
	var message hraft.WithRPCHeader
	switch kind {
	case rpcAppendEntries:
		message = new(hraft.AppendEntriesRequest)
	case rpcRequestVote:
		message = new(hraft.RequestVoteRequest)
	case rpcInstallSnapshot:
		message = new(hraft.InstallSnapshotRequest)
	case rpcTimeoutNow:
		message = new(hraft.TimeoutNowRequest)
	case rpcRequestPreVote:
		message = new(hraft.RequestPreVoteRequest)
	default:
		return rpc, fmt.Errorf("unknown request type %d", kind)
	}
	if err := s.dec.Decode(message); err != nil {
		return rpc, fmt.Errorf("decode request type %d: %w", kind, err)
	}
	if s.faults.Received != nil {
		s.faults.Received(s.peer)
	}
	if err := s.check(message.GetRPCHeader()); err != nil {
		return rpc, err
	}
	rpc.Command = message
	if entries, ok := message.(*hraft.AppendEntriesRequest); ok {
		if err := s.outgrown(entriesLevel(entries.Entries)); err != nil {
			return rpc, err
		}
	}
	if install, ok := message.(*hraft.InstallSnapshotRequest); ok {
		if install.Size < 0 || install.Size > maxSnapshot {
			return rpc, fmt.Errorf("a snapshot of %d bytes", install.Size)
		}
		s.budget.left = install.Size
		head, err := s.r.Peek(int(min(install.Size, int64(fsm.SnapshotHead))))
		if err != nil {
			return rpc, fmt.Errorf("a snapshot that ends: %w", err)
		}
		if err := s.outgrown(fsm.SnapshotLevel(head)); err != nil {
			return rpc, err
		}
		rpc.Reader = &patientReader{from: io.LimitReader(s.r, install.Size), conn: s.conn}
	}
	return rpc, nil
}

// check holds what a request says of its sender against the connection that
// it came on. The membership may have changed since the handshake. The
// library remembers its votes by address, so two nodes that name the same
// one would share a vote.
func (s *session) check(header hraft.RPCHeader) error {
	if s.failed() || s.faults.cut(s.peer) {
		return errors.New("this node has failed and takes no part")
	}
	if err := s.standing(); err != nil {
		return err
	}
	if string(header.ID) != s.peer {
		return fmt.Errorf("a request in the name of %q on a connection of %q", header.ID, s.peer)
	}
	address, ok := s.address(s.peer)
	if !ok {
		return fmt.Errorf("%q is no member of this cluster", s.peer)
	}
	if string(header.Addr) != address {
		return fmt.Errorf("%q calls itself at %q; the configuration has it at %q", s.peer, header.Addr, address)
	}
	return nil
}

// hand gives the request to Raft. Heartbeats go past the queue, which may
// wait for a disk; but only those that confirm what this node knows: the fast
// path runs beside the library's main loop, and a change of term or role
// there could race with a vote.
func (s *session) hand(ctx context.Context, rpc hraft.RPC) error {
	if handle, term := s.heartbeat.Load(), heartbeatTerm(rpc.Command); handle != nil && term != 0 && s.following(term) {
		(*handle)(rpc)
		return nil
	}
	select {
	case s.requests <- rpc:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refusal is the empty answer that goes with an error to a request for a vote
// or to lead, nil to any other request.
func refusal(command any) any {
	switch command.(type) {
	case *hraft.RequestVoteRequest:
		return &hraft.RequestVoteResponse{}
	case *hraft.RequestPreVoteRequest:
		return &hraft.RequestPreVoteResponse{}
	case *hraft.TimeoutNowRequest:
		return &hraft.TimeoutNowResponse{}
	default:
		return nil
	}
}

var errNoRoom = errors.New("this node has no room for entries of the log")

// heartbeatTerm answers the term of a heartbeat, 0 for any other request.
func heartbeatTerm(command any) uint64 {
	a, ok := command.(*hraft.AppendEntriesRequest)
	if ok && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0 {
		return a.Term
	}
	return 0
}

func (s *session) answer(got hraft.RPCResponse) error {
	if err := s.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	text := ""
	if got.Error != nil {
		text = got.Error.Error()
	}
	if err := s.enc.Encode(text); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if err := s.enc.Encode(got.Response); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return s.w.Flush()
}

// budgetReader ends a message that does not end.
type budgetReader struct {
	from io.Reader
	left int64
}

func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the request is too large")
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.from.Read(p)
	b.left -= int64(n)
	return n, err
}

// patientReader lets a snapshot take as long as it flows.
type patientReader struct {
	from io.Reader
	conn net.Conn
}

func (p *patientReader) Read(b []byte) (int, error) {
	if err := p.conn.SetDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return p.from.Read(b)
}
