package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/strongroom/strongroom/internal/fault"
)

// Lines are events of a chain that follow each other, as they are written.
type Lines struct {
	First uint64 // sequence of the first
	Count int
	Data  []byte // each line with its newline
	// File is the sequence that the file of these events begins with: a copy
	// begins a new file where the chain does.
	File uint64
}

// All calls do with each line, without its newline, and its sequence, until
// do answers false.
func (l Lines) All(do func(sequence uint64, line []byte) bool) {
	rest := l.Data
	for i := range l.Count {
		line, after, _ := bytes.Cut(rest, []byte{'\n'})
		if !do(l.First+uint64(i), line) {
			return
		}
		rest = after
	}
}

// Lines answers events that are on the disk, the first of them with the
// sequence after+1: as many as fit into maxBytes, and one at least if there
// is any. Whoever hands events on asks here and not Query: a power cut never
// takes back what Lines has answered, whatever the durability.
//
// fault.NotFound: the event after+1 is older than what is kept.
func (s *Store) Lines(ctx context.Context, after uint64, maxBytes int) (Lines, error) {
	end := s.Settled().Sequence
	if after >= end {
		return Lines{First: after + 1}, nil
	}
	from, ok := s.segmentOf(after + 1)
	if !ok {
		return Lines{}, errNotKept(after + 1)
	}
	return s.lines(ctx, &from, after+1, min(end+1, from.end()), maxBytes)
}

func errNotKept(sequence uint64) error {
	return fault.New(fault.NotFound, "the event %d of the trail is not kept any more", sequence)
}

// lines reads the events of a segment from first to the one before end.
func (s *Store) lines(ctx context.Context, from *segment, first, end uint64, maxBytes int) (out Lines, err error) {
	r, err := s.reader(from, from.blockOf(first))
	if errors.Is(err, errPruned) {
		return out, errNotKept(first)
	}
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	out.First, out.File = first, from.first
	for sequence := r.sequence; sequence < end; sequence++ {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return out, fault.Wrap(fault.Internal, err, "a file of the audit trail cannot be read")
		}
		if sequence < first {
			continue
		}
		if out.Count > 0 && len(out.Data)+len(line) > maxBytes {
			break
		}
		out.Data = append(out.Data, line...)
		out.Count++
	}
	return out, nil
}

// blockReader reads a segment from the start of a block to the end of what
// was whole.
type blockReader struct {
	*bufio.Reader
	lines    io.Closer
	sequence uint64 // of the first line
}

// Close closes the file.
func (r *blockReader) Close() error { return r.lines.Close() }

// openAt opens s at a block. A file that is not there is os.ErrNotExist: it
// was sealed or pruned since s was looked up.
func (s *segment) openAt(b block) (*blockReader, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "a file of the audit trail cannot be read")
	}
	if s.sealed != nil {
		lines, err := s.sealed.unpack(f, b.packed, false)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a file of the audit trail cannot be read")
		}
		return &blockReader{bufio.NewReaderSize(lines, maxLine), lines, b.sequence}, nil
	}
	if _, err := f.Seek(b.offset, io.SeekStart); err != nil {
		return nil, errors.Join(fault.Wrap(fault.Internal, err, "a file of the audit trail cannot be read"), f.Close())
	}
	return &blockReader{bufio.NewReaderSize(io.LimitReader(f, s.size-b.offset), maxLine), f, b.sequence}, nil
}

// reader opens a segment at a block, which is sealed or pruned meanwhile
// perhaps. errPruned: it is not kept any more.
func (s *Store) reader(seg *segment, b block) (*blockReader, error) {
	r, err := seg.openAt(b)
	if !errors.Is(err, os.ErrNotExist) {
		return r, err
	}
	now, ok := s.segmentOf(seg.first)
	switch {
	case !ok:
		return nil, errPruned
	case now.sealed == nil:
		return nil, err // somebody removed it
	}
	// Sealed: its blocks begin with the same events.
	return now.openAt(now.blockOf(b.sequence))
}

var errPruned = errors.New("this part of the trail is not kept any more")

// segmentOf answers the segment that holds an event, as it is now.
func (s *Store) segmentOf(sequence uint64) (segment, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.segments) - 1; i >= 0; i-- {
		if s.segments[i].first <= sequence {
			return s.segments[i], true
		}
	}
	return segment{}, false
}
