package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
)

// waiting sends a request that waits, and answers where its reply will be,
// once it has been looked at and there was no news.
func (n *node) waiting(token, fields string) <-chan reply {
	n.t.Helper()
	before := n.server.waits.Load()
	out := make(chan reply, 1)
	conn, err := net.Dial("tcp", n.address)
	require.NoError(n.t, err)
	go func() {
		defer conn.Close()
		out <- exchange(n.t, conn, post("secrets/waitForChange", token, fmt.Sprintf(`{"afterIndex":%d,%s}`, n.log.machine.State().Index(), fields)))
	}()
	require.Eventually(n.t, func() bool { return n.server.waits.Load() > before && len(n.server.looks) == 0 }, 10*time.Second, time.Millisecond)
	return out
}

func changes(t *testing.T, r reply) wire.WaitForChangeResponse {
	t.Helper()
	require.Equal(t, http.StatusOK, r.status, r.body)
	var out wire.WaitForChangeResponse
	require.NoError(t, json.Unmarshal([]byte(r.body), &out))
	return out
}

func (n *node) watchEvents() []audit.Event {
	n.t.Helper()
	events, _, err := n.trail.Query(context.Background(), audit.Filter{Events: []string{"secrets.watch"}, Limit: 1000})
	require.NoError(n.t, err)
	return events
}

func TestAWaitIsAnsweredWhenSomethingChanges(t *testing.T) {
	leader, follower := pair(t, nil)
	for _, n := range []*node{leader, follower} {
		path := "/app/" + n.name
		named, below := n.waiting(n.admin, `"timeout":"60s","paths":["/app/none",`+fmt.Sprintf("%q]", path)), n.waiting(n.admin, `"timeout":"60s","prefix":"/app"`)
		leader.ok("secrets/createSecret", `{"path":"/elsewhere/`+n.name+`"}`)
		leader.ok("secrets/createSecret", fmt.Sprintf(`{"path":%q,"value":%q}`, path, mark))
		for _, answered := range []<-chan reply{named, below} {
			got := changes(t, <-answered)
			require.Len(t, got.Changes, 1)
			require.Equal(t, path, got.Changes[0].Path)
			require.EqualValues(t, 1, got.Changes[0].CurrentVersion)
			require.GreaterOrEqual(t, got.Index, got.Changes[0].Index)
		}
	}
	require.Len(t, leader.watchEvents(), 4, "one event for each, where it was served")
	require.Empty(t, follower.watchEvents())
	require.Zero(t, leader.server.waits.Load()+follower.server.waits.Load())
}

func TestAWaitThatIsOverIsAnsweredWithNothing(t *testing.T) {
	leader, follower := pair(t, func(c *Config) { c.Timeout = 400 * time.Millisecond })
	for i, n := range []*node{leader, follower} {
		index := n.log.machine.State().Index()
		began := time.Now()
		got := changes(t, <-n.waiting(n.admin, `"timeout":"600ms","paths":["/a"]`))
		require.GreaterOrEqual(t, time.Since(began), 600*time.Millisecond, "longer than api.timeout")
		require.Empty(t, got.Changes)
		require.Equal(t, index, got.Index)
		require.Len(t, leader.watchEvents(), i+1)
	}
	require.NotContains(t, leader.ok("secrets/waitForChange", `{"prefix":"/","timeout":"0s","afterIndex":99}`).body, "null")
}

// TestAWaitGoesOnWhereverLeadershipGoes: it is asked again by the index, so
// what came in between is not missed.
func TestAWaitGoesOnWhereverLeadershipGoes(t *testing.T) {
	first, second := pair(t, nil)
	var waits []<-chan reply
	for _, n := range []*node{first, second} {
		waits = append(waits, n.waiting(n.admin, `"timeout":"60s","paths":["/app/x"]`))
	}
	first.lead("")
	command, err := fsm.Encode(fsm.CreateSecret{
		Meta: fsm.Meta{Time: time.Now().UnixMilli(), Principal: "admin"}, Path: "/app/x", SecretID: "s1", KeyID: first.log.machine.State().KeyByRef("alias/default").ID,
	})
	require.NoError(t, err)
	_, err = first.log.Propose(context.Background(), command)
	require.NoError(t, err)
	second.lead("n2")
	for _, answered := range waits {
		require.Len(t, changes(t, <-answered).Changes, 1)
	}
	require.Len(t, second.watchEvents(), 2)
	require.Empty(t, first.watchEvents())
}

