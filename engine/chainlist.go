package engine

import (
	"cmp"
	"context"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/strongroom/strongroom/api/wire"
)

func chainOperation() *Operation {
	return operation(row[wire.ListChainsRequest, wire.ListChainsResponse]{
		service: "audit", name: "listChains", event: "audit.list_chains", action: "audit:queryEvents",
		summary: "List the chains of the audit trail: who writes them, who holds copies and how far, and what is anchored.",
		scope:   func(*call, *wire.ListChainsRequest) (scope, error) { return scope{}, nil },
		run:     listChains,
	})
}

// listChains asks every member what it holds. What is anchored is from the
// replicated state.
func listChains(ctx context.Context, c *call, _ *wire.ListChainsRequest) (*wire.ListChainsResponse, error) {
	e := c.engine
	own, err := e.LocalChains(ctx, ChainsQuery{})
	if err != nil {
		return nil, err
	}
	lists := map[string]ChainList{e.Node: own}
	out := &wire.ListChainsResponse{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	if e.Cluster.Members != nil && e.Cluster.PeerChains != nil {
		ctx, cancel := context.WithTimeout(ctx, chainAnswer)
		defer cancel()
		for _, m := range e.Cluster.Members() {
			if m.NodeID == e.Node {
				continue
			}
			asked.Go(func() {
				list, err := e.Cluster.PeerChains(ctx, m.NodeID, ChainsQuery{})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					e.Logger.Warn("a member could not be asked what it holds of audit trails", "member", m.NodeID, "error", err)
					out.Unreachable = append(out.Unreachable, m.NodeID)
					return
				}
				lists[m.NodeID] = list
			})
		}
		asked.Wait()
	}
	slices.Sort(out.Unreachable)
	out.Chains = c.chains(lists)
	return out, nil
}

// chains puts together what members hold, by chain.
func (c *call) chains(lists map[string]ChainList) []wire.AuditChain {
	all := map[chainName]*wire.AuditChain{}
	of := func(node, chain string) *wire.AuditChain {
		name := chainName{node, chain}
		if all[name] == nil {
			all[name] = &wire.AuditChain{Node: node, Chain: chain, Holders: []wire.ChainHolder{}}
		}
		return all[name]
	}
	for _, holder := range slices.Sorted(maps.Keys(lists)) {
		list := lists[holder]
		for _, h := range list.Chains {
			chain := of(h.Node, h.Chain)
			chain.Holders = append(chain.Holders, wire.ChainHolder{NodeID: holder, Sequence: h.Sequence, Broken: brokenOf(list, h)})
			chain.Current = chain.Current || h.Own
			if h.Sequence > chain.Sequence {
				chain.Sequence, chain.Hash = h.Sequence, h.Hash
			}
		}
	}
	for a := range c.state.Anchors() {
		chain := of(a.Node, hex.EncodeToString(a.Chain))
		chain.Anchored, chain.AnchoredAt = a.Sequence, wire.Millis(a.At)
		chain.Trouble = c.engine.copier.trouble(chainName{a.Node, hex.EncodeToString(a.Chain)})
	}
	for holder, list := range lists {
		for _, b := range list.Broken {
			noteBroken(all, holder, b)
		}
	}
	return sortedChains(all)
}

// noteBroken names a holder whose copy could not even be read.
func noteBroken(all map[chainName]*wire.AuditChain, holder string, b BrokenChain) {
	for name, chain := range all {
		if name.node != b.Node || !strings.HasPrefix(name.chain, b.Chain) {
			continue
		}
		if !slices.ContainsFunc(chain.Holders, func(h wire.ChainHolder) bool { return h.NodeID == holder }) {
			chain.Holders = append(chain.Holders, wire.ChainHolder{NodeID: holder, Broken: b.Reason})
		}
	}
}

func sortedChains(all map[chainName]*wire.AuditChain) []wire.AuditChain {
	out := make([]wire.AuditChain, 0, len(all))
	for _, chain := range all {
		for i := range chain.Holders {
			chain.Holders[i].Lag = chain.Sequence - chain.Holders[i].Sequence
		}
		slices.SortFunc(chain.Holders, func(a, b wire.ChainHolder) int { return strings.Compare(a.NodeID, b.NodeID) })
		out = append(out, *chain)
	}
	slices.SortFunc(out, func(a, b wire.AuditChain) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Chain, b.Chain))
	})
	return out
}

// brokenOf says why a member takes no more of a chain, "" if it does.
func brokenOf(list ChainList, h ChainHead) string {
	for _, b := range list.Broken {
		if b.Node == h.Node && strings.HasPrefix(h.Chain, b.Chain) {
			return b.Reason
		}
	}
	return ""
}

// trouble says why a chain is not what was anchored, "" if it is.
func (k *copier) trouble(name chainName) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mismatched[name]
}
