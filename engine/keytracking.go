package engine

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// eventPendingUse is written beside the operation's own event when somebody
// tries to use a key that waits for its deletion: something still needs it.
const eventPendingUse = "kms.use_of_key_pending_deletion"

// noteUse keeps when a key was used, and tells of attempts on one that waits
// for its deletion. Whether the use is allowed is not decided here.
func (c *call) noteUse(key *fsm.Key, action fsm.KeyAction) {
	if key.State == fsm.KeyPendingDeletion {
		c.inner = append(c.inner, audit.Event{
			Event: eventPendingUse, KeyID: key.ID, Outcome: audit.Failed, Code: string(fault.KeyNotActive), Index: c.index,
		})
		c.engine.metrics.pendingUses.Inc()
		return
	}
	if fsm.RuleFor(key.State, action).Refused == "" {
		c.engine.uses.note(key.ID, c.now)
	}
}

// keyUses is when this node used keys last. The leader writes it into the
// state now and then; what a crash loses is a minute of precision.
type keyUses struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (u *keyUses) note(keyID string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]time.Time{}
	}
	if at.After(u.last[keyID]) {
		u.last[keyID] = at
	}
}

// drain takes uses off, for the leader, which writes them.
func (u *keyUses) drain(limit int) []fsm.KeyUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []fsm.KeyUse
	for id, at := range u.last {
		if len(out) == limit {
			break
		}
		out = append(out, fsm.KeyUse{KeyID: id, At: at.UnixMilli()})
		delete(u.last, id)
	}
	return out
}

// putBack takes in uses that were noted elsewhere.
func (u *keyUses) putBack(uses []fsm.KeyUse) {
	for _, use := range uses {
		u.note(use.KeyID, time.UnixMilli(use.At))
	}
}

// of answers when the key was used last, as far as this node knows.
func (u *keyUses) of(key *fsm.Key) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, ok := u.last[key.ID]; ok {
		return max(at.UnixMilli(), key.LastUsedAt)
	}
	return key.LastUsedAt
}

// usePrecision is how far the state may be behind: a key in constant use is
// written so often and no more.
const usePrecision = time.Minute

// unwritten answers the uses that the state does not know yet, in order.
func (u *keyUses) unwritten(state *fsm.State) []fsm.KeyUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []fsm.KeyUse
	for _, id := range slices.Sorted(maps.Keys(u.last)) {
		key := state.Key(id)
		at := u.last[id].UnixMilli()
		if key == nil || at <= key.LastUsedAt {
			delete(u.last, id)
			continue
		}
		if at-key.LastUsedAt >= usePrecision.Milliseconds() && len(out) < 1000 {
			out = append(out, fsm.KeyUse{KeyID: id, At: at})
		}
	}
	return out
}

// sealBlock is how many seals a leader books at once: one log entry for a
// million seals, and 4,096 changes of leader before the bound is wasted.
const sealBlock = 1 << 20

// sealBook counts down the seals that this node has booked. A booking is this
// node's alone, whoever leads later, so what is left of it stays good.
type sealBook struct {
	locks *pathLocks // one booking at a time for a key
	mu    sync.Mutex
	left  map[sealKey]uint64
}

type sealKey struct {
	keyID   string
	version uint32
}

func newSealBook() *sealBook {
	return &sealBook{locks: newPathLocks(), left: map[sealKey]uint64{}}
}

func (b *sealBook) take(k sealKey, n uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left[k] < n {
		return false
	}
	b.left[k] -= n
	return true
}

func (b *sealBook) add(k sealKey, n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left[k] += n
}

// book makes sure that the current version of key may seal n times more: at
// most 2^32 times in all, whichever nodes led (SP 800-38D).
func (e *Engine) book(ctx context.Context, key *fsm.Key, n uint64, meta fsm.Meta) error {
	if key.Spec != wrapped.AES256 || fsm.RuleFor(key.State, fsm.KeyProtect).Refused != "" {
		return nil // kms says why it cannot seal
	}
	k := sealKey{key.ID, key.Current}
	if e.seals.take(k, n) {
		return nil
	}
	unlock, err := e.seals.locks.lock(ctx, names.Path(key.ID))
	if err != nil {
		return err
	}
	defer unlock()
	if e.seals.take(k, n) {
		return nil // somebody booked while this one waited
	}
	// The client token is of what the caller asked for, not of this.
	meta = fsm.Meta{Time: meta.Time, Principal: meta.Principal, RequestID: meta.RequestID}
	command, err := fsm.Encode(fsm.ReserveSeals{Meta: meta, KeyID: key.ID, Version: key.Current, Count: sealBlock + n})
	if err != nil {
		return err
	}
	result, err := e.Log.Propose(ctx, command)
	if err != nil {
		if fault.Is(err, fault.Uncertain) {
			// Whether it was booked does not matter to the caller: nothing of
			// the request was done.
			return fault.Wrap(fault.NoLeader, err, "leadership was lost before the request began; retry")
		}
		return err
	}
	if r := result.Refused; r != nil {
		return fault.New(fault.Kind(r.Code), "%s", r.Message).With("keyId", key.ID)
	}
	e.seals.add(k, sealBlock)
	return nil
}

func (c *call) bookSeal(ctx context.Context, key *fsm.Key) error {
	return c.engine.book(ctx, key, 1, fsm.Meta{Time: c.now.UnixMilli(), Principal: c.who.name, RequestID: c.from.RequestID})
}
