package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/api/wire"
)

// deliver has callbacks called and the version confirmed, unless that is done
// or under way. e.mu is held.
func (c *Cache) deliver(e *entry) {
	if e.deliverer || e.gone || e.settled() {
		return
	}
	e.deliverer = c.start(func() { c.tell(e) })
}

// settled reports whether nobody needs to hear of what is held. e.mu is held.
func (e *entry) settled() bool {
	h := e.held.Load()
	return h == nil || h.value.versionID == e.told && h.value.versionID == e.confirmed
}

// tell calls the callbacks for what is held, and confirms it once each has
// returned nil, until that was done for the version held then. It ends with the
// first failure: the next revalidation begins it again.
func (c *Cache) tell(e *entry) {
	for {
		e.mu.Lock()
		if e.gone || e.settled() || c.ctx.Err() != nil {
			e.deliverer = false
			e.mu.Unlock()
			return
		}
		h := e.held.Load()
		id, number := h.value.versionID, h.value.version
		callbacks := e.callbacks[:len(e.callbacks):len(e.callbacks)]
		if e.told == id {
			callbacks = nil
		}
		e.mu.Unlock()

		ok := call(callbacks, h)
		if !ok {
			c.counts.callbackErrors.Add(1)
		} else {
			e.mu.Lock()
			e.told = id
			e.mu.Unlock()
			ok = c.confirmHeld(e, h, number)
		}
		e.mu.Lock()
		if ok {
			e.confirmed = id
		} else if e.held.Load() == h {
			e.deliverer = false
			e.mu.Unlock()
			return
		}
		e.mu.Unlock()
	}
}

// call gives each callback a copy of its own. It answers false if one failed,
// or if h was superseded before all were called.
func call(callbacks []func(*Value) error, h *held) bool {
	for _, fn := range callbacks {
		v := h.copy()
		if v == nil || fn(v) != nil {
			return false
		}
	}
	return true
}

// confirmHeld tells the cluster that this instance uses the version, and no
// other. It is sent in the turn of the path, and only while the version is what
// the cache holds: no read is under way by which it could come to hold another.
// It answers true when there is nothing more to do.
func (c *Cache) confirmHeld(e *entry, h *held, number uint64) bool {
	if c.cfg.ConfirmManually {
		return true
	}
	done := false
	_, _ = c.inTurn(e, func() (answer, error) { // it answers only that the cache is closed
		if e.held.Load() != h {
			return answer{}, nil
		}
		err := c.confirm(c.ctx, e.path, number)
		if err == nil {
			e.says(h)
		}
		var answered *Error
		// A last word, such as that of a server which does not know the
		// operation, is not argued with: the version stays on the ledger as one
		// that may be held, which is safe.
		done = err == nil || errors.As(err, &answered) && answered.Code != "" && !answered.Retryable()
		return answer{}, nil
	})
	return done
}

// Confirm says that this instance uses the version now, and holds no other one
// of the secret. It is for applications with ConfirmManually. It refuses while
// the cache holds another version, which may be handed out at any moment.
func (c *Cache) Confirm(ctx context.Context, path string, version uint64) error {
	one, held := c.entries.Load(path)
	if !held {
		return c.confirm(ctx, path, version)
	}
	e := one.(*entry)
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if h := e.held.Load(); h != nil && h.value.version != version {
		// It would say of a version that was handed out meanwhile that nobody here has it.
		return fmt.Errorf("client: cache: %s: version %d is held now, so version %d cannot be confirmed as the only one", path, h.value.version, version)
	}
	err := c.confirm(ctx, path, version)
	if h := e.held.Load(); err == nil && h != nil && h.value.version == version {
		e.says(h)
	}
	return err
}

func (c *Cache) confirm(ctx context.Context, path string, version uint64) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	var resp wire.ConfirmVersionResponse
	err := c.c.Do(ctx, "secrets", "confirmVersion", &wire.ConfirmVersionRequest{Path: path, Version: &version, Instance: c.cfg.Instance}, &resp)
	if err != nil {
		c.counts.confirmErrors.Add(1)
		return err
	}
	c.counts.confirms.Add(1)
	return nil
}
