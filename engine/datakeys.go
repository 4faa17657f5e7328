package engine

import (
	"bytes"
	"context"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/kms"
)

// reviseEvery is the least time between two looks at the data keys in memory:
// the most that one which was destroyed stays there.
const reviseEvery = time.Second

// RunDataKeys wipes data keys in memory whose version or KMS key is gone from
// what this node applies, until ctx ends; then all of them. Every node runs
// it. Nothing is served by them meanwhile: what may be read is decided by the
// state of each request.
func (e *Engine) RunDataKeys(ctx context.Context) {
	cache := e.KMS.DataKeys()
	if cache == nil {
		return
	}
	defer cache.Wipe()
	var seen *fsm.State
	for {
		moved := e.Log.Moved()
		if state := e.Log.Local(); seen == nil || !state.SameSealed(seen) {
			seen = state
			cache.Revise(func(id kms.Identity, keyID string, sealed []byte) bool { return keptSealed(state, id, keyID, sealed) })
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(reviseEvery):
		case <-ctx.Done():
			return
		}
	}
}

// WipeDataKeys forgets the data keys in memory: the HSM that opened them is
// not there any more.
func (e *Engine) WipeDataKeys() {
	if cache := e.KMS.DataKeys(); cache != nil {
		cache.Wipe()
	}
}

// keptSealed reports whether state has a version with this data key under a
// KMS key that may open.
func keptSealed(state *fsm.State, id kms.Identity, keyID string, sealed []byte) bool {
	s, v, key := state.Secret(id.Path), state.Version(id.Path, id.Version), state.Key(keyID)
	return s != nil && s.ID == id.SecretID && v != nil && v.KeyID == keyID && bytes.Equal(v.DataKey, sealed) &&
		key != nil && kms.CheckOpen(key) == nil
}

// markCached says of the latest kms event of the request that it needed no
// call to the HSM, if so.
func (c *call) markCached(cached bool) {
	result := "miss"
	if cached {
		result = "hit"
		c.inner[len(c.inner)-1].Cached = true
		c.event.KMS[len(c.event.KMS)-1].Cached = true
	}
	c.engine.metrics.dataKeys.WithLabelValues(result).Inc()
}
