package engine

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// anchorEvery is between two commands with heads of trails, and between two
// looks at what was anchored.
const anchorEvery = time.Second

// Events about chains.
const (
	eventNewChain   = "audit.new_chain"
	eventMismatch   = "audit.anchor_mismatch"
	eventCopyBroken = "audit.copy_broken"
)

// anchorHeads proposes, while this node leads, the heads of all chains that
// it knows and that have moved. It writes no event about it: the event would
// move a head. So an idle cluster writes nothing.
func (e *Engine) anchorHeads(ctx context.Context) {
	if local := e.Log.Local(); !e.anchorsKnown(local) || len(e.movedHeads(ctx, local)) == 0 {
		return
	}
	state, err := e.Log.ReadState(ctx)
	if err != nil {
		return
	}
	heads := e.movedHeads(ctx, state)
	if len(heads) == 0 {
		return
	}
	heads = heads[:min(len(heads), fsm.MaxAnchorHeads)] // the others in a second
	command, err := fsm.Encode(fsm.AnchorHeads{Meta: fsm.Meta{Time: e.Now().UnixMilli(), Principal: ownName}, Heads: heads})
	if err != nil {
		e.Logger.Error("the heads of the audit trails could not be encoded", "error", err)
		return
	}
	if _, err := e.Log.Propose(ctx, command); err != nil {
		if ctx.Err() == nil && !fault.Is(err, fault.NoLeader) {
			e.Logger.Warn("the heads of the audit trails could not be committed; it is tried again", "error", err)
		}
		return
	}
	e.tellNewChains(ctx, state, heads)
}

// anchorsKnown reports whether every member reads the command: one of an older
// release would stop at it. Who answers for chains does; and once one such
// command is in the log, no older release can be among them any more.
func (e *Engine) anchorsKnown(state *fsm.State) bool {
	for range state.Anchors() {
		return true
	}
	if e.Cluster.Members == nil {
		return true
	}
	known := e.copier.all()
	for _, m := range e.Cluster.Members() {
		if m.NodeID != e.Node && known[m.NodeID].chain == "" {
			return false
		}
	}
	return true
}

// movedHeads answers the heads that this node has on its disk and that are not
// anchored. A chain that has parted from its anchor is not among them: it
// would take the anchor with it.
func (e *Engine) movedHeads(ctx context.Context, state *fsm.State) []fsm.TrailHead {
	own, err := e.Trail.ChainID(ctx)
	if err != nil {
		return nil
	}
	var out []fsm.TrailHead
	add := func(files chainFiles, id audit.ChainID) {
		head, anchor := files.Settled(), state.Anchor(files.Settled().Node, id)
		if anchor != nil && anchor.Sequence > head.Sequence {
			return
		}
		if anchor != nil && anchor.Sequence == head.Sequence && (anchor.Conflict != nil || bytes.Equal(anchor.Hash, head.Hash[:])) {
			return
		}
		// The same event with another hash does go through: it is a conflict,
		// which all are to see.
		if anchor != nil && anchor.Sequence < head.Sequence && e.parted(ctx, files, anchor) != "" {
			return
		}
		out = append(out, fsm.TrailHead{Node: head.Node, Chain: id[:], Sequence: head.Sequence, Hash: head.Hash[:]})
	}
	add(e.Trail, own)
	if e.Copies != nil {
		for _, c := range e.Copies.All() {
			add(c, c.ID())
		}
	}
	return out
}

// parted says why a chain does not go through its anchor, "" if it does as far
// as can be known.
func (e *Engine) parted(ctx context.Context, files chainFiles, anchor *fsm.Anchor) string {
	hash, err := files.HashAt(ctx, anchor.Sequence)
	switch {
	case fault.Is(err, fault.NotFound):
		return "" // it is not kept any more
	case err != nil:
		e.Logger.Warn("a chain of an audit trail could not be held against its anchor", "of", anchor.Node, "error", err)
		return ""
	case !bytes.Equal(hash[:], anchor.Hash):
		return fmt.Sprintf("its event %d is not the one that was anchored: it, or one before it, was changed", anchor.Sequence)
	}
	return ""
}

// tellNewChains writes an event for each chain of a node that had another one
// before: it lost its disk, or somebody took its place.
func (e *Engine) tellNewChains(ctx context.Context, before *fsm.State, heads []fsm.TrailHead) {
	for _, h := range heads {
		if before.Anchor(h.Node, [32]byte(h.Chain)) != nil {
			continue
		}
		var last *fsm.Anchor
		for a := range before.AnchorsOf(h.Node) {
			if last == nil || a.At > last.At {
				last = a
			}
		}
		if last == nil {
			continue
		}
		e.Logger.Warn("a node writes another audit trail than before", "member", h.Node, "chain", shortChain(h.Chain), "before", shortChain(last.Chain))
		e.tell(ctx, audit.Event{Event: eventNewChain, Outcome: audit.OK, Reason: fmt.Sprintf(
			"node %s writes the chain %s; the one before, %s, was last seen at its event %d", h.Node, shortChain(h.Chain), shortChain(last.Chain), last.Sequence)})
	}
}

