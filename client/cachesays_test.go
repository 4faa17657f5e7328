package client

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// "Not this version" tells the cluster that the application uses it and no
// other one, so a cache asks that way only for what the application has said.
func TestTheCacheSpeaksForNobodyWhoHasNotMoved(t *testing.T) {
	said := func(w *world) (out []any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, body := range w.bodies["getSecretValue"] {
			if v := body["ifNotVersion"]; v != nil {
				out = append(out, v)
			}
		}
		return out
	}
	run(t, "by hand", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{ConfirmManually: true})
		defer c.Close()
		requireValue(t, c, "/a", "one")
		later(10 * time.Minute)
		requireValue(t, c, "/a", "one")
		require.Empty(t, said(w))
		require.NoError(t, c.Confirm(t.Context(), "/a", 1))
		later(10 * time.Minute)
		requireValue(t, c, "/a", "one")
		require.NotEmpty(t, said(w))
		w.put("/a", "two")
		later(10 * time.Minute)
		requireValue(t, c, "/a", "two")
		require.NotContains(t, said(w), float64(2))
		require.ErrorContains(t, c.Confirm(t.Context(), "/a", 1), "version 2 is held now", "it would say of what was handed out that nobody has it")
	})
	run(t, "while a callback fails", func(t *testing.T, w *world) {
		w.put("/a", "one")
		c := w.cache(t, CacheConfig{})
		defer c.Close()
		var ready atomic.Bool
		c.OnChange("/a", func(v *Value) error {
			v.Wipe()
			if !ready.Load() {
				return errors.New("not yet")
			}
			return nil
		})
		requireValue(t, c, "/a", "one")
		later(time.Minute)
		w.put("/a", "two")
		later(10 * time.Minute)
		requireValue(t, c, "/a", "two")
		require.NotContains(t, said(w), float64(2))
		ready.Store(true)
		later(20 * time.Minute)
		requireValue(t, c, "/a", "two")
		require.Contains(t, said(w), float64(2))
	})
}
