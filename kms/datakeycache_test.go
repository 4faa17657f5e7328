package kms_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/kms"
)

func always() bool { return true }

// cachedWorld is a service that keeps up to three data keys for a minute.
func cachedWorld(t *testing.T, usable func() bool) (*world, *kms.DataKeyCache) {
	w := newWorld(t)
	c := kms.NewDataKeyCache(3, time.Minute, usable)
	w.CacheDataKeys(c)
	return w, c
}

func place(n int) kms.Identity {
	return kms.Identity{Path: names.Path(fmt.Sprint("/app/dev/web/s", n)), SecretID: "id", Version: 1}
}

func (w *world) sealed(key *fsm.Key, id kms.Identity) kms.Sealed {
	w.t.Helper()
	v, err := w.SealValue(w.t.Context(), key, id, secret.Copy([]byte("value of "+id.Path)))
	require.NoError(w.t, err)
	return v
}

// opens opens a value that must open, and reports whether the HSM was spared;
// the HSM's own count must agree.
func (w *world) opens(key *fsm.Key, id kms.Identity, v kms.Sealed) bool {
	w.t.Helper()
	before := w.token.Opens.Load()
	plain, cached, err := w.OpenCached(w.t.Context(), key, id, v, always)
	require.NoError(w.t, err)
	require.Equal(w.t, "value of "+string(id.Path), string(plain.Expose()))
	plain.Wipe()
	require.Equal(w.t, cached, w.token.Opens.Load() == before)
	return cached
}

func TestADataKeyIsOpenedOnce(t *testing.T) {
	w, c := cachedWorld(t, nil)
	key := w.aes(1)
	v := w.sealed(key, place(1))
	require.Zero(t, c.Len(), "what was sealed is not kept: nobody has read it")
	require.False(t, w.opens(key, place(1), v))
	require.True(t, w.opens(key, place(1), v))
	require.Equal(t, 1, c.Len())
}

func TestWithoutACacheEachReadAsksTheHSM(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	v := w.sealed(key, place(1))
	require.False(t, w.opens(key, place(1), v))
	require.False(t, w.opens(key, place(1), v))
}

func TestTheOldestDataKeyGivesWayAndIsWiped(t *testing.T) {
	w, c := cachedWorld(t, nil)
	key := w.aes(1)
	sealed := map[int]kms.Sealed{}
	for n := range 3 {
		sealed[n] = w.sealed(key, place(n))
		require.False(t, w.opens(key, place(n), sealed[n]))
	}
	held := c.Held()
	require.True(t, w.opens(key, place(0), sealed[0]), "a use does not make it younger")
	sealed[3] = w.sealed(key, place(3))
	require.False(t, w.opens(key, place(3), sealed[3]))
	require.Equal(t, 3, c.Len())
	require.Equal(t, []int{0, 32, 32}, []int{held[0].Len(), held[1].Len(), held[2].Len()})
	for n, want := range map[int]bool{1: true, 2: true, 3: true} {
		require.Equal(t, want, w.opens(key, place(n), sealed[n]))
	}
	require.False(t, w.opens(key, place(0), sealed[0]))
}

// What nobody asks for again does not stay in memory either.
func TestADataKeyIsWipedWhenItsTimeHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := cachedWorld(t, nil)
		key := w.aes(1)
		one, two := w.sealed(key, place(1)), w.sealed(key, place(2))
		require.False(t, w.opens(key, place(1), one))
		<-time.After(30 * time.Second)
		require.False(t, w.opens(key, place(2), two))
		held := c.Held()
		<-time.After(30*time.Second - time.Nanosecond)
		synctest.Wait()
		require.True(t, w.opens(key, place(1), one), "to its last moment, however often it is used")
		<-time.After(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, []int{0, 32}, []int{held[0].Len(), held[1].Len()})
		require.Equal(t, 1, c.Len())
		require.False(t, w.opens(key, place(1), one))
		<-time.After(time.Hour)
		synctest.Wait()
		require.Zero(t, c.Len())
		require.Zero(t, held[1].Len())
	})
}

// The state of the KMS key decides, whatever is in memory.
func TestADataKeyInMemoryOpensNothingOfAKeyThatMayNot(t *testing.T) {
	w, _ := cachedWorld(t, nil)
	key := w.aes(1)
	v := w.sealed(key, place(1))
	w.opens(key, place(1), v)
	for _, state := range []fsm.KeyState{fsm.KeyDisabled, fsm.KeyPendingDeletion, fsm.KeyDestroyed} {
		other := *key
		other.State = state
		_, _, err := w.OpenCached(t.Context(), &other, place(1), v, always)
		require.True(t, fault.Is(err, fault.KeyNotActive) || fault.Is(err, fault.NotFound), "%s: %v", state, err)
	}
	require.True(t, w.opens(key, place(1), v))
}

