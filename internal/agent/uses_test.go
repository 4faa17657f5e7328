package agent

import (
	"io"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

// What may be confirmed is decided by what inUse answers: one version, known
// of everybody.
func TestAVersionIsTheOnlyOneWhenEveryHolderHasMoved(t *testing.T) {
	u := NewUses(slog.New(slog.NewTextHandler(io.Discard, nil)))
	one, two := Version{1, "id1"}, Version{2, "id2"}
	is := func(known bool, want ...Version) {
		t.Helper()
		got, k := u.inUse("/a")
		require.Equal(t, known, k)
		require.ElementsMatch(t, want, got)
	}
	u.Expect("x", []string{"/a"})
	u.Expect("y", []string{"/a", "/b"})
	is(false)
	u.Also("x", map[string]Version{"/a": one})
	is(false)
	u.Only("x", map[string]Version{"/a": one})
	is(false, one)
	u.Only("y", map[string]Version{"/a": one})
	is(true, one)
	u.Also("x", map[string]Version{"/a": two})
	is(true, one, two)
	u.Only("x", map[string]Version{"/a": two})
	is(true, one, two)
	u.Expect("y", []string{"/b"}) // another configuration: the file is still the old one
	is(true, one, two)
	u.Only("y", map[string]Version{"/a": two})
	is(true, two)
	u.Also("z", map[string]Version{"/a": one})
	is(true, one, two)
	u.Replace("z", map[string]Version{"/b": one})
	is(true, two)
	u.Drop("x")
	u.Drop("y")
	is(true)
}

// The same number of a secret that was purged and made anew is another version.
func TestNumbersAloneDoNotTellVersionsApart(t *testing.T) {
	u := NewUses(slog.New(slog.NewTextHandler(io.Discard, nil)))
	u.Only("x", map[string]Version{"/a": {1, "old"}})
	u.Also("x", map[string]Version{"/a": {1, "new"}})
	got, _ := u.inUse("/a")
	require.Len(t, got, 2)
}
