package sim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The checker has to see what is wrong, and nothing where nothing is.
func TestTheCheckerTellsHistoriesApart(t *testing.T) {
	type did func(h *history)
	writes := func(h *history, value string, index uint64, ends bool) *op {
		o := &op{client: "c1", write: true, register: "r0", value: value}
		h.begin(o, []byte("put "+value))
		if index != 0 {
			h.applied("n1", index, 1, []byte("put "+value), [32]byte{byte(index)})
		}
		if ends {
			h.end(o, index, value)
		}
		return o
	}
	reads := func(h *history, value string, index uint64) {
		o := &op{client: "c2", register: "r0"}
		h.begin(o, nil)
		h.end(o, index, value)
	}
	for name, c := range map[string]struct {
		do   did
		want string
	}{
		"nothing wrong": {func(h *history) {
			reads(h, "", 2)
			writes(h, "a", 3, true)
			reads(h, "a", 3)
			writes(h, "lost on its way", 0, false)
			writes(h, "b", 5, false)
			reads(h, "b", 5)
			h.applied("n2", 3, 1, []byte("put a"), [32]byte{3})
		}, ""},
		"a read beside a write sees either": {func(h *history) {
			o := &op{client: "c2", register: "r0"}
			h.begin(o, nil)
			writes(h, "a", 3, true)
			h.end(o, 2, "")
		}, ""},
		"a read goes back behind a write": {func(h *history) {
			writes(h, "a", 3, true)
			reads(h, "", 2)
		}, "stale"},
		"a read goes back behind a read": {func(h *history) {
			writes(h, "a", 3, false)
			reads(h, "a", 3)
			reads(h, "", 2)
		}, "stale"},
		"a read of what is not there": {func(h *history) {
			writes(h, "a", 3, true)
			reads(h, "b", 3)
		}, `read r0="b" at index 3, where it is "a"`},
		"an acknowledged write is in no log": {func(h *history) {
			o := writes(h, "a", 0, false)
			h.end(o, 3, "a")
		}, "is lost"},
		"an acknowledged write is elsewhere": {func(h *history) {
			o := writes(h, "a", 4, false)
			h.end(o, 3, "a")
		}, "acknowledged at index 3 and is at 4"},
		"a later write is before an earlier one": {func(h *history) {
			writes(h, "a", 5, true)
			writes(h, "b", 4, true)
		}, "is at index 4"},
		"what surely did not happen did": {func(h *history) {
			h.not(writes(h, "a", 3, false))
		}, "surely not written"},
		"a write twice": {func(h *history) {
			writes(h, "a", 3, true)
			h.applied("n1", 4, 1, []byte("put a"), [32]byte{4})
		}, "in the log twice"},
		"two logs": {func(h *history) {
			writes(h, "a", 3, true)
			h.applied("n2", 3, 2, []byte("put b"), [32]byte{3})
		}, "n2 another"},
		"two states": {func(h *history) {
			writes(h, "a", 3, true)
			h.applied("n2", 3, 1, []byte("put a"), [32]byte{9})
		}, "different states"},
		"two leaders": {func(h *history) {
			h.leads("n1", 2)
			h.leads("n2", 2)
		}, "both led in term 2"},
	} {
		h := newHistory()
		c.do(h)
		got := strings.Join(h.check(), "; ")
		if c.want == "" {
			require.Empty(t, got, name)
		} else {
			require.Contains(t, got, c.want, name)
		}
	}
}

// The same seed draws the same schedule: what is printed of a failure finds it
// again.
func TestASeedDrawsOneSchedule(t *testing.T) {
	describe := func(s schedule) string {
		text := fmt.Sprintf("%d %d %v %+v", s.seed, s.options.Nodes, s.options.Base, s.options.Timing)
		for _, s := range s.steps {
			text += " " + s.after.String()
		}
		return text
	}
	seen := map[string]bool{}
	for seed := uint64(1); seed <= 200; seed++ {
		require.Equal(t, describe(draw(seed)), describe(draw(seed)))
		seen[describe(draw(seed))] = true
	}
	require.Len(t, seen, 200)
}
