package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func requireValue(t *testing.T, c *Cache, path, want string) {
	t.Helper()
	v, err := c.Get(context.Background(), path)
	require.NoError(t, err)
	defer v.Wipe()
	require.Equal(t, want, string(v.Expose()))
}

// run runs a test with a clock of its own.
func run(t *testing.T, name string, fn func(t *testing.T, w *world)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { fn(t, newWorld()) }) })
}

// later lets time pass: the clock of the test, which takes no time.
func later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestWhatMustNotBeUsedIsDroppedAtOnce(t *testing.T) {
	for _, code := range []string{"AccessDenied", "NotFound", "VersionNotActive"} {
		run(t, code, func(t *testing.T, w *world) {
			w.put("/a", "one")
			c := w.cache(t, CacheConfig{})
			defer c.Close()
			requireValue(t, c, "/a", "one")
			h := c.entry("/a").held.Load()
			w.do(func() { w.refuse["getSecretValue"] = code })
			_, err := c.Refresh(context.Background(), "/a")
			require.True(t, IsCode(err, CodeAccessDenied) || IsCode(err, CodeNotFound) || IsCode(err, CodeVersionNotActive), "%v", err)
			require.Empty(t, h.value.plain.Expose())
			_, err = c.Get(context.Background(), "/a")
			require.Error(t, err)
			w.do(func() { delete(w.refuse, "getSecretValue") })
			synctest.Wait() // a question of the watch's may be under way, and is shared: its answer is from before
			requireValue(t, c, "/a", "one")
		})
	}
	run(t, "but not for what is broken", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		for _, code := range []string{"HsmUnavailable", "Internal"} {
			w.do(func() { w.refuse["getSecretValue"] = code })
			_, err := c.Refresh(context.Background(), "/a")
			require.Error(t, err)
			requireValue(t, c, "/a", "one")
		}
		require.Positive(t, c.Stats().Stale)
	})
}

func TestChangesAreLearnedOfAndConfirmed(t *testing.T) {
	run(t, "in order, callbacks before the confirmation", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		var seen []string
		fail := true
		c.OnChange("/a", func(v *Value) error {
			defer v.Wipe()
			if seen = append(seen, string(v.Expose())); fail {
				fail = false
				return errors.New("cannot log in yet")
			}
			return nil
		})
		requireValue(t, c, "/a", "one")
		synctest.Wait()
		require.Empty(t, seen, "the first one is no change")
		require.Equal(t, 1, w.count("confirmVersion"))
		w.put("/a", "two")
		synctest.Wait()
		requireValue(t, c, "/a", "two")
		require.Equal(t, []string{"two"}, seen)
		require.Equal(t, 1, w.count("confirmVersion"), "the callback failed")
		later(time.Minute)
		require.Equal(t, []string{"two", "two"}, seen)
		require.Equal(t, 2, w.count("confirmVersion"))
		require.Equal(t, float64(2), w.bodies["confirmVersion"][1]["version"])
		require.Equal(t, c.Instance(), w.bodies["confirmVersion"][1]["instance"])
	})
	run(t, "a server without confirmVersion does no harm", func(t *testing.T, w *world) {
		w.put("/a", "one")
		w.refuse["confirmVersion"] = "NotFound"
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		later(10 * time.Minute)
		require.Equal(t, 1, w.count("confirmVersion"), "a last word is not argued with")
		requireValue(t, c, "/a", "one")
	})
	run(t, "by hand", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{ConfirmManually: true, Instance: "i-1"})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		later(time.Minute)
		require.Zero(t, w.count("confirmVersion"))
		require.NoError(t, c.Confirm(context.Background(), "/a", 1))
		require.Equal(t, map[string]any{"path": "/a", "version": float64(1), "instance": "i-1"}, w.bodies["confirmVersion"][0])
	})
	run(t, "the same number of another secret is another version", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		w.do(func() { delete(w.secrets, "/a") })
		w.put("/a", "of another secret")
		synctest.Wait()
		requireValue(t, c, "/a", "of another secret")
	})
}

