package fsm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// FuzzDecodeCommand: any bytes either are a command, which then survives the
// encoding, or a *HaltError.
func FuzzDecodeCommand(f *testing.F) {
	for _, c := range slices.Concat(story(), ruleStory()) {
		f.Add(encoded(f, c))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := fsm.Decode(b)
		if err != nil {
			var halt *fsm.HaltError
			require.ErrorAs(t, err, &halt)
			require.Equal(t, len(b), halt.Length)
			return
		}
		again, err := fsm.Encode(c)
		require.NoError(t, err)
		back, err := fsm.Decode(again)
		require.NoError(t, err)
		twice, err := fsm.Encode(back)
		require.NoError(t, err)
		require.Equal(t, again, twice)
	})
}

// FuzzApply plays a log cut out of arbitrary bytes on top of the story, on
// two replicas: they never panic, agree, hold the invariants, and what they
// come to can be snapshotted and restored.
func FuzzApply(f *testing.F) {
	var all []byte
	for _, c := range story()[1:] {
		all = appendEntry(all, encoded(f, c))
		f.Add(appendEntry(nil, encoded(f, c)))
	}
	f.Add(all)
	var ruled []byte
	for _, c := range ruleStory()[1:] {
		ruled = appendEntry(ruled, encoded(f, c))
	}
	f.Add(ruled)
	told := snapshot(f, tell(f).m)
	f.Fuzz(func(t *testing.T, log []byte) {
		a, b := fsm.New(), fsm.New()
		require.NoError(t, a.Restore(bytes.NewReader(told)))
		require.NoError(t, b.Restore(bytes.NewReader(told)))
		for index := a.State().Index() + 1; len(log) > 0; index++ {
			var entry []byte
			entry, log = cutEntry(log)
			before := a.State()
			first, err := a.Apply(index, entry)
			second, err2 := b.Apply(index, entry)
			require.Equal(t, err, err2)
			if err != nil {
				var halt *fsm.HaltError
				require.True(t, errors.As(err, &halt))
				require.Same(t, before, a.State())
				return
			}
			require.Equal(t, first, second)
			require.Equal(t, a.State().Hash(), b.State().Hash())
			checkInvariants(t, a.State())
		}
		require.NoError(t, b.Restore(bytes.NewReader(snapshot(t, a))))
		require.Equal(t, fsm.Dump(a.State()), fsm.Dump(b.State()))
	})
}

func appendEntry(log, entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(log, uint16(len(entry))), entry...)
}

func cutEntry(log []byte) (entry, rest []byte) {
	if len(log) < 2 {
		return log, nil
	}
	n := min(int(binary.BigEndian.Uint16(log)), len(log)-2)
	return log[2 : 2+n], log[2+n:]
}

// FuzzRestore takes the records of a snapshot from arbitrary bytes, with a
// right trailer or without: either an error and the machine as it was, or a
// state that works and can be snapshotted again.
func FuzzRestore(f *testing.F) {
	b := snapshot(f, tell(f).m)
	f.Add(b, false)
	f.Add(snapshot(f, tellRules(f).m), false)
	f.Add(b[:len(b)-trailerBytes], true)
	header, frames := takeApart(b)
	for i := range frames {
		cut := putTogether(header, frames[:i], uint64(i))
		f.Add(cut[:len(cut)-trailerBytes], true)
	}
	f.Fuzz(func(t *testing.T, b []byte, repair bool) {
		if repair && len(b) >= headerBytes {
			header, frames, ok := tryTakeApart(b)
			if !ok {
				return
			}
			b = putTogether(header, frames, uint64(len(frames)))
		}
		m := newWorld(t).m
		before := m.State()
		if err := m.Restore(bytes.NewReader(b)); err != nil {
			require.Same(t, before, m.State())
			return
		}
		again := fsm.New()
		require.NoError(t, again.Restore(bytes.NewReader(snapshot(t, m))))
		require.Equal(t, fsm.Dump(m.State()), fsm.Dump(again.State()))
		index := m.State().Index()
		for i, c := range story() {
			if next := index + uint64(i) + 1; next > index {
				_, err := m.Apply(next, encoded(t, c))
				require.NoError(t, err)
			}
		}
		if next := m.State().Index() + 1; next != 0 {
			_, err := m.Apply(next, encoded(t, fsm.Sweep{Meta: fsm.Meta{Time: start + 1000*day}, Limit: 10_000}))
			require.NoError(t, err)
		}
	})
}

// tryTakeApart is takeApart for bytes without a trailer that may be no
// records.
func tryTakeApart(b []byte) (header []byte, frames []frame, ok bool) {
	header, b = b[:headerBytes], b[headerBytes:]
	for len(b) > 0 {
		if len(b) < 6 || uint64(binary.BigEndian.Uint32(b[2:]))+6 > uint64(len(b)) {
			return nil, nil, false
		}
		n := 6 + binary.BigEndian.Uint32(b[2:])
		frames = append(frames, frame{binary.BigEndian.Uint16(b), b[6:n]})
		b = b[n:]
	}
	return header, frames, true
}
