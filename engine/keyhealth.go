package engine

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// Bounds of a look at the health of keys.
const (
	healthKept      = 10 * time.Second // how long a round trip speaks for the key
	healthTimeout   = 5 * time.Second
	healthLimit     = 100 // keys of one page
	maxInactiveList = 1000
)

// KeyUsable is whether one node's HSM could use a key just now.
type KeyUsable struct {
	KeyID  string `json:"keyId"`
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"`
}

// keyHealthCache keeps the round trips of this node for a moment: a
// dashboard that asks every second must not become a load on the HSM.
type keyHealthCache struct {
	mu   sync.Mutex
	kept map[string]keptHealth
}

type keptHealth struct {
	KeyUsable
	version uint32
	at      time.Time
}

func keyHealthOperation() *Operation {
	return operation(row[wire.KeyHealthRequest, wire.KeyHealthResponse]{
		service: "kms", name: "getKeyHealth", event: "kms.get_key_health",
		summary: "Show for each key its state, age, use, and whether each node's HSM can use it now; and the secrets whose key is not active.",
		scope: func(c *call, r *wire.KeyHealthRequest) (scope, error) {
			if r.KeyID != "" {
				return c.findKey("keyId", r.KeyID)
			}
			return scope{list: true}, nil
		},
		run: getKeyHealth,
	})
}

func getKeyHealth(ctx context.Context, c *call, r *wire.KeyHealthRequest) (*wire.KeyHealthResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	p.limit = min(p.limit, healthLimit)
	keys, next, err := c.keysForHealth(r.KeyID, p)
	if err != nil {
		return nil, err
	}
	out := &wire.KeyHealthResponse{Keys: []wire.KeyHealth{}, SecretsOnInactiveKeys: []wire.SecretInactiveKey{}, NextCursor: next}
	nodes := c.engine.askKeys(ctx, keys)
	for _, key := range keys {
		h := wire.KeyHealth{
			KeyID: key.ID, Aliases: key.Aliases, State: string(key.State), BoundSecrets: c.state.BoundCount(key.ID),
			NextRotationAt: wire.Millis(key.NextRotationAt), DeletionAt: wire.Millis(key.DeletionAt),
			LastUsedAt: wire.Millis(c.engine.uses.of(key)), Nodes: nodes[key.ID],
		}
		if n := len(key.Versions); n > 0 {
			days := float64(max(0, c.now.UnixMilli()-key.Versions[n-1].CreatedAt)) / float64(24*time.Hour/time.Millisecond)
			h.VersionAgeDays = math.Round(100*days) / 100
		}
		if h.Nodes == nil {
			h.Nodes = []wire.KeyOnNode{}
		}
		out.Keys = append(out.Keys, h)
	}
	if p.after == "" {
		c.inactive(out, r.KeyID)
	}
	return out, nil
}

// keysForHealth answers one page of keys that the caller may see.
func (c *call) keysForHealth(ref string, p page) (keys []*fsm.Key, next string, err error) {
	if ref != "" {
		key := c.state.KeyByRef(ref)
		if key == nil {
			return nil, "", errNoKey(ref)
		}
		return []*fsm.Key{key}, "", nil
	}
	for key := range c.state.Keys(p.after) {
		if !c.may("kms:getKeyHealth", keyResource(key)) {
			continue
		}
		if len(keys) == p.limit {
			return keys, cursor(keys[p.limit-1].ID), nil
		}
		keys = append(keys, key)
	}
	return keys, "", nil
}

// inactive lists the secrets whose key is not active: those with live
// versions under it, and those whose next version would go there.
func (c *call) inactive(out *wire.KeyHealthResponse, ref string) {
	only := ""
	if ref != "" {
		only = c.state.KeyByRef(ref).ID
	}
	for key, path := range inactiveSecrets(c.state) {
		if only != "" && key.ID != only || !c.may("kms:getKeyHealth", keyResource(key)) {
			continue
		}
		out.SecretsOnInactiveTotal++
		if len(out.SecretsOnInactiveKeys) < maxInactiveList && c.may("secrets:describeSecret", iam.Resource{Path: path}) {
			out.SecretsOnInactiveKeys = append(out.SecretsOnInactiveKeys, wire.SecretInactiveKey{Path: string(path), KeyID: key.ID, State: string(key.State)})
		}
	}
}

// LocalKeys makes a round trip with each key on this node's HSM. It does not
// authorise: the caller is getKeyHealth, or another member over the node
// link.
func (e *Engine) LocalKeys(ctx context.Context, keyIDs []string) ([]KeyUsable, error) {
	state := e.Log.Local()
	out := make([]KeyUsable, 0, len(keyIDs))
	for _, id := range keyIDs[:min(len(keyIDs), healthLimit)] {
		out = append(out, e.checkKey(ctx, state, id))
	}
	return out, nil
}

func (e *Engine) checkKey(ctx context.Context, state *fsm.State, id string) KeyUsable {
	key := state.Key(id)
	if key == nil {
		return KeyUsable{KeyID: id, Reason: "this node does not know the key yet"}
	}
	now := e.Now()
	e.health.mu.Lock()
	kept, ok := e.health.kept[id]
	e.health.mu.Unlock()
	if ok && kept.version == key.Current && now.Sub(kept.at) < healthKept {
		return kept.KeyUsable
	}
	got := KeyUsable{KeyID: id, Usable: true}
	if err := e.KMS.Check(ctx, key); err != nil {
		got.Usable, got.Reason = false, "the HSM cannot use the key; the node's log has the details"
		if f := asFault(err); f != nil && f.Kind != fault.Internal {
			got.Reason = strings.TrimPrefix(f.Message, "keyId: ")
		} else {
			e.Logger.Error("a key cannot be used", "keyId", id, "error", err)
		}
	}
	e.health.mu.Lock()
	defer e.health.mu.Unlock()
	if e.health.kept == nil || len(e.health.kept) > 10_000 {
		e.health.kept = map[string]keptHealth{}
	}
	e.health.kept[id] = keptHealth{KeyUsable: got, version: key.Current, at: now}
	return got
}

// askKeys asks every member at the same time. One that does not answer cannot
// use any key, as far as anybody can tell.
func (e *Engine) askKeys(ctx context.Context, keys []*fsm.Key) map[string][]wire.KeyOnNode {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = key.ID
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string][]wire.KeyOnNode{}
	ask := func(node string, query func(context.Context, []string) ([]KeyUsable, error)) {
		answers, err := query(ctx, ids)
		got := map[string]KeyUsable{}
		for _, a := range answers {
			got[a.KeyID] = a
		}
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			a, ok := got[id]
			on := wire.KeyOnNode{NodeID: node, Usable: a.Usable, Reason: a.Reason}
			if err != nil || !ok {
				on = wire.KeyOnNode{NodeID: node, Reason: "the node does not answer"}
			}
			out[id] = append(out[id], on)
		}
	}
	wg.Go(func() { ask(e.Node, e.LocalKeys) })
	if e.Cluster.Members != nil && e.Cluster.PeerKeys != nil {
		for _, member := range e.Cluster.Members() {
			if member.NodeID != e.Node {
				wg.Go(func() {
					ask(member.NodeID, func(ctx context.Context, ids []string) ([]KeyUsable, error) {
						return e.Cluster.PeerKeys(ctx, member.NodeID, ids)
					})
				})
			}
		}
	}
	wg.Wait()
	for _, nodes := range out {
		slices.SortFunc(nodes, func(a, b wire.KeyOnNode) int { return strings.Compare(a.NodeID, b.NodeID) })
	}
	return out
}
