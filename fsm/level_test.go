package fsm_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// raised is a cluster of a build that knows level, and was raised to it.
func raised(t tester, level uint32) *world {
	w := &world{t: t, m: fsm.NewAt(level), now: start}
	w.ok(genesis(start))
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/kept", SecretID: "s1", KeyID: defaultKey})
	w.ok(fsm.RaiseLevel{Meta: w.meta(), Level: level, Node: "n1"})
	return w
}

func TestTheLevelIsRaisedAndNeverFalls(t *testing.T) {
	w := raised(t, 7)
	require.EqualValues(t, 7, w.m.State().Level())
	for _, lower := range []uint32{0, 1, 6, 7} {
		require.True(t, w.ok(fsm.RaiseLevel{Meta: w.meta(), Level: lower, Node: "n1"}).Unchanged)
		require.EqualValues(t, 7, w.m.State().Level())
	}
	w.refused(fault.InvalidRequest, fsm.RaiseLevel{Meta: w.meta(), Level: 8 - 1}, "node")
	require.EqualValues(t, fsm.FirstLevel, fsm.New().State().Level())
}

// A build stops at a level that it does not know, with nothing applied: what
// comes behind it in the log may be anything.
func TestABuildStopsAtALevelThatItDoesNotKnow(t *testing.T) {
	w := newWorld(t)
	before := w.m.State()
	_, err := w.m.Apply(before.Index()+1, encoded(t, fsm.RaiseLevel{Meta: w.meta(), Level: fsm.Level + 1, Node: "n1"}))
	var halt *fsm.HaltError
	require.ErrorAs(t, err, &halt)
	require.Contains(t, halt.Reason, "feature level")
	require.Same(t, before, w.m.State())

	// The control: a build that knows it goes on.
	next := fsm.NewAt(fsm.Level + 1)
	require.NoError(t, next.Restore(w.reader()))
	_, err = next.Apply(before.Index()+1, encoded(t, fsm.RaiseLevel{Meta: w.meta(), Level: fsm.Level + 1, Node: "n1"}))
	require.NoError(t, err)
	require.EqualValues(t, fsm.Level+1, next.State().Level())
}

// The level stands ahead of all records: what follows may be of kinds that an
// older build would call damage.
func TestASnapshotOfAHigherLevelIsRefusedBeforeItsRecords(t *testing.T) {
	high := snapshot(t, raised(t, fsm.Level+1).m)
	require.EqualValues(t, fsm.Level+1, fsm.SnapshotLevel(high[:fsm.SnapshotHead]))
	cut := high[:fsm.SnapshotHead] // nothing behind the header is looked at
	for _, b := range [][]byte{high, cut, append(bytes.Clone(cut), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)} {
		m := fsm.New()
		before := m.State()
		err := m.Restore(bytes.NewReader(b))
		var level *fsm.LevelError
		require.ErrorAs(t, err, &level)
		require.Equal(t, fsm.LevelError{Needs: fsm.Level + 1, Knows: fsm.Level}, *level)
		require.Same(t, before, m.State())
	}
	m := fsm.NewAt(fsm.Level + 1)
	require.NoError(t, m.Restore(bytes.NewReader(high)))
	require.Equal(t, high, snapshot(t, m), "a snapshot of a restored state is the same again")
	require.Error(t, fsm.NewAt(fsm.Level+1).Restore(bytes.NewReader(cut)))
}

func TestALevelThatDoesNotMatchItsRecordIsDamage(t *testing.T) {
	high := snapshot(t, raised(t, 7).m)
	head := fsm.SnapshotHead
	for _, level := range []uint32{0, 1, 6, 8} {
		b := bytes.Clone(high)
		binary.BigEndian.PutUint32(b[head-4:], level)
		require.Error(t, fsm.NewAt(9).Restore(bytes.NewReader(b)), "level %d", level)
	}
	require.EqualValues(t, fsm.FirstLevel, fsm.SnapshotLevel(nil))
	require.EqualValues(t, fsm.FirstLevel, fsm.SnapshotLevel([]byte("no snapshot, but long enough for the header of one, whatever it is")))
	require.EqualValues(t, fsm.FirstLevel, fsm.SnapshotLevel(snapshot(t, newWorld(t).m)))
	later := bytes.Clone(high)
	later[9] = 3 // a format of a build to come
	require.Greater(t, fsm.SnapshotLevel(later), uint32(1000))
}

// The door of a node looks at entries before Raft does.
func TestWhatRaisesTheLevelIsKnownFromItsBytes(t *testing.T) {
	w := newWorld(t)
	raise := encoded(t, fsm.RaiseLevel{Meta: w.meta(), Level: 5, Node: "n1"})
	require.EqualValues(t, 5, fsm.RaisesTo(raise))
	require.EqualValues(t, 0, fsm.RaisesTo(encoded(t, fsm.Sweep{Meta: w.meta(), Limit: 1})))
	require.EqualValues(t, 0, fsm.RaisesTo(nil))
	require.Greater(t, fsm.RaisesTo(append(bytes.Clone(raise), 1)), uint32(1000), "one that cannot be read raises it above everything")
	require.EqualValues(t, fsm.FirstLevel, fsm.CommandLevel(raise))
	require.Greater(t, fsm.CommandLevel(raw(65000, 1, nil)), uint32(1000))
	require.Greater(t, fsm.CommandLevel(nil), uint32(1000))
}

// releasedLevels are the kinds that releases read, with the level that
// introduced each. There is no release yet. With each one, the kinds that it
// adds are written down here: a released kind never changes its level, and
// what is added afterwards is of a level above the released ones.
var releasedLevels = map[fsm.Kind]uint32{}

func TestNewKindsAreOfALevelThatNoReleaseKnows(t *testing.T) {
	newest := uint32(0)
	for _, level := range releasedLevels {
		newest = max(newest, level)
	}
	for _, kind := range fsm.RegisteredKinds() {
		level := fsm.KindLevel(kind)
		require.LessOrEqual(t, level, fsm.Level, "kind %d is of a level that this build does not know", kind)
		if want, released := releasedLevels[kind]; released {
			require.Equal(t, want, level, "kind %d", kind)
			continue
		}
		require.Greater(t, level, newest, "kind %d is newer than the last release and must say so: entry.from in fsm/kinds.go", kind)
	}
}

// A field that was added needs its level where it is set, and only there.
func TestGrownFieldsNeedTheirLevel(t *testing.T) {
	require.EqualValues(t, 1, fsm.GrownLevel(fsm.Sweep{Limit: 1}))
	require.EqualValues(t, 3, fsm.GrownLevel(fsm.Sweep{Session: 1}))
	require.EqualValues(t, 4, fsm.GrownLevel(fsm.Sweep{Session: 1, Closed: []fsm.ClosedVersion{{}}}))
}
