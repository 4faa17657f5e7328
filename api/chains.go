package api

import (
	"context"
	"net/http"

	"github.com/strongroom/strongroom/engine"
)

// Chains asks another member which chains of audit trails it has.
func (l *Link) Chains(ctx context.Context, node string, q engine.ChainsQuery) (engine.ChainList, error) {
	return askPeer[engine.ChainList](ctx, l, node, linkChains, q)
}

// Chain asks another member for events of one of them.
func (l *Link) Chain(ctx context.Context, node string, q engine.ChainQuery) (engine.ChainRun, error) {
	return askPeer[engine.ChainRun](ctx, l, node, linkChain, q)
}

// answerChain hands events of a chain to a member. peer is who the connection
// is from, not who the question says: what it holds is counted under its name.
// Who only waits is answered when this node stops. Events that are there are
// handed on to the end: answers may wait for that.
func (s *Server) answerChain(w http.ResponseWriter, r *http.Request, peer string) {
	answerPeer(s, w, r, func(ctx context.Context, q engine.ChainQuery) (engine.ChainRun, error) {
		return s.Engine.LocalChain(ctx, s.draining, peer, q)
	})
}
