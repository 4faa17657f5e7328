package raft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"

	hraft "github.com/hashicorp/raft"
)

// The fifth protocol of the node link: a member that is asked says what level
// its build knows, and the connection ends.
//
//	answer = length uint16 | JSON
//
// The leader asks each member itself, because this decides what may be in the
// log: the answer comes from the process that holds the member's key, over a
// connection that it proved that on. Gossip says the same for people to read,
// and may not be believed: every holder of the gossip key can say anything in
// anybody's name.
const (
	protocolLevel = "strongroom-level/1"
	levelTimeout  = 2 * time.Second
	levelEvery    = time.Second // between two rounds of asking, while there is something to raise
	maxLevelJSON  = 256
)

type levelAnswer struct {
	Level uint32 `json:"level"`
}

// level answers the feature level that a build knows.
func (c Config) level() uint32 {
	if c.Faults != nil && c.Faults.Level != 0 {
		return c.Faults.Level
	}
	return fsm.Level
}

// answerLevel serves one question of a member. It closes conn.
func (n *Node) answerLevel(conn net.Conn, peer string) {
	defer func() { _ = conn.Close() }()
	raw, err := json.Marshal(levelAnswer{Level: n.cfg.level()})
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(levelTimeout))
	}
	if err == nil {
		err = writeFrame(conn, raw)
	}
	if err != nil {
		n.cfg.Logger.Debug("a member that asked for the feature level has gone", "peer", peer, "error", err)
	}
}

// askLevel asks a member what its build knows.
func (n *Node) askLevel(ctx context.Context, id, address string) (uint32, error) {
	if id == n.cfg.NodeID {
		return n.cfg.level(), nil
	}
	if n.cfg.Faults.cut(id) {
		return 0, errors.New("cut off by a test")
	}
	ctx, cancel := context.WithTimeout(ctx, levelTimeout)
	defer cancel()
	conn, err := n.link.dial(ctx, id, address, protocolLevel)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	raw, err := readFrame(conn, maxLevelJSON)
	if err != nil {
		return 0, err
	}
	var a levelAnswer
	if err := json.Unmarshal(raw, &a); err != nil || a.Level == 0 {
		return 0, errors.New("the answer is unreadable")
	}
	return a.Level, nil
}

