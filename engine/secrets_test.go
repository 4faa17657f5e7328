package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestLifeOfASecret(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","description":"the database","tags":{"team":"web"}}`)
	_, err := w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	w.refused(fault.NotFound, "has no current version", err)

	require.Equal(t, uint64(1), w.put("/app/dev/web/db", "one").Version)
	two := w.put("/app/dev/web/db", "two")
	require.Equal(t, []string{"current"}, two.Labels)
	require.Equal(t, "two", w.value("/app/dev/web/db"))
	previous := w.ok("secrets/getSecretValue", `{"path":"/app/dev/web/db","label":"previous"}`)
	require.Contains(t, previous, b64("one"))

	_, err = w.as(w.admin, "secrets/destroyVersion", `{"path":"/app/dev/web/db","version":2}`)
	w.refused(fault.Conflict, "current", err)
	_, err = w.as(w.admin, "secrets/destroyVersion", `{"path":"/app/dev/web/db","version":1,"reason":"rotated"}`)
	w.refused(fault.VersionInUse, "version: 1", err)
	w.ok("secrets/confirmVersion", `{"path":"/app/dev/web/db","version":2}`)
	w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/db","version":1,"reason":"rotated"}`)
	_, err = w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db","version":1}`)
	w.refused(fault.VersionNotActive, "destroyed", err)

	history := into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":"/app/dev/web/db"}`))
	require.Len(t, history.Versions, 2)
	require.Equal(t, "destroyed", history.Versions[1].State)
	require.Equal(t, "rotated", history.Versions[1].Reason)
	require.Equal(t, "admin", history.Versions[1].DestroyedBy)
	require.Equal(t, uint32(3), history.Versions[0].Size)

	w.ok("secrets/deleteSecret", `{"path":"/app/dev/web/db"}`)
	_, err = w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	w.refused(fault.Conflict, "restoreSecret", err)
	_, err = w.as(w.admin, "secrets/createSecret", `{"path":"/app/dev/web/db"}`)
	w.refused(fault.AlreadyExists, "", err)
	w.ok("secrets/restoreSecret", `{"path":"/app/dev/web/db"}`)
	require.Equal(t, "two", w.value("/app/dev/web/db"))
}

func TestStateNeverHoldsAPlaintext(t *testing.T) {
	w := newWorld(t)
	const mark = "MARKED-PLAINTEXT-VALUE"
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q,"clientToken":"t-1"}`, b64(mark))
	w.put("/a/b", mark+"-2")
	var snapshot bytes.Buffer
	_, err := w.log.machine.Snapshot().WriteTo(&snapshot)
	require.NoError(t, err)
	require.NotContains(t, snapshot.String(), mark)
	require.NotContains(t, snapshot.String(), b64(mark))
	require.NotContains(t, snapshot.String(), w.admin)
}

func TestExpectedVersionIsCompareAndSet(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q,"expectedVersion":0}`, b64("one"))
	_, err := w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/a/b","value":%q,"expectedVersion":0}`, b64("two")))
	w.refused(fault.Conflict, "current version is 1", err)
	w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q,"expectedVersion":1}`, b64("two"))
	require.Equal(t, "two", w.value("/a/b"))
}

func TestARetryWithTheSameTokenMakesNoSecondVersion(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	body := fmt.Sprintf(`{"path":"/a/b","value":%q,"clientToken":"retry-1"}`, b64("one"))
	first := w.ok("secrets/putSecretValue", "%s", body)
	w.put("/a/b", "two")
	again := w.ok("secrets/putSecretValue", "%s", strings.Replace(body, `{"path"`, `{ "path"`, 1))
	require.Equal(t, into[wire.PutSecretValueResponse](t, first).VersionID, into[wire.PutSecretValueResponse](t, again).VersionID)
	require.Equal(t, uint64(1), into[wire.PutSecretValueResponse](t, again).Version)
	require.Equal(t, "two", w.value("/a/b"), "a replay must not activate the old version again")
	_, err := w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/a/b","value":%q,"clientToken":"retry-1"}`, b64("other")))
	w.refused(fault.Conflict, "clientToken", err)
}

func TestSameBytesAreTheCurrentVersionAgain(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	same := w.put("/a/b", "one")
	require.True(t, same.Unchanged)
	require.Equal(t, uint64(1), same.Version)
	require.False(t, w.put("/a/b", "two").Unchanged)
	require.False(t, w.put("/a/b", "one").Unchanged, "only the current version counts")
	a, b := w.log.machine.State().Version("/a/b", 1), w.log.machine.State().Version("/a/b", 3)
	require.NotEqual(t, a.Fingerprint, b.Fingerprint, "equality of versions must not be visible in the state")
}

func TestManyWritersOfOnePathNumberWithoutGaps(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	const writers, each = 16, 10
	var mu sync.Mutex
	var got []uint64
	var wg sync.WaitGroup
	for i := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range each {
				answer := into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q}`, b64(fmt.Sprint(i, "-", j))))
				mu.Lock()
				got = append(got, answer.Version)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	slices.Sort(got)
	for i, v := range got {
		require.Equal(t, uint64(i+1), v)
	}
	require.Len(t, got, writers*each)
}

func TestValuesExpire(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q,"expiresAt":"2026-03-04T06:00:00Z"}`, b64("one"))
	require.Equal(t, "one", w.value("/a/b"))
	w.setNow(time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC))
	_, err := w.as(w.admin, "secrets/getSecretValue", `{"path":"/a/b"}`)
	w.refused(fault.VersionNotActive, "expired", err)
	_, err = w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/a/b","value":%q,"expiresAt":"2026-03-04T05:00:00Z"}`, b64("x")))
	w.refused(fault.InvalidRequest, "expiresAt", err)
}

