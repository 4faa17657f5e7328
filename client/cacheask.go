package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// ask joins the question that is under way, or begins one. A fresh one is sent
// after ask was called: it follows the one under way, if there is one, and all
// who want a fresh one meanwhile share it.
func (c *Cache) ask(e *entry, fresh bool) (*flight, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return c.join(e, fresh)
}

// wish is ask by one who waits for the value.
func (c *Cache) wish(e *entry, fresh bool) (*flight, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, err := c.join(e, fresh)
	if err == nil {
		f.takers++
	}
	return f, err
}

// join is ask with e.mu held.
func (c *Cache) join(e *entry, fresh bool) (*flight, error) {
	switch {
	case e.gone:
		if c.ctx.Err() != nil {
			return nil, ErrClosed
		}
		return nil, errForgotten
	case e.now != nil && !fresh:
		return e.now, nil
	case e.now != nil:
		if e.next == nil {
			e.next = &flight{done: make(chan struct{})}
		}
		return e.next, nil
	}
	f := &flight{done: make(chan struct{})}
	if !c.start(func() { c.fly(e) }) {
		return nil, ErrClosed
	}
	e.now = f
	return f, nil
}

// fly answers the questions about one path, one after the other, so that no
// answer overtakes a later one: reads are linearizable.
func (c *Cache) fly(e *entry) {
	for {
		got, err := c.inTurn(e, func() (answer, error) { return c.fetch(e) })
		e.mu.Lock()
		f := e.now
		f.held, f.err = c.settle(e, got, err)
		if f.held != nil && int64(c.now()) >= f.held.until.Load() {
			f.held.keepFor(f.takers)
		}
		e.now, e.next = e.next, nil
		more := e.now != nil
		close(f.done) // under e.mu: who leaves is counted among the takers, or is none
		e.mu.Unlock()
		if !more {
			return
		}
	}
}

// inTurn runs fn while nobody else speaks to the cluster about the path.
func (c *Cache) inTurn(e *entry, fn func() (answer, error)) (answer, error) {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
		return fn()
	case <-c.ctx.Done():
		return answer{}, ErrClosed
	}
}

// leave takes back the wish of one who waits no more for f.
func (e *entry) leave(f *flight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-f.done:
		if f.held != nil {
			f.held.leave()
		}
	default:
		f.takers--
	}
}

// answer is what a server said of the current version.
type answer struct {
	same  *held // notModified: what was held is current
	fresh *held
	until int64
}

// fetch asks whether what is held is current, and for the value if it is not.
func (c *Cache) fetch(e *entry) (answer, error) {
	old := e.held.Load()
	if old == nil {
		return c.read(e, nil)
	}
	got, err := c.read(e, old)
	if err == nil && got.same == nil && got.fresh == nil {
		// The same number of another secret: the path was purged and made anew.
		return c.read(e, nil)
	}
	return got, err
}

func (c *Cache) read(e *entry, old *held) (answer, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.RequestTimeout)
	defer cancel()
	req := wire.GetSecretValueRequest{Path: e.path, Instance: c.cfg.Instance}
	if old != nil && e.may(old) {
		number := old.value.version
		req.IfNotVersion = &number
	}
	sent := c.now() // before the request: the answer is at least as young
	var resp wire.GetSecretValueResponse
	if err := c.c.Do(ctx, "secrets", "getSecretValue", &req, &resp); err != nil {
		if resp.Value != nil {
			resp.Value.Wipe() // of an answer that broke after it
		}
		return answer{}, err
	}
	if resp.Path != e.path || resp.Version == 0 {
		if resp.Value != nil {
			resp.Value.Wipe()
		}
		return answer{}, errors.New("the answer is not about this path")
	}
	age := time.Duration(resp.Cache.MaxAge)
	if c.cfg.MaxAge > 0 {
		age = min(age, c.cfg.MaxAge)
	}
	if resp.ExpiresAt != nil {
		age = min(age, time.Until(resp.ExpiresAt.Time))
	}
	out := answer{until: int64(sent + max(age, 0))}
	switch {
	case resp.NotModified && old != nil && resp.VersionID == old.value.versionID && resp.Version == old.value.version:
		out.same = old
	case resp.NotModified && old != nil:
	case resp.NotModified:
		return answer{}, errors.New("the server says that nothing changed, to a question that it was not asked")
	case old != nil && resp.VersionID == old.value.versionID && resp.Version == old.value.version:
		if resp.Value != nil {
			resp.Value.Wipe()
		}
		out.same = old
	default:
		v := Value{path: e.path, version: resp.Version, versionID: resp.VersionID, contentType: resp.ContentType}
		if resp.Value != nil && resp.Value.Len() > 0 {
			v.plain = resp.Value.Bytes
		} else {
			v.plain = secret.New([]byte{})
		}
		if resp.ExpiresAt != nil {
			v.expiresAt = resp.ExpiresAt.Time
		}
		out.fresh = &held{value: v}
		out.fresh.until.Store(out.until)
	}
	return out, nil
}

// settle takes an answer over. e.mu is held.
func (c *Cache) settle(e *entry, got answer, err error) (*held, error) {
	if e.gone || c.ctx.Err() != nil {
		got.fresh.wipe()
		if c.ctx.Err() != nil {
			return nil, ErrClosed
		}
		return nil, errForgotten
	}
	e.failing.Store(err != nil)
	if err != nil {
		c.counts.errors.Add(1)
		if final(err) {
			// The server has said that the value must not be used: not one more Get.
			e.held.Swap(nil).wipe()
		}
		e.fails++
		if e.held.Load() == nil && !e.watched && len(e.callbacks) == 0 && e.next == nil {
			c.retire(e) // a path that never was: it must not cost memory for ever
			return nil, err
		}
		c.schedule(e)
		return nil, err
	}
	c.counts.refreshes.Add(1)
	e.fails = 0
	now := got.same
	if now != nil {
		now.until.Store(got.until) // the latest word counts, also where it is shorter
	} else {
		now = got.fresh
		e.held.Swap(now).wipe()
	}
	if e.told == "" {
		e.told = now.value.versionID // the first one is no change
	}
	c.schedule(e)
	c.watch(e)
	if e.held.Load() == now { // else it passed its ceiling meanwhile, and was wiped
		c.deliver(e)
	}
	return now, nil
}

// final reports whether a server has said that a value must not be used. What
// cannot be reached, or is broken, has not.
func final(err error) bool {
	return slices.ContainsFunc([]fault.Kind{CodeAccessDenied, CodeNotFound, CodeVersionNotActive, CodeKeyNotActive, CodeUnauthenticated},
		func(code fault.Kind) bool { return IsCode(err, code) })
}
