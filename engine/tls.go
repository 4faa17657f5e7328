package engine

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/strongroom/strongroom/api/wire"
)

// TLSQuery asks a member for the certificates and keys of its connections.
type TLSQuery struct{}

// TLSView is what a member shows and trusts. Nothing in it is secret, and
// nothing is decided by it: it tells a person when the next step is safe.
type TLSView = wire.MemberTLS

// LocalTLS answers for this node. The link serves it to members only.
func (e *Engine) LocalTLS(context.Context, TLSQuery) (TLSView, error) {
	if e.Cluster.TLS == nil {
		return TLSView{}, nil
	}
	return e.Cluster.TLS(), nil
}

func tlsOperations() []*Operation {
	return []*Operation{
		operation(row[wire.TLSRequest, wire.TLSResponse]{
			service: "cluster", name: "tls", event: "cluster.tls",
			summary: "Show which certificates, authorities and gossip keys the members use and trust, and when they expire.",
			scope:   func(*call, *wire.TLSRequest) (scope, error) { return scope{}, nil },
			run: func(ctx context.Context, c *call, _ *wire.TLSRequest) (*wire.TLSResponse, error) {
				return usesOf(c.engine.askTLS(ctx)), nil
			},
		}),
	}
}

const silentText = "it does not answer, or is of a release that cannot say"

// askTLS answers what each member says, or why it says nothing.
func (e *Engine) askTLS(ctx context.Context) []TLSView {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	var members []string
	if e.Cluster.Members != nil {
		for _, m := range e.Cluster.Members() {
			members = append(members, m.NodeID)
		}
	}
	if len(members) == 0 {
		members = []string{e.Node}
	}
	out := make([]TLSView, len(members))
	var asked sync.WaitGroup
	for i, node := range members {
		out[i] = TLSView{NodeID: node, Error: silentText}
		if node != e.Node && e.Cluster.PeerTLS == nil {
			continue
		}
		asked.Go(func() {
			ask := e.LocalTLS
			if node != e.Node {
				ask = func(ctx context.Context, q TLSQuery) (TLSView, error) { return e.Cluster.PeerTLS(ctx, node, q) }
			}
			view, err := ask(ctx, TLSQuery{})
			switch {
			case err != nil: // its text names addresses of the link
				view = TLSView{Error: silentText}
			case view.Authority == "" || len(view.GossipKeys) == 0:
				view.Error = "it does not say by which authority its certificate was issued"
			}
			view.NodeID = node // a member speaks for itself only
			out[i] = view
		})
	}
	asked.Wait()
	return out
}

// withNode adds a node once: members are counted by what they say.
func withNode(nodes []string, node string) []string {
	if slices.Contains(nodes, node) {
		return nodes
	}
	return append(nodes, node)
}

// usesOf turns what members say around: by authority and key.
func usesOf(members []TLSView) *wire.TLSResponse {
	out := &wire.TLSResponse{Complete: true, Authorities: []wire.AuthorityUse{}, GossipKeys: []wire.GossipKeyUse{}, Members: members}
	authorities, keys := map[string]*wire.AuthorityUse{}, map[string]*wire.GossipKeyUse{}
	for _, m := range members {
		out.Complete = out.Complete && m.Error == ""
		for _, a := range m.Trusts {
			use := authorities[a.Fingerprint]
			if use == nil {
				use = &wire.AuthorityUse{Fingerprint: a.Fingerprint, Subject: a.Subject, NotAfter: a.NotAfter, TrustedBy: []string{}, UsedBy: []string{}}
				authorities[a.Fingerprint] = use
			}
			use.TrustedBy = withNode(use.TrustedBy, m.NodeID)
			if a.Fingerprint == m.Authority {
				use.UsedBy = withNode(use.UsedBy, m.NodeID)
			}
		}
		for i, key := range m.GossipKeys {
			use := keys[key]
			if use == nil {
				use = &wire.GossipKeyUse{Fingerprint: key, AcceptedBy: []string{}, SentBy: []string{}}
				keys[key] = use
			}
			use.AcceptedBy = withNode(use.AcceptedBy, m.NodeID)
			if i == 0 {
				use.SentBy = append(use.SentBy, m.NodeID)
			}
		}
	}
	for _, fingerprint := range slices.Sorted(maps.Keys(authorities)) {
		use := authorities[fingerprint]
		use.MayIssue = out.Complete && len(use.TrustedBy) == len(members)
		use.MayDrop = out.Complete && len(use.UsedBy) == 0
		out.Authorities = append(out.Authorities, *use)
	}
	slices.SortStableFunc(out.Authorities, func(a, b wire.AuthorityUse) int { return strings.Compare(a.Subject, b.Subject) })
	for _, fingerprint := range slices.Sorted(maps.Keys(keys)) {
		use := keys[fingerprint]
		use.MayUse = out.Complete && len(use.AcceptedBy) == len(members)
		use.MayDrop = out.Complete && len(use.SentBy) == 0
		out.GossipKeys = append(out.GossipKeys, *use)
	}
	return out
}
