package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

func TestSnapshotRestoresEverything(t *testing.T) {
	w := tell(t)
	b := snapshot(t, w.m)
	m := fsm.New()
	require.NoError(t, m.Restore(iotest.OneByteReader(bytes.NewReader(b))))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()), "records and indexes")
	require.Equal(t, b, snapshot(t, m), "the same state gives the same bytes")
	require.Equal(t, w.m.State().Hash(), m.State().Hash())

	empty := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(snapshot(t, empty))))
	require.Equal(t, fsm.Dump(empty.State()), fsm.Dump(m.State()), "what was there before is gone")
}

func TestSnapshotIsOfOneIndex(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 1)
	s := w.m.Snapshot()
	var before, after bytes.Buffer
	_, err := s.WriteTo(&before)
	require.NoError(t, err)
	index := w.index
	w.secret("/b", 3)
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a"})
	_, err = s.WriteTo(&after)
	require.NoError(t, err)
	require.Equal(t, before.Bytes(), after.Bytes(), "commands that came after are not in it")
	require.Equal(t, index, s.Index())
}

// requireRejected: an error, and a machine that is as it was.
func requireRejected(t *testing.T, m *fsm.Machine, b []byte, why string, args ...any) {
	t.Helper()
	before := m.State()
	err := m.Restore(bytes.NewReader(b))
	require.Error(t, err, append([]any{why}, args...)...)
	require.NotContains(t, err.Error(), "sealed value")
	require.Same(t, before, m.State(), append([]any{why}, args...)...)
}

func TestRestoreRejectsEveryCut(t *testing.T) {
	w := tell(t)
	b := snapshot(t, w.m)
	for n := range len(b) {
		requireRejected(t, w.m, b[:n], "cut after %d of %d bytes", n, len(b))
	}
	requireRejected(t, w.m, append(bytes.Clone(b), 0), "a byte too many")
	requireRejected(t, w.m, append(bytes.Clone(b), b...), "twice")
}

func TestRestoreRejectsEveryFlippedBit(t *testing.T) {
	w := tell(t)
	b := snapshot(t, w.m)
	for i := range b {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1 << (i % 8)
		requireRejected(t, w.m, flipped, "bit %d of byte %d", i%8, i)
	}
}

// frame is one record of a snapshot that a test takes apart.
type frame struct {
	kind    uint16
	payload []byte
}

func takeApart(b []byte) (header []byte, frames []frame) {
	header, b = b[:headerBytes], b[headerBytes:len(b)-trailerBytes]
	for len(b) > 0 {
		n := 6 + binary.BigEndian.Uint32(b[2:])
		frames = append(frames, frame{binary.BigEndian.Uint16(b), b[6:n]})
		b = b[n:]
	}
	return header, frames
}

