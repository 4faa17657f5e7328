package fsm_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func (w *world) anchor(heads ...fsm.TrailHead) fsm.Result {
	w.t.Helper()
	return w.ok(fsm.AnchorHeads{Meta: w.meta(), Heads: heads})
}

func TestAnchorsMoveForwardOnly(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, 1, w.anchor(trailHead("n1", 1, 5, false)).Done)
	before := w.m.State().AnchorsAsWhole()
	require.True(t, w.anchor(trailHead("n1", 1, 5, false)).Unchanged, "the same again")
	require.True(t, w.anchor(trailHead("n1", 1, 4, true)).Unchanged, "an older one, whatever it says")
	require.Equal(t, before, w.m.State().AnchorsAsWhole())
	require.False(t, w.anchor(trailHead("n1", 1, 6, false)).Unchanged)
	require.NotEqual(t, before, w.m.State().AnchorsAsWhole())
}

// Who contradicts an anchor does not move it, and the first contradiction
// stays to be seen.
func TestAHeadThatContradictsAnAnchorIsKeptAsAConflict(t *testing.T) {
	w := newWorld(t)
	good, bad := trailHead("n1", 1, 5, false), trailHead("n1", 1, 5, true)
	w.anchor(good)
	require.Equal(t, 1, w.anchor(bad).Done)
	other := bad
	other.Hash = bytes.Repeat([]byte{99}, 32)
	require.True(t, w.anchor(other).Unchanged)
	a := w.m.State().Anchor("n1", [32]byte(good.Chain))
	require.Equal(t, good.Hash, a.Hash)
	require.Equal(t, bad.Hash, a.Conflict.Hash)
	w.anchor(trailHead("n1", 1, 6, false))
	require.NotNil(t, w.m.State().Anchor("n1", [32]byte(good.Chain)).Conflict)
}

func TestAnchorsThatAreNoneAreRefused(t *testing.T) {
	w := newWorld(t)
	for says, change := range map[string]func(*fsm.TrailHead){
		"node":     func(h *fsm.TrailHead) { h.Node = "a/b" },
		"a chain":  func(h *fsm.TrailHead) { h.Chain = h.Chain[:31] },
		"a hash":   func(h *fsm.TrailHead) { h.Hash = append(h.Hash, 0) },
		"sequence": func(h *fsm.TrailHead) { h.Sequence = 0 },
	} {
		h := trailHead("n1", 1, 5, false)
		change(&h)
		w.refused(fault.InvalidRequest, fsm.AnchorHeads{Meta: w.meta(), Heads: []fsm.TrailHead{trailHead("n1", 1, 5, false), h}}, says)
	}
	w.refused(fault.InvalidRequest, fsm.AnchorHeads{Meta: w.meta()}, "heads")
	w.refused(fault.InvalidRequest, fsm.AnchorHeads{Meta: w.meta(), Heads: make([]fsm.TrailHead, fsm.MaxAnchorHeads+1)}, "heads")
	require.Empty(t, slices.Collect(w.m.State().Anchors()), "all or none")
}

// However often a node loses its disk, and however many names there are: the
// chains that moved last are anchored.
func TestAnchorsAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range byte(fsm.MaxAnchoredChains + 3) {
		w.now += 1000
		w.anchor(trailHead("n1", i, 5, false))
	}
	var chains []byte
	for a := range w.m.State().AnchorsOf("n1") {
		chains = append(chains, a.Chain[0])
	}
	require.Len(t, chains, fsm.MaxAnchoredChains)
	require.Equal(t, byte(3), chains[0])
	for i := range 5 {
		heads := make([]fsm.TrailHead, fsm.MaxAnchorHeads)
		for j := range heads {
			heads[j] = trailHead("m"+string(rune('a'+i))+string(rune('a'+j/26))+string(rune('a'+j%26)), 1, 5, false)
		}
		w.now += 1000
		w.anchor(heads...)
	}
	require.Len(t, slices.Collect(w.m.State().Anchors()), 1024)
	require.Empty(t, slices.Collect(w.m.State().AnchorsOf("n1")), "the oldest are gone")
}

// anchorLife draws heads of a few chains.
func (p player) anchorLife() fsm.Command {
	heads := make([]fsm.TrailHead, pick(p, 0, 1, 2, 3))
	for i := range heads {
		heads[i] = trailHead(pick(p, "n1", "n2"), pick(p, byte(1), 2), pick(p, uint64(0), 1, 2, 3, 4, 5), pick(p, false, false, true))
	}
	return fsm.AnchorHeads{Meta: p.w.meta(), Heads: heads}
}
