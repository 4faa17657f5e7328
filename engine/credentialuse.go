package engine

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// maxUses is how many uses one command holds.
const maxUses = 1000

// credentialUses is when this node saw credentials last, and from where. Like
// that of keys, it is written into the state now and then, never by the
// request; what a crash loses is a minute of precision.
type credentialUses struct {
	mu   sync.Mutex
	last map[string]fsm.CredentialUse
}

func (u *credentialUses) note(id string, source netip.Addr, at time.Time) {
	use := fsm.CredentialUse{ID: id, At: at.UnixMilli()}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]fsm.CredentialUse{}
	}
	if use.At <= u.last[id].At {
		return
	}
	if source.IsValid() {
		use.Source = source.String()
	}
	u.last[id] = use
}

// of answers the last use of a credential as far as this node knows; the zero
// value if there was none.
func (u *credentialUses) of(state *fsm.State, id string) fsm.CredentialUse {
	var out fsm.CredentialUse
	if kept := state.CredentialUse(id); kept != nil {
		out = *kept
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if own := u.last[id]; own.At > out.At {
		out = own
	}
	return out
}

// unwritten answers the uses that the state does not know yet, in order. It
// forgets those that the state knows, and those of what is gone.
func (u *credentialUses) unwritten(state *fsm.State) []fsm.CredentialUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []fsm.CredentialUse
	for _, id := range slices.Sorted(maps.Keys(u.last)) {
		use, kept := u.last[id], state.CredentialUse(id)
		gone := state.Token(id) == nil && state.AccessKey(id) == nil
		if gone || kept != nil && use.At <= kept.At {
			delete(u.last, id)
			continue
		}
		if kept == nil || use.At-kept.At >= usePrecision.Milliseconds() {
			out = append(out, use)
		}
	}
	return out
}

// drain takes uses off, for the leader, which writes them.
func (u *credentialUses) drain(limit int) []fsm.CredentialUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []fsm.CredentialUse
	for id, use := range u.last {
		if len(out) == limit {
			break
		}
		out = append(out, use)
		delete(u.last, id)
	}
	return out
}

// putBack takes in uses that were noted elsewhere.
func (u *credentialUses) putBack(uses []fsm.CredentialUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, use := range uses {
		if u.last == nil {
			u.last = map[string]fsm.CredentialUse{}
		}
		if use.At > u.last[use.ID].At {
			u.last[use.ID] = use
		}
	}
}

// writeCredentialUses commits what is not in the state yet. An idle node
// commits nothing.
func (e *Engine) writeCredentialUses(ctx context.Context) {
	uses := e.credentials.unwritten(e.Log.Local())
	for len(uses) > 0 {
		n := min(len(uses), maxUses)
		command := fsm.RecordCredentialUse{Meta: fsm.Meta{Time: e.Now().UnixMilli()}, Uses: uses[:n]}
		if _, err := e.proposeOwn(ctx, command); err != nil {
			if ctx.Err() == nil && !fault.Is(err, fault.NoLeader) {
				e.Logger.Warn("the last use of credentials could not be committed; it is tried again", "error", err)
			}
			return
		}
		uses = uses[n:]
	}
}
