package raft

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/secret"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
)

func entries(from, to uint64) []*hraft.Log {
	var out []*hraft.Log
	for i := from; i <= to; i++ {
		out = append(out, &hraft.Log{Index: i, Term: 1, Type: hraft.LogCommand, Data: bytes.Repeat([]byte{byte(i)}, 64)})
	}
	return out
}

func TestEntriesComeBackAsTheyWereWritten(t *testing.T) {
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second, testKeys(t, 1), false)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	index := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		index++
		in := hraft.Log{
			Index: index, Term: rapid.Uint64().Draw(t, "term"), Type: hraft.LogType(rapid.IntRange(0, 5).Draw(t, "type")),
			Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"), Extensions: rapid.SliceOf(rapid.Byte()).Draw(t, "extensions"),
		}
		require.NoError(t, s.StoreLog(&in))
		var out hraft.Log
		require.NoError(t, s.GetLog(index, &out))
		require.Equal(t, in.Index, out.Index)
		require.Equal(t, in.Term, out.Term)
		require.Equal(t, in.Type, out.Type)
		require.True(t, bytes.Equal(in.Data, out.Data))
		require.True(t, bytes.Equal(in.Extensions, out.Extensions))
	})
}

// testKeys are storage keys of n1 of the cluster of these tests.
func testKeys(t testing.TB, generations ...byte) *atrest.Keys {
	return keysOf(t, testCluster, "n1", generations...)
}

func keysOf(t testing.TB, cluster, node string, generations ...byte) *atrest.Keys {
	t.Helper()
	all := map[uint32]secret.Bytes{}
	for _, g := range generations {
		all[uint32(g)] = secret.New(bytes.Repeat([]byte{g}, atrest.KeyBytes))
	}
	k, err := atrest.New(cluster, node, all)
	require.NoError(t, err)
	return k
}

func sealed(t testing.TB, k *atrest.Keys, e *hraft.Log) *hraft.Log {
	t.Helper()
	out, err := sealEntry(k, e)
	require.NoError(t, err)
	return out
}

// Any change to any part of an entry must be noticed.
func TestSealCoversEveryPartOfAnEntry(t *testing.T) {
	k := testKeys(t, 1)
	for name, change := range map[string]func(*hraft.Log){
		"data":       func(e *hraft.Log) { e.Data[atrest.Overhead] ^= 1 },
		"last byte":  func(e *hraft.Log) { e.Data[len(e.Data)-1] ^= 0x80 },
		"nonce":      func(e *hraft.Log) { e.Data[6] ^= 1 },
		"format":     func(e *hraft.Log) { e.Data[0]++ },
		"generation": func(e *hraft.Log) { e.Data[4]++ },
		"index":      func(e *hraft.Log) { e.Index++ },
		"term":       func(e *hraft.Log) { e.Term++ },
		"type":       func(e *hraft.Log) { e.Type = hraft.LogNoop },
		"extensions": func(e *hraft.Log) { e.Extensions = []byte{1} },
		"cut":        func(e *hraft.Log) { e.Data = e.Data[:len(e.Data)-1] },
		"cut short":  func(e *hraft.Log) { e.Data = e.Data[:atrest.Overhead-1] },
		"longer":     func(e *hraft.Log) { e.Data = append(e.Data, 0) },
	} {
		e := sealed(t, k, entries(7, 7)[0])
		_, err := openEntry(k, e)
		require.NoError(t, err)
		change(e)
		_, err = openEntry(k, e)
		require.Error(t, err, name)
	}
	e := sealed(t, k, entries(7, 7)[0])
	require.NotContains(t, string(e.Data), string(entries(7, 7)[0].Data))
	for name, other := range map[string]*atrest.Keys{
		"another cluster": keysOf(t, "c2", "n1", 1), "another node": keysOf(t, testCluster, "n2", 1), "another key": testKeys(t, 2),
	} {
		_, err := openEntry(other, e)
		require.Error(t, err, name)
	}
	_, err := openEntry(testKeys(t, 1, 2), e)
	require.NoError(t, err, "older generations open")
}

// An entry of the format of today has to open for ever.
func TestGoldenEntry(t *testing.T) {
	data, err := hex.DecodeString("020000000125a4bbe61142e5fbf80c5e40b27cb5a5323fc66aefd7a2ab15c2175f91d1f2c95f67e398d28f3787e88faf3a9b457575e1460587b21513a15bce790abf478e32498e1a5f5ee32693cda7e3d8992f69d3a2c4cfd1a8fd054ec351aba50fb5115da9e68f775bc1e892")
	require.NoError(t, err)
	e := entries(7, 7)[0]
	want := e.Data
	e.Data = data
	got, err := openEntry(testKeys(t, 1), e)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Entries that were exchanged within the file, by somebody who knows its form.
func TestExchangedEntriesDoNotOpen(t *testing.T) {
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second, testKeys(t, 1), false)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	require.NoError(t, s.StoreLogs(entries(1, 3)))
	var one, two, out hraft.Log
	require.NoError(t, s.bolt.GetLog(1, &one))
	require.NoError(t, s.bolt.GetLog(2, &two))
	one.Index, two.Index = 2, 1
	require.NoError(t, s.bolt.StoreLogs([]*hraft.Log{&one, &two}))
	require.ErrorContains(t, s.GetLog(1, &out), "does not open")
	require.ErrorContains(t, s.GetLog(2, &out), "does not open")
	require.NoError(t, s.GetLog(3, &out))
}

