package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/fault"
)

// Prover keeps the Merkle tree over a chain, and the checkpoints that were
// signed over it. It covers what is on the disk alone, so that no power cut
// makes a liar of a checkpoint. It is safe for concurrent use.
type Prover struct {
	cluster string
	chain   *Store

	mu    sync.Mutex
	tree  *tree
	at    chain // where the tree ends
	notes *notes
	// broken is why nothing is signed any more: the chain is not the one that
	// was signed.
	broken error
}

const (
	treeName = "tree"
	growRun  = 1 << 20
)

// MismatchError says that a chain is not the one over which a checkpoint was
// signed earlier: events were removed or changed since.
type MismatchError struct {
	Size   uint64 // events of the checkpoint
	Reason string
}

// Error says what does not fit.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("audit: the trail is not the one over whose first %d events a checkpoint was signed: %s", e.Size, e.Reason)
}

// Prove opens the tree over a chain of cluster, and makes it anew where it
// does not fit the events. A chain that does not fit its own checkpoints is
// opened too: its Prover answers proofs of what is there, signs nothing, and
// says why by Broken.
func (s *Store) Prove(ctx context.Context, cluster string) (*Prover, error) {
	n, err := openNotes(s.dir)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	gone := s.pruned
	s.mu.Unlock()
	t, err := openTree(filepath.Join(s.dir, treeName), gone)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	p := &Prover{cluster: cluster, chain: s, tree: t, notes: n}
	if err := p.resume(ctx); err != nil {
		return nil, err
	}
	if p.broken != nil && p.tree.size > gone.Sequence {
		// The tree is made of the events: perhaps it alone is wrong.
		if err := p.rebuild(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// resume finds where the chain goes on after the tree, and holds the tree
// against the events and the newest checkpoint.
func (p *Prover) resume(ctx context.Context) error {
	p.broken = nil
	gone := p.tree.base
	p.at = gone.start(p.chain.node)
	if size := p.tree.size; size > gone.Sequence {
		if err := p.seek(ctx, size); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			return p.rebuild(ctx)
		}
	}
	if err := p.grow(ctx); err != nil {
		return err
	}
	last, ok := p.notes.newest()
	if !ok {
		return nil
	}
	p.broken = p.check(last.Checkpoint)
	return nil
}

// check holds the tree against a checkpoint.
func (p *Prover) check(c checkpoint.Checkpoint) error {
	if c.Node != p.chain.node || c.Chain != hex.EncodeToString(p.at.id[:]) {
		return &MismatchError{c.Size, "it is another chain, which began with another event"}
	}
	if c.Size > p.tree.size {
		return &MismatchError{c.Size, fmt.Sprintf("only %d are there", p.tree.size)}
	}
	if c.Size < p.tree.base.Sequence {
		return nil // only an edge is left of what it was over
	}
	root, err := p.tree.root(c.Size)
	if err != nil {
		return &MismatchError{c.Size, err.Error()}
	}
	if root != c.Root {
		return &MismatchError{c.Size, "one of them was changed"}
	}
	return nil
}

// seek sets at to the place after the event with the sequence size, and fails
// if the tree is not over that event.
func (p *Prover) seek(ctx context.Context, size uint64) error {
	run, err := p.chain.Lines(ctx, size-1, 1)
	if err != nil {
		return err
	}
	if run.Count == 0 {
		return errors.New("the tree is over more events than there are")
	}
	line := run.Data[:len(run.Data)-1]
	leaf, err := p.tree.hash(0, size-1, true)
	if err != nil || leaf != tlog.RecordHash(line) {
		return errors.New("the tree is over other events")
	}
	p.at = chain{node: p.chain.node, sequence: size, hash: sum(line), id: p.at.id}
	if p.tree.base.Sequence == 0 {
		first, err := p.chain.Lines(ctx, 0, 1)
		if err != nil || first.Count == 0 {
			return errors.New("the first event cannot be read")
		}
		p.at.id = sum(first.Data[:len(first.Data)-1])
	}
	return nil
}

func (p *Prover) rebuild(ctx context.Context) error {
	if err := p.tree.clear(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return p.resume(ctx)
}

// grow takes into the tree what is on the disk by now.
func (p *Prover) grow(ctx context.Context) error {
	for {
		run, err := p.chain.Lines(ctx, p.tree.size, growRun)
		if err != nil {
			return err
		}
		if run.Count == 0 {
			return nil
		}
		at := p.at
		leaves := make([]tlog.Hash, 0, run.Count)
		var bad error
		run.All(func(sequence uint64, line []byte) bool {
			if _, bad = at.next(line); bad != nil {
				bad = fault.Wrap(fault.Internal, &BrokenError{p.chain.dir, 0, sequence, bad.Error()}, "the audit trail was changed")
				return false
			}
			leaves = append(leaves, tlog.RecordHash(line))
			return true
		})
		if bad != nil {
			return bad
		}
		if err := p.tree.add(leaves); err != nil {
			return fault.Wrap(fault.Internal, err, "the tree over the audit trail cannot be written")
		}
		p.at = at
	}
}

// Broken answers why nothing is signed over this chain any more, a
// *MismatchError, or nil.
func (p *Prover) Broken() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// State answers how many events are in the tree, and how many the newest
// checkpoint is over and of when it is.
func (p *Prover) State() (events, signed uint64, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.notes.newest(); ok {
		signed, at = last.Size, last.Time
	}
	return p.tree.size, signed, at
}

// Statement answers what there is to sign: over all events that are on the
// disk, at the given time.
func (p *Prover) Statement(ctx context.Context, now time.Time) (checkpoint.Checkpoint, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return checkpoint.Checkpoint{}, p.broken
	}
	if err := p.grow(ctx); err != nil {
		return checkpoint.Checkpoint{}, err
	}
	root, err := p.tree.root(p.tree.size)
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	return checkpoint.Checkpoint{
		Cluster: p.cluster, Node: p.chain.node, Chain: hex.EncodeToString(p.at.id[:]), Size: p.tree.size, Root: root,
		Head: p.at.hash, Time: now.UTC().Truncate(time.Millisecond),
	}, nil
}

// Keep takes a signed note of a Statement in, durably. It refuses one that is
// not over this chain as it is. Whether the signature is good the caller
// knows.
func (p *Prover) Keep(text []byte, c checkpoint.Checkpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.check(c); err != nil {
		return err
	}
	if last, ok := p.notes.newest(); ok && c.Size <= last.Size {
		return nil // somebody else was faster
	}
	if err := p.notes.add(text); err != nil {
		return fault.Wrap(fault.Internal, err, "a checkpoint of the audit trail cannot be written")
	}
	return nil
}

// Holds answers nil if the chain goes through a checkpoint, a *MismatchError
// if it does not. fault.Conflict: it is not here so far yet.
func (p *Prover) Holds(ctx context.Context, c checkpoint.Checkpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.grow(ctx); err != nil {
		return err
	}
	if c.Size > p.tree.size {
		return fault.New(fault.Conflict, "of the trail of %s only %d events are here yet; ask again once it is copied", p.chain.node, p.tree.size)
	}
	return p.check(c)
}

// Checkpoint answers the first signed checkpoint over at least size events;
// 0: the newest. fault.NotFound: there is none.
func (p *Prover) Checkpoint(size uint64) (text []byte, c checkpoint.Checkpoint, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.notes.newest()
	if size > 0 {
		k, ok = p.notes.over(size)
	}
	if !ok {
		return nil, c, fault.New(fault.NotFound, "there is no checkpoint over %d events of node %s yet; one is signed each minute and each 1,000 events", max(size, 1), p.chain.node)
	}
	text, err = p.notes.text(k)
	if err != nil {
		return nil, c, fault.Wrap(fault.Internal, err, "a checkpoint of the audit trail cannot be read")
	}
	return text, k.Checkpoint, nil
}

// Inclusion proves that the event with a sequence is in the tree over size
// events, of which there is a checkpoint: RFC 6962, section 2.1.1. It answers
// the event's line, too.
func (p *Prover) Inclusion(ctx context.Context, sequence, size uint64) (line []byte, proof tlog.RecordProof, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	root, err := p.signed(size)
	if err != nil {
		return nil, nil, err
	}
	if sequence == 0 || sequence > size {
		return nil, nil, fault.Invalid("sequence", "must be 1 to the size of the checkpoint, %d", size)
	}
	run, err := p.chain.Lines(ctx, sequence-1, 1)
	if err != nil {
		return nil, nil, err
	}
	line = run.Data[:len(run.Data)-1]
	err = p.checked(ctx, func() error {
		if proof, err = tlog.ProveRecord(int64(size), int64(sequence-1), p.tree); err != nil {
			return err
		}
		return tlog.CheckRecord(proof, int64(size), root, int64(sequence-1), tlog.RecordHash(line))
	})
	return line, proof, err
}

// checked makes a proof, and once more over a tree that is made anew if it
// does not hold: the files of the tree can be damaged, and are no evidence.
func (p *Prover) checked(ctx context.Context, prove func() error) error {
	err := prove()
	if err != nil && !errors.Is(err, errNoHash) {
		if err := p.rebuild(ctx); err != nil {
			return err
		}
		err = prove()
	}
	if err != nil {
		return p.unproved(err)
	}
	return nil
}

// Consistency proves that the tree over size events, of which there is a
// checkpoint, continues the one over old: RFC 6962, section 2.1.2.
func (p *Prover) Consistency(ctx context.Context, old, size uint64) (proof tlog.TreeProof, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	root, err := p.signed(size)
	if err != nil {
		return nil, err
	}
	if old == 0 || old > size {
		return nil, fault.Invalid("fromSize", "must be 1 to the size of the checkpoint, %d", size)
	}
	err = p.checked(ctx, func() error {
		before, err := p.tree.root(old)
		if err != nil {
			return err
		}
		if proof, err = tlog.ProveTree(int64(size), int64(old), p.tree); err != nil {
			return err
		}
		return tlog.CheckTree(proof, int64(size), root, int64(old), before)
	})
	return proof, err
}

// signed answers the root of the checkpoint over exactly size events.
func (p *Prover) signed(size uint64) (tlog.Hash, error) {
	k, ok := p.notes.over(size)
	if !ok || k.Size != size {
		return tlog.Hash{}, fault.Invalid("size", "must be the size of a checkpoint; getCheckpoint answers them")
	}
	return k.Root, nil
}

func (p *Prover) unproved(err error) error {
	if errors.Is(err, errNoHash) {
		return fault.New(fault.NotFound, "the events up to %d are not kept any more, and proofs about them neither", p.tree.base.Sequence)
	}
	return fault.Wrap(fault.Internal, err, "the tree over the audit trail cannot be read")
}