// Whoever can write to the store gains nothing from what is in memory.
func TestADataKeyInMemoryOpensItsOwnVersionOnly(t *testing.T) {
	w, _ := cachedWorld(t, nil)
	key, other := w.aes(1), w.aes(1)
	v := w.sealed(key, place(1))
	w.opens(key, place(1), v)
	elsewhere := map[string]kms.Identity{
		"path":    {Path: "/app/dev/web/s2", SecretID: "id", Version: 1},
		"secret":  {Path: place(1).Path, SecretID: "other", Version: 1},
		"version": {Path: place(1).Path, SecretID: "id", Version: 2},
	}
	for what, id := range elsewhere {
		before := w.token.Opens.Load()
		_, _, err := w.OpenCached(t.Context(), key, id, v, always)
		require.Error(t, err, what)
		require.Equal(t, before+1, w.token.Opens.Load(), "the HSM decides: %s", what)
	}
	_, _, err := w.OpenCached(t.Context(), other, place(1), v, always)
	require.Error(t, err, "bound to another KMS key")
	for i := range v.DataKey {
		moved := v
		moved.DataKey = append([]byte(nil), v.DataKey...)
		moved.DataKey[i] ^= 1
		_, _, err := w.OpenCached(t.Context(), key, place(1), moved, always)
		require.Error(t, err, "byte %d of the data key", i)
	}
	for i := range v.Box {
		moved := v
		moved.Box = append([]byte(nil), v.Box...)
		moved.Box[i] ^= 1
		_, _, err := w.OpenCached(t.Context(), key, place(1), moved, always)
		require.True(t, fault.Is(err, fault.Internal), "byte %d of the value: %v", i, err)
	}
	require.True(t, w.opens(key, place(1), v))
}

func TestMemoryDoesNotStandInForAnHSMThatIsAway(t *testing.T) {
	var away atomic.Bool
	w, _ := cachedWorld(t, func() bool { return !away.Load() })
	key := w.aes(1)
	v := w.sealed(key, place(1))
	w.opens(key, place(1), v)
	require.True(t, w.opens(key, place(1), v))
	away.Store(true)
	w.token.Down.Store(true)
	_, _, err := w.OpenCached(t.Context(), key, place(1), v, always)
	require.True(t, fault.Is(err, fault.HsmUnavailable), "%v", err)
	away.Store(false)
	w.token.Down.Store(false)
	require.True(t, w.opens(key, place(1), v))
}

func TestWhatIsGoneMeanwhileIsNotKept(t *testing.T) {
	w, c := cachedWorld(t, nil)
	key := w.aes(1)
	v := w.sealed(key, place(1))
	_, cached, err := w.OpenCached(t.Context(), key, place(1), v, func() bool { return false })
	require.NoError(t, err, "the reader began before it was gone")
	require.False(t, cached)
	require.Zero(t, c.Len())
}

func TestReviseWipesWhatIsGone(t *testing.T) {
	w, c := cachedWorld(t, nil)
	key := w.aes(1)
	sealed := map[int]kms.Sealed{}
	for n := range 3 {
		sealed[n] = w.sealed(key, place(n))
		w.opens(key, place(n), sealed[n])
	}
	held := c.Held()
	c.Revise(func(id kms.Identity, keyID string, blob []byte) bool {
		require.Equal(t, key.ID, keyID)
		require.Contains(t, [][]byte{sealed[0].DataKey, sealed[1].DataKey, sealed[2].DataKey}, blob)
		return id != place(1)
	})
	require.Equal(t, []int{32, 0, 32}, []int{held[0].Len(), held[1].Len(), held[2].Len()})
	require.True(t, w.opens(key, place(0), sealed[0]))
	require.False(t, w.opens(key, place(1), sealed[1]))
	held = c.Held()
	c.Wipe()
	require.Zero(t, c.Len())
	for _, one := range held {
		require.Zero(t, one.Len())
	}
	require.False(t, w.opens(key, place(0), sealed[0]))
}

// Readers, evictions and wipes at once: every value that opens is the right
// one, and nothing is left.
func TestTheCacheUnderLoad(t *testing.T) {
	w, c := cachedWorld(t, nil)
	key := w.aes(1)
	var sealed []kms.Sealed
	for n := range 6 {
		sealed = append(sealed, w.sealed(key, place(n)))
	}
	var readers, wipers sync.WaitGroup
	done := make(chan struct{})
	for _, wipe := range []func(){c.Wipe, func() { c.Revise(func(id kms.Identity, _ string, _ []byte) bool { return id.Path == place(1).Path }) }} {
		wipers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					wipe()
				}
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for i := range 500 {
				id := place(i % len(sealed))
				plain, _, err := w.OpenCached(t.Context(), key, id, sealed[i%len(sealed)], always)
				if err != nil || string(plain.Expose()) != "value of "+string(id.Path) {
					t.Errorf("%s: %v", id.Path, err)
					return
				}
				plain.Wipe()
			}
		})
	}
	readers.Wait()
	close(done)
	wipers.Wait()
	c.Wipe()
	require.Zero(t, c.Len())
}