func TestIfNotVersionOpensNothing(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	before := w.token.Opens.Load()
	answer := into[wire.GetSecretValueResponse](t, w.ok("secrets/getSecretValue", `{"path":"/a/b","ifNotVersion":1}`))
	require.True(t, answer.NotModified)
	require.Nil(t, answer.Value)
	require.Equal(t, before, w.token.Opens.Load())
}

func TestBatchAnswersItemByItem(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/a","value":%q}`, b64("va"))
	w.ok("secrets/createSecret", `{"path":"/app/dev/api/b","value":%q}`, b64("vb"))
	token := w.principal("web", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]}]`)
	answer, err := w.as(token, "secrets/batchGetSecretValue",
		`{"items":[{"path":"/app/dev/web/a"},{"path":"/app/dev/api/b"},{"path":"/app/dev/api/none"},{"path":"/app/dev/web/none"}]}`)
	require.NoError(t, err)
	got := into[wire.BatchGetSecretValueResponse](t, answer).Results
	require.Equal(t, "va", string(got[0].Value.Expose()))
	require.Equal(t, "AccessDenied", got[1].Error.Code)
	require.Equal(t, "AccessDenied", got[2].Error.Code, "absent and forbidden are the same")
	require.Equal(t, got[1].Error.Message, got[2].Error.Message)
	require.Equal(t, "NotFound", got[3].Error.Code)
	require.NotContains(t, answer, b64("vb"))
}

func TestDelayedDestructionIsDoneByTheReaper(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	w.put("/a/b", "two")
	w.ok("secrets/destroyVersion", `{"path":"/a/b","version":1,"delay":"1h"}`)
	require.Contains(t, w.ok("secrets/getSecretValue", `{"path":"/a/b","version":1}`), b64("one"), "readable until it is due")
	w.ok("secrets/cancelDestroyVersion", `{"path":"/a/b","version":1}`)
	w.ok("secrets/destroyVersion", `{"path":"/a/b","version":1,"delay":"1h"}`)
	w.setNow(w.now().Add(time.Hour + time.Second))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); w.engine.RunLeader(ctx) }()
	require.Eventually(t, func() bool {
		return w.log.machine.State().Version("/a/b", 1).State == fsm.VersionDestroyed
	}, 20*time.Second, 10*time.Millisecond)
	cancel()
	<-done
	require.Empty(t, w.log.machine.State().Version("/a/b", 1).Sealed)
}

// TestListsShowWhatTheCallerMaySee compares pages of both kinds of list with
// a filter over all paths, for random trees and grants.
func TestListsShowWhatTheCallerMaySee(t *testing.T) {
	w := newWorld(t)
	segments := []string{"a", "b", "ab", "a-b", "z", "a.b"}
	var all []string
	for _, x := range segments {
		for _, y := range segments {
			all = append(all, "/"+x+"/"+y)
			for _, z := range segments[:3] {
				all = append(all, "/"+x+"/"+y+"/"+z)
			}
		}
	}
	for _, path := range all {
		w.ok("secrets/createSecret", `{"path":%q}`, path)
	}
	slices.Sort(all)
	tokens := map[string]func(string) bool{
		w.admin: func(string) bool { return true },
		w.principal("p1", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/a/**"]}]`): func(p string) bool {
			return strings.HasPrefix(p, "/a/")
		},
		w.principal("p2", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/*/a/*"]},{"effect":"deny","actions":["secrets:listSecrets"],"paths":["/b/**"]}]`): func(p string) bool {
			return strings.Count(p, "/") == 3 && strings.Split(p, "/")[2] == "a" && !strings.HasPrefix(p, "/b/")
		},
	}
	rapid.Check(t, func(r *rapid.T) {
		prefix := rapid.SampledFrom([]string{"/", "/a", "/a/", "/ab/a", "/a-b/", "/none"}).Draw(r, "prefix")
		recursive := rapid.Bool().Draw(r, "recursive")
		limit := rapid.IntRange(1, 40).Draw(r, "limit")
		for token, sees := range tokens {
			require.Equal(r, naiveList(all, prefix, recursive, sees), w.listAll(r, token, prefix, recursive, limit))
		}
	})
}

func naiveList(all []string, prefix string, recursive bool, sees func(string) bool) []string {
	prefix = strings.TrimSuffix(prefix, "/") + "/"
	out := []string{}
	for _, path := range all {
		rest, below := strings.CutPrefix(path, prefix)
		if !below || !sees(path) {
			continue
		}
		if i := strings.IndexByte(rest, '/'); i >= 0 && !recursive {
			path = prefix + rest[:i+1]
		}
		if !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) listAll(r *rapid.T, token, prefix string, recursive bool, limit int) []string {
	out := []string{}
	cursor := ""
	for {
		answer, err := w.as(token, "secrets/listSecrets", fmt.Sprintf(`{"prefix":%q,"recursive":%v,"limit":%d,"cursor":%q}`, prefix, recursive, limit, cursor))
		require.NoError(r, err)
		page := into[wire.ListSecretsResponse](w.t, answer)
		require.LessOrEqual(r, len(page.Folders)+len(page.Secrets), limit)
		out = append(out, page.Folders...)
		for _, s := range page.Secrets {
			out = append(out, s.Path)
		}
		if cursor = page.NextCursor; cursor == "" {
			slices.Sort(out)
			return out
		}
	}
}