func TestAWaitWithoutALeaderEndsInTime(t *testing.T) {
	n := single(t, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	answered := n.waiting(n.admin, `"timeout":"60s","paths":["/a"]`)
	n.lead("")
	command, err := fsm.Encode(fsm.CreatePrincipal{Meta: fsm.Meta{Time: time.Now().UnixMilli(), Principal: "admin"}, Principal: fsm.Principal{Name: "svc", Kind: "service"}})
	require.NoError(t, err)
	_, err = n.log.Propose(context.Background(), command) // it looks again
	require.NoError(t, err)
	r := <-answered
	require.Equal(t, "NoLeader", r.failed(t).Code)
	require.Contains(t, r.failed(t).Message, "nothing was missed")
	require.Equal(t, "1", r.header.Get("Retry-After"))
}

// TestAWaitEndsWithTheRightToIt: whoever lost it meanwhile learns that, and
// no news.
func TestAWaitEndsWithTheRightToIt(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.ok("iam/createPrincipal", `{"name":"web","kind":"service"}`)
	leader.ok("iam/putPolicy", `{"name":"web","statements":[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/**"]}]}`)
	for _, n := range []*node{leader, follower} {
		leader.ok("iam/attachPolicy", `{"policy":"web","principal":"web"}`)
		var token struct{ Token, TokenID string }
		require.NoError(t, json.Unmarshal([]byte(leader.ok("iam/createToken", `{"principal":"web"}`).body), &token))

		named, below := n.waiting(token.Token, `"timeout":"60s","paths":["/app/x"]`), n.waiting(token.Token, `"timeout":"60s","prefix":"/app"`)
		leader.ok("iam/detachPolicy", `{"policy":"web","principal":"web"}`)
		for _, answered := range []<-chan reply{named, below} {
			r := <-answered
			require.Equal(t, "AccessDenied", r.failed(t).Code)
		}
		leader.ok("iam/attachPolicy", `{"policy":"web","principal":"web"}`)
		answered := n.waiting(token.Token, `"timeout":"60s","paths":["/app/x"]`)
		leader.ok("iam/revokeToken", fmt.Sprintf(`{"tokenId":%q}`, token.TokenID))
		r := <-answered
		require.Equal(t, "Unauthenticated", r.failed(t).Code)
		leader.ok("iam/detachPolicy", `{"policy":"web","principal":"web"}`)
	}
	var story []string
	for _, e := range leader.watchEvents() {
		story = append(story, string(e.Outcome)+" "+e.Code)
	}
	require.Equal(t, strings.Repeat("denied AccessDenied,denied AccessDenied,denied Unauthenticated,", 2), strings.Join(story, ",")+",")
}

func TestAWaitEndsWithItsToken(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.ok("iam/createPrincipal", `{"name":"web","kind":"service"}`)
	leader.ok("iam/putPolicy", `{"name":"web","statements":[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/**"]}]}`)
	leader.ok("iam/attachPolicy", `{"policy":"web","principal":"web"}`)
	for _, n := range []*node{leader, follower} {
		var token struct{ Token, TokenID string }
		require.NoError(t, json.Unmarshal([]byte(leader.ok("iam/createToken", `{"principal":"web","ttl":"1s"}`).body), &token))
		r := <-n.waiting(token.Token, `"timeout":"60s","paths":["/app/x"]`)
		require.Equal(t, "Unauthenticated", r.failed(t).Code)
	}
}

// TestDrainingEndsWaits: with an empty answer, and its event.
func TestDrainingEndsWaits(t *testing.T) {
	leader, follower := pair(t, nil)
	for i, n := range []*node{follower, leader} {
		answered := n.waiting(n.admin, `"timeout":"60s","paths":["/a"]`)
		closed := make(chan error, 1)
		go func() { closed <- n.server.Close(context.Background()) }()
		require.Empty(t, changes(t, <-answered).Changes)
		require.NoError(t, <-closed, "nothing had to be cut")
		require.Len(t, leader.watchEvents(), i+1)
	}
}

// TestAWaitWhoseClientHangsUpIsAnEvent: it asked, though it heard nothing.
func TestAWaitWhoseClientHangsUpIsAnEvent(t *testing.T) {
	leader, follower := pair(t, nil)
	conn, err := net.Dial("tcp", follower.address)
	require.NoError(t, err)
	_, err = fmt.Fprint(conn, post("secrets/waitForChange", leader.admin, `{"paths":["/a"],"timeout":"60s"}`))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return follower.server.waits.Load() == 1 && len(follower.server.looks) == 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return len(leader.watchEvents()) == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, audit.OK, leader.watchEvents()[0].Outcome)
}

func TestWaitsAreBounded(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxConnections = 4 })
	a, b := n.waiting(n.admin, `"timeout":"60s","paths":["/a"]`), n.waiting(n.admin, `"timeout":"60s","paths":["/a"]`)
	r := n.call("secrets/waitForChange", `{"paths":["/a"]}`)
	require.Equal(t, "RateLimited", r.failed(t).Code)
	n.ok("secrets/createSecret", `{"path":"/a"}`)
	require.Len(t, changes(t, <-a).Changes, 1)
	require.Len(t, changes(t, <-b).Changes, 1)
	n.ok("secrets/waitForChange", `{"paths":["/a"]}`)

	r = n.call("secrets/waitForChange", `{"paths":["/a"],"timeout":"0s"`+strings.Repeat(" ", maxWaitBody)+`}`)
	require.Equal(t, "TooLarge", r.failed(t).Code)
	r = n.call("secrets/waitForChange", `{"paths":["a"],"timeout":"60s"}`)
	require.Equal(t, "InvalidRequest", r.failed(t).Code, "at once")
	r = n.send(post("secrets/waitForChange", "srt_wrong", `{"paths":["/a"],"timeout":"60s"}`))
	require.Equal(t, "Unauthenticated", r.failed(t).Code)
}

// TestWaitsHoldNoConnectionToTheLeader: hundreds of waits on a follower, and
// the change that ends them, leave the link between the nodes to others.
func TestWaitsHoldNoConnectionToTheLeader(t *testing.T) {
	leader, follower := pair(t, nil)
	var most, open atomic.Int64
	leader.log.hook(func(context.Context) error {
		now := open.Add(1)
		defer open.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		return nil
	}, nil)
	var waits []<-chan reply
	for range 300 {
		waits = append(waits, follower.waiting(leader.admin, `"timeout":"60s","paths":["/a"]`))
	}
	require.Zero(t, open.Load(), "nothing is open at the leader")
	leader.ok("secrets/createSecret", `{"path":"/a"}`)
	for _, answered := range waits {
		require.Len(t, changes(t, <-answered).Changes, 1)
	}
	require.LessOrEqual(t, most.Load(), int64(maxLooks)+1)
}
