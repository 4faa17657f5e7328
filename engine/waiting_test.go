package engine_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// look asks for changes without waiting.
func (w *world) look(token, fields string) wire.WaitForChangeResponse {
	w.t.Helper()
	answer, err := w.as(token, "secrets/waitForChange", `{"timeout":"0s",`+fields+`}`)
	require.NoError(w.t, err)
	return into[wire.WaitForChangeResponse](w.t, answer)
}

// patient asks as a front end that waits does.
func (w *world) patient(token, body string) (id string, err error) {
	w.t.Helper()
	id = uuid.NewString()
	answer, err := w.engine.Do(context.Background(), engine.Find("secrets", "waitForChange"),
		engine.Caller{RequestID: id, Token: token, Source: w.source, Patient: true}, []byte(body))
	answer.Wipe()
	return id, err
}

func paths(changes []wire.SecretChange) []string {
	out := []string{}
	for _, c := range changes {
		out = append(out, fmt.Sprint(c.Path, " ", c.CurrentVersion))
	}
	return out
}

func TestChangesSinceAnIndex(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/x","value":%q}`, b64("1"))
	w.ok("secrets/createSecret", `{"path":"/a/y"}`)
	w.ok("secrets/createSecret", `{"path":"/b/z","value":%q}`, b64("1"))
	const watched = `"paths":["/b/z","/a/y","/a/x","/a/x","/none"]`

	all := w.look(w.admin, watched)
	require.Equal(t, []string{"/a/x 1", "/a/y 0", "/b/z 1"}, paths(all.Changes), "all that is there is news to who knows nothing")
	require.Equal(t, w.log.machine.State().Index(), all.Index)
	after := func(r wire.WaitForChangeResponse, fields string) wire.WaitForChangeResponse {
		return w.look(w.admin, fmt.Sprintf(`"afterIndex":%d,%s`, r.Index, fields))
	}
	require.Empty(t, after(all, watched).Changes)

	w.put("/a/x", "2")
	w.ok("secrets/createSecret", `{"path":"/none","value":%q}`, b64("1"))
	next := after(all, watched)
	require.Equal(t, []string{"/a/x 2", "/none 1"}, paths(next.Changes), "one that was not there may come")
	require.Less(t, next.Changes[0].Index, next.Changes[1].Index)
	require.Equal(t, next.Changes[1].Index, next.Index)

	w.ok("secrets/deleteSecret", `{"path":"/a/x"}`)
	gone := after(next, watched)
	require.Equal(t, []string{"/a/x 0"}, paths(gone.Changes), "a deleted secret has nothing to read")
	w.ok("secrets/restoreSecret", `{"path":"/a/x"}`)
	require.Equal(t, []string{"/a/x 2"}, paths(after(gone, watched).Changes))
	w.ok("secrets/deleteSecret", `{"path":"/a/x","force":true}`)
	require.Equal(t, []string{"/a/x 0"}, paths(after(gone, watched).Changes))

	require.Equal(t, []string{"/a/y 0", "/a/x 0"}, paths(w.look(w.admin, `"prefix":"/a"`).Changes))
	require.Equal(t, []string{"/none 1", "/a/x 0"}, paths(after(all, `"prefix":"/"`).Changes))
	lost := w.look(w.admin, `"afterIndex":99999,"prefix":"/a/"`)
	require.Len(t, lost.Changes, 2, "an index of a time that was lost: all is news")
	require.Less(t, lost.Index, uint64(99999))
}

// TestChangesBelowAPrefixComeInPagesThatLoseNothing: an answer ends between
// two commands, never within one.
func TestChangesBelowAPrefixComeInPagesThatLoseNothing(t *testing.T) {
	w := newWorld(t)
	w.fill(2500)
	// One command that changes hundreds of secrets, across the end of a page.
	w.ok("secrets/createSecret", `{"path":"/app/first"}`)
	for i := range 499 {
		w.ok("secrets/deleteSecret", `{"path":"/app/t%03d/s%d/p%d"}`, i, i%7, i)
	}
	w.setNow(w.now().Add(31 * 24 * time.Hour))
	command, err := fsm.Encode(fsm.Sweep{Meta: fsm.Meta{Time: w.now().UnixMilli()}, Limit: 500})
	require.NoError(t, err)
	_, err = w.log.Propose(context.Background(), command)
	require.NoError(t, err)

	made := w.log.machine.State().Index()
	admin := w.revive()
	seen, index, answers := map[string]int{}, uint64(0), 0
	for {
		got := w.look(admin, fmt.Sprintf(`"prefix":"/app","afterIndex":%d`, index))
		if len(got.Changes) == 0 {
			break
		}
		answers++
		for _, c := range got.Changes {
			seen[c.Path]++
			require.Greater(t, c.Index, index)
			require.LessOrEqual(t, c.Index, got.Index)
		}
		index = got.Index
	}
	require.GreaterOrEqual(t, index, made)
	require.Len(t, seen, 2501)
	for path, times := range seen {
		require.Equal(t, 1, times, path)
	}
	require.Greater(t, answers, 2)
}