// A vote that was changed is not believed, and not taken for none.
func TestChangedVoteIsRefused(t *testing.T) {
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second, testKeys(t, 1), false)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	require.NoError(t, s.SetUint64([]byte(keyCurrentTerm), 7))
	require.NoError(t, s.Set([]byte("LastVoteCand"), []byte("n2")))
	term, err := s.GetUint64([]byte(keyCurrentTerm))
	require.NoError(t, err)
	require.Equal(t, uint64(7), term)
	_, err = s.Get([]byte("LastVoteTerm"))
	require.EqualError(t, err, "not found", "the library compares this text")

	raw, err := s.bolt.Get([]byte(keyCurrentTerm))
	require.NoError(t, err)
	require.NoError(t, s.bolt.Set([]byte("LastVoteTerm"), raw))
	_, err = s.GetUint64([]byte("LastVoteTerm"))
	require.ErrorContains(t, err, "cannot tell how it voted", "a value belongs to its name")
	raw[len(raw)-1]--
	require.NoError(t, s.bolt.Set([]byte(keyCurrentTerm), raw))
	_, err = s.GetUint64([]byte(keyCurrentTerm))
	require.ErrorContains(t, err, "cannot tell how it voted")
}

// flip changes one bit of the file where marker is.
func flip(t *testing.T, path string, marker []byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	found := 0
	for at := 0; ; at++ {
		i := bytes.Index(raw[at:], marker)
		if i < 0 {
			break
		}
		at += i
		raw[at+len(marker)/2] ^= 0x10
		found++
	}
	require.Positive(t, found)
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

// damage flips one bit of an entry's data in a database that nobody has open.
func damage(t *testing.T, path string, index uint64) {
	t.Helper()
	s, err := boltstore.NewBoltStore(path)
	require.NoError(t, err)
	var e hraft.Log
	require.NoError(t, s.GetLog(index, &e))
	require.NoError(t, s.Close())
	flip(t, path, e.Data[:min(48, len(e.Data))])
}

func TestFlippedByteInTheDatabaseIsNotServed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s, err := openLogStore(path, time.Second, testKeys(t, 1), false)
	require.NoError(t, err)
	require.NoError(t, s.StoreLogs(entries(1, 9)))
	require.NoError(t, s.close())
	damage(t, path, 5)

	s, err = openLogStore(path, time.Second, testKeys(t, 1), false)
	require.NoError(t, err)
	var fatal error
	s.mustStop = func(err error) { fatal = err }
	var out hraft.Log
	require.NoError(t, s.GetLog(4, &out))
	err = s.GetLog(5, &out)
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, uint64(5), corrupt.Index)
	require.ErrorAs(t, fatal, &corrupt, "a damaged log ends the node")
	require.NoError(t, s.close())
}

// The negative control: without our seal the flipped byte is served.
func TestPlainStoreServesTheFlippedByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s, err := boltstore.NewBoltStore(path)
	require.NoError(t, err)
	require.NoError(t, s.StoreLogs(entries(1, 9)))
	require.NoError(t, s.Close())
	flip(t, path, bytes.Repeat([]byte{5}, 64))
	s, err = boltstore.NewBoltStore(path)
	require.NoError(t, err)
	var out hraft.Log
	require.NoError(t, s.GetLog(5, &out))
	require.NotEqual(t, entries(5, 5)[0].Data, out.Data)
	require.NoError(t, s.Close())
}

func TestFailedWriteEndsTheNode(t *testing.T) {
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second, testKeys(t, 1), false)
	require.NoError(t, err)
	var fatal error
	s.mustStop = func(err error) { fatal = err }
	require.NoError(t, s.close())
	require.Error(t, s.StoreLogs(entries(1, 1)))
	require.Error(t, fatal)
}

func TestStallClockRunsOnlyWhileAWriteIsInFlight(t *testing.T) {
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second, testKeys(t, 1), false)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	require.Zero(t, s.stalledFor())
	began, release := make(chan struct{}), make(chan struct{})
	s.before = func() { close(began); <-release }
	done := make(chan error)
	go func() { done <- s.StoreLogs(entries(1, 1)) }()
	<-began
	first := s.stalledFor()
	require.Eventually(t, func() bool { return s.stalledFor() > first }, 10*time.Second, time.Millisecond)
	close(release)
	require.NoError(t, <-done)
	require.Zero(t, s.stalledFor())
}

func TestLastCommandPassesOverOtherEntries(t *testing.T) {
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second, testKeys(t, 1), false)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	log := entries(10, 15)
	log[3].Type, log[4].Type, log[5].Type = hraft.LogBarrier, hraft.LogNoop, hraft.LogConfiguration
	require.NoError(t, s.StoreLogs(log))
	for _, c := range []struct{ commit, applied, want uint64 }{
		{15, 10, 12},
		{15, 12, 12}, // nothing above has to be waited for
		{15, 15, 15},
		{11, 10, 11},
		{12, 14, 14}, // applied is past the commit index that was read
		{9, 3, 3},    // compacted: in a snapshot, so applied
	} {
		got, err := s.lastCommand(c.commit, c.applied, s)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%+v", c)
	}
}

func FuzzOpenEntry(f *testing.F) {
	k := testKeys(f, 1)
	f.Add(sealed(f, k, entries(7, 7)[0]).Data)
	f.Add([]byte{})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, data []byte) {
		e := entries(7, 7)[0]
		e.Data = data
		if got, err := openEntry(k, e); err == nil && !bytes.Equal(got, entries(7, 7)[0].Data) {
			t.Fatal("opened what was not sealed")
		}
	})
}