// raiseLevel is work of the leader, until its office ends: it raises the
// feature level of the cluster as far as all members know it.
func (n *Node) raiseLevel(ctx context.Context) {
	tick := time.NewTicker(levelEvery)
	defer tick.Stop()
	n.pilot.setLevels(nil)
	for {
		if err := n.raiseOnce(ctx); err != nil && ctx.Err() == nil {
			n.cfg.Logger.Warn("the feature level could not be raised; it is tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// raiseOnce raises the level if every member, voter or not, has said in this
// one round that it knows a higher one. A member that is silent may run
// anything, so it holds the raise back.
//
// What if a member is started with an older build between its answer and the
// raise? Then it meets the raise ahead of everything that needs it, takes
// neither, and says so (outgrown): it is one node less, and no state parts.
func (n *Node) raiseOnce(ctx context.Context) error {
	at := n.machine.State().Level()
	if n.cfg.level() <= at {
		return nil
	}
	configuration := n.raft.GetConfiguration()
	said := n.askLevels(ctx, configuration.Configuration().Servers)
	n.pilot.setLevels(said)
	to := n.cfg.level()
	for _, level := range said {
		to = min(to, level)
	}
	if n.cfg.Faults.RaiseUnasked {
		to = n.cfg.level()
	}
	// Whoever has become a member meanwhile was not asked.
	if to <= at || n.raft.GetConfiguration().Index() != configuration.Index() {
		return nil
	}
	result, err := n.proposeCommand(ctx, fsm.RaiseLevel{
		Meta:  fsm.Meta{Time: time.Now().UnixMilli(), Principal: "strongroom", RequestID: fmt.Sprintf("level-%d", to)},
		Level: to, Node: n.cfg.NodeID,
	})
	if err != nil || result.Unchanged {
		return err
	}
	n.cfg.Logger.Info("the feature level of the cluster is raised", "level", to, "index", result.Index)
	n.cfg.Admitted(Admission{NodeID: n.cfg.NodeID, Index: result.Index, Level: to})
	return nil
}

// askLevels asks all at once; 0 stands for no answer.
func (n *Node) askLevels(ctx context.Context, servers []hraft.Server) map[string]uint32 {
	said := map[string]uint32{}
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, s := range servers {
		work.Go(func() {
			level, err := n.askLevel(ctx, string(s.ID), string(s.Address))
			if err != nil {
				n.cfg.Logger.Debug("a member does not say which feature level it knows", "peer", string(s.ID), "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			said[string(s.ID)] = level
		})
	}
	work.Wait()
	return said
}

func (p *pilot) setLevels(said map[string]uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.levels = said
}

// saidLevel answers what a member said to this node, which leads; 0: nothing.
// asked is false while nobody was asked, because there is nothing to raise.
func (p *pilot) saidLevel(id string) (level uint32, asked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.levels[id], p.levels != nil
}

// levelAllows refuses a command that some member could not read. The level of
// this node's state may be behind that of the log, which is the safe side: it
// never falls.
func (n *Node) levelAllows(command []byte) error {
	needs, at := fsm.CommandLevel(command), n.machine.State().Level()
	if needs <= at {
		return nil
	}
	var held []string
	for _, m := range n.Members() {
		switch {
		case m.Level == 0:
			held = append(held, m.ID+" (does not say)")
		case m.Level < needs:
			held = append(held, fmt.Sprintf("%s (level %d)", m.ID, m.Level))
		}
	}
	why := "it is raised in a moment"
	if len(held) > 0 {
		why = "held back by " + strings.Join(held, ", ")
	}
	return fault.New(fault.Conflict, "this needs feature level %d, and the cluster is at level %d, %s; run the same release on all members", needs, at, why)
}

// outgrown fences this node if level is above what its build knows, and says
// why. It is asked before anything of that level is taken, so the node holds
// nothing that it cannot read, acknowledges no raise that it cannot follow,
// and can win no election over a state that is newer: the raise was stored by
// a majority before anything of its level was proposed, and a candidate without
// that entry gets no vote from any of them.
func (n *Node) outgrown(level uint32) error {
	if level <= n.cfg.level() || n.cfg.Faults.TakesAnyLevel {
		return nil
	}
	err := &fsm.LevelError{Needs: level, Knows: n.cfg.level()}
	n.refuse(err.Error())
	return err
}

// tooOld refuses a node whose build does not know the level of the cluster: it
// could read neither the log nor a snapshot. The state of this node may be
// behind, but its level never falls, so to refuse is right. One that follows
// leaves the last word to the leader, which writes it into the trail.
func (n *Node) tooOld(peer string, q joinQuestion, remote netip.Addr, level uint32) joinAnswer {
	err := &fsm.LevelError{Needs: level, Knows: max(q.Level, fsm.FirstLevel)}
	leads := n.tenure() != nil
	if address, id := n.raft.LeaderWithID(); !leads && id != "" && string(id) != n.cfg.NodeID {
		return joinAnswer{Outcome: joinRetry, Reason: err.Error(), Leader: &Server{ID: string(id), Address: string(address)}}
	}
	if leads && n.pilot.mayTell(peer) {
		n.cfg.Admitted(Admission{NodeID: peer, Address: q.Address, Remote: remote, Err: fault.Wrap(fault.Conflict, err, "%s", err.Error())})
	}
	return joinAnswer{Outcome: joinRefused, Reason: err.Error()}
}

// mayLead refuses to hand leadership to a member that does not say that it
// knows the level of the state.
func (n *Node) mayLead(ctx context.Context, to *hraft.Server) error {
	at := n.machine.State().Level()
	if to == nil || at == fsm.FirstLevel {
		return nil
	}
	level, err := n.askLevel(ctx, string(to.ID), string(to.Address))
	switch {
	case err != nil:
		return fault.Wrap(fault.Conflict, err, "to: %s does not say which feature level it knows, and the cluster is at level %d", to.ID, at)
	case level < at:
		return fault.New(fault.Conflict, "to: %s knows feature level %d, and the cluster is at level %d", to.ID, level, at)
	}
	return nil
}

// entriesLevel answers the highest level that entries raise the cluster to, 0
// if none does.
func entriesLevel(entries []*hraft.Log) uint32 {
	highest := uint32(0)
	for _, e := range entries {
		if e != nil && e.Type == hraft.LogCommand {
			highest = max(highest, fsm.RaisesTo(e.Data))
		}
	}
	return highest
}