func TestWatching(t *testing.T) {
	run(t, "more paths than one poll takes", func(t *testing.T, w *world) {
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		for i := range 250 {
			w.put(fmt.Sprintf("/a/%d", i), "one")
			requireValue(t, c, fmt.Sprintf("/a/%d", i), "one")
		}
		synctest.Wait()
		require.Len(t, c.groups, 3)
		for i := range 250 {
			w.put(fmt.Sprintf("/a/%d", i), "two")
		}
		synctest.Wait()
		for i := range 250 {
			requireValue(t, c, fmt.Sprintf("/a/%d", i), "two")
		}
		require.Equal(t, uint64(250), c.Stats().Misses)
		for _, body := range w.bodies["waitForChange"] {
			require.LessOrEqual(t, len(body["paths"].([]any)), 100)
		}
	})
	run(t, "one that may not be watched does not blind the others", func(t *testing.T, w *world) {
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		w.noWatch["/a/3"] = true
		for i := range 9 {
			w.put(fmt.Sprintf("/a/%d", i), "one")
			requireValue(t, c, fmt.Sprintf("/a/%d", i), "one")
		}
		later(time.Second)
		for i := range 9 {
			w.put(fmt.Sprintf("/a/%d", i), "two")
		}
		later(time.Second)
		for i := range 9 {
			if i != 3 {
				requireValue(t, c, fmt.Sprintf("/a/%d", i), "two")
			}
		}
		later(time.Minute)
		requireValue(t, c, "/a/3", "two")
	})
	run(t, "goes on by its index after errors", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		synctest.Wait()
		w.do(func() { w.refuse["waitForChange"] = "Internal" })
		later(50 * time.Second) // the poll under way ends, and the next one fails
		w.put("/a", "two")
		w.do(func() { delete(w.refuse, "waitForChange") })
		later(40 * time.Second)
		requireValue(t, c, "/a", "two")
	})
}

func TestManyCallersAreOneRequest(t *testing.T) {
	run(t, "thousands", func(t *testing.T, w *world) {
		w.put("/a", "one")
		w.slow = time.Second
		c := w.cache(t, CacheConfig{ConfirmManually: true})
		defer c.Close()
		var wg sync.WaitGroup
		var good atomic.Int64
		for range 5000 {
			wg.Go(func() {
				if v, err := c.Get(context.Background(), "/a"); err == nil && string(v.Expose()) == "one" {
					good.Add(1)
					v.Wipe()
				}
			})
		}
		wg.Wait()
		require.Equal(t, int64(5000), good.Load())
		w.mu.Lock()
		defer w.mu.Unlock()
		opened := 0
		for _, body := range w.bodies["getSecretValue"] {
			if body["ifNotVersion"] == nil {
				opened++
			}
		}
		require.LessOrEqual(t, opened, 2, "that of all callers, and one when the long poll begins")
	})
	run(t, "one that leaves does not end it for the others", func(t *testing.T, w *world) {
		w.put("/a", "one")
		w.slow = 3 * time.Second
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.Get(ctx, "/a")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireValue(t, c, "/a", "one")
		require.Equal(t, 1, w.count("getSecretValue"))
	})
	run(t, "a refresh is a request of its own", func(t *testing.T, w *world) {
		w.put("/a", "one")
		w.slow, w.noWatch["/a"] = time.Second, true
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		var wg sync.WaitGroup
		wg.Go(func() { requireValue(t, c, "/a", "one") })
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				v, err := c.Refresh(context.Background(), "/a")
				require.NoError(t, err)
				v.Wipe()
			})
		}
		wg.Wait()
		require.Equal(t, 2, w.count("getSecretValue"), "the ten share one that was sent after they asked")
	})
}

