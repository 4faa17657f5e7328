package notice

import (
	"hash/fnv"
	"math"
	"math/bits"
)

// hash of a path. Two paths that share one are taken for the same: a first read
// that is not counted, once in some million.
func hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // never fails
		_, _ = h.Write([]byte{0})
	}
	// The last step of murmur3: the low bits of FNV depend on the last bytes
	// too much to pick a place by.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// known is the set of paths that a principal has read, as hashes: a table with
// open addressing that doubles until it holds MaxKnownPaths.
type known struct {
	table []uint32
	count int
}

// full says that nothing new is remembered any more.
func (k *known) full() bool { return k.count >= MaxKnownPaths }

// add reports whether the path was not known. A full set knows everything.
func (k *known) add(h uint64) bool {
	if k.full() {
		return false
	}
	if 4*(k.count+1) > 3*len(k.table) {
		k.grow()
	}
	mark := uint32(h>>32) | 1 // zero is a free place
	for at := place(mark, len(k.table)); ; at = (at + 1) & (len(k.table) - 1) {
		switch k.table[at] {
		case mark:
			return false
		case 0:
			k.table[at] = mark
			k.count++
			return true
		}
	}
}

func (k *known) grow() {
	old := k.table
	k.table = make([]uint32, max(32, 2*len(old)))
	for _, mark := range old {
		if mark == 0 {
			continue
		}
		// The place is taken from the mark, so a table can be made again.
		for at := place(mark, len(k.table)); ; at = (at + 1) & (len(k.table) - 1) {
			if k.table[at] == 0 {
				k.table[at] = mark
				break
			}
		}
	}
}

func place(mark uint32, size int) int { return int(mark>>1) & (size - 1) }

// sketch estimates how many different things were added, by how many of its
// bits are still clear (linear counting; Whang, Vander-Zanden and Taylor 1990).
// With 2048 bits it is within a few in a hundred up to some thousand.
type sketch [32]uint64

const sketchBits = 64 * len(sketch{})

// add reports whether the thing was surely not there.
func (s *sketch) add(h uint64) bool {
	word, bit := &s[h/64%uint64(len(s))], uint64(1)<<(h%64)
	isNew := *word&bit == 0
	*word |= bit
	return isNew
}

func (s *sketch) estimate() uint64 {
	clear := sketchBits
	for _, w := range s {
		clear -= bits.OnesCount64(w)
	}
	if clear == 0 {
		clear = 1
	}
	return uint64(math.Round(-float64(sketchBits) * math.Log(float64(clear)/float64(sketchBits))))
}