// revive answers a token that is good at the time it is: that of the world's
// administrator has expired by now.
func (w *world) revive() string {
	w.t.Helper()
	text, hash, err := iam.NewToken(rand.Reader)
	require.NoError(w.t, err)
	command, err := fsm.Encode(fsm.CreateToken{Meta: fsm.Meta{Time: w.now().UnixMilli(), Principal: "admin"}, Token: fsm.Token{
		ID: uuid.NewString(), Hash: hash[:], Principal: "admin", ExpiresAt: w.now().Add(time.Hour).UnixMilli(),
	}})
	require.NoError(w.t, err)
	result, err := w.log.Propose(context.Background(), command)
	require.NoError(w.t, err)
	require.Nil(w.t, result.Refused)
	return string(text.Expose())
}

func TestAWatchShowsOnlyWhatTheCallerMaySee(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64(markValue))
	w.ok("secrets/createSecret", `{"path":"/app/dev/api/db","value":%q}`, b64(markValue))
	token := w.principal("web", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/dev/web/**"]}]`)
	require.Equal(t, []string{"/app/dev/web/db 1"}, paths(w.look(token, `"prefix":"/"`).Changes))
	require.False(t, holds(w.ok("secrets/waitForChange", `{"prefix":"/","timeout":"0s"}`), markValue))

	ask := func(list string) (string, error) {
		id, answer, err := w.request(token, "secrets/waitForChange", `{"timeout":"0s","paths":[`+list+`]}`)
		require.Empty(t, answer)
		own, _ := w.story(id, "secrets.watch")
		require.Len(t, own, 1)
		return own[0].Path, err
	}
	where, there := ask(`"/app/dev/web/db","/app/dev/api/db"`)
	require.Equal(t, "/app/dev/api/db", where, "the event names the path that was denied")
	_, absent := ask(`"/app/dev/web/db","/app/dev/api/none"`)
	w.refused(fault.AccessDenied, "secrets:describeSecret", there)
	require.Equal(t, publicText(t, there), publicText(t, absent))
}

func TestWhatAWatchMayAsk(t *testing.T) {
	w := newWorld(t)
	many := strings.TrimSuffix(strings.Repeat(`"/a",`, 100), ",")
	w.ok("secrets/waitForChange", `{"paths":[%s],"timeout":"0s"}`, many)
	for body, says := range map[string]string{
		`{}`:                                "paths: or prefix",
		`{"paths":[]}`:                      "paths: or prefix",
		`{"paths":["/a"],"prefix":"/"}`:     "paths: or prefix",
		`{"paths":[` + many + `,"/b"]}`:     "paths: has 101",
		`{"paths":["/a","b"]}`:              "paths[1]: must start with",
		`{"paths":[""]}`:                    "paths[0]: must not be empty",
		`{"prefix":"a"}`:                    "prefix:",
		`{"paths":["/a"],"timeout":"61s"}`:  "timeout: must be at most 1m0s",
		`{"paths":["/a"],"timeout":"-1s"}`:  "timeout",
		`{"paths":["/a"],"afterIndex":-1}`:  "afterIndex",
		`{"paths":["/a"],"afterIndex":"1"}`: "afterIndex",
		`{"path":"/a"}`:                     "path: is not a field",
	} {
		_, err := w.as(w.admin, "secrets/waitForChange", body)
		w.refused(fault.InvalidRequest, says, err)
		require.Zero(t, engine.NewWait([]byte(body)), "%s: there is nothing to wait for", body)
	}
	require.Zero(t, engine.NewWait([]byte(`{`)))
	require.Equal(t, 30*time.Second, engine.NewWait([]byte(`{"prefix":"/"}`)).Timeout)
	require.Equal(t, engine.MaxWait, engine.NewWait([]byte(`{"prefix":"/","timeout":"60s"}`)).Timeout)
	for _, o := range engine.Operations() {
		require.Equal(t, o.Path() == "secrets/waitForChange", o.Wait != 0, o.Path())
	}
	require.Equal(t, engine.MaxWait, new(wire.WaitForChangeRequest).MayWait(), "clients must know")
}

// TestALookWithoutNewsIsNoEvent: the request has not ended, and its end will
// be the event.
func TestALookWithoutNewsIsNoEvent(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/x"}`)
	body := fmt.Sprintf(`{"paths":["/a/x"],"afterIndex":%d}`, w.log.machine.State().Index())
	before := w.trail.Head().Sequence
	_, err := w.patient(w.admin, body)
	var not *engine.NotYet
	require.ErrorAs(t, err, &not)
	require.Equal(t, w.log.machine.State().Index(), not.Index)
	require.Equal(t, 24*time.Hour, not.For, "no longer than the token is good")
	require.Equal(t, before, w.trail.Head().Sequence)

	w.put("/a/x", "1")
	id, err := w.patient(w.admin, body)
	require.NoError(t, err)
	own, _ := w.story(id, "secrets.watch")
	require.Len(t, own, 1)

	// The right to the news is asked for with each look.
	token := w.principal("web", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/a/**"]}]`)
	body = fmt.Sprintf(`{"paths":["/a/x"],"afterIndex":%d}`, w.log.machine.State().Index())
	_, err = w.patient(token, body)
	require.ErrorAs(t, err, &not)
	w.put("/a/x", "2")
	w.ok("iam/detachPolicy", `{"policy":"web","principal":"web"}`)
	_, err = w.patient(token, body)
	w.refused(fault.AccessDenied, "", err)
	w.ok("iam/attachPolicy", `{"policy":"web","principal":"web"}`)
	w.ok("iam/revokeToken", `{"tokenId":%q}`, into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"web"}`)).Tokens[0].TokenID)
	id, err = w.patient(token, body)
	w.refused(fault.Unauthenticated, "", err)
	own, _ = w.story(id, "secrets.watch")
	require.Equal(t, audit.Denied, own[0].Outcome)
}

// watching runs what wakes waits until the test ends.
func (w *world) watching() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.engine.RunWatch(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
}

// TestAWaitEndsByWhatItWatchesAlone keeps thousands of waits, and counts which
// of them a change ends.
func TestAWaitEndsByWhatItWatchesAlone(t *testing.T) {
	w := newWorld(t)
	w.watching()
	const waits = 10_000
	index := w.log.machine.State().Index()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var running sync.WaitGroup
	var woken atomic.Int64
	ended := make([]atomic.Bool, waits)
	joined := make(chan struct{}, waits)
	for i := range waits {
		body := fmt.Sprintf(`{"paths":["/app/s%d","/other/s%d"]}`, i, i)
		if i%100 == 0 {
			body = fmt.Sprintf(`{"prefix":"/folder/f%d"}`, i)
		}
		wait := engine.NewWait([]byte(body))
		running.Go(func() {
			joined <- struct{}{}
			w.engine.Await(ctx, wait, index, time.Minute)
			if ctx.Err() == nil {
				ended[i].Store(true)
				woken.Add(1)
			}
		})
	}
	for range waits {
		<-joined
	}
	// A wait that joins after the change finds it in the state.
	w.ok("secrets/createSecret", `{"path":"/app/s7"}`)
	w.ok("secrets/createSecret", `{"path":"/other/s8"}`)
	w.ok("secrets/createSecret", `{"path":"/folder/f100/a/b/c"}`)
	for i := range 50 {
		w.ok("secrets/createSecret", `{"path":"/nobody/s%d"}`, i)
	}
	require.Eventually(t, func() bool { return ended[7].Load() && ended[8].Load() && ended[100].Load() }, 20*time.Second, time.Millisecond)
	require.EqualValues(t, 3, woken.Load())
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	require.Eventually(t, func() bool { return woken.Load() == waits }, 20*time.Second, time.Millisecond, "a change of rights is looked at by all")
	cancel()
	running.Wait()
}

func TestAWaitSeesWhatCameBeforeIt(t *testing.T) {
	w := newWorld(t)
	index := w.log.machine.State().Index()
	w.ok("secrets/createSecret", `{"path":"/a/x"}`)
	// Nothing wakes anybody here: it must not begin to wait at all.
	w.engine.Await(context.Background(), engine.NewWait([]byte(`{"paths":["/a/x"]}`)), index, time.Minute)
	w.engine.Await(context.Background(), engine.NewWait([]byte(`{"prefix":"/a"}`)), index, time.Minute)
	began := time.Now()
	w.engine.Await(context.Background(), engine.NewWait([]byte(`{"prefix":"/b"}`)), index, 20*time.Millisecond)
	require.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond)
}
