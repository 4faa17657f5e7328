package audit

import (
	"bufio"
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
// their names sort as their events do.
const (
	segmentPrefix = "audit-"
	segmentSuffix = ".jsonl"
	segmentDigits = 20
)

// segment is what is known of one file. first and path never change.
type segment struct {
	path     string
	first    uint64 // sequence of its first event, also while it has none
	count    uint64
	size     int64 // bytes of whole events; what lies beyond is no part of the trail
	min, max time.Time
}

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
	s.count++
	s.size += int64(size)
}

// listSegments answers the segments of dir in order, not yet read.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	var out []segment
	for _, entry := range entries {
		name := entry.Name()
		digits, ok := strings.CutPrefix(name, segmentPrefix)
		if !ok || !strings.HasSuffix(name, segmentSuffix) {
			continue
		}
		first, err := strconv.ParseUint(strings.TrimSuffix(digits, segmentSuffix), 10, 64)
		if err != nil || segmentPath(dir, first) != filepath.Join(dir, name) {
			return nil, fmt.Errorf("audit: %s is not the name of a segment; move it away", filepath.Join(dir, name))
		}
		if !entry.Type().IsRegular() {
			return nil, fmt.Errorf("audit: %s is not a regular file; move it away", filepath.Join(dir, name))
		}
		out = append(out, segment{path: filepath.Join(dir, name), first: first})
	}
	slices.SortFunc(out, func(a, b segment) int { return strings.Compare(a.path, b.path) })
	return out, nil
}

// walk reads a segment from its start, holds each line against c and steps
// on, and fills in what s knows of itself. visit, if any, sees each line that
// fits. What follows the last newline is torn: walk answers how many bytes,
// and leaves the judgement to the caller. A *BrokenError says what is wrong.
func (s *segment) walk(c *chain, visit func(line []byte) error) (torn int64, err error) {
	if s.first != c.sequence+1 {
		return 0, &BrokenError{s.path, 1, c.sequence + 1, fmt.Sprintf("the next file begins with sequence %d: a file is missing, or was renamed", s.first)}
	}
	f, err := os.Open(s.path)
	if err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := bufio.NewReaderSize(f, maxLine)
	for number := 1; ; number++ {
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			return int64(len(line)), nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, fmt.Errorf("audit: %w", err)
		}
		broken := func(reason error) error {
			return &BrokenError{s.path, number, s.first + s.count, reason.Error()}
		}
		if err != nil {
			if torn, ok := tailIsTorn(r, len(line)); ok {
				return torn, nil
			}
			return 0, broken(fmt.Errorf("it is longer than %d bytes", maxLine))
		}
		at, err := c.next(line[:len(line)-1])
		if err == nil && visit != nil {
			err = visit(line[:len(line)-1])
		}
		if err != nil {
			return 0, broken(err)
		}
		s.add(at, len(line))
	}
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
