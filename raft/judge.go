package raft

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// verdict is what a node finds when it holds its marks against those of the
// others.
type verdict struct {
	// equal is the highest index at which a majority of the voters is known to
	// have the state of this node.
	equal uint64
	// differ are the members that somewhere have another state than this node.
	differ []string
	// minority: a majority of the voters has, at one index, one and the same
	// state, and it is not that of this node.
	minority bool
	// where says between which entries, and in what, the states part.
	where string
}

// judge compares the marks of this node with what the others said of theirs.
// voters are the ids of all who vote, heard or not: a majority is of them.
// Two of three that agree are right even if the third is silent; one against
// one with the third silent is not decided.
func judge(self string, own marks, heard map[string]marks, voters []string) verdict {
	var v verdict
	for _, of := range []func(marks) []mark{
		func(m marks) []mark { return m.Chain },
		func(m marks) []mark { return m.Parts },
	} {
		others := map[string][]mark{}
		for id, m := range heard {
			others[id] = of(m)
		}
		v.compare(self, of(own), others, voters)
	}
	slices.Sort(v.differ)
	v.differ = slices.Compact(v.differ)
	return v
}

// compare goes through the marks of one kind by rising index, so that where is
// the first difference.
func (v *verdict) compare(self string, own []mark, others map[string][]mark, voters []string) {
	equal := uint64(0)
	for _, mine := range own {
		agree, parted := 0, map[string]mark{}
		if slices.Contains(voters, self) {
			agree++
		}
		for id, all := range others {
			i := slices.IndexFunc(all, func(m mark) bool { return m.Index == mine.Index })
			switch {
			case i < 0:
			case !mine.same(all[i]):
				parted[id] = all[i]
			case slices.Contains(voters, id):
				agree++
			}
		}
		if 2*agree > len(voters) {
			equal = mine.Index
		}
		v.differ = slices.AppendSeq(v.differ, maps.Keys(parted))
		if theirs, many := majorityOf(parted, voters); many && !v.minority {
			v.minority = true
			v.where = place(equal, mine, mine.differs(theirs))
		}
	}
	v.equal = max(v.equal, equal)
}

// majorityOf answers the mark that more than half of the voters have.
func majorityOf(parted map[string]mark, voters []string) (mark, bool) {
	for _, one := range parted {
		count := 0
		for id, m := range parted {
			if m.same(one) && slices.Contains(voters, id) {
				count++
			}
		}
		if 2*count > len(voters) {
			return one, true
		}
	}
	return mark{}, false
}

func place(equal uint64, at mark, parts []string) string {
	since := "which is the first that was compared"
	if equal > 0 {
		since = fmt.Sprintf("after they were equal at entry %d", equal)
	}
	if at.Parts == nil {
		return fmt.Sprintf("the commands below entry %d, or what was decided about them, differ, %s", at.Index, since)
	}
	return fmt.Sprintf("the states after entry %d differ in %s, %s", at.Index, strings.Join(parts, ", "), since)
}
