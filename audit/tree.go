package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// The Merkle tree over a chain, with the hashes of RFC 6962: leaf i is of the
// line with the sequence i+1, without its newline. Every eighth level is on
// the disk, the others are computed from it: 32 bytes for an event, and an
// eighth of a byte above.
//
//	leaves-<n>  leaf hashes n·65536 … , 20 digits; the last file grows
//	nodes-8     hashes of 256 leaves each, in order; nodes-16 of 65536; …
//
// All of it can be computed again from the events, so nothing here needs to
// survive more than it does. A hash of zeros is one that is not there.
type tree struct {
	dir  string
	size uint64
	base pruned // what stands for the events that are not kept any more
}

const (
	treeStep    = 8
	chunkLeaves = 1 << 16
	hashSize    = tlog.HashSize
)

func (t *tree) path(level int, n uint64) (file string, offset int64) {
	if level == 0 {
		return filepath.Join(t.dir, fmt.Sprintf("leaves-%0*d", segmentDigits, n/chunkLeaves)), int64(n%chunkLeaves) * hashSize
	}
	return filepath.Join(t.dir, fmt.Sprintf("nodes-%d", level)), int64(n) * hashSize
}

// openTree finds how far the tree in dir goes. Half a hash at the end is what
// a killed process leaves; it is written over.
func openTree(dir string, b pruned) (*tree, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	t := &tree{dir: dir, base: b, size: b.Sequence}
	for chunk := t.size / chunkLeaves; ; chunk++ {
		file, _ := t.path(0, chunk*chunkLeaves)
		st, err := os.Stat(file)
		if errors.Is(err, os.ErrNotExist) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if st.Size() > chunkLeaves*hashSize {
			return nil, fmt.Errorf("audit: %s is longer than any file of its kind; remove the folder, it is made anew", file)
		}
		t.size = max(t.size, chunk*chunkLeaves+uint64(st.Size()/hashSize))
		if st.Size() < chunkLeaves*hashSize {
			return t, nil
		}
	}
}

// clear forgets all hashes.
func (t *tree) clear() error {
	if err := os.RemoveAll(t.dir); err != nil {
		return err
	}
	t.size = t.base.Sequence
	return os.MkdirAll(t.dir, 0o700)
}

// add appends leaves, and the nodes above that they complete. Leaves go
// last: what is counted has its nodes. All of it is on the disk when add
// returns.
func (t *tree) add(leaves []tlog.Hash) error {
	if len(leaves) == 0 {
		return nil
	}
	for i, rest := t.size, leaves; len(rest) > 0; {
		n := min(uint64(len(rest)), chunkLeaves-i%chunkLeaves)
		if err := t.write(0, i, rest[:n]); err != nil {
			return err
		}
		i, rest = i+n, rest[n:]
	}
	size := t.size + uint64(len(leaves))
	for level := treeStep; size>>level > 0; level += treeStep {
		var nodes []tlog.Hash
		first := t.size >> level
		for n := first; n < size>>level; n++ {
			h, err := t.hash(level, n, false)
			if err != nil {
				return err
			}
			nodes = append(nodes, h)
		}
		if err := t.write(level, first, nodes); err != nil {
			return err
		}
	}
	t.size = size
	return nil
}

func (t *tree) write(level int, first uint64, hashes []tlog.Hash) (err error) {
	if len(hashes) == 0 {
		return nil
	}
	path, offset := t.path(level, first)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, 0, len(hashes)*hashSize)
	for _, h := range hashes {
		buf = append(buf, h[:]...)
	}
	if _, err := f.WriteAt(buf, offset); err != nil {
		return err
	}
	if err := f.Truncate(offset + int64(len(buf))); err != nil { // what a killed process left
		return err
	}
	return f.Sync()
}

// errNoHash says that a hash is not there, or not any more.
var errNoHash = errors.New("a hash of the tree over the trail is not kept any more")

// hash answers a node; stored: the file may be asked for it.
func (t *tree) hash(level int, n uint64, stored bool) (tlog.Hash, error) {
	if h, ok := t.base.node(level, n); ok {
		return h, nil
	}
	if level%treeStep == 0 && (stored || level == 0) {
		return t.read(level, n)
	}
	left, err := t.hash(level-1, 2*n, true)
	if err != nil {
		return left, err
	}
	right, err := t.hash(level-1, 2*n+1, true)
	if err != nil {
		return right, err
	}
	return tlog.NodeHash(left, right), nil
}

func (t *tree) read(level int, n uint64) (h tlog.Hash, err error) {
	path, offset := t.path(level, n)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return h, errNoHash
	}
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.ReadAt(h[:], offset); err != nil {
		if errors.Is(err, io.EOF) {
			return h, errNoHash
		}
		return h, err
	}
	if h == (tlog.Hash{}) {
		return h, errNoHash
	}
	return h, nil
}

// ReadHashes implements tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		var err error
		if out[i], err = t.hash(level, uint64(n), true); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// root answers the root over the first size events.
func (t *tree) root(size uint64) (tlog.Hash, error) {
	if size > t.size {
		return tlog.Hash{}, fmt.Errorf("audit: the tree has %d events, not %d", t.size, size)
	}
	return tlog.TreeHash(int64(size), t)
}

// prune removes the leaves of events that base stands for, as far as whole
// files go.
func (t *tree) prune(b pruned) error {
	t.base = b
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		var chunk uint64
		if _, err := fmt.Sscanf(entry.Name(), "leaves-%d", &chunk); err != nil {
			continue
		}
		if (chunk+1)*chunkLeaves <= b.Sequence {
			if err := os.Remove(filepath.Join(t.dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
