package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

type news struct {
	Changes []struct {
		Path           string
		CurrentVersion uint64
		Index          uint64
	}
	Index uint64
}

// follower is a client that waits for change at one node, again and again,
// and at the next one while that is away.
type follower struct {
	c      *localcluster.Cluster
	fields string
	node   int

	mu    sync.Mutex
	index uint64
	seen  map[string]uint64
	wrong []string
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		body := fmt.Sprintf(`{"afterIndex":%d,"timeout":"10s",%s}`, f.index, f.fields)
		r, _, err := f.c.Persist(ctx, []int{f.node, f.node, f.node, f.node%3 + 1}, "secrets/waitForChange", body)
		if ctx.Err() != nil {
			return
		}
		var got news
		if err = errors.Join(err, json.Unmarshal(r.Body, &got)); err != nil || r.Status != http.StatusOK {
			f.note("%v %s", err, r.Body)
			return
		}
		f.take(got)
	}
}

func (f *follower) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

func (f *follower) take(got news) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range got.Changes {
		if one.Index <= f.index || one.Index > got.Index || one.CurrentVersion < f.seen[one.Path] {
			f.wrong = append(f.wrong, fmt.Sprintf("%+v after %d, where %d was known", one, f.index, f.seen[one.Path]))
		}
		f.seen[one.Path] = one.CurrentVersion
	}
	f.index = got.Index
}

func (f *follower) knows(path string) (uint64, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[path], f.wrong
}

// Clients that wait at every node learn of the last version of every secret,
// whatever happens to leaders meanwhile, and nobody tells them twice.
func TestWhoWaitsMissesNoChangeWhenLeadersAreKilled(t *testing.T) {
	c := suite.Shared(t)
	const prefix = "/app/e2e/waiting"
	w := startWriters(t, c, prefix, 6, 4)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	var followers []*follower
	for i := range 9 {
		fields := fmt.Sprintf(`"prefix":%q`, prefix)
		if i >= 3 {
			fields = `"paths":["` + strings.Join(w.paths, `","`) + `"]`
		}
		f := &follower{c: c, fields: fields, node: 1 + i%3, seen: map[string]uint64{}}
		followers = append(followers, f)
		running.Go(func() { f.run(ctx) })
	}
	for range 2 {
		w.awaitMore(60)
		leader := c.Leader()
		c.Signal(leader, syscall.SIGKILL)
		c.AwaitEnd(leader)
		w.awaitMore(60)
		c.StartNode(leader)
		c.AwaitReady(leader)
	}
	w.halt()
	last := map[string]uint64{}
	for _, a := range w.seen() {
		last[a.path] = max(last[a.path], a.version)
	}
	require.Len(t, last, len(w.paths))
	for i, f := range followers {
		for path, version := range last {
			c.Await(fmt.Sprintf("follower %d to hear of version %d of %s", i, version, path), func() bool {
				seen, wrong := f.knows(path)
				require.Empty(t, wrong)
				return seen >= version
			})
		}
	}
	stop()
	running.Wait()
	waitWhole(t, c)
}

// waitWhole: the longest wait there is, at every node, outlives every timeout
// on its way, and leadership that moves in the middle of it.
func waitWhole(t *testing.T, c *localcluster.Cluster) {
	t.Helper()
	client := *c.Client()
	client.Timeout = 90 * time.Second
	index, ok := c.OK(1, "secrets/waitForChange", `{"prefix":"/app/e2e/nothing","timeout":"0s"}`)["index"].(float64)
	require.True(t, ok)
	var running sync.WaitGroup
	for node := 1; node <= 3; node++ {
		running.Go(func() {
			began := time.Now()
			body := fmt.Sprintf(`{"paths":["/app/e2e/nothing/at-all"],"afterIndex":%d,"timeout":"60s"}`, int(index))
			req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.Addr(node)+"/api/v1/secrets/waitForChange", strings.NewReader(body))
			if !assert.NoError(t, err) {
				return
			}
			req.Header.Set("Authorization", "Bearer "+c.Token)
			resp, err := client.Do(req)
			if !assert.NoError(t, err) {
				return
			}
			defer resp.Body.Close()
			var got news
			assert.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
			assert.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Empty(t, got.Changes)
			assert.GreaterOrEqual(t, got.Index, uint64(index))
			assert.GreaterOrEqual(t, time.Since(began), 60*time.Second)
		})
	}
	c.Lead(c.Others(c.Leader())[0])
	running.Wait()
}
