package fsm_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

const cosignatureSnapshotGolden = "testdata/snapshots/v1/cosignatures.snapshot"

// cosigned is a cosignature over the chain with that number of a node.
func cosigned(node string, chain byte, witness string, size uint64) fsm.Cosignature {
	return fsm.Cosignature{
		Node: node, Chain: bytes.Repeat([]byte{chain}, 32), Witness: witness, Size: size,
		Note: fmt.Appendf(nil, "strongroom/c/%s\n%d\n\n— %s x\n", node, size, witness),
	}
}

func (w *world) cosign(c fsm.Cosignature) fsm.Result {
	w.t.Helper()
	return w.ok(fsm.AddCosignature{Meta: w.meta(), Cosignature: c})
}

// sizes are those that are kept of a chain, by witness.
func sizes(s *fsm.State, node string, chain byte) map[string]uint64 {
	out := map[string]uint64{}
	for c := range s.CosignaturesOf(node, [32]byte(bytes.Repeat([]byte{chain}, 32))) {
		out[c.Witness] = c.Size
	}
	return out
}

// cosignatureStory is a promise to logs like story: append to a new one for
// what is new.
func cosignatureStory() []fsm.Command {
	at := start
	add := func(c fsm.Cosignature) fsm.Command {
		at += 1000
		return fsm.AddCosignature{Meta: fsm.Meta{Time: at, Principal: "witness", RequestID: fmt.Sprintf("request-%d", at)}, Cosignature: c}
	}
	return []fsm.Command{
		genesis(start),
		add(cosigned("n1", 1, "w1.example.com", 5)),
		add(cosigned("n1", 1, "w2.example.com", 4)),
		add(cosigned("n1", 1, "w1.example.com", 9)),
		add(cosigned("n1", 1, "w1.example.com", 8)), // says nothing
		add(cosigned("n2", 2, "w1.example.com", 1)),
		add(cosigned("n2", 2, "w1.example.com", 0)), // refused
	}
}

func TestGoldenCosignatureSnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range cosignatureStory() {
		w.do(c)
	}
	old := golden(t, cosignatureSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	require.Equal(t, map[string]uint64{"w1.example.com": 9, "w2.example.com": 4}, sizes(m.State(), "n1", 1))
	want := cosigned("n2", 2, "w1.example.com", 1)
	want.At = start + 5000
	for c := range m.State().CosignaturesOf("n2", [32]byte(want.Chain)) {
		require.Equal(t, &want, c)
	}
}

func TestTheNewestCosignatureOfEachWitnessIsKept(t *testing.T) {
	w := newWorld(t)
	require.False(t, w.cosign(cosigned("n1", 1, "w1", 5)).Unchanged)
	require.True(t, w.cosign(cosigned("n1", 1, "w1", 5)).Unchanged, "the same again")
	require.True(t, w.cosign(cosigned("n1", 1, "w1", 4)).Unchanged, "an older one")
	require.False(t, w.cosign(cosigned("n1", 1, "w2", 4)).Unchanged, "another witness")
	require.False(t, w.cosign(cosigned("n1", 2, "w1", 1)).Unchanged, "another chain")
	require.False(t, w.cosign(cosigned("n1", 1, "w1", 6)).Unchanged)
	require.Equal(t, map[string]uint64{"w1": 6, "w2": 4}, sizes(w.m.State(), "n1", 1))
	require.Equal(t, map[string]uint64{"w1": 1}, sizes(w.m.State(), "n1", 2))
}

func TestCosignaturesThatAreNoneAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*fsm.Cosignature){
		"node":             func(c *fsm.Cosignature) { c.Node = "a/b" },
		"chain":            func(c *fsm.Cosignature) { c.Chain = c.Chain[:31] },
		"size":             func(c *fsm.Cosignature) { c.Size = 0 },
		"no name":          func(c *fsm.Cosignature) { c.Witness = "" },
		"a long name":      func(c *fsm.Cosignature) { c.Witness = strings.Repeat("w", 129) },
		"a name of two":    func(c *fsm.Cosignature) { c.Witness = "a b" },
		"a name of others": func(c *fsm.Cosignature) { c.Witness = "ü" },
		"no note":          func(c *fsm.Cosignature) { c.Note = nil },
		"a long note":      func(c *fsm.Cosignature) { c.Note = make([]byte, fsm.MaxCosignedNote+1) },
	} {
		c := cosigned("n1", 1, "w1", 5)
		change(&c)
		field := "note"
		if name == "node" {
			field = "node"
		}
		w.refused(fault.InvalidRequest, fsm.AddCosignature{Meta: w.meta(), Cosignature: c}, field)
	}
	require.Empty(t, sizes(w.m.State(), "n1", 1))
}

// Whatever is handed in: what was handed in first makes room.
func TestCosignaturesAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range 1024 {
		w.now++
		w.cosign(cosigned("n1", byte(i/16), fmt.Sprintf("w%d", i%16), 5))
	}
	require.Len(t, sizes(w.m.State(), "n1", 0), 16)
	w.now++
	w.cosign(cosigned("n2", 1, "w1", 5))
	require.Equal(t, map[string]uint64{"w1": 5}, sizes(w.m.State(), "n2", 1))
	first := sizes(w.m.State(), "n1", 0)
	require.Len(t, first, 15)
	require.NotContains(t, first, "w0")
	w.cosign(cosigned("n1", 0, "w1", 6)) // of one that is there, nobody makes room
	require.Len(t, sizes(w.m.State(), "n1", 0), 15)
}

// cosignatureLife draws cosignatures of few chains and witnesses.
func (p player) cosignatureLife() fsm.Command {
	return fsm.AddCosignature{Meta: p.w.meta(), Cosignature: cosigned(
		pick(p, "n1", "n2"), pick(p, byte(1), 2), pick(p, "w1", "w2", ""), pick(p, uint64(0), 1, 2, 3, 4, 5))}
}

func TestCosignaturesAreInOrder(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"w2", "w1", "w10"} {
		w.cosign(cosigned("n1", 1, name, 5))
	}
	var names []string
	for c := range w.m.State().CosignaturesOf("n1", [32]byte(bytes.Repeat([]byte{1}, 32))) {
		names = append(names, c.Witness)
	}
	require.True(t, slices.IsSorted(names), "%v", names)
}
