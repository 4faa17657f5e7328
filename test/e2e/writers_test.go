package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// ack is a write that the cluster has acknowledged.
type ack struct {
	path    string
	version uint64
	token   string // the clientToken, which is the versionId too
	value   string
	node    int       // that answered
	begun   time.Time // when the write was sent first
	done    time.Time
}

// writers put versions into a few secrets at the same time, each write with a
// clientToken of its own and repeated until it is acknowledged.
type writers struct {
	c     *localcluster.Cluster
	paths []string
	stop  context.CancelFunc

	mu      sync.Mutex
	acks    []ack
	failed  []string
	running sync.WaitGroup
}

// startWriters makes the secrets and starts n writers, which write until halt.
func startWriters(t *testing.T, c *localcluster.Cluster, prefix string, n, secrets int) *writers {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &writers{c: c, stop: stop}
	t.Cleanup(w.halt)
	for i := range secrets {
		path := fmt.Sprintf("%s/s%d", prefix, i)
		c.OK(1, "secrets/createSecret", `{"path":%q}`, path)
		w.paths = append(w.paths, path)
	}
	for i := range n {
		w.running.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				w.write(i, round)
			}
		})
	}
	return w
}

func (w *writers) write(writer, round int) {
	ctx, cancel := context.WithTimeout(context.Background(), localcluster.Patience)
	defer cancel()
	a := ack{
		path: w.paths[(writer+round)%len(w.paths)], token: strings.ReplaceAll(uuid.NewString(), "-", ""),
		value: fmt.Sprintf("writer %d round %d", writer, round), begun: time.Now(),
	}
	body := fmt.Sprintf(`{"path":%q,"value":%q,"clientToken":%q}`, a.path, localcluster.B64(a.value), a.token)
	// Each begins at another node, and goes round.
	nodes := []int{1 + writer%3, 1 + (writer+1)%3, 1 + (writer+2)%3}
	r, node, err := w.c.Persist(ctx, nodes, "secrets/putSecretValue", body)
	a.node, a.done = node, time.Now()
	var answer struct {
		Version   uint64
		VersionID string
		Unchanged bool
	}
	if err == nil {
		err = json.Unmarshal(r.Body, &answer)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || r.Status != http.StatusOK || answer.VersionID != a.token || answer.Unchanged {
		w.failed = append(w.failed, fmt.Sprintf("%s: %v %s", body, err, r.Body))
		return
	}
	a.version = answer.Version
	w.acks = append(w.acks, a)
}

// halt ends the writers; each finishes the write that it is at.
func (w *writers) halt() {
	w.stop()
	w.running.Wait()
}

// seen answers the writes acknowledged so far.
func (w *writers) seen() []ack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acks[:len(w.acks):len(w.acks)]
}

// awaitMore waits for n more acknowledged writes.
func (w *writers) awaitMore(n int) {
	want := len(w.seen()) + n
	w.c.Await(fmt.Sprintf("%d more writes", n), func() bool { return len(w.seen()) >= want })
}

// firstAfter waits for a write that was begun after at, and was acknowledged.
func (w *writers) firstAfter(at time.Time) ack {
	var first ack
	w.c.Await("a write after the failure", func() bool {
		for _, a := range w.seen() {
			if a.begun.After(at) {
				first = a
				return true
			}
		}
		return false
	})
	return first
}

// check holds the history that the cluster tells on node against what it has
// acknowledged: every version is there with its value, numbers are dense, and
// no token made two versions.
func (w *writers) check(t *testing.T, node int) {
	t.Helper()
	w.halt()
	require.Empty(t, w.failed)
	require.NotEmpty(t, w.acks)
	byPath := map[string]map[uint64]ack{}
	for _, a := range w.acks {
		if byPath[a.path] == nil {
			byPath[a.path] = map[uint64]ack{}
		}
		other, taken := byPath[a.path][a.version]
		require.False(t, taken, "%s version %d was acknowledged to %s and %s", a.path, a.version, a.token, other.token)
		byPath[a.path][a.version] = a
	}
	for path, acked := range byPath {
		history := versions(t, w.c, node, path)
		require.Len(t, history, len(acked), "%s: versions that nobody was told of, or too few", path)
		for i, v := range history {
			number := uint64(len(history) - i) // newest first
			require.Equal(t, number, v.Version, "%s: a gap", path)
			require.Equal(t, acked[number].token, v.VersionID, "%s version %d", path, number)
		}
		checkValues(t, w.c, node, path, acked)
	}
}

type version struct {
	Version   uint64
	VersionID string
	State     string
	Labels    []string
}

// versions answers the whole history of a secret, newest first.
func versions(t *testing.T, c *localcluster.Cluster, node int, path string) []version {
	t.Helper()
	var out []version
	for cursor := ""; ; {
		r := c.Send(node, c.Token, "secrets/listSecretVersions", `{"path":%q,"limit":1000,"cursor":%q}`, path, cursor)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
		var page struct {
			Versions   []version
			NextCursor string
		}
		require.NoError(t, json.Unmarshal(r.Body, &page))
		out = append(out, page.Versions...)
		if cursor = page.NextCursor; cursor == "" {
			return out
		}
	}
}

// checkValues reads every version, a hundred at a time.
func checkValues(t *testing.T, c *localcluster.Cluster, node int, path string, acked map[uint64]ack) {
	t.Helper()
	for from := 1; from <= len(acked); from += 100 {
		var items []string
		for number := from; number < from+100 && number <= len(acked); number++ {
			items = append(items, fmt.Sprintf(`{"path":%q,"version":%d}`, path, number))
		}
		r := c.Send(node, c.Token, "secrets/batchGetSecretValue", `{"items":[%s]}`, strings.Join(items, ","))
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
		var answer struct {
			Results []struct {
				Version uint64
				Value   []byte
				Error   *struct{ Code string }
			}
		}
		require.NoError(t, json.Unmarshal(r.Body, &answer))
		require.Len(t, answer.Results, len(items))
		for _, one := range answer.Results {
			require.Nil(t, one.Error, "%s", r.Body)
			require.Equal(t, acked[one.Version].value, string(one.Value), "%s version %d", path, one.Version)
		}
	}
}
