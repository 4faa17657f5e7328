package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
)

// Uses knows who of ours uses which version, and tells the cluster. A holder is
// the command of Exec, or one file of Agent.
//
// A version is confirmed ("this one, and no other") only when it is the
// current one, every holder of the path is known to use it, and none may still
// use another one. A holder that was expected and has not been settled, such as
// a file from before a restart that could not be written yet, holds the word
// back for its paths.
//
// The ledger lets go of a version that nobody asked for during cache.maxAge. A
// command that keeps an older version in its environment for longer would be
// forgotten there. So a version that is used and is not current is asked for
// again by its number, which the ledger notes like any delivery, and which
// claims nothing about other versions, as a confirmation of the old one would.
type Uses struct {
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex
	holders map[string]map[string][]Version // holder → path; an empty list: not known
	said    map[string]Version              // what needs no confirmation any more
	asked   map[string]time.Time            // path and version id → when to ask again
	fails   map[string]int
}

// NewUses makes a Uses. Log lines name paths and versions.
func NewUses(log *slog.Logger) *Uses {
	return &Uses{
		log: log, wake: make(chan struct{}, 1), holders: map[string]map[string][]Version{},
		said: map[string]Version{}, asked: map[string]time.Time{}, fails: map[string]int{},
	}
}

func (u *Uses) change(fn func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fn()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Expect says that the holder has something of these paths, and nobody knows
// which versions. What is known stays, also of other paths: until Replace, the
// holder has what it had.
func (u *Uses) Expect(holder string, paths []string) {
	u.change(func() {
		if u.holders[holder] == nil {
			u.holders[holder] = map[string][]Version{}
		}
		for _, path := range paths {
			if _, there := u.holders[holder][path]; !there {
				u.holders[holder][path] = nil // not known
			}
		}
	})
}

// Also says that the holder may use these versions from now on, besides what it
// uses already. It comes before the holder is given them.
func (u *Uses) Also(holder string, versions map[string]Version) {
	u.change(func() {
		if u.holders[holder] == nil {
			u.holders[holder] = map[string][]Version{}
		}
		for path, v := range versions {
			// A path that is not known stays so: what was there before, nobody knows.
			if list, there := u.holders[holder][path]; (!there || len(list) > 0) && !slices.Contains(list, v) {
				u.holders[holder][path] = append(slices.Clone(list), v)
			}
		}
	})
}

// Only says that of these paths, whatever it has of others, the holder uses these versions and no other.
func (u *Uses) Only(holder string, versions map[string]Version) {
	u.change(func() {
		if u.holders[holder] == nil {
			u.holders[holder] = map[string][]Version{}
		}
		for path, v := range versions {
			u.holders[holder][path] = []Version{v}
		}
	})
}

// Replace says that the holder uses these versions, and nothing else of any
// path.
func (u *Uses) Replace(holder string, versions map[string]Version) {
	u.change(func() {
		u.holders[holder] = map[string][]Version{}
		for path, v := range versions {
			u.holders[holder][path] = []Version{v}
		}
	})
}

// Look has it seen at once that another version is current: the one that is in
// use must be asked for again before the ledger lets go of it.
func (u *Uses) Look() { u.change(func() {}) }

// Drop says that the holder is gone, or that nobody answers for it any more.
func (u *Uses) Drop(holder string) { u.change(func() { delete(u.holders, holder) }) }

// Confirmed answers the version that was confirmed last, if it still holds.
func (u *Uses) Confirmed(path string) (Version, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	v, ok := u.said[path]
	return v, ok
}

// inUse answers the versions that are used of a path, and whether all holders
// of it are known.
func (u *Uses) inUse(path string) (out []Version, known bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	known = true
	for _, paths := range u.holders {
		list, there := paths[path]
		known = known && (!there || len(list) > 0)
		for _, v := range list {
			if !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out, known
}

func (u *Uses) paths() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := map[string]bool{}
	for _, paths := range u.holders {
		for path := range paths {
			seen[path] = true
		}
	}
	var out []string
	for path := range seen {
		out = append(out, path)
	}
	slices.Sort(out)
	return out
}

// Run tells the cluster until ctx ends.
func (u *Uses) Run(ctx context.Context, s *Source) {
	for ctx.Err() == nil {
		next := u.step(ctx, s)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-u.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Settle tells what can be told now, once. It answers whether everything that
// is in use is confirmed.
func (u *Uses) Settle(ctx context.Context, s *Source) bool {
	u.step(ctx, s)
	for _, path := range u.paths() {
		versions, known := u.inUse(path)
		if said, ok := u.Confirmed(path); !ok || !known || len(versions) != 1 || versions[0] != said {
			return false
		}
	}
	return true
}

// idle is how often the state is looked at when nothing happens.
const idle = 10 * time.Second

func (u *Uses) step(ctx context.Context, s *Source) time.Duration {
	next := idle
	for _, path := range u.paths() {
		versions, known := u.inUse(path)
		current, ok := s.currentOf(path)
		if said, there := u.Confirmed(path); there && said != current {
			u.takeBack(path)
		}
		if ok && known && len(versions) == 1 && versions[0] == current {
			next = min(next, u.confirm(ctx, s, path, current))
			continue
		}
		for _, v := range versions {
			if v != current {
				next = min(next, u.keep(ctx, s, path, v))
			}
		}
	}
	return max(next, 10*time.Millisecond)
}

// takeBack takes the word for a path back: another version is current.
func (u *Uses) takeBack(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.said, path)
}

// due reports when something may be tried next; 0 is now.
func (u *Uses) due(key string) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return max(time.Until(u.asked[key]), 0)
}

func (u *Uses) again(key string, failed bool, pause time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !failed {
		u.fails[key] = 0
	} else {
		pause = min(time.Second<<min(u.fails[key], 5), 30*time.Second)
		pause = pause/2 + rand.N(pause/2)
		u.fails[key]++
	}
	u.asked[key] = time.Now().Add(pause)
	return pause
}

func (u *Uses) confirm(ctx context.Context, s *Source, path string, v Version) time.Duration {
	if said, there := u.Confirmed(path); there && said == v {
		return idle
	}
	key := "confirm " + path + " " + v.ID
	if wait := u.due(key); wait > 0 {
		return wait
	}
	err := s.cache.Confirm(ctx, path, v.Number)
	var answered *client.Error
	switch {
	case ctx.Err() != nil:
		return idle
	case err == nil:
		u.log.Info("confirmed", "path", path, "version", v.Number)
	case errors.As(err, &answered) && answered.Code != "" && !answered.Retryable():
		// A last word is not argued with often: the version stays on the
		// ledger as one that may be held, which is safe.
		u.log.Warn("the version could not be confirmed; others count as holding theirs until cache.maxAge has passed", "path", path, "version", v.Number, "error", err)
		u.again(key, false, 5*time.Minute)
		return idle
	default:
		u.log.Warn("the version is not confirmed yet; this is tried again", "path", path, "version", v.Number, "error", err)
		return u.again(key, true, 0)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.said[path] = v
	delete(u.asked, key)
	delete(u.fails, key)
	return idle
}

// keep has the ledger know for another while that v is used.
func (u *Uses) keep(parent context.Context, s *Source, path string, v Version) time.Duration {
	key := "keep " + path + " " + v.ID
	if wait := u.due(key); wait > 0 {
		return wait
	}
	ctx, cancel := context.WithTimeout(parent, 10*time.Second)
	defer cancel()
	number := v.Number
	resp, err := s.client.Secrets().GetSecretValue(ctx, wire.GetSecretValueRequest{Path: path, Version: &number, Instance: s.Instance()})
	if err != nil && parent.Err() != nil {
		return idle
	} else if err != nil {
		u.log.Warn("an older version is still in use, and the cluster could not be told so", "path", path, "version", v.Number, "error", err)
		return u.again(key, true, 0)
	}
	if resp.Value != nil {
		resp.Value.Wipe()
	}
	if resp.VersionID != v.ID {
		u.log.Warn("a version is in use that the cluster has no more: the secret was purged and made anew", "path", path, "version", v.Number)
		return u.again(key, false, time.Hour)
	}
	return u.again(key, false, max(time.Duration(resp.Cache.MaxAge)/3, time.Second))
}
