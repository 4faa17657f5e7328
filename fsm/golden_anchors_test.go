package fsm_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

const anchorSnapshotGolden = "testdata/snapshots/v1/anchors.snapshot"

// trailHead is a head of the chain with that number of a node; bad is one that
// somebody wrote anew.
func trailHead(node string, chain byte, sequence uint64, bad bool) fsm.TrailHead {
	hash := bytes.Repeat([]byte{byte(sequence)}, 32)
	if bad {
		hash[0]++
	}
	return fsm.TrailHead{Node: node, Chain: bytes.Repeat([]byte{chain}, 32), Sequence: sequence, Hash: hash}
}

// anchorStory holds the heads of audit trails. It is a promise to logs like
// story: append to a new one for what is new.
func anchorStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "strongroom", RequestID: fmt.Sprintf("request-%d", at)}
	}
	return []fsm.Command{
		genesis(start),
		fsm.AnchorHeads{Meta: meta(), Heads: []fsm.TrailHead{trailHead("n1", 1, 5, false), trailHead("n2", 2, 9, false)}},
		fsm.AnchorHeads{Meta: meta(), Heads: []fsm.TrailHead{trailHead("n1", 1, 7, false), trailHead("n2", 2, 8, false), trailHead("n3", 3, 1, false)}},
		fsm.AnchorHeads{Meta: meta(), Heads: []fsm.TrailHead{trailHead("n1", 1, 7, true), trailHead("n2", 4, 1, false)}}, // a conflict, and another chain
		fsm.AnchorHeads{Meta: meta(), Heads: []fsm.TrailHead{trailHead("n3", 3, 0, false)}},                              // refused
	}
}

func TestGoldenAnchorSnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range anchorStory() {
		w.do(c)
	}
	old := golden(t, anchorSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	first := trailHead("n1", 1, 7, false)
	bad := trailHead("n1", 1, 7, true)
	require.Equal(t, &fsm.Anchor{
		Node: "n1", Chain: first.Chain, Sequence: 7, Hash: first.Hash, FirstAt: start + 1000, At: start + 2000,
		Conflict: &fsm.AnchorConflict{Sequence: 7, Hash: bad.Hash, At: start + 3000},
	}, m.State().Anchor("n1", [32]byte(first.Chain)))
	var of []uint64
	for a := range m.State().AnchorsOf("n2") {
		of = append(of, a.Sequence)
	}
	require.Equal(t, []uint64{9, 1}, of, "a lower event moves nothing back; each chain has its own")
}
