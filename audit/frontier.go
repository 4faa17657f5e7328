package audit

import "golang.org/x/mod/sumdb/tlog"

// frontier is the right edge of a tree that grows: the roots of the largest
// whole subtrees, from left to right. It is all that is needed to go on, and
// to find the root.
type frontier []subtree

type subtree struct {
	level int
	n     uint64 // its number on its level, from 0
	hash  tlog.Hash
}

// size is the number of leaves to the left of the edge.
func (f frontier) size() uint64 {
	if len(f) == 0 {
		return 0
	}
	last := f[len(f)-1]
	return (last.n + 1) << last.level
}

// add puts the next subtree, a leaf for instance, at the edge.
func (f *frontier) add(level int, hash tlog.Hash) {
	next := subtree{level, f.size() >> level, hash}
	for len(*f) > 0 {
		left := (*f)[len(*f)-1]
		if left.level != next.level || next.n%2 == 0 {
			break
		}
		next = subtree{left.level + 1, left.n / 2, tlog.NodeHash(left.hash, next.hash)}
		*f = (*f)[:len(*f)-1]
	}
	*f = append(*f, next)
}

// root is that of the tree with all leaves left of the edge; of no leaves,
// zeros.
func (f frontier) root() tlog.Hash {
	if len(f) == 0 {
		return tlog.Hash{}
	}
	h := f[len(f)-1].hash
	for i := len(f) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f[i].hash, h)
	}
	return h
}

// levels answers the levels of the subtrees that cover the leaves from first
// to the one before end, the largest that are whole, from left to right: what
// add must be given, one after the other, to get from first to end.
func levels(first, end uint64) []int {
	var out []int
	for first < end {
		level := 0
		for first&(1<<level) == 0 && first+2<<level <= end {
			level++
		}
		out = append(out, level)
		first += 1 << level
	}
	return out
}
