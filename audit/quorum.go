package audit

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// reasonNoMajority is why a trail that only this node holds takes nothing.
const reasonNoMajority = "no majority of the nodes takes the events"

// quorum counts which members hold this node's chain how far.
//
// What a member holds is what it said when it asked for more: that much is on
// its disk. Nothing is believed of a member before it has asked this process,
// so a restart counts anew, and nothing counts of one that does not vote.
type quorum struct {
	self string

	mu     sync.Mutex
	voters []string
	held   map[string]uint64
	safe   uint64        // a majority holds all up to here
	moved  chan struct{} // closed, and made anew, when safe moves
	// since is when safe was first seen to stand still below what this node
	// holds; zero: it does not.
	since time.Time
}

func newQuorum(self string) *quorum {
	return &quorum{self: self, held: map[string]uint64{}, moved: make(chan struct{})}
}

// count moves safe to what a majority holds, now that this node has settled.
// It is called under mu. What was safe stays so, whoever joins: those who took
// it have it.
func (q *quorum) count(settled uint64) {
	held := make([]uint64, 0, len(q.voters))
	for _, voter := range q.voters {
		if voter == q.self {
			held = append(held, settled)
		} else {
			held = append(held, q.held[voter])
		}
	}
	slices.Sort(held)
	var safe uint64
	if len(held) > 0 {
		// The majority that holds most, and of it the one that holds least.
		safe = min(held[(len(held)-1)/2], settled)
	}
	switch {
	case safe > q.safe:
		q.safe, q.since = safe, time.Time{}
		close(q.moved)
		q.moved = make(chan struct{})
		if safe < settled {
			q.since = time.Now()
		}
	case q.safe >= settled:
		q.since = time.Time{}
	case q.since.IsZero():
		q.since = time.Now()
	}
}

// stuck reports whether the others have taken nothing for a while of what
// there is to take.
func (q *quorum) stuck(settled uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count(settled)
	return !q.since.IsZero() && time.Since(q.since) > stallAfter
}

// look answers how far the chain is safe, and a channel that is closed when
// that moves.
func (q *quorum) look(settled uint64) (uint64, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count(settled)
	return q.safe, q.moved
}

// SetVoters says whose disks make a majority. Until it has been called none
// is: under Quorum nothing is answered. It is cheap to call again.
func (t *Trail) SetVoters(voters []string) {
	settled := t.Settled().Sequence
	q := t.quorum
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Equal(q.voters, voters) {
		q.voters = slices.Clone(voters)
		// One that leaves and comes back may have lost its disk.
		maps.DeleteFunc(q.held, func(member string, _ uint64) bool { return !slices.Contains(voters, member) })
	}
	q.count(settled)
}

// Holds notes that a member has all of this chain on its disk up to the event
// with that sequence. The caller has made sure that the member, the chain and
// the hash of that event are these.
func (t *Trail) Holds(member string, sequence uint64) {
	settled := t.Settled().Sequence
	if sequence > settled {
		return // nobody can hold what was not handed on
	}
	q := t.quorum
	q.mu.Lock()
	defer q.mu.Unlock()
	// The newest word counts, also when it is less: its disk was lost.
	q.held[member] = sequence
	q.count(settled)
}

// Safe answers up to which event a majority of the members holds this chain,
// as far as this process was told.
func (t *Trail) Safe() uint64 {
	safe, _ := t.quorum.look(t.Settled().Sequence)
	return safe
}

// untilSafe waits until a majority holds the event with that sequence: as long
// as ctx, and no longer than a disk may take.
func (t *Trail) untilSafe(ctx context.Context, sequence uint64) error {
	ctx, cancel := context.WithTimeout(ctx, stallAfter)
	defer cancel()
	for {
		safe, moved := t.quorum.look(t.Settled().Sequence)
		if safe >= sequence {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return unavailable(ctx.Err(), reasonNoMajority)
		case <-t.quit:
			return unavailable(nil, "it is closed")
		}
	}
}
