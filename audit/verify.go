package audit

import (
	"bufio"
	"errors"
	"fmt"
	"os"
)

// Report is what Verify found.
type Report struct {
	Node     string
	Segments int
	Events   uint64 // up to which sequence it is right
	Pruned   uint64 // up to which sequence events are not kept any more
	// Checkpoints is how many signed ones the trail was held against, Signed up
	// to which event the newest of them goes, by VerifySigned alone.
	Checkpoints int
	Kept        int // of Trust.Kept, those that it was held against
	Signed      uint64
	Head        Head // compare it with one that was kept elsewhere: a cut end leaves no other trace
}

// Verify reads the whole trail in dir, alone, and checks that it is what was
// written: dense sequence numbers from 1, every hash, every checksum, every
// byte in its one form. The error is a *BrokenError that names the first
// event which is wrong, or says why dir cannot be read. The report covers
// what came before it.
//
// kept are heads of this trail that were kept elsewhere. The trail must go
// through each of them: so an end that was cut is found, and one that was
// written anew.
//
// Verify writes nothing and takes no lock. A trail that is being written can
// have half an event at its end; verify a copy, or stop the node.
func Verify(dir string, kept ...Head) (Report, error) { return verify(dir, nil, kept) }

// verify shows each good line to visit, with the place after it.
func verify(dir string, visit func(at chain, line []byte), kept []Head) (Report, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return Report{}, err
	}
	gone, node, err := readPruned(dir)
	if err != nil {
		return Report{}, err
	}
	if len(segments) == 0 {
		return Report{}, fmt.Errorf("audit: %w: there is no trail in %s", os.ErrNotExist, dir)
	}
	at := gone.start(node)
	report := Report{Node: node, Segments: len(segments), Events: at.sequence, Pruned: at.sequence}
	for i := range segments {
		s := &segments[i]
		if i == 0 && s.first == 1 {
			at.node = nodeOf(s)
		}
		if i+1 < len(segments) && segments[i+1].first == s.first {
			twice := at // plain and sealed: both must be right
			if _, err := s.walk(&twice, func(line []byte) error { _, _, err := decodeLine(line); return err }); err != nil {
				return report, err
			}
			continue
		}
		torn, err := s.walk(&at, func(line []byte) error {
			if _, _, err := decodeLine(line); err != nil {
				return err
			}
			if visit != nil {
				visit(at, line)
			}
			return at.passes(kept)
		})
		if err == nil && torn > 0 {
			err = &BrokenError{s.path, int(s.count) + 1, s.first + s.count, fmt.Sprintf("the last %d bytes are no whole event", torn)}
		}
		report.Node, report.Events = at.node, at.sequence
		report.Head = Head{Node: at.node, Sequence: at.sequence, Hash: at.hash}
		var broken *BrokenError
		if errors.As(err, &broken) && report.Events >= broken.Sequence {
			// walk steps over a line before visit has judged it.
			report.Events = broken.Sequence - 1
		}
		if err != nil {
			return report, err
		}
	}
	last := segments[len(segments)-1]
	for _, h := range kept {
		if h.Node != report.Node {
			return report, fmt.Errorf("audit: the head %d that was kept is of node %q, and the trail in %s of node %q", h.Sequence, h.Node, dir, report.Node)
		}
		if h.Sequence > report.Events {
			return report, &BrokenError{last.path, int(last.count) + 1, report.Events + 1, fmt.Sprintf("the trail ends before the event %d whose hash was kept: its end was cut", h.Sequence)}
		}
	}
	return report, nil
}

// passes holds c against heads that were kept.
func (c *chain) passes(kept []Head) error {
	for _, h := range kept {
		if h.Node == c.node && h.Sequence == c.sequence && h.Hash != c.hash {
			return fmt.Errorf("its hash is not the one that was kept: it, or an event before it, is not what was written")
		}
	}
	return nil
}

// nodeOf reads whose trail it is from the first line, "" if it is unreadable:
// the walk then says what is wrong.
func nodeOf(s *segment) string {
	f, err := s.open()
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it was only read
	line, err := bufio.NewReaderSize(f, maxLine).ReadSlice('\n')
	if err != nil {
		return ""
	}
	e, _, err := decodeLine(line[:len(line)-1])
	if err != nil {
		return ""
	}
	return e.Node
}
