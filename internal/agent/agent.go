package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// States of a file.
const (
	stateWaiting = "waiting" // it was not written yet
	stateCurrent = "current"
	stateStale   = "stale"  // the last one stays: nobody says what is current
	stateDenied  = "denied" // the cluster has refused a value
	stateFailed  = "failed" // it could not be written, or its command failed
)

// managed is one file and what is known of it.
type managed struct {
	*source
	written  bool               // in this life
	sum      [sha256.Size]byte  // of what is in place
	versions map[string]Version // that it was made of
	pending  bool               // onChange has not succeeded for it
	fails    int
	next     time.Time // nothing is tried before
}

// FileStatus is what the agent says of a file. It has no part of a value.
type FileStatus struct {
	Destination string            `json:"destination"`
	State       string            `json:"state"`
	Since       time.Time         `json:"since"`
	Error       string            `json:"error,omitempty"`
	Versions    map[string]uint64 `json:"versions,omitempty"`
}

// memory is what outlives a reload of the configuration.
type memory struct {
	uses *Uses
	done map[string][sha256.Size]byte // destination → content for which onChange has succeeded

	mu     sync.Mutex
	status map[string]FileStatus
	away   bool // the cluster did not answer, and the cache serves
}

// Agent keeps files up to date. It is used by one goroutine.
type Agent struct {
	log    *slog.Logger
	source *Source
	mem    *memory
	files  []*managed
	stale  uint64
}

func newAgent(cfg Config, s *Source, mem *memory, log *slog.Logger) (*Agent, error) {
	a := &Agent{log: log, source: s, mem: mem}
	for i, f := range cfg.Files {
		src, err := newSource(f)
		if err != nil {
			return nil, fmt.Errorf("files[%d].%w", i, err)
		}
		a.files = append(a.files, &managed{source: src})
	}
	return a, nil
}

// takeOver makes a the one that counts. Files of an older configuration stay
// where they are; nobody answers for them any more.
func (a *Agent) takeOver() {
	mine := map[string]bool{}
	for _, f := range a.files {
		mine[f.file.Destination] = true
		a.mem.uses.Expect(f.file.Destination, f.paths)
		a.set(f, stateWaiting, nil)
	}
	a.mem.mu.Lock()
	defer a.mem.mu.Unlock()
	for destination := range a.mem.status {
		if !mine[destination] {
			delete(a.mem.status, destination)
			delete(a.mem.done, destination)
			a.mem.uses.Drop(destination)
			a.log.Info("the file is not in the configuration any more, and is left as it is", "file", destination)
		}
	}
}

// pass brings every file up to date that is due, and answers when to look
// again.
func (a *Agent) pass(ctx context.Context) time.Duration {
	wait := idle
	for _, f := range a.files {
		if left := time.Until(f.next); left > 0 {
			wait = min(wait, left)
			continue
		}
		if err := a.update(ctx, f); err != nil && ctx.Err() == nil {
			pause := min(time.Second<<min(f.fails, 5), 30*time.Second)
			pause = pause/2 + rand.N(pause/2)
			f.fails++
			f.next = time.Now().Add(pause)
			wait = min(wait, pause)
		} else {
			f.fails, f.next = 0, time.Time{}
		}
	}
	a.noteAway()
	return wait
}

// hurry has what failed tried again at once: something has changed.
func (a *Agent) hurry() {
	for _, f := range a.files {
		if !f.pending { // a command that fails is left its pause
			f.next = time.Time{}
		}
	}
}

// noteAway says when values come from memory only.
func (a *Agent) noteAway() {
	stats := a.source.cache.Stats()
	away := stats.Stale > a.stale
	a.stale = stats.Stale
	a.mem.mu.Lock()
	changed := a.mem.away != away
	a.mem.away = away
	a.mem.mu.Unlock()
	if changed && away {
		a.log.Warn("the cluster does not answer; the files stay as they are", "ceiling", stats.Soonest)
	} else if changed {
		a.log.Info("the cluster answers again")
	}
}

