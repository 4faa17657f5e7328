package audit

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Segment files are audit-<sequence of the first event, 20 digits>.jsonl, so
// their names sort as their events do, and .jsonl.zst once they are sealed.
const (
	segmentPrefix = "audit-"
	segmentSuffix = ".jsonl"
	sealedSuffix  = ".zst"
	segmentDigits = 20
)

// segment is what is known of one file. first and path never change.
type segment struct {
	path     string
	first    uint64 // sequence of its first event, also while it has none
	count    uint64
	size     int64 // bytes of whole events; what lies beyond is no part of the trail
	min, max time.Time
	prev     [sha256.Size]byte // hash of the event before the first
	sealed   *seal             // nil: the file is plain lines
	// blocks are runs of events of about blockBytes that follow each other from
	// the start; last, the one that still grows, is not among them. So a copy
	// of a segment is as good as the original was when it was made.
	blocks []block
	last   block
}

// block is a run of events, where it begins, and the bounds of their times.
type block struct {
	sequence uint64
	offset   int64 // in the lines
	packed   int64 // in the file, of a sealed segment
	min, max time.Time
}

// blockBytes is how much is read in vain, at most, for an event in the middle.
const blockBytes = 256 << 10

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%s%0*d%s", segmentPrefix, segmentDigits, first, segmentSuffix))
}

// add takes an event of size bytes in.
func (s *segment) add(at time.Time, size int) {
	if s.count == 0 || at.Before(s.min) {
		s.min = at
	}
	if s.count == 0 || at.After(s.max) {
		s.max = at
	}
	if s.begins() {
		if s.count > 0 {
			s.blocks = append(s.blocks, s.last)
		}
		s.last = block{sequence: s.first + s.count, offset: s.size, min: at, max: at}
	}
	if at.Before(s.last.min) {
		s.last.min = at
	}
	if at.After(s.last.max) {
		s.last.max = at
	}
	s.count++
	s.size += int64(size)
}

// begins reports whether the next event begins a block.
func (s *segment) begins() bool { return s.count == 0 || s.size-s.last.offset >= blockBytes }

// end is the sequence after the last event.
func (s *segment) end() uint64 { return s.first + s.count }

// blockOf answers the block that holds an event of s.
func (s *segment) blockOf(sequence uint64) block {
	if sequence >= s.last.sequence {
		return s.last
	}
	i, found := slices.BinarySearchFunc(s.blocks, sequence, func(b block, sequence uint64) int { return cmp.Compare(b.sequence, sequence) })
	if !found {
		i--
	}
	return s.blocks[i]
}

// listSegments answers the segments of dir in order, not yet read. Where one
// is there both plain and sealed, which a killed process leaves, the plain one
// comes first.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	var out []segment
	for _, entry := range entries {
		name := entry.Name()
		plain, sealed := strings.CutSuffix(name, sealedSuffix)
		digits, ok := strings.CutPrefix(plain, segmentPrefix)
		if !ok || !strings.HasSuffix(plain, segmentSuffix) {
			continue
		}
		path := filepath.Join(dir, name)
		first, err := strconv.ParseUint(strings.TrimSuffix(digits, segmentSuffix), 10, 64)
		if err != nil || segmentPath(dir, first) != filepath.Join(dir, plain) {
			return nil, fmt.Errorf("audit: %s is not the name of a segment; move it away", path)
		}
		if !entry.Type().IsRegular() {
			return nil, fmt.Errorf("audit: %s is not a regular file; move it away", path)
		}
		s := segment{path: path, first: first}
		if sealed {
			var damage *sealError
			if s.sealed, err = readSeal(path); errors.As(err, &damage) {
				return nil, &BrokenError{path, 1, first, err.Error()}
			} else if err != nil {
				return nil, fmt.Errorf("audit: %w", err)
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b segment) int { return strings.Compare(a.path, b.path) })
	return out, nil
}

// walk reads a segment from its start, holds each line against c and steps
// on, and fills in what s knows of itself. visit, if any, sees each line that
// fits. What follows the last newline is torn: walk answers how many bytes,
// and leaves the judgement to the caller. A *BrokenError says what is wrong.
func (s *segment) walk(c *chain, visit func(line []byte) error) (torn int64, err error) {
	if err := s.follows(c); err != nil {
		return 0, err
	}
	f, err := s.open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s.prev = c.hash
	r := bufio.NewReaderSize(f, maxLine)
	var found marker
	for number := 1; ; number++ {
		broken := func(reason error) error {
			return &BrokenError{s.path, number, s.first + s.count, reason.Error()}
		}
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			if s.sealed != nil {
				if err := s.sealed.holds(s, c, len(line), found.finish()); err != nil {
					return 0, broken(err)
				}
			}
			return int64(len(line)), nil
		}
		var damage *sealError
		if errors.As(err, &damage) {
			return 0, broken(err)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, fmt.Errorf("audit: %w", err)
		}
		if err != nil {
			if torn, ok := tailIsTorn(r, len(line)); ok && s.sealed == nil {
				return torn, nil
			}
			return 0, broken(fmt.Errorf("it is longer than %d bytes", maxLine))
		}
		at, err := c.next(line[:len(line)-1])
		if err == nil && s.sealed != nil {
			found.line(line[:len(line)-1], s.begins())
		}
		if err == nil && visit != nil {
			err = visit(line[:len(line)-1])
		}
		if err != nil {
			return 0, broken(err)
		}
		s.add(at, len(line))
	}
}

// follows reports whether s begins where c ends.
func (s *segment) follows(c *chain) error {
	if s.first != c.sequence+1 {
		return &BrokenError{s.path, 1, c.sequence + 1, fmt.Sprintf("the next file begins with sequence %d: a file is missing, or was renamed", s.first)}
	}
	return nil
}

// open opens the lines of s from the first.
func (s *segment) open() (io.ReadCloser, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if s.sealed == nil {
		return f, nil
	}
	return s.sealed.unpack(f, 0, true)
}

// tailIsTorn reports whether no newline follows: bytes that never became a
// line, such as the zeros that a power cut can leave behind.
func tailIsTorn(r *bufio.Reader, read int) (int64, bool) {
	torn := int64(read)
	for {
		b, err := r.ReadSlice('\n')
		torn += int64(len(b))
		if err == io.EOF {
			return torn, true
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return 0, false
		}
	}
}
