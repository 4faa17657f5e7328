package sim

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"sync"
)

// history is what clients did and saw, and what nodes applied. The log gives
// every write its place: its index. So whether what was seen is linearizable
// is decided in the time of a sort, however long the history and however many
// outcomes are unknown.
type history struct {
	mu    sync.Mutex
	now   uint64
	ops   []*op
	tries map[string]*op // by the bytes of their command

	entries map[uint64]entry  // applied commands by index
	leaders map[uint64]string // by term
	wrong   []string
}

// op is one request of a client. Its times are places in one order of all
// beginnings and ends.
type op struct {
	client     string
	write      bool
	register   string
	value      string
	begin, end uint64 // end 0: nobody knows
	index      uint64 // of the state that a read saw, or of the write
	surely     bool   // a write of which the answer says that it did not happen
}

type entry struct {
	term    uint64
	command string
	hash    [32]byte
	node    string
}

func newHistory() *history {
	return &history{tries: map[string]*op{}, entries: map[uint64]entry{}, leaders: map[uint64]string{}}
}

func (h *history) violation(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accuse(format, args...)
}

// accuse is violation under the lock.
func (h *history) accuse(format string, args ...any) {
	if len(h.wrong) < 20 {
		h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
	}
}

func (h *history) begin(o *op, command []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	o.begin = h.now
	h.ops = append(h.ops, o)
	if o.write {
		h.tries[string(command)] = o
	}
}

// end notes an answer: of a read, with what it saw; of a write, with its index.
func (h *history) end(o *op, index uint64, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	o.end, o.index = h.now, index
	if !o.write {
		o.value = value
	}
}

func (h *history) not(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.surely = true
}

func (h *history) leads(id string, term uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other, ok := h.leaders[term]; ok && other != id {
		h.accuse("%s and %s both led in term %d", other, id, term)
	}
	h.leaders[term] = id
}

func (h *history) applied(id string, index, term uint64, command []byte, hash [32]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := h.entries[index]
	if !ok {
		h.entries[index] = entry{term, string(command), hash, id}
		return
	}
	switch {
	case e.term != term || e.command != string(command):
		h.accuse("at index %d, %s applied a command of term %d and %s another, of term %d", index, e.node, e.term, id, term)
	case e.hash != hash:
		h.accuse("at index %d, %s and %s applied the same and have different states", index, e.node, id)
	}
}

// check judges the whole history, when everything is over.
func (h *history) check() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := map[*op]uint64{}
	order := h.indices()
	for _, index := range order {
		o := h.tries[h.entries[index].command]
		if o == nil {
			continue // the cluster's own
		}
		if first, twice := at[o]; twice {
			h.accuse("the write %s is in the log twice, at %d and %d", o.value, first, index)
		}
		at[o] = index
		if o.surely {
			h.accuse("the write %s was answered as surely not written, and is in the log at %d", o.value, index)
		}
	}
	for _, o := range h.ops {
		switch index, there := at[o]; {
		case !o.write:
		case o.end != 0 && !there:
			h.accuse("the write %s to %s was acknowledged at index %d and is lost", o.value, o.register, o.index)
		case o.end != 0 && o.index != index:
			h.accuse("the write %s was acknowledged at index %d and is at %d", o.value, o.index, index)
		case there:
			o.index = index
		}
	}
	h.checkOrder(at)
	h.checkValues(order, at)
	return h.wrong
}

func (h *history) indices() []uint64 {
	order := make([]uint64, 0, len(h.entries))
	for index := range h.entries {
		order = append(order, index)
	}
	slices.Sort(order)
	return order
}

// checkOrder holds the order of indices against that of times: what began
// after something had ended has not a lower index, and a write a higher one.
func (h *history) checkOrder(at map[*op]uint64) {
	var ops []*op
	for _, o := range h.ops {
		if o.end != 0 || o.write && at[o] != 0 {
			ops = append(ops, o)
		}
	}
	slices.SortFunc(ops, func(a, b *op) int { return cmp.Compare(a.begin, b.begin) })
	var open byEnd
	var newest *op // of what has ended, the one with the highest index
	for _, o := range ops {
		for len(open) > 0 && open[0].end < o.begin {
			if done := heap.Pop(&open).(*op); newest == nil || done.index > newest.index {
				newest = done
			}
		}
		switch {
		case newest == nil:
		case o.write && o.index <= newest.index:
			h.accuse("the write %s began after %s had ended and is at index %d", o.value, newest.describe(), o.index)
		case !o.write && o.index < newest.index:
			h.accuse("stale: %s read %s=%q at index %d after %s had ended", o.client, o.register, o.value, o.index, newest.describe())
		}
		if o.end != 0 {
			heap.Push(&open, o)
		}
	}
}

func (o *op) describe() string {
	if o.write {
		return fmt.Sprintf("the write %s (index %d)", o.value, o.index)
	}
	return fmt.Sprintf("a read of %s at index %d", o.client, o.index)
}

// checkValues holds each value that was read against what the log says it was
// at that index.
func (h *history) checkValues(order []uint64, at map[*op]uint64) {
	reads := slices.DeleteFunc(slices.Clone(h.ops), func(o *op) bool { return o.write || o.end == 0 })
	slices.SortFunc(reads, func(a, b *op) int { return cmp.Compare(a.index, b.index) })
	values := map[string]string{}
	next := 0
	for _, r := range reads {
		for ; next < len(order) && order[next] <= r.index; next++ {
			if o := h.tries[h.entries[order[next]].command]; o != nil {
				values[o.register] = o.value
			}
		}
		if values[r.register] != r.value {
			h.accuse("%s read %s=%q at index %d, where it is %q", r.client, r.register, r.value, r.index, values[r.register])
		}
	}
}

// counts answers how much there was.
func (h *history) counts() (acked, unknown, reads int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.ops {
		switch {
		case !o.write && o.end != 0:
			reads++
		case o.write && o.end != 0:
			acked++
		case o.write && !o.surely:
			unknown++
		}
	}
	return acked, unknown, reads
}

// highest is the last index that any node applied.
func (h *history) highest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out uint64
	for index := range h.entries {
		out = max(out, index)
	}
	return out
}

// byEnd is a heap of operations, the one that ended first on top.
type byEnd []*op

func (b byEnd) Len() int           { return len(b) }
func (b byEnd) Less(i, j int) bool { return b[i].end < b[j].end }
func (b byEnd) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *byEnd) Push(x any)        { *b = append(*b, x.(*op)) }
func (b *byEnd) Pop() any {
	old := *b
	x := old[len(old)-1]
	*b = old[:len(old)-1]
	return x
}
