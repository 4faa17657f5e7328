package client

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/strongroom/strongroom/api/wire"
)

const (
	// maxWatched is how many paths the server takes in one long poll.
	maxWatched = 100
	pollFor    = 50 * time.Second
	// deniedPause is how long a path is left out that may not be watched.
	deniedPause = 5 * time.Minute
)

// group is up to maxWatched entries and the goroutine that waits for changes
// of them. Who may read a value need not be allowed to watch it: such a path
// is left out, and kept fresh by revalidation alone.
type group struct {
	c      *Cache
	more   chan struct{}
	denied map[string]time.Duration // until when a path is left out; of the goroutine

	entries []*entry // under c.mu
}

// watch puts an entry into a group. e.mu is held.
func (c *Cache) watch(e *entry) {
	if e.watched {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	e.watched = true
	for _, g := range c.groups {
		if len(g.entries) < maxWatched {
			g.entries = append(g.entries, e)
			select {
			case g.more <- struct{}{}:
			default:
			}
			return
		}
	}
	g := &group{c: c, more: make(chan struct{}, 1), denied: map[string]time.Duration{}, entries: []*entry{e}}
	c.groups = append(c.groups, g)
	c.running.Go(g.run)
}

// run polls until the cache is closed. index is that of the answer before, and
// is given up by no failure, so no change is missed.
func (g *group) run() {
	var index uint64
	for fails := 0; g.c.ctx.Err() == nil; {
		entries := g.members()
		g.join(entries, index)
		next, err := g.poll(entries, index)
		switch {
		case err == nil:
			index, fails = next, 0
			continue
		case next == interrupted:
			continue
		case IsCode(err, CodeAccessDenied) && len(entries) > 0:
			g.exclude(entries)
			continue
		}
		g.c.counts.watchErrs.Add(1)
		fails++
		pause := min(time.Second<<min(fails, 5), 30*time.Second)
		g.wait(g.c.ctx, pause/2+rand.N(pause/2))
	}
}

// interrupted is no index: a poll was ended because there is more to watch.
const interrupted = ^uint64(0)

// members lists what is to be watched now. No lock of an entry is taken under
// that of the cache, which is taken under those.
func (g *group) members() []*entry {
	g.c.mu.Lock()
	all := slices.Clone(g.entries)
	g.c.mu.Unlock()
	var out, gone []*entry
	for _, e := range all {
		until, denied := g.denied[e.path]
		switch {
		case e.isGone():
			gone = append(gone, e)
			delete(g.denied, e.path)
		case !denied || g.c.now() >= until:
			delete(g.denied, e.path)
			out = append(out, e)
		}
	}
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	g.entries = slices.DeleteFunc(g.entries, func(e *entry) bool { return slices.Contains(gone, e) })
	return out
}

// join asks anew for entries that no poll has covered so far: one may have
// changed after it was read and before index, of which a poll that goes on from
// index says nothing. A question that is sent after index is known sees all
// that came before it. From index 0 on the poll itself says everything.
func (g *group) join(entries []*entry, index uint64) {
	for _, e := range entries {
		e.mu.Lock()
		covered := e.joined
		e.joined = true
		e.mu.Unlock()
		if !covered && index > 0 {
			_, _ = g.c.ask(e, true) // forgotten or closed: nothing to ask
		}
	}
}

// poll waits for one answer and has what changed asked for.
func (g *group) poll(entries []*entry, index uint64) (uint64, error) {
	ctx, cancel := context.WithCancel(g.c.ctx)
	defer cancel()
	if len(entries) == 0 {
		g.wait(ctx, pollFor)
		return index, nil
	}
	byPath := map[string]*entry{}
	req := &wire.WaitForChangeRequest{AfterIndex: index, Timeout: new(wire.Duration)}
	*req.Timeout = wire.Duration(pollFor)
	for _, e := range entries {
		byPath[e.path] = e
		req.Paths = append(req.Paths, e.path)
	}
	type result struct {
		resp wire.WaitForChangeResponse
		err  error
	}
	answered, began := make(chan result, 1), g.c.now()
	if !g.c.start(func() {
		var r result
		r.err = g.c.c.Do(ctx, "secrets", "waitForChange", req, &r.resp)
		answered <- r
	}) {
		return 0, ErrClosed
	}
	select {
	case r := <-answered:
		if r.err == nil && len(r.resp.Changes) == 0 && g.c.now()-began < time.Second {
			// A node that is being stopped answers at once, with nothing.
			g.wait(ctx, time.Second/2+rand.N(time.Second/2))
		}
		for _, one := range r.resp.Changes {
			if e := byPath[one.Path]; e != nil && r.err == nil {
				_, _ = g.c.ask(e, true)
			}
		}
		return r.resp.Index, r.err
	case <-g.more:
		return interrupted, context.Canceled
	}
}

// wait waits for d, for more to watch, or for the end.
func (g *group) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.more:
	case <-ctx.Done():
	}
}

// exclude finds out which paths may not be watched, by halves: one of them is
// no reason to leave the others unwatched. What stays out is told by nobody,
// so it is asked for again when it comes back.
func (g *group) exclude(entries []*entry) {
	if len(entries) == 1 {
		e := entries[0]
		g.denied[e.path] = g.c.now() + deniedPause + rand.N(deniedPause/4)
		e.mu.Lock()
		e.joined = false
		e.mu.Unlock()
		return
	}
	for _, half := range [][]*entry{entries[:len(entries)/2], entries[len(entries)/2:]} {
		req := &wire.WaitForChangeRequest{Timeout: new(wire.Duration)}
		for _, e := range half {
			req.Paths = append(req.Paths, e.path)
		}
		if err := g.c.c.Do(g.c.ctx, "secrets", "waitForChange", req, nil); IsCode(err, CodeAccessDenied) {
			g.exclude(half)
		}
	}
}

func (e *entry) isGone() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gone
}
