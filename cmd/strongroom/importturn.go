package main

import (
	"bytes"
	"slices"
	"time"

	"github.com/strongroom/strongroom/pkcs11"
)

// importTurn is how long a node leaves the import of a root key to each node
// of the same HSM that comes before it. An import takes well under a second;
// the rest is for nodes that hear of the root later than others.
const importTurn = 10 * time.Second

// importTurns remembers since when this node has known each root.
//
// The nodes of a shared HSM hear of a new root at the same moment, and each
// finds that the HSM does not have it. If each imported its copy there would
// be as many objects of one name, which no node uses until a person has
// removed all but one: PKCS#11 has no call that makes an object unless there
// is one, and with SoftHSM not even looking afterwards shows what others made
// meanwhile. So they take turns, in the order of their ids. All of them have
// the same list, from the replicated root: a copy for each node, and nodes of
// one HSM have one transport key.
type importTurns map[string]time.Time // by the root's MAC check

// mine reports whether node may import those of roots that its HSM lacks. A
// node with an HSM of its own is always the first.
func (t *importTurns) mine(node string, roots []pkcs11.Root, now time.Time) bool {
	if *t == nil {
		*t = importTurns{}
	}
	for _, r := range roots {
		name := string(r.MACCheck)
		if (*t)[name].IsZero() {
			(*t)[name] = now
		}
		if now.Sub((*t)[name]) < time.Duration(placeOf(node, r))*importTurn {
			return false
		}
	}
	return true
}

// placeOf answers how many nodes come before node among those whose copy is
// for the same transport key; 0 for a node that has no copy in the root.
func placeOf(node string, r pkcs11.Root) int {
	own := slices.IndexFunc(r.Copies, func(c pkcs11.RootCopy) bool { return c.NodeID == node })
	if own < 0 {
		return 0
	}
	before := map[string]bool{}
	for _, c := range r.Copies {
		if c.NodeID != "" && c.NodeID < node && bytes.Equal(c.Fingerprint, r.Copies[own].Fingerprint) {
			before[c.NodeID] = true
		}
	}
	return len(before)
}