// update brings one file up to date.
func (a *Agent) update(ctx context.Context, f *managed) error {
	snap, err := a.source.Collect(ctx, f.paths)
	if err != nil {
		return a.without(ctx, f, err)
	}
	defer snap.Wipe()
	versions := snap.Versions()
	if f.written && maps.Equal(versions, f.versions) && !f.pending && there(f.file.Destination) {
		a.set(f, stateCurrent, nil)
		return nil
	}
	if err := a.put(f, snap, versions); err != nil {
		a.set(f, stateFailed, err)
		return err
	}
	if f.pending {
		if err := f.file.OnChange.react(ctx); err != nil {
			a.set(f, stateFailed, err)
			return err
		}
		f.pending = false
		a.mem.done[f.file.Destination] = f.sum
	}
	a.mem.uses.Replace(f.file.Destination, versions)
	a.set(f, stateCurrent, nil)
	return nil
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// put writes the file if its content is another one. The versions count as used
// from before it is there. What is the same as before needs no reaction, unless
// the last one failed, or nobody knows of it because we were started anew.
func (a *Agent) put(f *managed, snap Snapshot, versions map[string]Version) error {
	content, err := f.render(snap)
	if err != nil {
		return err
	}
	defer clear(content)
	sum := sha256.Sum256(content)
	a.mem.uses.Also(f.file.Destination, versions)
	if !f.written || sum != f.sum || !there(f.file.Destination) {
		if err := WriteFile(f.file.Destination, content, uint32(f.file.Mode), f.file.ids); err != nil {
			return fmt.Errorf("destination %w", err)
		}
		a.log.Info("written", "file", f.file.Destination, "versions", numbers(versions))
		if done, known := a.mem.done[f.file.Destination]; !known || done != sum {
			delete(a.mem.done, f.file.Destination)
			f.pending = !f.file.OnChange.none()
		}
	}
	f.written, f.sum, f.versions = true, sum, versions
	if f.file.Confirm == AfterWrite {
		a.mem.uses.Replace(f.file.Destination, versions)
	}
	return nil
}

// without is for a file of which a value could not be had.
func (a *Agent) without(ctx context.Context, f *managed, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if !IsRefused(err) {
		a.set(f, stateStale, err)
		return err
	}
	if f.file.OnDenied == DeniedRemove {
		if gone := removeFile(f.file.Destination, f.file.ids); gone != nil {
			err = errors.Join(err, fmt.Errorf("onDenied: remove: destination %w", gone))
		} else {
			f.written, f.versions = false, nil
			delete(a.mem.done, f.file.Destination)
			a.mem.uses.Drop(f.file.Destination)
		}
	}
	a.set(f, stateDenied, err)
	return err
}

func numbers(versions map[string]Version) map[string]uint64 {
	out := map[string]uint64{}
	for path, v := range versions {
		out[path] = v.Number
	}
	return out
}

// set notes a state, and logs it when it is another one.
func (a *Agent) set(f *managed, state string, err error) {
	a.mem.mu.Lock()
	defer a.mem.mu.Unlock()
	old := a.mem.status[f.file.Destination]
	now := FileStatus{Destination: f.file.Destination, State: state, Since: old.Since, Versions: numbers(f.versions)}
	if err != nil {
		now.Error = err.Error()
	}
	if old.State != state {
		now.Since = time.Now()
	}
	a.mem.status[f.file.Destination] = now
	switch {
	case old.State == state && old.Error == now.Error:
	case state == stateDenied:
		a.log.Error("a value is refused", "file", f.file.Destination, "onDenied", f.file.OnDenied, "error", err)
	case state == stateStale:
		a.log.Warn("the file stays as it is: nobody says which values are current", "file", f.file.Destination, "error", err)
	case state == stateFailed:
		a.log.Error("the file is not up to date; this is tried again", "file", f.file.Destination, "error", err)
	case old.State != state && state == stateCurrent:
		a.log.Info("up to date", "file", f.file.Destination)
	}
}
