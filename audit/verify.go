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
	Events   uint64
	Head     Head // compare it with one that was kept elsewhere: a cut end leaves no other trace
}

// Verify reads the whole trail in dir, alone, and checks that it is what was
// written: dense sequence numbers from 1, every hash, every checksum, every
// byte in its one form. The error is a *BrokenError that names the first
// event which is wrong, or says why dir cannot be read. The report covers
// what came before it.
//
// Verify writes nothing and takes no lock. A trail that is being written can
// have half an event at its end; verify a copy, or stop the node.
func Verify(dir string) (Report, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return Report{}, err
	}
	if len(segments) == 0 {
		return Report{}, fmt.Errorf("audit: %w: there is no trail in %s", os.ErrNotExist, dir)
	}
	var at chain
	report := Report{Segments: len(segments)}
	for i := range segments {
		s := &segments[i]
		if i == 0 && s.first == 1 {
			at.node = nodeOf(s.path)
		}
		torn, err := s.walk(&at, func(line []byte) error {
			_, _, err := decodeLine(line)
			return err
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
	return report, nil
}

// nodeOf reads whose trail it is from the first line, "" if it is unreadable:
// the walk then says what is wrong.
func nodeOf(path string) string {
	f, err := os.Open(path)
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
