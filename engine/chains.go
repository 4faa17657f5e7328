package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

// chains are the audit chains that this node holds, its own first, each with
// the tree over it once that is open.
type chains struct {
	mu   sync.Mutex
	held map[*audit.Store]*heldChain
}

// heldChain is one of them. Whoever needs its tree first opens it; it can be
// long, if the tree must be made anew, but what was done of it stays done.
type heldChain struct {
	store  *audit.Store
	turn   chan struct{} // holds one place, of who opens
	prover *audit.Prover // under turn
	id     string
	told   bool // that it is broken; the checkpoint loop's
}

// open answers the tree over the chain, and the chain's id in id.
func (h *heldChain) open(ctx context.Context, cluster string) (*audit.Prover, error) {
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil, fault.New(fault.Uncertain, "the tree over the audit trail of %s is being made; retry", h.store.Node())
	}
	if h.prover != nil {
		return h.prover, nil
	}
	id, err := h.store.ChainID(ctx)
	if err != nil {
		return nil, err
	}
	h.id = id.String()
	h.prover, err = h.store.Prove(ctx, cluster)
	return h.prover, err
}

// stores answers what this node holds now.
func (e *Engine) stores() []*audit.Store {
	out := []*audit.Store{e.Trail.Store}
	if e.Copies != nil {
		for _, c := range e.Copies.All() {
			out = append(out, c.Store)
		}
	}
	return out
}

// heldChains answers the chains of this node, those of one member or of all,
// its own first.
func (e *Engine) heldChains(node string) []*heldChain {
	e.chains.mu.Lock()
	defer e.chains.mu.Unlock()
	var out []*heldChain
	seen := map[*audit.Store]bool{}
	for _, s := range e.stores() {
		seen[s] = true
		if node != "" && s.Node() != node {
			continue
		}
		h := e.chains.held[s]
		if h == nil {
			h = &heldChain{store: s, turn: make(chan struct{}, 1)}
			e.chains.held[s] = h
		}
		out = append(out, h)
	}
	for s := range e.chains.held {
		if !seen[s] {
			delete(e.chains.held, s)
		}
	}
	return out
}

// chainOf answers the chain of a member that a request names: the only one
// that is held, or the one with the id, or the one that goes on. Without a
// name it is the trail of the node that serves.
func (e *Engine) chainOf(ctx context.Context, node, id string) (*heldChain, error) {
	if node == "" {
		node = e.Node
	}
	held := e.heldChains(node)
	if len(held) == 0 {
		return nil, fault.New(fault.NotFound, "node: this node holds no audit trail of %s", node)
	}
	var found *heldChain
	for _, h := range held {
		if _, err := h.open(ctx, e.ClusterID); err != nil {
			return nil, err
		}
		if id == "" && found == nil || id != "" && strings.HasPrefix(h.id, id) {
			found = h
		}
	}
	if found == nil {
		return nil, fault.New(fault.NotFound, "chain: this node holds no audit trail of %s whose id begins with %s", node, id)
	}
	return found, nil
}

// sortChains puts chains in the order of their members' names.
func sortChains(held []*heldChain) []*heldChain {
	return slices.SortedStableFunc(slices.Values(held), func(a, b *heldChain) int { return strings.Compare(a.store.Node(), b.store.Node()) })
}

// mismatch answers why a chain is not signed any more, nil if it is.
func mismatch(err error) *audit.MismatchError {
	var m *audit.MismatchError
	if errors.As(err, &m) {
		return m
	}
	return nil
}
