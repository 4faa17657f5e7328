package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// partsOf computes from the bytes of a snapshot what Parts must answer, by the
// number of the type.
func partsOf(b []byte) map[uint16][sha256.Size]byte {
	const header = 8 + 2 + 8 + 8 + sha256.Size
	out := map[uint16][sha256.Size]byte{}
	records := map[uint16][]byte{}
	for rest := b[header:]; ; {
		kind, length := binary.BigEndian.Uint16(rest), binary.BigEndian.Uint32(rest[2:])
		if kind == 0 {
			break
		}
		records[kind] = append(records[kind], rest[:6+length]...)
		rest = rest[6+length:]
	}
	for kind, all := range records {
		out[kind] = sha256.Sum256(all)
	}
	return out
}

func TestPartsAreThoseOfTheSnapshot(t *testing.T) {
	w := tell(t)
	parts, err := w.m.Snapshot().Parts()
	require.NoError(t, err)
	require.NotContains(t, parts, "", "every kind of record has a name")
	want := partsOf(snapshot(t, w.m))
	require.Len(t, parts, len(want))
	var sums [][sha256.Size]byte
	for _, sum := range want {
		sums = append(sums, sum)
	}
	for name, sum := range parts {
		require.Contains(t, sums, sum, name)
	}

	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(snapshot(t, w.m))))
	restored, err := m.Snapshot().Parts()
	require.NoError(t, err)
	require.Equal(t, parts, restored)
}

// Where two states differ is what somebody has to know who looks at them.
func TestPartsSayWhereStatesDiffer(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 1)
	before, err := w.m.Snapshot().Parts()
	require.NoError(t, err)
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a"})
	after, err := w.m.Snapshot().Parts()
	require.NoError(t, err)
	var differ []string
	for name, sum := range after {
		if before[name] != sum {
			differ = append(differ, name)
		}
	}
	require.Contains(t, differ, "secrets")
	require.NotContains(t, differ, "keys")
	require.NotContains(t, differ, "genesis")
}
