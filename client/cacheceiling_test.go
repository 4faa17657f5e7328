package client

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheCeiling(t *testing.T) {
	run(t, "holds while the cluster is away", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		synctest.Wait()
		w.do(func() { w.down = true })
		later(29 * time.Second)
		requireValue(t, c, "/a", "one")
		h := c.entry("/a").held.Load()
		later(31 * time.Second)
		_, err := c.Get(context.Background(), "/a")
		require.ErrorContains(t, err, "/a: no server says")
		require.Empty(t, h.value.plain.Expose(), "wiped, not only hidden")
		require.Positive(t, c.Stats().Errors)
		w.do(func() { w.down = false })
		requireValue(t, c, "/a", "one")
	})
	run(t, "wipes also while a question hangs", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{MaxAge: 8 * time.Second})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		h := c.entry("/a").held.Load()
		w.do(func() { w.slow = time.Hour })
		later(8 * time.Second)
		require.Empty(t, h.value.plain.Expose())
		require.Zero(t, c.Stats().Held)
	})
	run(t, "is moved on by revalidation, which opens nothing", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		// The first answer to the poll has the value asked for again. Whether that
		// comes before the version is confirmed, and opens it, is nobody's choice.
		synctest.Wait()
		require.Equal(t, 1, w.count("confirmVersion"))
		before := w.opened()
		require.LessOrEqual(t, before, 2)
		for range 60 {
			requireValue(t, c, "/a", "one")
			later(10 * time.Second)
		}
		require.Equal(t, uint64(1), c.Stats().Misses)
		require.Equal(t, before, w.opened(), "none after the confirmation")
		for _, body := range w.bodies["getSecretValue"] {
			require.Equal(t, c.Instance(), body["instance"])
		}
		require.LessOrEqual(t, len(w.bodies["getSecretValue"]), 24, "a part of maxAge, not more often")
	})
	run(t, "is counted from before the request", func(t *testing.T, w *world) {
		w.put("/a", "one")
		w.slow = 9 * time.Second
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		require.LessOrEqual(t, c.Stats().Soonest, 51*time.Second)
	})
	run(t, "may be lower", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{MaxAge: 5 * time.Second})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		require.Equal(t, 5*time.Second, c.Stats().Soonest)
	})
	run(t, "of nothing means to ask each time", func(t *testing.T, w *world) {
		w.maxAge = "0s"
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		for range 3 {
			requireValue(t, c, "/a", "one")
		}
		require.Equal(t, uint64(3), c.Stats().Misses)
	})
	run(t, "of nothing gives each who waits the value of one question, and wipes it", func(t *testing.T, w *world) {
		w.maxAge, w.slow = "0s", time.Second
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		e := c.entry("/a")
		var all sync.WaitGroup
		impatient, cancel := context.WithCancel(context.Background())
		all.Go(func() {
			_, err := c.Get(impatient, "/a")
			require.ErrorIs(t, err, context.Canceled)
		})
		for range 20 {
			all.Go(func() { requireValue(t, c, "/a", "one") })
		}
		synctest.Wait()
		e.mu.Lock()
		f := e.now
		e.mu.Unlock()
		cancel()
		all.Wait()
		synctest.Wait()
		require.Equal(t, uint64(21), c.Stats().Misses, "nobody had to ask twice")
		require.Empty(t, f.held.value.plain.Expose(), "wiped by the last who took it")
		require.Zero(t, c.Stats().Held)
	})
}
