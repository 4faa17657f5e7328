package audit

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
)

// Retention says what may be let go of a chain. A zero field sets no bound;
// a zero Retention keeps everything.
type Retention struct {
	For   time.Duration // events of the last so long are kept
	Bytes int64         // of the oldest files, so many are let go that the rest has at most so many bytes on the disk
}

// Expired answers the newest sequence up to which r lets go of the chain at
// the given time, 0 if none. Whole sealed files are counted, and not the
// newest.
func (s *Store) Expired(r Retention, now time.Time) (sequence uint64, err error) {
	s.mu.Lock()
	segments := s.segments[:len(s.segments):len(s.segments)]
	s.mu.Unlock()
	sizes := make([]int64, len(segments))
	var total int64
	for i := range segments {
		st, err := os.Stat(segments[i].path)
		if errors.Is(err, os.ErrNotExist) {
			return 0, nil // sealed this moment: asked again soon
		}
		if err != nil {
			return 0, fault.Wrap(fault.Internal, err, "a file of the audit trail cannot be read")
		}
		sizes[i], total = st.Size(), total+st.Size()
	}
	for i := range segments[:max(0, len(segments)-1)] {
		old := r.For > 0 && segments[i].max.Before(now.Add(-r.For))
		much := r.Bytes > 0 && total > r.Bytes
		if segments[i].sealed == nil || !old && !much {
			break
		}
		sequence, total = segments[i].end()-1, total-sizes[i]
	}
	return sequence, nil
}

// PrunedTo answers up to which sequence events are not kept any more.
func (s *Store) PrunedTo() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pruned.Sequence
}

// Base answers what stands for the events that are not kept any more, for a
// copy that begins there; nil if all are kept.
func (s *Store) Base() ([]byte, error) {
	s.mu.Lock()
	gone := s.pruned
	s.mu.Unlock()
	if gone.Sequence == 0 {
		return nil, nil
	}
	return gone.encode(s.node)
}

// Prune removes the oldest events, up to the given sequence at most: whole
// sealed files, and only what a signed checkpoint is over. What is left
// verifies as before: the base that stands for the rest is written first, and
// any later checkpoint vouches for it. It answers up to where events were
// removed, by this call or earlier.
func (p *Prover) Prune(ctx context.Context, upTo uint64, now time.Time) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	base := p.tree.base
	last, ok := p.notes.newest()
	if !ok || p.broken != nil {
		return base.Sequence, nil
	}
	upTo = min(upTo, last.Size)
	p.chain.mu.Lock()
	n := 0
	for n < len(p.chain.segments)-1 && p.chain.segments[n].sealed != nil && p.chain.segments[n].end()-1 <= upTo {
		n++
	}
	gone, next := p.chain.segments[:n:n], p.chain.segments[n:]
	p.chain.mu.Unlock()
	if n == 0 {
		return base.Sequence, ctx.Err()
	}
	b := pruned{Chain: p.at.id, Sequence: gone[n-1].end() - 1, Hash: next[0].prev, Time: gone[0].max}
	for i := range gone {
		if gone[i].max.After(b.Time) {
			b.Time = gone[i].max
		}
	}
	for _, level := range levels(0, b.Sequence) {
		h, err := p.tree.hash(level, b.Edge.size()>>level, true)
		if err != nil {
			return base.Sequence, p.unproved(err)
		}
		b.Edge.add(level, h)
	}
	if err := b.write(p.chain.dir, p.chain.node); err != nil {
		return base.Sequence, fault.Wrap(fault.Internal, err, "the audit trail cannot be pruned")
	}
	p.chain.mu.Lock()
	p.chain.pruned, p.chain.segments = b, append([]segment(nil), p.chain.segments[n:]...)
	p.chain.mu.Unlock()
	var err error
	for i := range gone {
		err = errors.Join(err, os.Remove(gone[i].path))
	}
	err = errors.Join(err, p.tree.prune(b), p.notes.thin(b.Sequence, now))
	if err != nil {
		return b.Sequence, fault.Wrap(fault.Internal, err, "what was pruned of the audit trail could not be removed")
	}
	return b.Sequence, nil
}
