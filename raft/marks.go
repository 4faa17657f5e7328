package raft

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
)

// Marks are what a node remembers of the states that it went through, so that
// the nodes can hold their replicas against each other (compare.go). Where
// they lie follows from the log alone: every node has the same.
const (
	// markEvery is the distance of two marks of the chained hash, in entries.
	markEvery = 256
	marksKept = 64
	// partsEvery is the distance of two marks of the content, by the time of
	// the state. One costs what writing a snapshot costs, in the background.
	partsEvery = time.Hour
	partsKept  = 4
)

// mark is one of them. A mark of the chained hash has the hash after the last
// command below Index. A mark of the content has one sum for each part of the
// state after the command at Index.
type mark struct {
	Index uint64            `json:"index"`
	Chain []byte            `json:"chain,omitempty"`
	Parts map[string][]byte `json:"parts,omitempty"`
}

func (m mark) same(other mark) bool { return len(m.differs(other)) == 0 }

// differs names the parts in which two marks of one index and kind differ.
func (m mark) differs(other mark) []string {
	var out []string
	if !slices.Equal(m.Chain, other.Chain) {
		out = append(out, "commands")
	}
	for name := range m.Parts {
		if !slices.Equal(m.Parts[name], other.Parts[name]) {
			out = append(out, name)
		}
	}
	for name := range other.Parts {
		if _, known := m.Parts[name]; !known {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// marks are all that a node remembers, by rising index.
type marks struct {
	Chain []mark `json:"chain"`
	Parts []mark `json:"parts"`
}

// newest answers the index of the newest of either kind.
func (m marks) newest() (chain, parts uint64) {
	if n := len(m.Chain); n > 0 {
		chain = m.Chain[n-1].Index
	}
	if n := len(m.Parts); n > 0 {
		parts = m.Parts[n-1].Index
	}
	return chain, parts
}

// marker makes the marks while commands are applied.
type marker struct {
	every uint64
	kick  chan struct{}

	mu      sync.Mutex
	all     marks
	pending *fsm.State // whose content is to be summed up next
}

func newMarker(every uint64) *marker {
	if every == 0 {
		every = markEvery
	}
	return &marker{every: every, kick: make(chan struct{}, 1)}
}

// applied is called after each command, with the state before and after it.
func (m *marker) applied(before, after *fsm.State) {
	index := after.Index()
	if boundary := index / m.every * m.every; boundary > before.Index() {
		hash := before.Hash()
		m.mu.Lock()
		m.all.Chain = appended(m.all.Chain, mark{Index: boundary, Chain: hash[:]}, marksKept)
		m.mu.Unlock()
	}
	hour := partsEvery.Milliseconds()
	if before.Time()/hour == after.Time()/hour {
		return
	}
	m.mu.Lock()
	m.pending = after
	m.mu.Unlock()
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// appended adds m, which may repeat or precede what there is after a state was
// restored from a snapshot.
func appended(all []mark, m mark, keep int) []mark {
	all = slices.DeleteFunc(all, func(other mark) bool { return other.Index >= m.Index })
	all = append(all, m)
	return all[max(0, len(all)-keep):]
}

// run sums up the content of states that are due, one after the other. What
// becomes due meanwhile takes the place of what waits: the replay of a long
// log would leave a queue of states in memory.
func (m *marker) run(ctx context.Context, failed func(error)) {
	for {
		select {
		case <-m.kick:
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		state := m.pending
		m.pending = nil
		m.mu.Unlock()
		if state == nil {
			continue
		}
		sums, err := state.Snapshot().Parts()
		if err != nil {
			failed(err)
			continue
		}
		m.mu.Lock()
		m.all.Parts = appended(m.all.Parts, mark{Index: state.Index(), Parts: plainSums(sums)}, partsKept)
		m.mu.Unlock()
	}
}

func plainSums(sums map[string][sha256.Size]byte) map[string][]byte {
	out := map[string][]byte{}
	for name, sum := range sums {
		out[name] = sum[:]
	}
	return out
}

// snapshot answers the marks so far. Nothing in them changes afterwards.
func (m *marker) snapshot() marks {
	m.mu.Lock()
	defer m.mu.Unlock()
	return marks{Chain: slices.Clone(m.all.Chain), Parts: slices.Clone(m.all.Parts)}
}

// merged adds to what a node has said before what it says now. A node that was
// started again has fewer marks; those of before are evidence still.
func (m marks) merged(now marks) marks {
	return marks{Chain: mergedMarks(m.Chain, now.Chain, marksKept), Parts: mergedMarks(m.Parts, now.Parts, partsKept)}
}

func mergedMarks(before, now []mark, keep int) []mark {
	byIndex := map[uint64]mark{}
	for _, m := range slices.Concat(before, now) {
		byIndex[m.Index] = m
	}
	out := make([]mark, 0, len(byIndex))
	for _, index := range slices.Sorted(maps.Keys(byIndex)) {
		out = append(out, byIndex[index])
	}
	return out[max(0, len(out)-keep):]
}
