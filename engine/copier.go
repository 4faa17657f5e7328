package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
)

const (
	membersEvery = time.Second
	// chainsEvery is between two questions to a member for what chains it has.
	chainsEvery = 15 * time.Second
	// copyPace is between two runs of events that nobody's answer waits for:
	// each costs the copier an fsync.
	copyPace    = 100 * time.Millisecond
	chainAnswer = 5 * time.Second // for an answer, beyond what it may wait
	// After a failure the member is asked again, later and later.
	copyRetry    = 200 * time.Millisecond
	maxCopyRetry = 3 * time.Second
	// copyEvidence is for how long a member that answered is not stood in for.
	copyEvidence = 20 * time.Second
)

var (
	errChainGone   = errors.New("the member does not have the chain, or not from where this copy ends")
	errChainForked = errors.New("what this node holds of the chain is not what the member has")
	errNoMore      = errors.New("the copy takes no more; its chain or the copy was changed")
)

// copier keeps what this node knows of the chains of each other member.
type copier struct {
	mu    sync.Mutex
	peers map[string]*peerChain
	// mismatched says of chains, by node and id, why they are not what was
	// anchored; passed is up to which anchor a chain was held against them.
	mismatched map[chainName]string
	passed     map[chainName]*fsm.Anchor
	told       map[string]bool // what was said in the trail
}

// chainName names a chain.
type chainName struct{ node, chain string }

// peerChain is the chain that a member writes, as it said itself.
type peerChain struct {
	chain   string    // id; "": it has not said
	head    uint64    // newest event that it has
	held    uint64    // of which this node has so many
	abreast time.Time // when this node last had all
	heard   time.Time // when it last answered
	problem string    // why it cannot be copied
}

func newCopier() *copier {
	return &copier{peers: map[string]*peerChain{}, mismatched: map[chainName]string{}, passed: map[chainName]*fsm.Anchor{}, told: map[string]bool{}}
}

// update changes what is known of a member, unless it is one no more.
func (k *copier) update(node string, change func(*peerChain)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.peers[node]; p != nil {
		change(p)
	}
}

// all answers a copy of what is known, by member.
func (k *copier) all() map[string]peerChain {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make(map[string]peerChain, len(k.peers))
	for node, p := range k.peers {
		out[node] = *p
	}
	return out
}

// mismatches answers how many chains of each member are not what was
// anchored, zero for those of which none is.
func (k *copier) mismatches(self string) map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]int{self: 0}
	for node := range k.peers {
		out[node] = 0
	}
	for name := range k.mismatched {
		out[name.node]++
	}
	return out
}

// RunCopies copies the chains of all other members to this node until ctx
// ends, tells the trail whose disks make a majority, and holds all chains
// against their anchors. It needs neither a leader nor a node that is ready:
// under quorum no node is, before others have copied it.
func (e *Engine) RunCopies(ctx context.Context) {
	if e.Cluster.Members == nil {
		return
	}
	var work sync.WaitGroup
	defer work.Wait()
	loaded := make(chan struct{})
	work.Go(func() {
		if e.Copies == nil || e.Cluster.PeerChain == nil || e.Cluster.PeerChains == nil {
			return // it keeps none
		}
		if err := e.Copies.Load(ctx); err != nil {
			e.Logger.Error("the copies of other audit trails cannot be read; none is kept", "error", err)
			return
		}
		close(loaded)
	})
	work.Go(func() { every(ctx, anchorEvery, e.checkChains) })
	followed := map[string]context.CancelFunc{}
	tick := time.NewTicker(membersEvery)
	defer tick.Stop()
	for copying, ready := false, loaded; ; {
		members := e.Cluster.Members()
		e.Trail.SetVoters(votersOf(members))
		if copying {
			e.followAll(ctx, members, followed, &work)
		}
		select {
		case <-ctx.Done():
			return // followers end with it
		case <-ready:
			copying, ready = true, nil
		case <-tick.C:
		}
	}
}

// votersOf answers who votes, in order.
func votersOf(members []wire.NodeStatus) []string {
	var out []string
	for _, m := range members {
		if m.Role != roleNonVoter {
			out = append(out, m.NodeID)
		}
	}
	slices.Sort(out)
	return out
}

// roleNonVoter is how a member is called that has every event and no vote.
const roleNonVoter = "nonVoter"

// followAll begins to follow new members, and ends it for removed ones.
func (e *Engine) followAll(ctx context.Context, members []wire.NodeStatus, followed map[string]context.CancelFunc, work *sync.WaitGroup) {
	now := map[string]bool{}
	for _, m := range members {
		if m.NodeID == e.Node {
			continue
		}
		now[m.NodeID] = true
		if followed[m.NodeID] != nil {
			continue
		}
		one, cancel := context.WithCancel(ctx)
		followed[m.NodeID] = cancel
		e.copier.mu.Lock()
		e.copier.peers[m.NodeID] = &peerChain{abreast: e.Now()}
		e.copier.mu.Unlock()
		work.Go(func() { e.copyFrom(one, m.NodeID) })
	}
	for node, cancel := range maps.All(followed) {
		if !now[node] {
			cancel()
			delete(followed, node)
			e.copier.mu.Lock()
			delete(e.copier.peers, node)
			e.copier.mu.Unlock()
		}
	}
}

// copyFrom copies the chain of one member, and through it those of others, until
// ctx ends.
func (e *Engine) copyFrom(ctx context.Context, node string) {
	for pause := copyRetry; ctx.Err() == nil; pause = min(2*pause, maxCopyRetry) {
		err := e.followOnce(ctx, node, func() { pause = copyRetry })
		if ctx.Err() != nil {
			return
		}
		e.troubled(node, err)
		if err != nil {
			rest(ctx, pause)
		}
	}
}

