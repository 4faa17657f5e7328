package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/strongroom/strongroom/internal/checkpoint"
)

// Trust is what a verifier brings along.
type Trust struct {
	Keys []checkpoint.Key // of the cluster
	// Kept are checkpoints that were kept elsewhere, by a witness for instance.
	// What is verified must go through those of its chain, as far as it covers
	// them.
	Kept []checkpoint.Signed
}

// keptOver answers the checkpoints of a chain that were kept, by size.
func (t Trust) keptOver(origin string) []checkpoint.Signed {
	var out []checkpoint.Signed
	for _, k := range t.Kept {
		if k.Origin() == origin {
			out = append(out, k)
		}
	}
	slices.SortStableFunc(out, func(a, b checkpoint.Signed) int { return cmp.Compare(a.Size, b.Size) })
	return out
}

// Exported is what VerifyExport found of one export.
type Exported struct {
	Origin      string // names cluster, node and chain
	From, To    uint64
	Checkpoints int
	Kept        int               // of Trust.Kept, those that it was held against
	Signed      checkpoint.Signed // the newest one
}

// VerifyExport reads a file of exports and checks, with nothing but t, that
// each event in it is one that the cluster signed: every byte of the events,
// their order and their number. Cut ends, and files of which something is
// missing, are errors. The error is a *BrokenError that names the first event
// which can be wrong: where an event was changed and all links after it made
// anew, that is the first after the last checkpoint which still fits.
func VerifyExport(name string, r io.Reader, t Trust) ([]Exported, error) {
	v := &exportVerifier{name: name, lines: bufio.NewReaderSize(r, maxLine), trust: t}
	var out []Exported
	for {
		one, err := v.export()
		if err == io.EOF {
			if len(out) == 0 {
				return nil, v.broken("the file holds no export")
			}
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, one)
	}
}

// exportVerifier is in the middle of a file.
type exportVerifier struct {
	name   string
	lines  *bufio.Reader
	number int // of the line that was read last
	trust  Trust

	out  Exported
	at   chain
	prev bool // at is known
	tree frontier
	// leaves are those of the events so far, 32 bytes for each.
	leaves []tlog.Hash
	early  []earlyNote // whose tree is checked once its left edge is known
	good   uint64      // events up to this one are vouched for
}

// earlyNote is a checkpoint among the events, with the leaves before it.
type earlyNote struct {
	signed checkpoint.Signed
	leaves int
}

func (v *exportVerifier) broken(format string, args ...any) error {
	return &BrokenError{v.name, v.number, v.at.sequence + 1, fmt.Sprintf(format, args...)}
}

// line answers the next line without its newline; io.EOF at the end.
func (v *exportVerifier) line() ([]byte, error) {
	v.number++
	line, err := v.lines.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err == io.EOF:
		return nil, v.broken("the file ends in the middle of a line: its end is missing")
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, v.broken("it is longer than %d bytes", maxLine)
	case err != nil:
		return nil, err
	}
	return line[:len(line)-1], nil
}

// strict reads a line into into, and refuses one that says the same in
// another way.
func strict(line []byte, into any) error {
	if err := json.Unmarshal(line, into); err != nil {
		return errors.New("it cannot be read")
	}
	again, err := json.Marshal(into)
	if err != nil || !bytes.Equal(again, line) {
		return errors.New("it is not in the form that an export has")
	}
	return nil
}

func (v *exportVerifier) export() (Exported, error) {
	line, err := v.line()
	if err != nil {
		return Exported{}, err
	}
	if err := v.begin(line); err != nil {
		return Exported{}, err
	}
	for {
		line, err := v.line()
		if err == io.EOF {
			return v.out, v.broken("the end of the export is missing")
		}
		if err != nil {
			return v.out, err
		}
		if done, err := v.take(line); done || err != nil {
			return v.out, err
		}
	}
}

// begin reads the first line.
func (v *exportVerifier) begin(line []byte) error {
	var head exportHead
	v.at, v.prev, v.tree, v.early, v.leaves = chain{}, false, nil, nil, nil
	err := strict(line, &head)
	parts := strings.Split(head.Origin, "/")
	if err != nil || head.V != 1 || head.From == 0 || head.From > head.To || len(parts) != 4 {
		return v.broken("this is not the first line of an export")
	}
	v.out = Exported{Origin: head.Origin, From: head.From, To: head.To}
	v.at = chain{node: parts[2], sequence: head.From - 1}
	v.good = head.From - 1
	return nil
}

// take reads any other line, and says whether it was the last.
func (v *exportVerifier) take(line []byte) (done bool, err error) {
	switch {
	case bytes.HasPrefix(line, []byte(`{"v":1,"node":`)):
		if v.at.sequence == v.out.To {
			return false, v.broken("there are more events than the export began with")
		}
		if err := v.event(line); err != nil {
			return false, err
		}
		v.leaves = append(v.leaves, tlog.RecordHash(line))
		return false, nil
	case bytes.HasPrefix(line, []byte(`{"v":1,"note":`)):
		return false, v.note(line)
	case bytes.HasPrefix(line, []byte(`{"v":1,"end":`)):
		return true, v.finish(line)
	}
	return false, v.broken("it is no event, no checkpoint and no end")
}

