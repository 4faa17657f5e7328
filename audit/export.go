package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
)

// An export is a run of events of one chain in a file that verifies alone,
// with the public key of the cluster: the tree over the events, between the
// edges that the last line tells of, must have the root that was signed.
// Checkpoints that lie between stand where they were signed, so that what was
// changed is found to within one. A file may hold several exports, one after
// the other.
//
//	{"v":1,"export":"strongroom/prod/n1/<chain>","from":501,"to":1234}
//	{"v":1,"node":"n1","sequence":501,…}          the lines of the trail
//	{"v":1,"note":"…"}                            over the events before it
//	…
//	{"v":1,"end":1234,"before":[…],"after":[…],"note":"…"}
type exportHead struct {
	V      int    `json:"v"`
	Origin string `json:"export"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
}

type exportTail struct {
	V      int      `json:"v"`
	End    uint64   `json:"end"`
	Before []string `json:"before"` // roots of the largest whole subtrees left of the events
	After  []string `json:"after"`  // and right of them, up to the size of the note
	Note   string   `json:"note"`
}

// Range answers the sequences of a run of events that holds all whose time is
// from ≤ time < to; zero times are no bounds. It is empty, 0 and 0, where
// there are none. Others may lie between: times are of when requests began.
func (s *Store) Range(ctx context.Context, from, to time.Time) (first, last uint64, err error) {
	f := Filter{From: from, To: to}
	var within []placedBlock
	for _, seg := range s.snapshot() {
		if f.overlaps(&seg) {
			within = append(within, placedBlocks(seg, &f)...)
		}
	}
	for i := 0; i < len(within) && first == 0; i++ {
		if first, _, err = s.timed(ctx, &within[i], &f); err != nil {
			return 0, 0, err
		}
	}
	for i := len(within) - 1; i >= 0 && last == 0; i-- {
		if _, last, err = s.timed(ctx, &within[i], &f); err != nil {
			return 0, 0, err
		}
	}
	return first, last, nil
}

// placedBlock is a block, the segment it is in, and the sequence after it.
type placedBlock struct {
	segment segment
	block   block
	end     uint64
}

func placedBlocks(s segment, f *Filter) (out []placedBlock) {
	blocks := append(s.blocks[:len(s.blocks):len(s.blocks)], s.last)
	for i, b := range blocks {
		end := s.end()
		if i+1 < len(blocks) {
			end = blocks[i+1].sequence
		}
		if (f.From.IsZero() || !b.max.Before(f.From)) && (f.To.IsZero() || b.min.Before(f.To)) {
			out = append(out, placedBlock{s, b, end})
		}
	}
	return out
}

// timed answers the first and the last event of a block whose time f selects.
func (s *Store) timed(ctx context.Context, b *placedBlock, f *Filter) (first, last uint64, err error) {
	run, err := s.lines(ctx, &b.segment, b.block.sequence, b.end, 1<<62)
	if err != nil {
		return 0, 0, err
	}
	run.All(func(sequence uint64, line []byte) bool {
		e, _, bad := decodeLine(line)
		if bad != nil {
			err = fault.Wrap(fault.Internal, &BrokenError{b.segment.path, int(sequence-b.segment.first) + 1, sequence, bad.Error()}, "the audit trail was changed")
			return false
		}
		if f.inTime(e.Time) {
			if first == 0 {
				first = sequence
			}
			last = sequence
		}
		return true
	})
	return first, last, err
}

func (s *Store) snapshot() []segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]segment(nil), s.segments...)
}

// Export writes the events from first to last to w, as far as they are kept
// and a checkpoint is over them; 0 is no bound. It answers how many it wrote;
// none, and nothing at all, if there are none.
func (p *Prover) Export(ctx context.Context, w io.Writer, first, last uint64) (events uint64, err error) {
	plan, ok, err := p.plan(first, last)
	if err != nil || !ok {
		return 0, err
	}
	if err := writeLine(w, plan.head); err != nil {
		return 0, err
	}
	for at := plan.head.From; at <= plan.head.To; {
		end := plan.head.To
		if len(plan.notes) > 0 {
			end = min(end, plan.notes[0].Size)
		}
		for at <= end {
			n, err := p.exportRun(ctx, w, at, end)
			if err != nil {
				return at - plan.head.From, err
			}
			at += n
		}
		if len(plan.notes) > 0 && plan.notes[0].Size == end {
			if err := p.exportNote(w, plan.notes[0]); err != nil {
				return at - plan.head.From, err
			}
			plan.notes = plan.notes[1:]
		}
	}
	return plan.head.To - plan.head.From + 1, writeLine(w, plan.tail)
}

type exportPlan struct {
	head  exportHead
	notes []keptNote // between the events, in order
	tail  exportTail
}

// plan decides what an export holds, so that the chain may grow meanwhile.
func (p *Prover) plan(first, last uint64) (plan exportPlan, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	newest, ok := p.notes.newest()
	if !ok {
		return plan, false, nil
	}
	first = max(first, p.tree.base.Sequence+1)
	if last == 0 || last > newest.Size {
		last = newest.Size
	}
	if first > last {
		return plan, false, nil
	}
	over, _ := p.notes.over(last)
	plan.head = exportHead{1, over.Origin(), first, last}
	for _, k := range p.notes.kept {
		if k.Size >= first && k.Size < over.Size && k.Size <= last {
			plan.notes = append(plan.notes, k)
		}
	}
	text, err := p.notes.text(over)
	if err != nil {
		return plan, false, fault.Wrap(fault.Internal, err, "a checkpoint of the audit trail cannot be read")
	}
	plan.tail = exportTail{V: 1, End: last, Note: string(text)}
	if plan.tail.Before, err = p.edge(0, first-1); err != nil {
		return plan, false, p.unproved(err)
	}
	if plan.tail.After, err = p.edge(last, over.Size); err != nil {
		return plan, false, p.unproved(err)
	}
	return plan, true, nil
}

// edge answers the roots of the subtrees that cover the leaves from first to
// the one before end.
func (p *Prover) edge(first, end uint64) ([]string, error) {
	out := []string{}
	for _, level := range levels(first, end) {
		h, err := p.tree.hash(level, first>>level, true)
		if err != nil {
			return nil, err
		}
		out = append(out, base64.StdEncoding.EncodeToString(h[:]))
		first += 1 << level
	}
	return out, nil
}

// exportRun writes events from at, to end at most, and answers how many.
func (p *Prover) exportRun(ctx context.Context, w io.Writer, at, end uint64) (n uint64, err error) {
	run, err := p.chain.Lines(ctx, at-1, growRun)
	if err != nil {
		return 0, err
	}
	if run.Count == 0 {
		return 0, fault.New(fault.Internal, "the audit trail has no event %d", at)
	}
	rest := run.Data
	for at+n <= end && n < uint64(run.Count) {
		rest = rest[bytes.IndexByte(rest, '\n')+1:]
		n++
	}
	_, err = w.Write(run.Data[:len(run.Data)-len(rest)])
	return n, err
}

func (p *Prover) exportNote(w io.Writer, k keptNote) error {
	p.mu.Lock()
	text, err := p.notes.text(k)
	p.mu.Unlock()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a checkpoint of the audit trail cannot be read")
	}
	line, err := encodeNote(text)
	if err != nil {
		return err
	}
	_, err = w.Write(line)
	return err
}

func writeLine(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}
