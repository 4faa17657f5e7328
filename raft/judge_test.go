package raft

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func chainOf(index uint64, words ...string) marks {
	var m marks
	for i, word := range words {
		if word != "" {
			m.Chain = append(m.Chain, mark{Index: index + uint64(i)*markEvery, Chain: []byte(word)})
		}
	}
	return m
}

func partsAt(index uint64, secrets, keys string) marks {
	return marks{Parts: []mark{{Index: index, Parts: map[string][]byte{"secrets": []byte(secrets), "keys": []byte(keys)}}}}
}

func TestTheMinorityIsToldAndWhere(t *testing.T) {
	three := []string{"n1", "n2", "n3"}
	for name, c := range map[string]struct {
		own    marks
		heard  map[string]marks
		voters []string
		want   verdict
	}{
		"all alike": {
			chainOf(256, "a", "b"), map[string]marks{"n2": chainOf(256, "a", "b"), "n3": chainOf(256, "a", "b")}, three,
			verdict{equal: 512},
		},
		"two alike are a majority": {
			chainOf(256, "a", "b"), map[string]marks{"n2": chainOf(256, "a", "b")}, three, verdict{equal: 512},
		},
		"nobody was heard": {chainOf(256, "a"), nil, three, verdict{}},
		"a cluster of one": {chainOf(256, "a"), nil, []string{"n1"}, verdict{equal: 256}},
		"one against two": {
			chainOf(256, "a", "x", "y"), map[string]marks{"n2": chainOf(256, "a", "b", "c"), "n3": chainOf(256, "a", "b", "c")}, three,
			verdict{equal: 256, differ: []string{"n2", "n3"}, minority: true, where: "the commands below entry 512, or what was decided about them, differ, after they were equal at entry 256"},
		},
		"one against two, of which one was heard about earlier entries only": {
			chainOf(256, "x", "y"), map[string]marks{"n2": chainOf(256, "a", "b"), "n3": chainOf(256, "a")}, three,
			verdict{differ: []string{"n2", "n3"}, minority: true, where: "the commands below entry 256, or what was decided about them, differ, which is the first that was compared"},
		},
		"one against one is not decided": {
			chainOf(256, "x"), map[string]marks{"n2": chainOf(256, "a")}, three, verdict{differ: []string{"n2"}},
		},
		"three ways is not decided": {
			chainOf(256, "x"), map[string]marks{"n2": chainOf(256, "a"), "n3": chainOf(256, "b")}, three, verdict{differ: []string{"n2", "n3"}},
		},
		"another one is the minority": {
			chainOf(256, "a"), map[string]marks{"n2": chainOf(256, "a"), "n3": chainOf(256, "x")}, three, verdict{equal: 256, differ: []string{"n3"}},
		},
		"who does not vote does not count": {
			chainOf(256, "x"), map[string]marks{"n2": chainOf(256, "a"), "r1": chainOf(256, "a"), "r2": chainOf(256, "a")}, three,
			verdict{differ: []string{"n2", "r1", "r2"}},
		},
		"a replica without a vote finds itself wrong": {
			chainOf(256, "x"), map[string]marks{"n2": chainOf(256, "a"), "n3": chainOf(256, "a")}, []string{"n2", "n3", "n4"},
			verdict{differ: []string{"n2", "n3"}, minority: true, where: "the commands below entry 256, or what was decided about them, differ, which is the first that was compared"},
		},
		"they have other indices": {
			chainOf(256, "x"), map[string]marks{"n2": chainOf(512, "a"), "n3": chainOf(512, "a")}, three, verdict{},
		},
		"the content alone differs": {
			partsAt(700, "wrong", "k"), map[string]marks{"n2": partsAt(700, "s", "k"), "n3": partsAt(700, "s", "k")}, three,
			verdict{differ: []string{"n2", "n3"}, minority: true, where: "the states after entry 700 differ in secrets, which is the first that was compared"},
		},
		"a part is missing": {
			marks{Parts: []mark{{Index: 700, Parts: map[string][]byte{"keys": []byte("k")}}}},
			map[string]marks{"n2": partsAt(700, "s", "k"), "n3": partsAt(700, "s", "k")}, three,
			verdict{differ: []string{"n2", "n3"}, minority: true, where: "the states after entry 700 differ in secrets, which is the first that was compared"},
		},
	} {
		require.Equal(t, c.want, judge("n1", c.own, c.heard, c.voters), name)
	}
}

// However the replicas of a cluster parted and whoever was heard: nobody whom a
// majority agrees with is stopped, and never two sides of one index.
func TestNoMajorityStopsItself(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(r, "members")
		all, voters := map[string]marks{}, []string{}
		for i := range n {
			id := fmt.Sprintf("n%d", i)
			all[id] = chainOf(256, rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b"}), 1, 4).Draw(r, id)...)
			if rapid.IntRange(0, 3).Draw(r, "votes") > 0 {
				voters = append(voters, id)
			}
		}
		for id, own := range all {
			heard := map[string]marks{}
			for other, m := range all {
				if other != id && rapid.Bool().Draw(r, "heard") {
					heard[other] = m
				}
			}
			v := judge(id, own, heard, voters)
			if !v.minority {
				continue
			}
			right := false
			for _, mine := range own.Chain {
				votes := map[string]int{}
				for _, voter := range voters {
					i := slices.IndexFunc(all[voter].Chain, func(m mark) bool { return m.Index == mine.Index })
					if i >= 0 {
						votes[string(all[voter].Chain[i].Chain)]++
					}
				}
				for word, count := range votes {
					right = right || word != string(mine.Chain) && 2*count > len(voters)
				}
			}
			if !right {
				r.Fatalf("%s stopped itself: %+v", id, v)
			}
		}
	})
}

func TestWhatWasHeardBeforeARestartStays(t *testing.T) {
	before, now := chainOf(256, "a", "b"), chainOf(512, "c", "d")
	require.Equal(t, marks{Chain: []mark{before.Chain[0], now.Chain[0], now.Chain[1]}, Parts: []mark{}}, before.merged(now))
	var long marks
	for i := range 3 * marksKept {
		long = long.merged(chainOf(uint64(i)*markEvery, "a"))
	}
	require.Len(t, long.Chain, marksKept)
	require.EqualValues(t, (3*marksKept-1)*markEvery, long.Chain[marksKept-1].Index)
}