// shortChainChars are how much of the id of a chain people are shown.
const shortChainChars = 16

func shortChain(id []byte) string { return hex.EncodeToString(id[:min(shortChainChars/2, len(id))]) }

// checkChains holds this node's chain and its copies against the anchors, and
// says once of each what is wrong.
func (e *Engine) checkChains(ctx context.Context) {
	own, err := e.Trail.ChainID(ctx)
	if err != nil {
		return
	}
	state := e.Log.Local()
	if state == nil {
		return
	}
	for a := range state.Anchors() {
		e.checkAnchor(ctx, a, own)
	}
	if e.Copies == nil {
		return
	}
	for _, b := range e.Copies.Broken() {
		e.tellOnce(ctx, eventCopyBroken+" "+b.Node+" "+b.Chain, audit.Event{
			Event: eventCopyBroken, Outcome: audit.Failed, Reason: fmt.Sprintf("the copy of the chain %s of node %s takes no more: %s", b.Chain, b.Node, reasonBytes(b.Reason)),
		})
	}
}

// chainTrouble says in words what is wrong with chains, nil for nothing.
func (e *Engine) chainTrouble() []string {
	var out []string
	e.copier.mu.Lock()
	for name, why := range e.copier.mismatched {
		out = append(out, fmt.Sprintf("the chain %s of node %s: %s", name.chain[:shortChainChars], name.node, why))
	}
	e.copier.mu.Unlock()
	if e.Copies != nil {
		for _, b := range e.Copies.Broken() {
			out = append(out, fmt.Sprintf("the copy of the chain %s of node %s here takes no more: %s", b.Chain, b.Node, reasonBytes(b.Reason)))
		}
	}
	slices.Sort(out)
	return out
}

// reasonBytes bounds the text of an event.
func reasonBytes(text string) string { return strings.ToValidUTF8(text[:min(len(text), 1000)], "") }

func (e *Engine) checkAnchor(ctx context.Context, a *fsm.Anchor, own audit.ChainID) {
	if len(a.Chain) != len(own) {
		return
	}
	id := audit.ChainID(a.Chain)
	name := chainName{a.Node, id.String()}
	var why string
	switch {
	case a.Conflict != nil:
		why = fmt.Sprintf("two leaders knew different events %d of it", a.Conflict.Sequence)
	case a.Node == e.Node && id == own:
		if head := e.Trail.Settled(); head.Sequence < a.Sequence {
			why = fmt.Sprintf("it ends at its event %d, and the event %d was anchored: its end was cut", head.Sequence, a.Sequence)
		} else {
			why = e.passes(ctx, e.Trail, a, name)
		}
	case e.Copies != nil:
		// A copy may be behind its anchor: it has not come so far yet.
		if c := e.Copies.Find(a.Node, id); c != nil && c.Settled().Sequence >= a.Sequence {
			why = e.passes(ctx, c, a, name)
		}
	}
	if why == "" {
		return
	}
	e.copier.mu.Lock()
	e.copier.mismatched[name] = why
	e.copier.mu.Unlock()
	said := eventMismatch + " " + name.node + " " + name.chain
	if e.tellOnce(ctx, said, audit.Event{Event: eventMismatch, Outcome: audit.Failed, Reason: fmt.Sprintf("the chain %s of node %s: %s", shortChain(a.Chain), a.Node, why)}) {
		e.Logger.Error("an audit trail is not the one that was anchored", "member", a.Node, "chain", shortChain(a.Chain), "reason", why)
	}
}

// passes is parted for an anchor that was not looked at before.
func (e *Engine) passes(ctx context.Context, files chainFiles, a *fsm.Anchor, name chainName) string {
	e.copier.mu.Lock()
	done := e.copier.passed[name] == a
	e.copier.mu.Unlock()
	if done {
		return ""
	}
	why := e.parted(ctx, files, a)
	if why == "" {
		e.copier.mu.Lock()
		e.copier.passed[name] = a
		e.copier.mu.Unlock()
	}
	return why
}

// tellOnce writes an event, once in the life of this process. It answers
// whether this was the time.
func (e *Engine) tellOnce(ctx context.Context, what string, event audit.Event) bool {
	e.copier.mu.Lock()
	told := e.copier.told[what]
	e.copier.mu.Unlock()
	if told || !e.tell(ctx, event) {
		return false
	}
	e.copier.mu.Lock()
	defer e.copier.mu.Unlock()
	e.copier.told[what] = true
	return true
}

// tell writes an event of this node's own. What it tells of is in the log and
// the metrics too: a trail that takes nothing now ends nothing.
func (e *Engine) tell(ctx context.Context, event audit.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	event.Time, event.Principal, event.RequestID = e.Now(), ownName, uuid.NewString()
	_, err := e.Trail.Append(ctx, []audit.Event{event})
	return err == nil
}