// troubled says when a member cannot be copied, and when it can again.
func (e *Engine) troubled(node string, err error) {
	var now string
	if err != nil {
		now = err.Error()
	}
	var before string
	e.copier.update(node, func(p *peerChain) { before, p.problem = p.problem, now })
	switch {
	case now != "" && before == "":
		e.Logger.Warn("the audit trail of a member is not copied", "member", node, "error", now)
	case now == "" && before != "":
		e.Logger.Info("the audit trail of a member is copied again", "member", node)
	}
}

// followOnce asks a member what it has, takes of chains that nobody else can
// give what is missing here, and then follows its own for a while. It calls
// well when something has worked.
func (e *Engine) followOnce(ctx context.Context, node string, well func()) error {
	asking, cancel := context.WithTimeout(ctx, chainAnswer)
	list, err := e.Cluster.PeerChains(asking, node, ChainsQuery{})
	cancel()
	if err != nil {
		return err
	}
	var own ChainHead
	for _, c := range list.Chains {
		if c.Own && c.Node == node {
			own = c
		}
	}
	id, err := audit.ParseChainID(own.Chain)
	if err != nil {
		return fmt.Errorf("the member said nothing of its own chain")
	}
	e.copier.update(node, func(p *peerChain) { p.chain, p.head, p.heard = own.Chain, own.Sequence, e.Now() })
	e.takeFrom(ctx, node, list.Chains)
	for until := time.Now().Add(chainsEvery); ctx.Err() == nil && time.Now().Before(until); {
		run, err := e.pull(ctx, node, node, id, maxChainWait)
		if err != nil {
			return err
		}
		well()
		e.troubled(node, nil)
		if run.Count == 0 && run.quick || !run.Awaited && run.Count > 0 && len(run.Data) < maxChainRun/4 {
			rest(ctx, copyPace)
		}
	}
	return nil
}

// takeFrom takes what is missing here of chains that the member has copies
// of: of nodes that are gone, or cannot be reached from here. Only chains
// that went through Raft are taken at second hand: a member could make up
// others.
func (e *Engine) takeFrom(ctx context.Context, member string, chains []ChainHead) {
	state := e.Log.Local()
	for _, c := range chains {
		id, err := audit.ParseChainID(c.Chain)
		if err != nil || c.Own || state.Anchor(c.Node, id) == nil || !e.wants(ctx, c, id) {
			continue
		}
		for ctx.Err() == nil {
			run, err := e.pull(ctx, member, c.Node, id, 0)
			if err != nil {
				e.Logger.Warn("a chain of an audit trail could not be taken from who has a copy", "member", member, "of", c.Node, "error", err)
			}
			if err != nil || run.Count == 0 {
				break
			}
		}
	}
}

// wants reports whether this node lacks something of a chain that it does not
// get from who writes it.
func (e *Engine) wants(ctx context.Context, c ChainHead, id audit.ChainID) bool {
	if own, err := e.Trail.ChainID(ctx); err != nil || c.Node == e.Node && id == own {
		return false
	}
	if !e.Copies.Takes(c.Node, id) {
		return false
	}
	if copied := e.Copies.Find(c.Node, id); copied != nil && copied.Settled().Sequence >= c.Sequence {
		return false
	}
	writer, followed := e.copier.all()[c.Node]
	return !followed || writer.chain != c.Chain || e.Now().Sub(writer.heard) > copyEvidence
}

// pulled is a run that was taken.
type pulled struct {
	ChainRun
	quick bool // the member did not wait
}

// pull asks a member once for what comes next in a chain, and brings it to
// the disk. What it asks behind is there: the member may count on it.
func (e *Engine) pull(ctx context.Context, from, node string, id audit.ChainID, wait time.Duration) (pulled, error) {
	if !e.Copies.Takes(node, id) {
		return pulled{}, errNoMore
	}
	q := ChainQuery{Node: node, Chain: id.String(), WaitMs: wait.Milliseconds()}
	if c := e.Copies.Find(node, id); c != nil {
		head := chainHead(c.Settled(), id, false)
		q.After, q.Hash = head.Sequence, head.Hash
	}
	asked := time.Now()
	asking, cancel := context.WithTimeout(ctx, wait+chainAnswer)
	defer cancel()
	run, err := e.Cluster.PeerChain(asking, from, q)
	switch {
	case err != nil:
		return pulled{}, err
	case run.Gone:
		return pulled{}, errChainGone
	case run.Forked && from == node:
		e.Copies.Refuse(node, id, fmt.Errorf("the event %d that is held here is not the one that the node has there: its chain was cut or written anew, or the copy was changed", q.After))
		return pulled{}, errChainForked
	case run.Forked:
		return pulled{}, errChainForked // of two copies; the chain itself decides
	}
	if run.Base != nil {
		if err := e.Copies.Begin(node, id, run.Base); err != nil && !audit.IsHeld(err) {
			return pulled{}, err
		}
		e.Logger.Warn("events of an audit trail were not kept until they were copied; the copy goes on behind them", "member", node, "after", q.After)
		return pulled{run, false}, nil
	}
	if run.Count > 0 {
		err := e.Copies.Take(node, id, audit.Lines{First: run.First, Count: run.Count, Data: run.Data, File: run.File})
		if err != nil && !audit.IsHeld(err) {
			return pulled{}, err
		}
	}
	if from == node {
		e.copier.update(node, func(p *peerChain) {
			now := e.Now()
			p.heard, p.head, p.held = now, run.Head, q.After+uint64(run.Count)
			if p.held >= p.head {
				p.abreast = now
			}
		})
	}
	return pulled{run, time.Since(asked) < wait/2}, nil
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
