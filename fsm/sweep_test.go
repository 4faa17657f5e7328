package fsm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestSweepIsBounded(t *testing.T) {
	w := newWorld(t)
	w.refused(fault.InvalidRequest, fsm.Sweep{Meta: w.meta()}, "limit: ")
	w.refused(fault.InvalidRequest, fsm.Sweep{Meta: w.meta(), Limit: -1}, "limit: ")
	w.secret("/a", 8)
	for n := uint64(1); n <= 7; n++ {
		c := w.destroy("/a", n)
		c.DueAt = w.now + 1000
		w.ok(c)
	}
	require.Equal(t, 0, w.sweep().Done)
	w.now += 2000
	var done []int
	for {
		result := w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 3})
		done = append(done, result.Done)
		if !result.More {
			break
		}
	}
	require.Equal(t, []int{3, 3, 1}, done)
	require.False(t, w.m.State().Due(w.now))
}

func TestNoSweepHoldsUpTheLog(t *testing.T) {
	w := newWorld(t)
	w.index = fsm.FillWrites(w.m, 10_005)
	w.now += 2 * day
	result := w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 1 << 30})
	require.Equal(t, fsm.Result{Index: w.index, Done: 10_000, More: true}, result)
	require.Equal(t, 5, w.sweep().Done)
}

func TestSweepWorksOldestFirst(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 3)
	for n, delay := range map[uint64]int64{1: 2000, 2: 1000} {
		c := w.destroy("/a", n)
		c.DueAt = w.now + delay
		w.ok(c)
	}
	w.now += 5000
	require.True(t, w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 1}).More)
	require.Equal(t, fsm.VersionDestroyed, w.version("/a", 2).State)
	require.Equal(t, fsm.VersionPendingDestroy, w.version("/a", 1).State)
}

func TestAPurgeCountsItsVersionsAndIsNotSplit(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		path := fmt.Sprint("/s", i)
		w.secret(path, 5)
		w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: path, PurgeAt: w.now + 7*day})
	}
	w.now += 8 * day
	result := w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 6})
	require.Equal(t, fsm.Result{Index: w.index, Done: 10, More: true}, result)
	require.Equal(t, fsm.SecretPurged, w.get("/s1").State)
	require.Equal(t, fsm.SecretPendingDeletion, w.get("/s2").State)
}

func TestDestructionGoesOnInTheRecoveryWindow(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 2)
	c := w.destroy("/a", 1)
	c.DueAt = w.now + 1000
	w.ok(c)
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a", PurgeAt: w.now + 7*day})
	w.now += day
	require.Equal(t, 1, w.sweep().Done)
	require.Equal(t, fsm.VersionDestroyed, w.version("/a", 1).State)
	require.Equal(t, fsm.SecretPendingDeletion, w.get("/a").State)
	w.ok(fsm.RestoreSecret{Meta: w.meta(), Path: "/a"})
	require.Equal(t, map[string]uint64{"current": 2}, w.get("/a").Labels)
	w.now += 30 * day
	require.Equal(t, 0, w.ok(fsm.Sweep{Meta: fsm.Meta{Time: start + 20*day}, Limit: 10}).Done)
}
