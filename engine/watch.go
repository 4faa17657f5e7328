package engine

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// watch tells those who wait on this node when something they watch may have
// changed. One goroutine looks at what was applied, however many commands
// that are by then, and wakes only whom it may concern: a change costs the
// folders of its path, not the number of those who wait.
type watch struct {
	mu       sync.Mutex
	seen     *fsm.State // up to which everybody was told
	all      map[*waiter]struct{}
	paths    map[string]map[*waiter]struct{}
	prefixes map[string]map[*waiter]struct{}
}

// waiter is one wait.
type waiter struct {
	wait *Wait
	// news and rights hold one each: look again, and ask again.
	news   chan struct{}
	rights chan struct{}
}

func newWatch(seen *fsm.State) *watch {
	return &watch{seen: seen, all: map[*waiter]struct{}{}, paths: map[string]map[*waiter]struct{}{}, prefixes: map[string]map[*waiter]struct{}{}}
}

// RunWatch wakes those who wait on this node until ctx ends. Every node runs
// it, whether it leads or not.
func (e *Engine) RunWatch(ctx context.Context) {
	for {
		moved := e.Log.Moved()
		e.watch.tell(e.Log.Local())
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// Wait is what a request of waitForChange waits for.
type Wait struct {
	paths   []string
	prefix  string // "" if paths are watched
	Timeout time.Duration
}

// NewWait reads what a request waits for. It decides nothing: a request that
// is not well-formed waits for nothing, and is refused by Do.
func NewWait(body []byte) Wait {
	var r wire.WaitForChangeRequest
	if wire.Check(body) != nil || wire.Decode(body, &r) != nil {
		return Wait{}
	}
	if _, err := waitScope(nil, &r); err != nil {
		return Wait{}
	}
	timeout, err := waitTimeout(&r)
	if err != nil {
		return Wait{}
	}
	return Wait{paths: r.Paths, prefix: r.Prefix, Timeout: timeout}
}

// Await returns once this node has applied a change, after the index given,
// of something that w watches, or a change of anybody's rights; when limit
// has passed; or when ctx ends. It answers no one: it is a hint that Do may
// have news by now, or that the caller may not be told any more.
func (e *Engine) Await(ctx context.Context, w Wait, after uint64, limit time.Duration) {
	one := &waiter{wait: &w, news: make(chan struct{}, 1), rights: make(chan struct{}, 1)}
	e.watch.join(one)
	defer e.watch.leave(one)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	// The first look is after joining: what is applied later wakes.
	for !w.changed(e.Log.Local(), after) {
		select {
		case <-one.news:
		case <-one.rights:
			return
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// changed reports whether something watched changed after the index, without
// regard to who may know.
func (w *Wait) changed(state *fsm.State, after uint64) bool {
	for _, path := range w.paths {
		if s := state.Secret(names.Path(path)); s != nil && s.Changed > after {
			return true
		}
	}
	if w.prefix == "" {
		return false
	}
	for s := range state.ChangesAfter(after) {
		if strings.HasPrefix(string(s.Path), w.prefix) {
			return true
		}
	}
	return false
}

func (w *watch) join(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all[one] = struct{}{}
	for _, path := range one.wait.paths {
		enter(w.paths, path, one)
	}
	if one.wait.prefix != "" {
		enter(w.prefixes, one.wait.prefix, one)
	}
}

func (w *watch) leave(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one)
	for _, path := range one.wait.paths {
		remove(w.paths, path, one)
	}
	if one.wait.prefix != "" {
		remove(w.prefixes, one.wait.prefix, one)
	}
}

func enter(index map[string]map[*waiter]struct{}, key string, one *waiter) {
	if index[key] == nil {
		index[key] = map[*waiter]struct{}{}
	}
	index[key][one] = struct{}{}
}

func remove(index map[string]map[*waiter]struct{}, key string, one *waiter) {
	delete(index[key], one)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// tell wakes who watches what differs between state and the one before. A
// change of rights wakes all: a wait ends with the right to it.
func (w *watch) tell(state *fsm.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !state.SameRights(w.seen) {
		for one := range w.all {
			signal(one.rights)
		}
	}
	for s := range state.ChangesAfter(w.seen.Index()) {
		path := string(s.Path)
		wake(w.paths[path])
		for i := range len(path) {
			if path[i] == '/' {
				wake(w.prefixes[path[:i+1]])
			}
		}
	}
	w.seen = state
}

func wake(waiters map[*waiter]struct{}) {
	for one := range waiters {
		signal(one.news)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has not looked since the last time
	}
}