// event holds a line against the one before it.
func (v *exportVerifier) event(line []byte) error {
	e, prev, err := decodeLine(line)
	if err == nil && !v.prev {
		// What the first one follows is shown by the tree alone.
		if v.at.sequence == 0 && prev != (chain{}).hash {
			err = errors.New("it is not the first event of a chain")
		}
		v.at.hash, v.prev = prev, true
	}
	if err == nil {
		_, err = v.at.next(line)
	}
	if err != nil {
		return v.broken("%v", err)
	}
	for _, k := range v.trust.keptOver(v.out.Origin) {
		if k.Size == v.at.sequence {
			v.early = append(v.early, earlyNote{k, len(v.leaves) + 1})
			v.out.Kept++
		}
	}
	if v.at.sequence == 1 && !strings.HasSuffix(v.out.Origin, fmt.Sprintf("/%x", v.at.id)) {
		return &BrokenError{v.name, v.number, e.Sequence, "it is not the event that the chain is named after"}
	}
	return nil
}

// note reads a checkpoint over the events before it. Its tree is compared
// once the edge left of the events is known.
func (v *exportVerifier) note(line []byte) error {
	text, err := decodeNote(append(bytes.Clone(line), '\n'))
	if err != nil {
		return v.broken("the checkpoint %v", err)
	}
	signed, err := v.open(text)
	if err != nil {
		return v.broken("the checkpoint: %v", err)
	}
	if signed.Size != v.at.sequence || len(v.leaves) == 0 {
		return v.broken("the checkpoint is over %d events, and does not belong here", signed.Size)
	}
	if signed.Head != v.at.hash {
		return v.changed("the last event before it is not the one that was signed")
	}
	v.early = append(v.early, earlyNote{signed, len(v.leaves)})
	v.good = v.at.sequence // by its hash, as the next events are
	return nil
}

func (v *exportVerifier) open(text []byte) (checkpoint.Signed, error) {
	signed, err := checkpoint.Open(text, v.trust.Keys)
	if err != nil {
		return signed, err
	}
	if signed.Origin() != v.out.Origin {
		return signed, fmt.Errorf("it is of the chain %s", signed.Origin())
	}
	v.out.Checkpoints++
	return signed, nil
}

// changed names what a checkpoint disproves: something after the last one
// that fits.
func (v *exportVerifier) changed(reason string) error {
	return &BrokenError{v.name, v.number, v.good + 1, fmt.Sprintf("the events from here to %d are not those that were signed: %s", v.at.sequence, reason)}
}

// finish checks the tree over all events against every checkpoint.
func (v *exportVerifier) finish(line []byte) error {
	var tail exportTail
	if err := strict(line, &tail); err != nil || tail.End != v.out.To {
		return v.broken("this is not the end of the export")
	}
	if v.at.sequence != v.out.To {
		return v.broken("the export ends here, and should go on to the event %d", v.out.To)
	}
	signed, err := v.open([]byte(tail.Note))
	if err != nil {
		return v.broken("the checkpoint at the end: %v", err)
	}
	if signed.Size < v.out.To {
		return v.broken("the checkpoint at the end is over %d events only", signed.Size)
	}
	v.good = v.out.From - 1
	if err := v.join(tail.Before, 0, v.out.From-1); err != nil {
		return err
	}
	done := 0
	for _, n := range append(v.early, earlyNote{signed, len(v.leaves)}) {
		for _, leaf := range v.leaves[done:n.leaves] {
			v.tree.add(0, leaf)
		}
		done = n.leaves
		v.at.sequence = v.tree.size()
		if n.signed.Size > v.tree.size() {
			if err := v.join(tail.After, v.out.To, n.signed.Size); err != nil {
				return err
			}
		} else if done == len(v.leaves) && len(tail.After) > 0 {
			return v.broken("this is not the end of the export")
		}
		if v.tree.root() != n.signed.Root {
			return v.changed("the Merkle tree over them has another root")
		}
		if n.signed.Size == v.at.sequence {
			v.good = n.signed.Size
		}
	}
	if signed.Size == v.out.To && signed.Head != v.at.hash {
		return v.changed("the last one is another")
	}
	v.out.Signed = signed
	return nil
}

// join adds the subtrees of an edge.
func (v *exportVerifier) join(hashes []string, first, end uint64) error {
	needed := levels(first, end)
	if len(needed) != len(hashes) {
		return v.broken("the end of the export has an edge of another size")
	}
	for i, level := range needed {
		raw, err := base64.StdEncoding.Strict().DecodeString(hashes[i])
		if err != nil || len(raw) != hashSize || base64.StdEncoding.EncodeToString(raw) != hashes[i] {
			return v.broken("the end of the export has a hash that is none")
		}
		v.tree.add(level, tlog.Hash(raw))
	}
	return nil
}
