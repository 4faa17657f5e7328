package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
)

// Filter selects events. A zero field selects all; fields add up.
type Filter struct {
	From, To  time.Time // From ≤ time < To
	Events    []string  // any of them
	Principal string
	Path      string // exactly this one
	RequestID string
	Outcome   string
	KeyID     string
	// DecisionID finds the events of one decision.
	DecisionID string
	After      uint64 // sequences above this one
	Limit      int    // 1 to 1000, default 100
}

// Bounds of Filter.Limit.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Query answers the events that filter selects, in order of sequence, and
// whether there are more than Limit. It sees every event whose Append had
// returned when it was called, and may run beside any number of Appends.
//
// Whole files are passed over by time and sequence; all other lines are read.
func (t *Trail) Query(ctx context.Context, filter Filter) (events []Event, more bool, err error) {
	switch {
	case filter.Limit == 0:
		filter.Limit = defaultLimit
	case filter.Limit < 0 || filter.Limit > maxLimit:
		return nil, false, fault.Invalid("limit", "must be 1 to %d", maxLimit)
	}
	t.mu.Lock()
	segments := slices.Clone(t.segments)
	t.mu.Unlock()
	q := query{Filter: filter, node: t.cfg.Node, needles: filter.needles()}
	for i := range segments {
		s := &segments[i]
		if !filter.overlaps(s) {
			continue
		}
		done, err := q.read(ctx, s)
		if err != nil {
			return nil, false, err
		}
		if done {
			return q.found[:filter.Limit], true, nil
		}
	}
	return q.found, false, nil
}

// overlaps reports whether s can hold a selected event.
func (f *Filter) overlaps(s *segment) bool {
	return s.count > 0 && s.first+s.count-1 > f.After &&
		(f.From.IsZero() || !s.max.Before(f.From)) && (f.To.IsZero() || s.min.Before(f.To))
}

// needles are pieces of text that the line of every selected event holds:
// the encoding is canonical, so a line without one need not be decoded.
func (f *Filter) needles() [][]byte {
	var out [][]byte
	add := func(name, value string) {
		if value != "" {
			out = append(out, appendField(nil, name, value))
		}
	}
	add("requestId", f.RequestID)
	add("outcome", f.Outcome)
	add("principal", f.Principal)
	add("path", f.Path)
	add("keyId", f.KeyID)
	add("decisionId", f.DecisionID)
	if len(f.Events) == 1 {
		add("event", f.Events[0])
	}
	return out
}

func (f *Filter) selects(e *Event) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return e.Sequence > f.After && f.inTime(e.Time) &&
		(len(f.Events) == 0 || slices.Contains(f.Events, e.Event)) &&
		is(f.Principal, e.Principal) && is(f.Path, e.Path) && is(f.RequestID, e.RequestID) &&
		is(f.Outcome, e.Outcome) && is(f.KeyID, e.KeyID) &&
		is(f.DecisionID, e.DecisionID)
}

func (f *Filter) inTime(at time.Time) bool {
	return (f.From.IsZero() || !at.Before(f.From)) && (f.To.IsZero() || at.Before(f.To))
}

type query struct {
	Filter
	node    string
	needles [][]byte
	found   []Event
}

// read looks through the part of a file that was whole when the query began.
// It answers done once one event more than Limit is found.
func (q *query) read(ctx context.Context, s *segment) (done bool, err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return false, fault.Wrap(fault.Internal, err, "a file of the audit trail cannot be read")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := bufio.NewReaderSize(io.LimitReader(f, s.size), maxLine)
	for sequence := s.first; sequence < s.first+s.count; sequence++ {
		if sequence%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return false, fault.Wrap(fault.Internal, err, "a file of the audit trail cannot be read")
		}
		if sequence <= q.After {
			continue
		}
		if err := q.look(line[:len(line)-1], sequence); err != nil {
			reason := &BrokenError{s.path, int(sequence-s.first) + 1, sequence, err.Error()}
			return false, fault.Wrap(fault.Internal, reason, "the audit trail was changed")
		}
		if len(q.found) > q.Limit {
			return true, nil
		}
	}
	return false, nil
}

func (q *query) look(line []byte, sequence uint64) error {
	at, err := lineTime(line, q.prefixBytes(sequence))
	if err != nil {
		return err
	}
	if !q.inTime(at) {
		return nil
	}
	for _, needle := range q.needles {
		if !bytes.Contains(line, needle) {
			return nil
		}
	}
	e, _, err := decodeLine(line)
	if err != nil {
		return err
	}
	if e.Sequence != sequence || e.Node != q.node {
		return fmt.Errorf("the event there is %s/%d", e.Node, e.Sequence)
	}
	if q.selects(&e) {
		q.found = append(q.found, e)
	}
	return nil
}

// prefixBytes is where the time stands in the line of an event.
func (q *query) prefixBytes(sequence uint64) int {
	var digits [20]byte
	zero := len(`{"v":1,"node":"","sequence":,"prev":"","time":"`) + hashChars
	return zero + len(q.node) + len(strconv.AppendUint(digits[:0], sequence, 10))
}