func TestForgetAndClose(t *testing.T) {
	run(t, "wipe", func(t *testing.T, w *world) {
		w.put("/a", "one")
		w.put("/b", "two")
		c := w.cache(t, CacheConfig{})
		requireValue(t, c, "/a", "one")
		requireValue(t, c, "/b", "two")
		out, err := c.Get(context.Background(), "/a")
		require.NoError(t, err)
		a, b := c.entry("/a").held.Load(), c.entry("/b").held.Load()
		c.Forget("/a")
		require.Empty(t, a.value.plain.Expose())
		requireValue(t, c, "/a", "one")
		c.Close()
		c.Close()
		require.Empty(t, b.value.plain.Expose())
		require.Equal(t, "one", string(out.Expose()), "what was handed out is its holder's")
		_, err = c.Get(context.Background(), "/a")
		require.ErrorIs(t, err, ErrClosed)
	})
	run(t, "a path that never was leaves nothing behind", func(t *testing.T, w *world) {
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		_, err := c.Get(context.Background(), "/none")
		require.True(t, IsCode(err, CodeNotFound))
		_, there := c.entries.Load("/none")
		require.False(t, there)
	})
}

// TestNothingIsTorn: values that are read while others replace and drop them
// are whole, and under the race detector nothing is read while it is wiped.
func TestNothingIsTorn(t *testing.T) {
	w := newWorld()
	w.put("/a", "value-value-value-0")
	c := w.cache(t, CacheConfig{})
	defer c.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				v, err := c.Get(context.Background(), "/a")
				if err != nil || !bytes.HasPrefix(v.Expose(), []byte("value-value-value-")) {
					t.Errorf("%v %v", v, err)
					return
				}
				v.Wipe()
			}
		})
	}
	wg.Go(func() {
		for i := range 100 {
			w.put("/a", fmt.Sprintf("value-value-value-%d", i))
			if v, err := c.Refresh(context.Background(), "/a"); err == nil {
				v.Wipe()
			}
			if i%10 == 0 {
				c.Forget("/a")
			}
		}
	})
	wg.Wait()
}

func TestAValueIsNotShown(t *testing.T) {
	w := newWorld()
	w.put("/a", "MARKED")
	c := w.cache(t, CacheConfig{})
	defer c.Close()
	v, err := c.Get(context.Background(), "/a")
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		require.NotContains(t, fmt.Sprintf(verb+verb+verb, v, struct{ v *Value }{v}, *v), "MARKED")
	}
	_, err = json.Marshal(v)
	require.Error(t, err)
	require.Equal(t, "[secret /a version 1]", v.String())
	require.NotContains(t, fmt.Sprintf("%+v", c.Stats()), "MARKED")
}

func BenchmarkHit(b *testing.B) {
	w := newWorld()
	w.maxAge = "1h0m0s"
	w.put("/a", "a password of usual length")
	c, err := New(Config{Addresses: []string{"https://one:1"}})
	require.NoError(b, err)
	c.http.Transport = w
	cache, err := NewCache(c, CacheConfig{})
	require.NoError(b, err)
	defer cache.Close()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			v, err := cache.Get(context.Background(), "/a")
			if err != nil {
				b.Error(err)
				return
			}
			v.Wipe()
		}
	})
}

func TestAnInstanceIsANameThatTheServerTakes(t *testing.T) {
	one, other := newInstance(), newInstance()
	require.Regexp(t, `^[A-Za-z0-9][A-Za-z0-9.-]{9,127}$`, one)
	require.NotEqual(t, one, other)
}

func TestAnAnswerOfAnotherPathIsNone(t *testing.T) {
	n := serve(t, func(_ int, w http.ResponseWriter) {
		_, _ = w.Write([]byte(`{"path":"/other","version":1,"value":"eA==","cache":{"maxAge":"5m"}}`))
	})
	c, err := NewCache(connect(t, Config{}, n), CacheConfig{})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Get(context.Background(), "/a")
	require.ErrorContains(t, err, "not about this path")
	require.Zero(t, c.Stats().Held)
}
