package audit

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/strongroom/strongroom/internal/checkpoint"
)

// VerifySigned is Verify for the folder of a trail, or of a copy, and besides
// holds it against every checkpoint in the folder: signature, root of the
// Merkle tree, and hash of the newest event. There must be one. What the
// newest is over nobody without the HSM's key can have written anew; what
// came after it, Report.Signed tells, is linked only.
func VerifySigned(dir string, t Trust, kept ...Head) (Report, error) {
	gone, _, err := readPruned(dir)
	if err != nil {
		return Report{}, err
	}
	s := &signedVerifier{file: filepath.Join(dir, notesName), tree: slices.Clone(gone.Edge), good: gone.Sequence}
	if err := s.open(dir, t, gone.Sequence); err != nil {
		return Report{}, err
	}
	report, err := verify(dir, s.see, kept)
	report.Checkpoints, report.Signed, report.Kept = s.done, s.good, s.kept
	switch {
	case err != nil && s.err == nil:
		return report, err
	case s.err != nil:
		return report, s.err
	case len(s.waiting) > 0:
		c := s.waiting[len(s.waiting)-1]
		return report, &BrokenError{s.file, 0, report.Events + 1, fmt.Sprintf("a checkpoint over %d events was signed, and the trail has %d: its end was cut", c.Size, report.Events)}
	}
	return report, nil
}

// signedVerifier grows a tree over the lines that it sees.
type signedVerifier struct {
	file    string
	tree    frontier
	waiting []checkpoint.Signed // in order of size
	done    int
	kept    int // of waiting, those that were kept elsewhere
	good    uint64
	err     error // the first
}

// open reads and verifies the checkpoints over more events than are gone.
func (s *signedVerifier) open(dir string, t Trust, gone uint64) error {
	n, err := readNotes(dir)
	if err != nil {
		return err
	}
	for i, k := range n.kept {
		text, err := n.text(k)
		if err != nil {
			return err
		}
		signed, err := checkpoint.Open(text, t.Keys)
		if err != nil {
			return fmt.Errorf("audit: %s, line %d: %w", s.file, i+1, err)
		}
		if k.Size > gone {
			s.waiting = append(s.waiting, signed)
		}
	}
	if len(n.kept) > 0 {
		s.keep(t.keptOver(n.kept[0].Origin()), gone)
	}
	if len(n.kept) == 0 {
		return fmt.Errorf("audit: there is no signed checkpoint in %s; leave out the key to verify the links alone", dir)
	}
	return nil
}

// keep puts checkpoints that were kept elsewhere among the others.
func (s *signedVerifier) keep(kept []checkpoint.Signed, gone uint64) {
	for _, k := range kept {
		if k.Size > gone {
			s.waiting = append(s.waiting, k)
			s.kept++
		}
	}
	slices.SortStableFunc(s.waiting, func(a, b checkpoint.Signed) int { return cmp.Compare(a.Size, b.Size) })
}

// see takes in a line, and holds the tree against the checkpoints over it.
func (s *signedVerifier) see(at chain, line []byte) {
	s.tree.add(0, tlog.RecordHash(line))
	for len(s.waiting) > 0 && s.waiting[0].Size == at.sequence && s.err == nil {
		c := s.waiting[0]
		if c.Node != at.node || c.Chain != fmt.Sprintf("%x", at.id) || c.Root != s.tree.root() || c.Head != at.hash {
			s.err = &BrokenError{s.file, s.done + 1, s.good + 1, fmt.Sprintf("the events from here to %d are not those that were signed", c.Size)}
			return
		}
		s.waiting, s.done, s.good = s.waiting[1:], s.done+1, c.Size
	}
}
