package raft

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/strongroom/strongroom/internal/durable"
)

// The protocol of the node link by which members ask each other for their
// marks: who is asked writes one answer, and that is the end.
//
//	answer = length uint32 | JSON
const (
	protocolMarks = "strongroom-marks/1"
	maxMarks      = 256 << 10

	compareEvery   = 2 * time.Second
	compareTimeout = 2 * time.Second
	// compareRest is how long a member that did not answer is not asked again.
	compareRest = 10 * time.Second
	// differTold is the time between two lines of the log about members whose
	// state is another one.
	differTold = time.Minute
)

// partedFile is written into the data folder of a node before it stops because
// its state is not that of the others: "strongroom 1\n<where>\n". A node with
// it does not start: its snapshots may hold what was wrong.
const partedFile = "parted"

// serveMarks answers the marks of this node, once. It closes conn.
func (n *Node) serveMarks(_ context.Context, conn net.Conn, peer string) {
	defer func() { _ = conn.Close() }()
	if n.failed.Load() || n.cfg.Faults.cut(peer) {
		return
	}
	raw, err := json.Marshal(n.machine.marker.snapshot())
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(compareTimeout))
	}
	if err == nil {
		_, err = conn.Write(framed(nil, func(b []byte) []byte { return append(b, raw...) }))
	}
	if err != nil {
		n.cfg.Logger.Debug("a member that asked for marks has gone", "peer", peer, "error", err)
	}
}

// askMarks asks one member for its marks.
func (n *Node) askMarks(ctx context.Context, id, address string) (marks, error) {
	var m marks
	if n.cfg.Faults.cut(id) {
		return m, errors.New("cut off")
	}
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	conn, err := n.link.dial(ctx, id, address, protocolMarks)
	if err != nil {
		return m, err
	}
	defer func() { _ = conn.Close() }()
	// One that is paused accepts, and answers nothing.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return m, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMarks {
		return m, fmt.Errorf("marks of %d bytes", size)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(conn, raw); err != nil {
		return m, err
	}
	return m, json.Unmarshal(raw, &m)
}

// comparing is what runs between two looks at the others.
type comparing struct {
	heard map[string]marks
	rests map[string]time.Time
	told  time.Time
}

// compareStates holds the state of this node against those of the others
// whenever there is something new to compare, until ctx ends.
func (n *Node) compareStates(ctx context.Context) {
	c := comparing{heard: map[string]marks{}, rests: map[string]time.Time{}}
	every := compareEvery
	if n.cfg.Faults.MarkEvery > 0 {
		every = 20 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if n.Standing() != nil || n.failed.Load() || n.cfg.Faults.NoComparison {
			continue
		}
		if n.askAll(ctx, &c) {
			n.hold(n.judge(&c), &c)
		}
	}
}

// askAll asks those members for their marks that have not been heard about the
// newest ones of this node. It reports whether one has said something.
func (n *Node) askAll(ctx context.Context, c *comparing) bool {
	heard := false
	chain, parts := n.machine.marker.snapshot().newest()
	for _, s := range n.servers() {
		theirChain, theirParts := c.heard[s.ID].newest()
		if s.ID == n.cfg.NodeID || theirChain >= chain && theirParts >= parts || time.Now().Before(c.rests[s.ID]) {
			continue
		}
		m, err := n.askMarks(ctx, s.ID, s.Address)
		if err != nil {
			c.rests[s.ID] = time.Now().Add(compareRest)
			continue
		}
		c.heard[s.ID] = c.heard[s.ID].merged(m)
		heard = true
	}
	return heard
}

func (n *Node) judge(c *comparing) verdict {
	var voters []string
	members := map[string]bool{}
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		members[string(s.ID)] = true
		if s.Suffrage == hraft.Voter {
			voters = append(voters, string(s.ID))
		}
	}
	for id := range c.heard {
		if !members[id] {
			delete(c.heard, id)
		}
	}
	return judge(n.cfg.NodeID, n.machine.marker.snapshot(), c.heard, voters)
}

// hold acts on a verdict. The minority stops itself, for good: it cannot tell
// what of what it holds is right. Where nothing is decided, one against one
// with the third silent, both go on, or the loss of one node and a doubt would
// stop the cluster; but one that follows serves no reads of its own.
func (n *Node) hold(v verdict, c *comparing) {
	n.equalAt.Store(max(n.equalAt.Load(), v.equal))
	n.apart.Store(&v.differ)
	if v.minority {
		err := fmt.Errorf("the state of this node is not the one of the majority: %s", v.where)
		if writeErr := n.data.writeParted(v.where); writeErr != nil {
			err = errors.Join(err, writeErr)
		}
		n.fail(err)
		return
	}
	if len(v.differ) > 0 && time.Since(c.told) >= differTold {
		c.told = time.Now()
		n.cfg.Logger.Error("members have another state than this node; those in the minority stop themselves once a majority can be asked", "members", v.differ)
	}
}

// apartFrom reports whether the state of that member was found to be another
// one than that of this node.
func (n *Node) apartFrom(id string) bool {
	differ := n.apart.Load()
	return differ != nil && slices.Contains(*differ, id)
}

func (d *dataDir) writeParted(where string) error {
	if err := durable.Replace(filepath.Join(d.path, partedFile), []byte(markerHead+"\n"+where+"\n")); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

// checkParted refuses a folder whose state is known not to be that of the
// others.
func (d *dataDir) checkParted() error {
	f, err := os.Open(filepath.Join(d.path, partedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	_, where, _ := strings.Cut(strings.TrimSpace(string(raw)), "\n")
	return fmt.Errorf("data folder %s: the state in it is not the one of the majority of the cluster (%s). Remove this node from the cluster "+
		"(strongroom cluster remove), and add the machine with a new node id and an empty folder; keep this one for those who look for the cause", d.path, where)
}
