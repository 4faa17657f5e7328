package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

func leaf(i uint64) tlog.Hash {
	return tlog.RecordHash(binary.BigEndian.AppendUint64(nil, i))
}

func grown(t require.TestingT, tr *tree, to uint64) {
	var leaves []tlog.Hash
	for i := tr.size; i < to; i++ {
		leaves = append(leaves, leaf(i))
	}
	require.NoError(t, tr.add(leaves))
}

// plainRoot is RFC 6962, section 2.1, word by word.
func plainRoot(leaves []tlog.Hash) tlog.Hash {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	return tlog.NodeHash(plainRoot(leaves[:k]), plainRoot(leaves[k:]))
}

// Whatever steps a tree grows in, whenever it is opened anew and its oldest
// part is pruned, roots and proofs are those of the standard.
func TestTreeIsTheOneOfTheStandard(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		home := filepath.Join(dir, rapid.StringMatching(`[a-z]{12}`).Draw(rt, "dir"))
		defer os.RemoveAll(home)
		tr, err := openTree(home, pruned{})
		require.NoError(rt, err)
		var edge frontier
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			to := tr.size + rapid.Uint64Range(0, 700).Draw(rt, "more")
			for i := tr.size; i < to; i++ {
				edge.add(0, leaf(i))
			}
			grown(rt, tr, to)
			if rapid.Bool().Draw(rt, "again") {
				again, err := openTree(home, tr.base)
				require.NoError(rt, err)
				require.Equal(rt, tr.size, again.size)
				tr = again
			}
		}
		if tr.size == 0 {
			return
		}
		var leaves []tlog.Hash
		for i := range tr.size {
			leaves = append(leaves, leaf(i))
		}
		root, err := tr.root(tr.size)
		require.NoError(rt, err)
		require.Equal(rt, plainRoot(leaves), root)
		require.Equal(rt, root, edge.root())
		require.Equal(rt, tr.size, edge.size())
		kept := rapid.Uint64Range(0, tr.size-1).Draw(rt, "pruned")
		if kept > 0 {
			// The edge there, from the tree itself, and then without the rest.
			var b pruned
			for _, level := range levels(0, kept) {
				h, err := tr.hash(level, b.Edge.size()>>level, true)
				require.NoError(rt, err)
				b.Edge.add(level, h)
			}
			b.Sequence = kept
			require.NoError(rt, tr.prune(b))
			require.NoError(rt, tr.clear())
			require.Equal(rt, kept, tr.size)
			grown(rt, tr, uint64(len(leaves)))
		}
		i := rapid.Uint64Range(kept, tr.size-1).Draw(rt, "leaf")
		proof, err := tlog.ProveRecord(int64(tr.size), int64(i), tr)
		require.NoError(rt, err)
		require.NoError(rt, tlog.CheckRecord(proof, int64(tr.size), root, int64(i), leaf(i)))
		old := rapid.Uint64Range(max(kept, 1), tr.size).Draw(rt, "old")
		consistent, err := tlog.ProveTree(int64(tr.size), int64(old), tr)
		require.NoError(rt, err)
		require.NoError(rt, tlog.CheckTree(consistent, int64(tr.size), root, int64(old), plainRoot(leaves[:old])))
	})
}

// A tree over many files: the levels above are the same.
func TestTreeOverManyFiles(t *testing.T) {
	tr, err := openTree(t.TempDir(), pruned{})
	require.NoError(t, err)
	var edge frontier
	for i := range uint64(3*chunkLeaves + 77) {
		edge.add(0, leaf(i))
	}
	for tr.size < edge.size() {
		grown(t, tr, min(tr.size+50_000, edge.size()))
	}
	root, err := tr.root(tr.size)
	require.NoError(t, err)
	require.Equal(t, edge.root(), root)
	again, err := openTree(tr.dir, pruned{})
	require.NoError(t, err)
	require.Equal(t, tr.size, again.size)
	for _, i := range []int64{0, 1, chunkLeaves - 1, chunkLeaves, 2*chunkLeaves + 256, int64(tr.size) - 1} {
		proof, err := tlog.ProveRecord(int64(tr.size), i, again)
		require.NoError(t, err)
		require.NoError(t, tlog.CheckRecord(proof, int64(tr.size), root, i, leaf(uint64(i))))
	}
	// Half a hash at the end, and a node too many, are written over.
	path, _ := tr.path(0, tr.size)
	require.NoError(t, os.Truncate(path, 76*hashSize+5))
	nodes, _ := tr.path(8, 0)
	f, err := os.OpenFile(nodes, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write(make([]byte, hashSize))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	again, err = openTree(tr.dir, pruned{})
	require.NoError(t, err)
	require.Equal(t, tr.size-1, again.size)
	grown(t, again, tr.size+1000)
	for i := edge.size(); i < again.size; i++ {
		edge.add(0, leaf(i))
	}
	root, err = again.root(again.size)
	require.NoError(t, err)
	require.Equal(t, edge.root(), root)
	_, err = again.root(again.size + 1)
	require.Error(t, err)
}

func TestLevelsCoverWhatTheyShould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Range(0, 5000).Draw(t, "first")
		end := first + rapid.Uint64Range(0, 5000).Draw(t, "more")
		at := first
		for _, level := range levels(first, end) {
			require.Zero(t, at%(1<<level), "is whole")
			at += 1 << level
		}
		require.Equal(t, end, at)
		require.LessOrEqual(t, len(levels(first, end)), 28)
	})
}
