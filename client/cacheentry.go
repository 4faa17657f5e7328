package client

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/internal/secret"
)

var errForgotten = errors.New("client: the path was forgotten meanwhile")

// held is one version in memory. Its bytes are copied out under the read lock
// and wiped under the write lock.
type held struct {
	mu    sync.RWMutex
	value Value
	until atomic.Int64 // of Cache.now: the ceiling
	// takers is how many wait for h who may still have it once: it came when its
	// ceiling had passed, so memory has nothing for them. ended is set when all
	// others are past it; the last taker wipes. Both under mu.
	takers int
	ended  bool
}

// copy answers a Value of its own, nil if h was wiped or is nil.
func (h *held) copy() *Value {
	if h == nil {
		return nil
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.clone()
}

// clone is copy under h.mu.
func (h *held) clone() *Value {
	plain := h.value.plain.Expose()
	if plain == nil {
		return nil
	}
	out := h.value
	out.plain = secret.New(bytes.Clone(plain))
	return &out
}

func (h *held) copyWithin(now time.Duration) *Value {
	if h == nil || int64(now) >= h.until.Load() {
		return nil
	}
	return h.copy()
}

func (h *held) wipe() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.value.plain.Wipe()
}

// keepFor has h outlive its ceiling for n who asked for it and wait.
func (h *held) keepFor(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takers += n
}

// take is copy for one who waited, and leave for one who waits no more.
func (h *held) take() *Value {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.clone()
	h.leaving()
	return out
}

func (h *held) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving()
}

// leaving wipes h after the last one. h.mu is held.
func (h *held) leaving() {
	h.takers = max(h.takers-1, 0)
	if h.ended && h.takers == 0 {
		h.value.plain.Wipe()
	}
}

// end wipes h, at once if nobody waits for it.
func (h *held) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended = true; h.takers == 0 {
		h.value.plain.Wipe()
	}
}

// flight is one question that any number of callers wait for.
type flight struct {
	done   chan struct{}
	takers int // who waits; under the entry's mu
	held   *held
	err    error
}

// says notes that the application has said that it uses h, and nothing else.
func (e *entry) says(h *held) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = h.value.versionID
}

// may reports whether to name h in a question: "not this version" is read as
// "I use this one, and no other", which is for the application to say first.
func (e *entry) may(h *held) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.said == h.value.versionID
}

// entry is what the cache has for one path.
type entry struct {
	path    string
	held    atomic.Pointer[held]
	failing atomic.Bool // the last question had no answer

	// turn is held by whoever speaks to the cluster about this path. A read
	// and a confirmation never overlap, so a confirmation never speaks of a
	// version that is not the one held.
	turn chan struct{}

	mu        sync.Mutex
	now, next *flight // next begins when now has ended
	gone      bool
	watched   bool
	joined    bool // a long poll covers it
	fails     int
	timer     *time.Timer // asks again
	end       *time.Timer // wipes at the ceiling, also while a question is under way
	callbacks []func(*Value) error
	deliverer bool   // a goroutine delivers
	told      string // versionId that callbacks know
	confirmed string // versionId that needs no confirmation any more
	said      string // versionId that the application was said to use
}

func (c *Cache) entry(path string) *entry {
	if one, ok := c.entries.Load(path); ok {
		return one.(*entry)
	}
	e := &entry{path: path, turn: make(chan struct{}, 1)}
	e.timer = time.AfterFunc(1<<62, func() { _, _ = c.ask(e, false) }) // a closed cache, or a forgotten path, has nothing to ask
	e.end = time.AfterFunc(1<<62, func() { c.expire(e) })
	one, other := c.entries.LoadOrStore(path, e)
	if other {
		e.timer.Stop()
		e.end.Stop()
	}
	return one.(*entry)
}

// schedule sets when the entry is due next: at a part of what is left of its
// time, with jitter, so that many instances do not ask at once; after a
// failure by a back-off. At the ceiling it is wiped in any case. e.mu is held.
func (c *Cache) schedule(e *entry) {
	const floor, most = time.Second, 30 * time.Second
	h := e.held.Load()
	pause := min(floor<<min(e.fails, 6), most)
	if h != nil {
		left := time.Duration(h.until.Load()) - c.now()
		e.end.Reset(max(left, 0))
		if e.fails == 0 {
			pause = max(max(left, 0)/2+rand.N(max(left, 0)/4+1), floor)
		} else {
			pause = min(pause/2+rand.N(pause/2), max(left, 0))
		}
	} else {
		pause = pause/2 + rand.N(pause/2)
	}
	e.timer.Reset(pause)
}

// expire wipes what is past its ceiling.
func (c *Cache) expire(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.held.Load()
	if h != nil && int64(c.now()) >= h.until.Load() && e.held.CompareAndSwap(h, nil) {
		h.end()
	}
}
