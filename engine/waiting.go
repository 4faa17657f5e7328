package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

const (
	// MaxWait is how long a request of an operation that waits may wait.
	MaxWait     = 60 * time.Second
	defaultWait = 30 * time.Second

	maxWatched = 100
	// maxChanges is after how many changes below a prefix an answer ends. All
	// that one command changed is in one answer, because a client goes on by
	// the index; no command changes more than reapLimit, and both together are
	// within what clients accept in one list.
	maxChanges = 500

	describe = iam.Action("secrets:describeSecret")
)

func waitOperation() *Operation {
	return operation(row[wire.WaitForChangeRequest, wire.WaitForChangeResponse]{
		service: "secrets", name: "waitForChange", event: "secrets.watch", action: describe, waits: true,
		summary: "Wait until one of some secrets changes, and learn which and to what version, never a value.",
		scope:   waitScope,
		run:     waitForChange, further: true,
	})
}

// waitScope is one path, or a list of which run requires each, or a prefix
// below which run shows what the caller may see.
func waitScope(_ *call, r *wire.WaitForChangeRequest) (scope, error) {
	if (len(r.Paths) == 0) == (r.Prefix == "") {
		return scope{}, fault.Invalid("paths", "or prefix must be given, and not both")
	}
	if r.Prefix != "" {
		return prefixScope(&r.Prefix)
	}
	if len(r.Paths) > maxWatched {
		return scope{}, fault.Invalid("paths", "has %d entries; at most %d are allowed", len(r.Paths), maxWatched)
	}
	for i, path := range r.Paths {
		if _, err := checkPath(fmt.Sprintf("paths[%d]", i), path); err != nil {
			return scope{}, err
		}
	}
	if len(r.Paths) == 1 {
		return scope{path: names.Path(r.Paths[0])}, nil
	}
	return scope{list: true}, nil
}

func waitTimeout(r *wire.WaitForChangeRequest) (time.Duration, error) {
	if r.Timeout == nil {
		return defaultWait, nil
	}
	if time.Duration(*r.Timeout) > MaxWait {
		return 0, fault.Invalid("timeout", "must be at most %s", MaxWait)
	}
	return time.Duration(*r.Timeout), nil
}

// NotYet is what Do answers to a patient caller when there is no news: wait,
// at most For, until something happens after Index, and ask again. It is no
// event; the request has not ended.
type NotYet struct {
	Index uint64
	For   time.Duration
}

// Error implements error.
func (n *NotYet) Error() string { return "there is no news yet" }

// notYet answers the NotYet that err is, nil for any other error.
func notYet(err error) *NotYet {
	var n *NotYet
	errors.As(err, &n)
	return n
}

// waitForChange is one look. The front end of the node that the client is
// connected to does the waiting, and each look asks again who the caller is
// and what it may, in the state that the answer is from.
func waitForChange(_ context.Context, c *call, r *wire.WaitForChangeRequest) (*wire.WaitForChangeResponse, error) {
	if _, err := waitTimeout(r); err != nil {
		return nil, err
	}
	for _, path := range r.Paths {
		if err := c.require(describe, iam.Resource{Path: names.Path(path)}); err != nil {
			c.event.Path = path
			return nil, err
		}
	}
	if err := c.authorised(); err != nil {
		return nil, err
	}
	out := c.changesFor(r)
	if len(out.Changes) == 0 && c.from.Patient {
		return nil, &NotYet{Index: out.Index, For: c.allowedFor(r)}
	}
	return out, nil
}

// changesFor answers what changed after the index of the request. One that
// this cluster has not reached is from a time that it has lost, to a restore:
// all is news.
func (c *call) changesFor(r *wire.WaitForChangeRequest) *wire.WaitForChangeResponse {
	after := r.AfterIndex
	if after > c.state.Index() {
		after = 0
	}
	out := &wire.WaitForChangeResponse{Changes: []wire.SecretChange{}, Index: c.state.Index()}
	if r.Prefix != "" {
		c.changesBelow(r.Prefix, after, out)
		return out
	}
	seen := map[string]bool{}
	for _, path := range r.Paths {
		s := c.state.Secret(names.Path(path))
		if s != nil && s.Changed > after && !seen[path] {
			seen[path] = true
			out.Changes = append(out.Changes, changeOf(s))
		}
	}
	slices.SortFunc(out.Changes, func(a, b wire.SecretChange) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Path, b.Path))
	})
	return out
}

func (c *call) changesBelow(prefix string, after uint64, out *wire.WaitForChangeResponse) {
	for s := range c.state.ChangesAfter(after) {
		if n := len(out.Changes); n >= maxChanges && s.Changed != out.Changes[n-1].Index {
			out.Index = out.Changes[n-1].Index
			return
		}
		if strings.HasPrefix(string(s.Path), prefix) && c.may(describe, iam.Resource{Path: s.Path}) {
			out.Changes = append(out.Changes, changeOf(s))
		}
	}
}

// changeOf tells of a secret that is not active that it has no version to
// read.
func changeOf(s *fsm.Secret) wire.SecretChange {
	out := wire.SecretChange{Path: string(s.Path), Index: s.Changed}
	if s.State == fsm.SecretActive {
		out.CurrentVersion = s.Current
	}
	return out
}

// allowedFor answers for how long what the caller waits for stays allowed, as
// far as can be told now. A token or a grant that expires ends the wait, as
// one that is revoked does, and so does a window that closes: the next look
// says why.
func (c *call) allowedFor(r *wire.WaitForChangeRequest) time.Duration {
	end := time.UnixMilli(c.who.expiresAt)
	sooner := func(at time.Time) {
		if !at.IsZero() && at.Before(end) {
			end = at
		}
	}
	sooner(instant(c.who.rightsUntil))
	for _, path := range r.Paths {
		sooner(c.rules.ClosesAt(c.question(describe, iam.Resource{Path: names.Path(path)})))
	}
	if r.Prefix != "" {
		sooner(c.rules.ClosesAt(c.question(describe, iam.Resource{Below: r.Prefix})))
	}
	return end.Sub(c.now)
}
