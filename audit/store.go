package audit

import (
	"context"
	"sync"
)

// Store is the files of one chain as those see them who read: of this node's
// own trail, or of the copy of another's. It is safe for concurrent use.
type Store struct {
	node string
	dir  string
	quit chan struct{} // closed when no more events will come

	mu       sync.Mutex
	pruned   pruned        // what stands for the events before the segments
	segments []segment     // all, in order
	settled  chain         // of what is on the disk
	moved    chan struct{} // closed, and made anew, when settled moves
	id       ChainID       // zeros: nobody has asked yet
}

func newStore(node, dir string) *Store {
	return &Store{node: node, dir: dir, quit: make(chan struct{}), settled: chain{node: node}, moved: make(chan struct{})}
}

// newest answers the newest segment as it is now. Only who writes may go by
// its size.
func (s *Store) newest() segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segments[len(s.segments)-1]
}

// Node answers whose chain it is.
func (s *Store) Node() string { return s.node }

// settle notes that all up to head is on the disk. It is called under mu.
func (s *Store) settle(head chain) {
	if head.sequence <= s.settled.sequence {
		return
	}
	s.settled = head
	close(s.moved)
	s.moved = make(chan struct{})
}

// Settled answers the newest event that is on the disk: what may be told to
// others, who would otherwise hold what a power cut took back.
func (s *Store) Settled() Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Head{Node: s.settled.node, Sequence: s.settled.sequence, Hash: s.settled.hash}
}

// Wait returns when Lines has events after the given one: nil; or when ctx
// ends or no more events will come.
func (s *Store) Wait(ctx context.Context, after uint64) error {
	for {
		s.mu.Lock()
		now, moved := s.settled.sequence, s.moved
		s.mu.Unlock()
		if now > after {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.quit:
			return unavailable(nil, "it is closed")
		}
	}
}