// putTogether makes a snapshot with a right trailer, whatever is in it.
func putTogether(header []byte, frames []frame, count uint64) []byte {
	out := bytes.Clone(header)
	for _, f := range frames {
		out = binary.BigEndian.AppendUint16(out, f.kind)
		out = binary.BigEndian.AppendUint32(out, uint32(len(f.payload)))
		out = append(out, f.payload...)
	}
	out = binary.BigEndian.AppendUint16(out, 0)
	out = binary.BigEndian.AppendUint32(out, 40)
	out = binary.BigEndian.AppendUint64(out, count)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// TestRestoreChecksMoreThanTheSum: each snapshot here has a right SHA-256, as
// a faulty build would write it.
func TestRestoreChecksMoreThanTheSum(t *testing.T) {
	w := tell(t)
	header, frames := takeApart(snapshot(t, w.m))
	n := uint64(len(frames))
	require.NoError(t, fsm.New().Restore(bytes.NewReader(putTogether(header, frames, n))), "the control")

	requireRejected(t, w.m, putTogether(header, frames, n+1), "count")
	requireRejected(t, w.m, putTogether(header, frames, 0), "count")
	change := func(i int, b byte) []byte {
		h := bytes.Clone(header)
		h[i] ^= b
		return h
	}
	requireRejected(t, w.m, putTogether(change(0, 1), frames, n), "magic")
	requireRejected(t, w.m, putTogether(change(9, 3), frames, n), "format version")
	requireRejected(t, w.m, putTogether(change(18, 0x80), frames, n), "negative time")
	requireRejected(t, w.m, putTogether(header, append(frames[:n:n], frame{99, []byte{0xa0}}), n+1), "unknown type")
	requireRejected(t, w.m, putTogether(header, append(frames[:n:n], frames[n-1]), n+1), "a record twice")
	for i := range frames {
		for name, changed := range map[string][]frame{
			"unreadable": replaced(frames, i, frame{frames[i].kind, []byte("sealed value")}),
			"newer":      replaced(frames, i, frame{frames[i].kind, []byte{0xa1, 0x18, 0x63, 0x01}}),
			"no key":     replaced(frames, i, frame{frames[i].kind, []byte{0xa0}}),
			"other type": replaced(frames, i, frame{0xfff0, frames[i].payload}),
		} {
			requireRejected(t, w.m, putTogether(header, changed, n), "record %d %s", i, name)
		}
		if i > 0 {
			swapped := replaced(frames, i, frames[i-1])
			swapped[i-1] = frames[i]
			requireRejected(t, w.m, putTogether(header, swapped, n), "records %d and %d swapped", i-1, i)
		}
	}
	second := frame{1, bytes.Replace(frames[0].payload, []byte("c1"), []byte("c2"), 1)}
	requireRejected(t, w.m, putTogether(header, append([]frame{frames[0], second}, frames[1:]...), n+1), "a second genesis")
	for i, f := range frames {
		if f.kind == 7 && bytes.Contains(f.payload, []byte("/app/prod/pay/db")) {
			f.payload = bytes.Replace(f.payload, []byte{0x07, 0x04, 0x08, 0x04}, []byte{0x07, 0x01, 0x08, 0x04}, 1)
			require.NotEqual(t, frames[i].payload, f.payload)
			requireRejected(t, w.m, putTogether(header, replaced(frames, i, f), n), "a destroyed version is current")
		}
	}
	long := bytes.Clone(header)
	long = append(long, 0, 1, 0xff, 0xff, 0xff, 0xff)
	requireRejected(t, w.m, long, "a length that is a lie")
}

func replaced(frames []frame, i int, f frame) []frame {
	out := append([]frame{}, frames...)
	out[i] = f
	return out
}

// TestRestoreNeedsWhatRecordsReferTo leaves out what others stand on.
func TestRestoreNeedsWhatRecordsReferTo(t *testing.T) {
	w := tell(t)
	header, frames := takeApart(snapshot(t, w.m))
	for name, kind := range map[string]uint16{"keys": 2, "policies": 3, "principals": 5, "secrets": 7} {
		var rest []frame
		for _, f := range frames {
			if f.kind != kind {
				rest = append(rest, f)
			}
		}
		require.Less(t, len(rest), len(frames))
		requireRejected(t, w.m, putTogether(header, rest, uint64(len(rest))), "without %s", name)
	}
}

func TestSnapshotReportsWhatTheDiskSays(t *testing.T) {
	w := tell(t)
	full := errors.New("no space left")
	for _, room := range []int{0, 10, 500} {
		_, err := w.m.Snapshot().WriteTo(&disk{room: room, err: full})
		require.ErrorIs(t, err, full)
	}
	err := fsm.New().Restore(iotest.ErrReader(full))
	require.ErrorIs(t, err, full)
	err = fsm.New().Restore(io.MultiReader(bytes.NewReader(snapshot(t, w.m)), iotest.ErrReader(full)))
	require.ErrorIs(t, err, full)
}

// disk is a writer that fails when it is full.
type disk struct {
	room int
	err  error
}

func (d *disk) Write(b []byte) (int, error) {
	if d.room -= len(b); d.room < 0 {
		return 0, d.err
	}
	return len(b), nil
}
