package raft

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second)
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

// Any change to any part of an entry must be noticed.
func TestChecksumCoversEveryPartOfAnEntry(t *testing.T) {
	for name, change := range map[string]func(*hraft.Log){
		"data":       func(e *hraft.Log) { e.Data[entryHeader] ^= 1 },
		"last byte":  func(e *hraft.Log) { e.Data[len(e.Data)-1] ^= 0x80 },
		"sum":        func(e *hraft.Log) { e.Data[1] ^= 1 },
		"format":     func(e *hraft.Log) { e.Data[0]++ },
		"index":      func(e *hraft.Log) { e.Index++ },
		"term":       func(e *hraft.Log) { e.Term++ },
		"type":       func(e *hraft.Log) { e.Type = hraft.LogNoop },
		"extensions": func(e *hraft.Log) { e.Extensions = []byte{1} },
		"cut":        func(e *hraft.Log) { e.Data = e.Data[:len(e.Data)-1] },
		"cut short":  func(e *hraft.Log) { e.Data = e.Data[:entryHeader-1] },
		"longer":     func(e *hraft.Log) { e.Data = append(e.Data, 0) },
	} {
		e := sealEntry(entries(7, 7)[0])
		_, reason := openEntry(e)
		require.Empty(t, reason)
		change(e)
		_, reason = openEntry(e)
		require.NotEmpty(t, reason, name)
	}
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

func TestFlippedByteInTheDatabaseIsNotServed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s, err := openLogStore(path, time.Second)
	require.NoError(t, err)
	require.NoError(t, s.StoreLogs(entries(1, 9)))
	require.NoError(t, s.close())
	flip(t, path, bytes.Repeat([]byte{5}, 64))

	s, err = openLogStore(path, time.Second)
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

// The negative control: without our checksum the flipped byte is served.
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
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second)
	require.NoError(t, err)
	var fatal error
	s.mustStop = func(err error) { fatal = err }
	require.NoError(t, s.close())
	require.Error(t, s.StoreLogs(entries(1, 1)))
	require.Error(t, fatal)
}

func TestStallClockRunsOnlyWhileAWriteIsInFlight(t *testing.T) {
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second)
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
	s, err := openLogStore(filepath.Join(t.TempDir(), "raft.db"), time.Second)
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
	f.Add(sealEntry(entries(7, 7)[0]).Data)
	f.Add([]byte{})
	f.Add([]byte{entryFormat})
	whole := sealEntry(entries(7, 7)[0]).Data
	f.Fuzz(func(t *testing.T, data []byte) {
		e := entries(7, 7)[0]
		e.Data = data
		if _, reason := openEntry(e); reason == "" && !bytes.Equal(data, whole) {
			// Another payload with its own right sum is another entry 7.
			sum := entryChecksum(e, data[entryHeader:])
			if !bytes.Equal(sum[:], data[1:entryHeader]) {
				t.Fatal(errors.New("accepted bytes that do not match their sum"))
			}
		}
	})
}
