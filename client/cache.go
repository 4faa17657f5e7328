package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// ErrClosed is what a Cache answers after Close.
var ErrClosed = errors.New("client: the cache is closed")

// CacheConfig says how a Cache works. The zero value is ready.
type CacheConfig struct {
	// Instance says which instance of the application asks: a name of letters,
	// digits and . _ - + = @ that begins with a letter or digit, at most 128
	// bytes. Default: the host's name and a random
	// suffix, the same for the life of the Cache.
	Instance string
	// MaxAge, if not 0, is a ceiling below the server's cache.maxAge.
	MaxAge time.Duration
	// RequestTimeout bounds one question to the cluster, all attempts together
	// (default 10s).
	RequestTimeout time.Duration
	// ConfirmManually leaves it to the application to call Confirm.
	ConfirmManually bool
}

// Cache keeps the current versions of secrets in memory.
//
// A value is never served longer than its maxAge after the request was sent in
// answer to which a server said that it is current. Up to there Get serves it
// without asking anybody, whether the cluster can be reached or not; past it
// Get asks, and fails if it gets no answer. Changes are learned of at once
// where the caller may describe the secret (secrets:describeSecret), and at a
// part of maxAge where it may not.
//
// A Cache is safe for concurrent use. Each path that was asked for costs
// memory and a part of a long poll until Forget.
type Cache struct {
	c       *Client
	cfg     CacheConfig
	began   time.Time // with the monotonic clock, which all ages are measured by
	entries sync.Map  // path → *entry
	counts  counters

	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
	groups  []*group
}

// NewCache makes a Cache that asks through c. It does not connect.
func NewCache(c *Client, cfg CacheConfig) (*Cache, error) {
	if c == nil {
		return nil, errors.New("client: a cache needs a client")
	}
	if cfg.MaxAge < 0 || cfg.RequestTimeout < 0 {
		return nil, errors.New("client: MaxAge and RequestTimeout must not be negative")
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = 10 * time.Second
	}
	if cfg.Instance == "" {
		cfg.Instance = newInstance()
	}
	out := &Cache{c: c, cfg: cfg, began: time.Now()}
	out.ctx, out.stop = context.WithCancel(context.Background())
	return out, nil
}

// newInstance makes a name that the server takes, whatever the host is called.
func newInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, host)
	return strings.TrimLeft(host[:min(len(host), 64)]+"-", "-.") + strings.ToLower(rand.Text()[:10])
}

// Instance is the name that the cache sends along.
func (c *Cache) Instance() string { return c.cfg.Instance }

// Get answers the current version: from memory if a server said not longer
// than maxAge ago that it is current, else by asking. However many ask for one
// path at a time, one request is sent. The Value is the caller's to wipe.
func (c *Cache) Get(ctx context.Context, path string) (*Value, error) {
	return c.get(ctx, path, false)
}

// Refresh is Get that always asks, by a request sent after Refresh was called:
// for an application whose log-in with the cached password was refused. If it
// fails, what the cache holds stays within its ceiling, unless the answer says
// that it must not be used any more.
func (c *Cache) Refresh(ctx context.Context, path string) (*Value, error) {
	return c.get(ctx, path, true)
}

func (c *Cache) get(ctx context.Context, path string, fresh bool) (*Value, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e := c.entry(path)
		if !fresh {
			if v := e.held.Load().copyWithin(c.now()); v != nil {
				c.counts.hits.Add(1)
				if e.failing.Load() {
					c.counts.stale.Add(1)
				}
				return v, nil
			}
			c.counts.misses.Add(1)
		}
		f, err := c.wish(e, fresh)
		if errors.Is(err, errForgotten) {
			continue
		} else if err != nil {
			return nil, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			e.leave(f)
			return nil, ctx.Err()
		}
		if errors.Is(f.err, errForgotten) {
			continue
		} else if f.err != nil {
			return nil, fmt.Errorf("client: cache: %s: no server says that a held value is current: %w", path, f.err)
		}
		if v := f.held.take(); v != nil {
			return v, nil
		}
		// A later answer has replaced it already: ask memory again.
		fresh = false
	}
}

// OnChange has fn called for each version that takes the place of another one
// that the cache held, or held before it had to drop it. Calls for one path
// come one at a time, in order, and never under a lock; a version that was
// superseded meanwhile is left out. v is fn's to wipe. An error is counted, and
// the call is repeated after the next revalidation.
//
// Register before the first Get of the path. fn must not call Close.
func (c *Cache) OnChange(path string, fn func(v *Value) error) {
	for {
		e := c.entry(path)
		e.mu.Lock()
		if !e.gone {
			e.callbacks = append(e.callbacks, fn)
			e.mu.Unlock()
			return
		}
		e.mu.Unlock()
	}
}

// Forget wipes what is held for a path, and stops watching it.
func (c *Cache) Forget(path string) {
	if one, ok := c.entries.Load(path); ok {
		e := one.(*entry)
		e.mu.Lock()
		c.retire(e)
		e.mu.Unlock()
	}
}

// retire takes an entry out of use. e.mu is held.
func (c *Cache) retire(e *entry) {
	e.gone = true
	e.timer.Stop()
	e.end.Stop()
	e.held.Swap(nil).wipe()
	c.entries.CompareAndDelete(e.path, e)
}

// Close stops all that the cache does in the background, waits for it, and
// wipes what is held. Values that were handed out stay their holders'.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
	c.entries.Range(func(path, _ any) bool {
		c.Forget(path.(string))
		return true
	})
}

// start runs fn in a goroutine that Close waits for. It answers false, and
// does not run it, after Close.
func (c *Cache) start(fn func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Go(fn)
	return true
}

// now is the time since the cache was made. A wall clock that is set does not
// move it.
func (c *Cache) now() time.Duration { return time.Since(c.began) }
