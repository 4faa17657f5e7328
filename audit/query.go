package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	// DecisionID finds the events of one decision, ApprovalID those of one
	// request for approval.
	DecisionID string
	// BreakGlassID finds what was done in a break-glass session.
	BreakGlassID string
	ApprovalID   string
	After        uint64 // sequences above this one
	Limit        int    // 1 to 1000, default 100
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
// Files and blocks of them are passed over by time and sequence, and blocks of
// sealed files by request id, principal and path; all other lines are read.
func (s *Store) Query(ctx context.Context, filter Filter) (events []Event, more bool, err error) {
	switch {
	case filter.Limit == 0:
		filter.Limit = defaultLimit
	case filter.Limit < 0 || filter.Limit > maxLimit:
		return nil, false, fault.Invalid("limit", "must be 1 to %d", maxLimit)
	}
	s.mu.Lock()
	segments := slices.Clone(s.segments)
	s.mu.Unlock()
	q := query{Filter: filter, store: s, needles: filter.needles(), fields: filter.marks()}
	for i := range segments {
		if !filter.overlaps(&segments[i]) {
			continue
		}
		done, err := q.read(ctx, &segments[i])
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
	add("breakGlassId", f.BreakGlassID)
	add("approvalId", f.ApprovalID)
	if len(f.Events) == 1 {
		add("event", f.Events[0])
	}
	return out
}

// marks are those of the needles that sealed files are marked with.
func (f *Filter) marks() (out []mark) {
	for _, field := range [][]byte{
		appendField(nil, "requestId", f.RequestID), appendField(nil, "principal", f.Principal), appendField(nil, "path", f.Path),
	} {
		if len(field) > 0 {
			out = append(out, markOf(field))
		}
	}
	return out
}

func (f *Filter) selects(e *Event) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return e.Sequence > f.After && f.inTime(e.Time) &&
		(len(f.Events) == 0 || slices.Contains(f.Events, e.Event)) &&
		is(f.Principal, e.Principal) && is(f.Path, e.Path) && is(f.RequestID, e.RequestID) &&
		is(f.Outcome, e.Outcome) && is(f.KeyID, e.KeyID) &&
		is(f.DecisionID, e.DecisionID) && is(f.BreakGlassID, e.BreakGlassID) && is(f.ApprovalID, e.ApprovalID)
}

func (f *Filter) inTime(at time.Time) bool {
	return (f.From.IsZero() || !at.Before(f.From)) && (f.To.IsZero() || at.Before(f.To))
}

type query struct {
	Filter
	store   *Store
	needles [][]byte
	fields  []mark // of the needles that blocks are marked with
	marks   marks  // of the file that is read; nil: it has none
	found   []Event
}

// read looks through the part of a file that was whole when the query began,
// passing over the blocks that can hold nothing. It answers done once one
// event more than Limit is found.
func (q *query) read(ctx context.Context, s *segment) (done bool, err error) {
	blocks := append(slices.Clone(s.blocks), s.last)
	q.marks = nil
	if s.sealed != nil && len(q.fields) > 0 {
		q.marks, err = s.sealed.marks(s.path)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // pruned: who opens it finds that out
			return false, fault.Wrap(fault.Internal, err, "a file of the audit trail cannot be read")
		}
	}
	for i := 0; i < len(blocks); {
		if !q.within(blocks, i, s.end()) {
			i++
			continue
		}
		from := i
		for i < len(blocks) && q.within(blocks, i, s.end()) {
			i++
		}
		end := s.end()
		if i < len(blocks) {
			end = blocks[i].sequence
		}
		if done, err = q.run(ctx, s, blocks[from], end); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// within reports whether the block with the number i can hold a selected
// event.
func (q *query) within(blocks []block, i int, end uint64) bool {
	if i+1 < len(blocks) {
		end = blocks[i+1].sequence
	}
	if q.marks != nil && !q.marks.may(i, q.fields) {
		return false
	}
	b := &blocks[i]
	return end-1 > q.After && (q.From.IsZero() || !b.max.Before(q.From)) && (q.To.IsZero() || b.min.Before(q.To))
}

// run looks through the events from a block to the one before end.
func (q *query) run(ctx context.Context, s *segment, from block, end uint64) (done bool, err error) {
	r, err := q.store.reader(s, from)
	if errors.Is(err, errPruned) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for sequence := from.sequence; sequence < end; sequence++ {
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
	if e.Sequence != sequence || e.Node != q.store.node {
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
	return zero + len(q.store.node) + len(strconv.AppendUint(digits[:0], sequence, 10))
}
