package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/strongroom/strongroom/internal/checkpoint"

	"github.com/strongroom/strongroom/internal/durable"
)

// notes are the signed checkpoints over a chain, in order, on the disk: one
// line of JSON for each.
//
//	{"v":1,"note":"strongroom/prod/n1/…\n1234\n…"}
type notes struct {
	path string
	kept []keptNote
	size int64 // of the file
}

type noteLine struct {
	V    int    `json:"v"`
	Note string `json:"note"`
}

// keptNote is where a checkpoint stands in the file.
type keptNote struct {
	checkpoint.Checkpoint
	offset, length int64
}

const (
	notesName = "checkpoints.jsonl"
	// keepAllNotes is how long each checkpoint is kept; of older ones, the last
	// of each day.
	keepAllNotes = 30 * 24 * time.Hour
)

// openNotes reads the checkpoints in dir. Half a line at the end is what a
// killed process leaves, and is cut.
func openNotes(dir string) (*notes, error) {
	n := &notes{path: filepath.Join(dir, notesName)}
	f, err := os.OpenFile(n.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = n.read(f)
	if err == nil {
		err = f.Truncate(n.size)
	}
	return n, errors.Join(err, f.Close())
}

// readNotes reads the checkpoints in dir, and changes nothing.
func readNotes(dir string) (*notes, error) {
	n := &notes{path: filepath.Join(dir, notesName)}
	f, err := os.Open(n.path)
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return n, errors.Join(n.read(f), f.Close())
}

func (n *notes) read(f io.Reader) error {
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := decodeNote(line)
		if err == nil {
			err = n.took(text, int64(len(line)))
		}
		if err != nil {
			return fmt.Errorf("audit: %s, line %d: %w", n.path, len(n.kept)+1, err)
		}
	}
}

// took notes that a line with a checkpoint stands at the end of the file.
func (n *notes) took(text []byte, length int64) error {
	body, _, _ := bytes.Cut(text, []byte("\n\n"))
	c, err := checkpoint.Parse(string(body) + "\n")
	if err != nil {
		return err
	}
	if k := len(n.kept); k > 0 && c.Size < n.kept[k-1].Size {
		return fmt.Errorf("a checkpoint over %d events follows one over %d", c.Size, n.kept[k-1].Size)
	}
	n.kept = append(n.kept, keptNote{c, n.size, length})
	n.size += length
	return nil
}

func decodeNote(line []byte) ([]byte, error) {
	var one noteLine
	if err := json.Unmarshal(line, &one); err != nil || one.V != 1 {
		return nil, errors.New("is no checkpoint")
	}
	if again, err := encodeNote([]byte(one.Note)); err != nil || !bytes.Equal(again, line) {
		return nil, errors.New("is not in the form that the trail writes")
	}
	return []byte(one.Note), nil
}

func encodeNote(text []byte) ([]byte, error) {
	line, err := json.Marshal(noteLine{1, string(text)})
	return append(line, '\n'), err
}

// add appends a checkpoint, durably.
func (n *notes) add(text []byte) (err error) {
	line, err := encodeNote(text)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(n.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(line, n.size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return n.took(text, int64(len(line)))
}

// text reads a checkpoint with its signatures.
func (n *notes) text(k keptNote) (text []byte, err error) {
	f, err := os.Open(n.path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line := make([]byte, k.length)
	if _, err := f.ReadAt(line, k.offset); err != nil {
		return nil, err
	}
	return decodeNote(line)
}

// over answers the first checkpoint over at least size events.
func (n *notes) over(size uint64) (keptNote, bool) {
	i := sort.Search(len(n.kept), func(i int) bool { return n.kept[i].Size >= size })
	if i == len(n.kept) {
		return keptNote{}, false
	}
	return n.kept[i], true
}

// newest answers the last checkpoint.
func (n *notes) newest() (keptNote, bool) {
	if len(n.kept) == 0 {
		return keptNote{}, false
	}
	return n.kept[len(n.kept)-1], true
}

// thin forgets checkpoints over events that are pruned, and of those older
// than keepAllNotes all but the last of each day.
func (n *notes) thin(pruned uint64, now time.Time) error {
	var keep []keptNote
	for i, k := range n.kept {
		last := i == len(n.kept)-1
		day := func(k keptNote) time.Time { return k.Time.Truncate(24 * time.Hour) }
		if !last && (k.Size <= pruned || now.Sub(k.Time) > keepAllNotes && day(n.kept[i+1]).Equal(day(k))) {
			continue
		}
		keep = append(keep, k)
	}
	if len(keep) == len(n.kept) {
		return nil
	}
	var file []byte
	next := notes{path: n.path}
	for _, k := range keep {
		text, err := n.text(k)
		if err != nil {
			return err
		}
		line, err := encodeNote(text)
		if err != nil {
			return err
		}
		file = append(file, line...)
		if err := next.took(text, int64(len(line))); err != nil {
			return err
		}
	}
	if err := durable.Replace(n.path, file); err != nil {
		return err
	}
	n.kept, n.size = slices.Clip(next.kept), next.size
	return nil
}
