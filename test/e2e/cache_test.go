package e2e_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/test/localcluster"
)

// cacheOf makes a cache as an application does that has only the rights to
// read and to watch what is below /app/e2e/cache.
func cacheOf(t *testing.T, c *localcluster.Cluster, name string, cfg client.CacheConfig) *client.Cache {
	t.Helper()
	token := c.Principal(name, `[{"effect":"allow","roles":["secrets-read-access","secrets-value-access"],"paths":["/app/e2e/cache/**"]}]`)
	conn, err := client.New(client.Config{
		Addresses: []string{c.Addr(1), c.Addr(2), c.Addr(3)}, CAFile: filepath.Join(c.Dir, "ca.pem"),
		Token: client.TokenFunc(func() ([]byte, error) { return []byte(token), nil }), AttemptTimeout: 3 * time.Second,
	})
	require.NoError(t, err)
	cache, err := client.NewCache(conn, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cache.Close(); conn.Close() })
	return cache
}

func cached(t *testing.T, cache *client.Cache, path, want string) {
	t.Helper()
	v, err := cache.Get(context.Background(), path)
	require.NoError(t, err)
	defer v.Wipe()
	require.Equal(t, want, string(v.Expose()))
}

// An application with a cache is told of a change at once, reads on while the
// leader is killed and while nobody is there, up to the ceiling and no
// longer, and loses what it may not read any more.
func TestACacheServesThroughFailuresAndNoLonger(t *testing.T) {
	c := suite.Fresh(t, 3)
	const path, ceiling = "/app/e2e/cache/db", 8 * time.Second
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("one"))
	cache := cacheOf(t, c, "cache", client.CacheConfig{})
	low := cacheOf(t, c, "cache-low", client.CacheConfig{MaxAge: ceiling})
	told := make(chan string, 100)
	cache.OnChange(path, func(v *client.Value) error {
		defer v.Wipe()
		told <- string(v.Expose())
		return nil
	})
	cached(t, cache, path, "one")
	cached(t, low, path, "one")

	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64("two"))
	require.Equal(t, "two", <-told)
	cached(t, cache, path, "two")

	leader := c.Leader()
	c.Kill(leader)
	cached(t, cache, path, "two")
	other := c.Others(leader)[0]
	c.OK(other, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64("three"))
	require.Equal(t, "three", <-told, "the poll goes on at another node")
	cached(t, cache, path, "three")

	for _, node := range c.Others(leader) {
		c.Kill(node)
	}
	down := time.Now()
	cached(t, cache, path, "three")
	c.Await("the ceiling", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		v, err := low.Get(ctx, path)
		if err == nil {
			v.Wipe()
		}
		return err != nil
	})
	require.Less(t, time.Since(down), 2*ceiling)
	c.Await("the value to be wiped, not only withheld", func() bool { return low.Stats().Held == 0 })
	cached(t, cache, path, "three")
	c.Revive()
	c.Await("the value to be there again", func() bool {
		v, err := low.Get(context.Background(), path)
		if err == nil {
			v.Wipe()
		}
		return err == nil
	})

	c.OK(1, "iam/detachPolicy", `{"policy":"cache","principal":"cache"}`)
	c.Await("the value to be dropped", func() bool {
		v, err := cache.Refresh(context.Background(), path)
		if err == nil {
			v.Wipe()
		}
		return client.IsCode(err, client.CodeAccessDenied)
	})
	require.Zero(t, cache.Stats().Held)
}
