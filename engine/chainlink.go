package engine

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

// What members ask each other about the chains of their trails. A chain is
// named by its node and its id: a node that lost its disk writes another one.

// ChainsQuery asks a member which chains it has.
type ChainsQuery struct{}

// ChainList is what a member has: its own chain and its copies of others.
type ChainList struct {
	Chains []ChainHead   `json:"chains"`
	Broken []BrokenChain `json:"broken"`
}

// ChainHead is how far a member has a chain on its disk.
type ChainHead struct {
	Node     string `json:"node"`
	Chain    string `json:"chain"` // id, in hex
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash"` // of that event, in hex
	Own      bool   `json:"own"`  // the member writes it
}

// BrokenChain is a copy that a member takes no more of.
type BrokenChain struct {
	Node   string `json:"node"`
	Chain  string `json:"chain"` // first 16 characters of its id
	Reason string `json:"reason"`
}

// ChainQuery asks a member for events of a chain behind those that the asker
// has on its disk. It says how far that is, which is what quorum counts.
type ChainQuery struct {
	Node   string `json:"node"`
	Chain  string `json:"chain"`
	After  uint64 `json:"after"`
	Hash   string `json:"hash"` // of the event After; "" for none
	WaitMs int64  `json:"waitMs"`
}

// ChainRun are events of a chain, as they are written.
type ChainRun struct {
	First uint64 `json:"first"`
	Count int    `json:"count"`
	File  uint64 `json:"file"`
	Data  []byte `json:"data"`
	Head  uint64 `json:"head"` // newest event that the member has
	// Awaited says that requests are answered once others have the events.
	Awaited bool `json:"awaited"`
	// Base stands for the events that the member does not keep any more, if what
	// comes next is among them: a copy begins anew behind it.
	Base []byte `json:"base"`
	// Gone: the member does not have the chain. Forked: what the asker has is not what the member has.
	Gone   bool `json:"gone"`
	Forked bool `json:"forked"`
}

const (
	maxChainRun  = 1 << 20
	maxChainWait = 10 * time.Second
)

// chainFiles is an own trail or a copy of another's.
type chainFiles interface {
	Lines(ctx context.Context, after uint64, maxBytes int) (audit.Lines, error)
	Wait(ctx context.Context, after uint64) error
	HashAt(ctx context.Context, sequence uint64) ([32]byte, error)
	Settled() audit.Head
	Base() ([]byte, error)
}

// LocalChains answers which chains this node has. The link serves it to
// members only.
func (e *Engine) LocalChains(ctx context.Context, _ ChainsQuery) (ChainList, error) {
	id, err := e.Trail.ChainID(ctx)
	if err != nil {
		return ChainList{}, err
	}
	out := ChainList{Chains: []ChainHead{chainHead(e.Trail.Settled(), id, true)}}
	if e.Copies == nil {
		return out, nil
	}
	for _, c := range e.Copies.All() {
		out.Chains = append(out.Chains, chainHead(c.Settled(), c.ID(), false))
	}
	for _, b := range e.Copies.Broken() {
		out.Broken = append(out.Broken, BrokenChain(b))
	}
	return out, nil
}

func chainHead(h audit.Head, id audit.ChainID, own bool) ChainHead {
	return ChainHead{Node: h.Node, Chain: id.String(), Sequence: h.Sequence, Hash: hex.EncodeToString(h.Hash[:]), Own: own}
}

// LocalChain answers events of a chain that this node has, and waits for them
// where there are none yet, no longer than until ends. peer is who asks: what
// it has on its disk of this node's own chain counts for quorum, once it is
// known to be this chain.
func (e *Engine) LocalChain(ctx, until context.Context, peer string, q ChainQuery) (ChainRun, error) {
	files, own, err := e.chain(ctx, q.Node, q.Chain)
	if err != nil || files == nil {
		return ChainRun{Gone: files == nil}, err
	}
	run, err := e.chainRun(ctx, files, q)
	if err != nil || run.Gone || run.Forked || run.Base != nil {
		return run, err
	}
	if own {
		run.Awaited = e.AwaitedTrail
		e.Trail.Holds(peer, q.After)
	}
	if run.Count > 0 || q.WaitMs <= 0 {
		return run, nil
	}
	wait, cancel := context.WithTimeout(ctx, min(time.Duration(q.WaitMs)*time.Millisecond, maxChainWait))
	defer cancel()
	defer context.AfterFunc(until, cancel)()
	if files.Wait(wait, q.After) != nil {
		return run, nil // nothing came, or this node stops
	}
	awaited := run.Awaited
	run, err = e.chainRun(ctx, files, q)
	run.Awaited = awaited
	return run, err
}

// chain finds the files of a chain; nil: this node does not have it.
func (e *Engine) chain(ctx context.Context, node, chain string) (files chainFiles, own bool, err error) {
	id, err := audit.ParseChainID(chain)
	if err != nil {
		return nil, false, fault.Invalid("chain", "%v", err)
	}
	if node == e.Node {
		mine, err := e.Trail.ChainID(ctx)
		if err != nil {
			return nil, false, err
		}
		if mine == id {
			return e.Trail, true, nil
		}
	}
	if e.Copies != nil {
		if c := e.Copies.Find(node, id); c != nil {
			return c, false, nil
		}
	}
	return nil, false, nil
}

// chainRun answers what comes behind the event that q names, if that is the
// one which this node has there.
func (e *Engine) chainRun(ctx context.Context, files chainFiles, q ChainQuery) (ChainRun, error) {
	head := files.Settled()
	run := ChainRun{Head: head.Sequence}
	var hash [32]byte
	if n, err := hex.Decode(hash[:], []byte(q.Hash[:min(len(q.Hash), 64)])); q.After > 0 && (err != nil || n != len(hash)) {
		return run, fault.Invalid("hash", "must be a SHA-256 in hex")
	}
	lines, err := files.Lines(ctx, q.After, maxChainRun)
	switch {
	case fault.Is(err, fault.NotFound):
		run.Base, err = files.Base()
		run.Gone = run.Base == nil
		return run, err
	case err != nil:
		return run, err
	case lines.Count > 0:
		// The next event carries the hash: no need to read the one before.
		run.Forked = !lines.Follow(audit.Head{Node: q.Node, Sequence: q.After, Hash: hash})
	default:
		// The head may have moved on meanwhile; then there is more to read.
		now, err := files.HashAt(ctx, q.After)
		run.Forked = fault.Is(err, fault.NotFound) || err == nil && now != hash
		if err != nil && !run.Forked {
			return run, err
		}
	}
	if !run.Forked && lines.Count > 0 {
		run.First, run.Count, run.File, run.Data = lines.First, lines.Count, lines.File, lines.Data
	}
	return run, nil
}
