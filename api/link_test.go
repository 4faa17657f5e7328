package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// pair is a leader n1 and a follower n2.
func pair(t testing.TB, change func(*Config)) (leader, follower *node) {
	c := newCluster(t)
	leader, follower = c.start("n1", change), c.start("n2", change)
	c.lead("n1")
	return leader, follower
}

func TestAFollowerHandsTheUntouchedRequestToTheLeader(t *testing.T) {
	leader, follower := pair(t, nil)
	body := "{ \"path\" :\t\"/a/b\",\n\"value\":\"" + mark + `"}`
	r := follower.ok("secrets/createSecret", body)
	require.Contains(t, r.body, `"path":"/a/b"`)
	require.Equal(t, "application/json", r.header.Get("Content-Type"))
	require.Equal(t, "no-store", r.header.Get("Cache-Control"))
	require.NotEmpty(t, r.header.Get(headerIndex))
	sent := leader.link.received()
	require.Contains(t, sent, body, "byte by byte")
	require.Contains(t, sent, "Authorization: Bearer "+leader.admin+"\r\n")
	require.Contains(t, sent, headerID+": "+r.header.Get(headerID)+"\r\n")

	own, _, err := leader.trail.Query(context.Background(), audit.Filter{RequestID: r.header.Get(headerID), Events: []string{"secrets.create"}})
	require.NoError(t, err)
	require.Len(t, own, 1, "one request, one id, on both nodes")
	require.Equal(t, "127.0.0.1", own[0].SourceAddress, "the address that the follower saw; the pipe has none")
	require.Equal(t, uint64(1), follower.trail.Head().Sequence, "the event is where the request is served")

	require.Contains(t, follower.ok("secrets/getSecretValue", `{"path":"/a/b"}`).body, mark)
	require.Contains(t, follower.ok("iam/whoAmI", `{}`).body, `"sourceAddress":"127.0.0.1"`)
}

// The event of a request that was handed on names the member that the client
// reached, as that one proved who it is. No header says it: not one of the
// client's, and not one that a member sends about somebody else.
func TestTheEventNamesTheMemberThatHandedTheRequestOn(t *testing.T) {
	leader, follower := pair(t, nil)
	forged := []string{"Via: n3", "Strongroom-Member: n3", headerVia + ": n3", "Strongroom-Peer: n3", headerSource + ": 10.0.0.1"}
	via := func(requestID string) string {
		t.Helper()
		events, _, err := leader.trail.Query(context.Background(), audit.Filter{RequestID: requestID})
		require.NoError(t, err)
		require.NotEmpty(t, events)
		for _, e := range events {
			require.Equal(t, events[0].Via, e.Via, "%s and the events within it came the same way", e.Event)
			require.NotContains(t, e.SourceAddress+e.Reason, "10.0.0.1")
		}
		return events[0].Via
	}
	require.Equal(t, "n2", via(follower.call("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`, forged...).header.Get(headerID)))
	require.Equal(t, "n2", via(follower.call("secrets/getSecretValue", `{"path":"/a/b"}`, forged...).header.Get(headerID)))
	require.Equal(t, "n2", via(follower.send(post("secrets/getSecretValue", "srt_x", `{"path":"/a/b"}`, forged...)).header.Get(headerID)), "of a denial, too")
	require.Empty(t, via(leader.call("secrets/getSecretValue", `{"path":"/a/b"}`, forged...).header.Get(headerID)), "it came here")
	require.Equal(t, "n2", via(follower.call("secrets/getSecretValue", `{"path":"/a/b"}`).header.Get(headerID)))

	conn, err := leader.link.dial("n4")
	require.NoError(t, err)
	defer conn.Close()
	r := exchange(t, conn, "POST "+linkForward+"iam/whoAmI HTTP/1.1\r\nHost: n1\r\nAuthorization: Bearer "+leader.admin+"\r\n"+headerID+": r-4\r\n"+
		headerSource+": 192.0.2.4\r\n"+strings.Join(forged[:4], "\r\n")+"\r\nContent-Length: 2\r\n\r\n{}")
	require.Equal(t, 200, r.status, r.body)
	require.Equal(t, "n4", via("r-4"), "a member speaks for itself only")
}

func TestErrorsOfTheLeaderComeBackAsTheyAre(t *testing.T) {
	leader, follower := pair(t, nil)
	for _, c := range []struct {
		text   string
		status int
		code   string
	}{
		{post("secrets/describeSecret", leader.admin, `{"path":"/a/none"}`), 404, "NotFound"},
		{post("secrets/describeSecret", leader.admin, `{"path":""}`), 400, "InvalidRequest"},
		{post("secrets/describeSecret", leader.admin, ``), 400, "InvalidRequest"},
		{post("secrets/describeSecret", "srt_x", `{"path":"/a"}`), 401, "Unauthenticated"},
		{post("secrets/describeSecret", "", `{"path":"/a"}`), 401, "Unauthenticated"},
	} {
		there, here := leader.send(c.text), follower.send(c.text)
		require.Equal(t, c.status, here.status)
		a, b := there.failed(t), here.failed(t)
		require.Equal(t, c.code, b.Code)
		b.RequestID = a.RequestID
		require.Equal(t, a, b)
		require.Equal(t, there.header.Get("WWW-Authenticate"), here.header.Get("WWW-Authenticate"))
	}
	leader.log.hook(func(context.Context) error { return fault.New(fault.HsmUnavailable, "away") }, nil)
	r := follower.call("secrets/describeSecret", `{"path":"/a"}`)
	require.Equal(t, "1", r.header.Get("Retry-After"))
	require.Equal(t, "HsmUnavailable", r.failed(t).Code)
}

func TestAClientCannotSayWhereItIs(t *testing.T) {
	leader, follower := pair(t, nil)
	for _, n := range []*node{leader, follower} {
		r := n.call("iam/whoAmI", `{}`, headerSource+": 10.0.0.1", "X-Forwarded-For: 10.0.0.2", "Forwarded: for=10.0.0.3", headerTimeout+": 1", headerID+": mine", headerHeard+": 7 77")
		require.Equal(t, 200, r.status)
		require.Contains(t, r.body, `"sourceAddress":"127.0.0.1"`)
		require.NotContains(t, r.header.Get(headerID), "mine")
	}
	require.NotContains(t, leader.link.received(), "10.0.0.")
	require.NotContains(t, leader.link.received(), headerHeard)
	for _, path := range []string{linkForward + "iam/whoAmI", linkTrail, linkChains, linkChain, linkClock, linkTLS} {
		r := leader.send("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n" + headerSource + ": 10.0.0.1\r\n\r\n{}")
		require.Equal(t, 404, r.status, "the link is not on the public port")
	}
}

// TestAWriteOfALostLeaderIsUncertain breaks the connection after the command
// was applied and before the answer.
func TestAWriteOfALostLeaderIsUncertain(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.log.hook(nil, func() error { leader.link.cut(); return nil })
	body := `{"path":"/a/b","value":"` + mark + `","clientToken":"lost-1"}`
	r := follower.call("secrets/createSecret", body)
	require.Equal(t, 503, r.status)
	require.Equal(t, "Uncertain", r.failed(t).Code)
	require.Contains(t, r.failed(t).Message, "retry with the same clientToken")
	require.Equal(t, "1", r.header.Get("Retry-After"))
	require.Equal(t, 1, leader.link.dialed(), "a write that may have been done is not sent again by itself")
	leader.log.hook(nil, nil)
	require.Contains(t, follower.ok("secrets/createSecret", body).body, `"version":1`, "the retry finds what was done")
}

func TestAReadOfALostLeaderIsAskedAgain(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.ok("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`)
	var asked atomic.Int64
	leader.log.hook(func(context.Context) error {
		if asked.Add(1) <= 2 {
			leader.link.cut()
		}
		return nil
	}, nil)
	require.Contains(t, follower.ok("secrets/getSecretValue", `{"path":"/a/b"}`).body, mark)
	require.GreaterOrEqual(t, asked.Load(), int64(3))
}

func TestAWriteThatWasNotSentIsTriedUntilItIs(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.link.refuse(true)
	answered := make(chan reply, 1)
	go func() { answered <- follower.call("secrets/createSecret", `{"path":"/a/b"}`) }()
	require.Eventually(t, func() bool { return leader.link.dialed() >= 3 }, 10*time.Second, time.Millisecond)
	leader.link.refuse(false)
	require.Equal(t, 200, (<-answered).status)
}

// TestWhoDoesNotLeadSaysSoAndTheFirstNodeLooksAnew: n2 believes that n3
// leads, n3 knows that it does not.
func TestWhoDoesNotLeadSaysSoAndTheFirstNodeLooksAnew(t *testing.T) {
	c := newCluster(t)
	n1, n2, n3 := c.start("n1", nil), c.start("n2", nil), c.start("n3", nil)
	c.lead("n1")
	c.tell("n2", "n3")
	answered := make(chan reply, 1)
	go func() { answered <- n2.call("secrets/createSecret", `{"path":"/a/b"}`) }()
	// Each refusal is an exchange over the link to n3; the connection stays.
	require.Eventually(t, func() bool { return strings.Count(n3.link.received(), "POST "+linkForward) >= 3 }, 10*time.Second, time.Millisecond)
	require.Zero(t, n1.link.dialed(), "a request that was handed on is not handed on again")
	c.tell("n2", "n1")
	require.Equal(t, 200, (<-answered).status)
	require.Equal(t, uint64(1), n3.trail.Head().Sequence, "who did nothing has nothing to tell")
}

// TestTheLeaderWorksNoLongerThanTheFollowerWaits: an answer that nobody waits
// for any more is not worked on.
func TestTheLeaderWorksNoLongerThanTheFollowerWaits(t *testing.T) {
	c := newCluster(t)
	leader := c.start("n1", func(c *Config) { c.Timeout = time.Hour })
	follower := c.start("n2", func(c *Config) { c.Timeout = 2 * time.Second })
	c.lead("n1")
	var left time.Duration
	leader.log.hook(func(ctx context.Context) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil
	}, nil)
	require.Equal(t, 200, follower.call("iam/whoAmI", `{}`).status)
	require.Positive(t, left)
	require.LessOrEqual(t, left, 2*time.Second)
	require.Equal(t, 200, leader.call("iam/whoAmI", `{}`).status)
	require.Greater(t, left, time.Minute)
}

func TestWithoutALeaderTheTimeRunsOut(t *testing.T) {
	c := newCluster(t)
	change := func(c *Config) { c.Timeout = 200 * time.Millisecond }
	n2 := c.start("n2", change)
	c.start("n3", change)
	for name, leader := range map[string]string{"nobody leads": "", "the leader says that it does not": "n3", "the leader is not there": "n9"} {
		c.tell("n2", leader)
		c.tell("n3", "n2")
		r := n2.call("secrets/createSecret", `{"path":"/a/b"}`)
		require.Equal(t, 503, r.status, name)
		require.Equal(t, "NoLeader", r.failed(t).Code, name)
		require.Contains(t, r.failed(t).Message, "nothing was done", name)
		require.Equal(t, "1", r.header.Get("Retry-After"))
	}
	require.Zero(t, n2.link.dialed())
}

// anonymous hands over connections that say nothing of who they are from, as
// a listener would that verifies nobody.
type anonymous struct{ *pipes }

func (a anonymous) Accept() (net.Conn, error) {
	conn, err := a.pipes.Accept()
	if err != nil {
		return nil, err
	}
	return conn.(*peerConn).Conn, nil
}

func TestTheLinkServesMembersOnly(t *testing.T) {
	n := single(t, nil)
	link := newPipes()
	served := make(chan error, 1)
	go func() { served <- n.server.ServeLink(anonymous{link}) }()
	for name, dial := range map[string]func() (net.Conn, error){
		"nobody":                  func() (net.Conn, error) { return link.dial("n2") },
		"a member without a name": func() (net.Conn, error) { return n.link.dial("") },
	} {
		for _, path := range []string{linkForward + "iam/whoAmI", linkTrail, linkChains, linkChain, linkClock, linkTLS} {
			conn, err := dial()
			require.NoError(t, err)
			text := "POST " + path + " HTTP/1.1\r\nHost: n1\r\nAuthorization: Bearer " + n.admin + "\r\n" + headerSource + ": 10.0.0.1\r\nContent-Length: 2\r\n\r\n{}"
			r := exchange(t, conn, text)
			require.Equal(t, 404, r.status, name)
			require.Contains(t, r.body, "there is nothing here")
			require.NoError(t, conn.Close())
		}
	}
	require.NoError(t, link.Close())
	require.NoError(t, n.server.Close(context.Background()))
	require.NoError(t, <-served)
}

func TestWhatAMemberMaySendIsBoundedToo(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxBodyBytes = 100 })
	ask := func(path, headers, body string) reply {
		conn, err := n.link.dial("n2")
		require.NoError(t, err)
		defer conn.Close()
		return exchange(t, conn, "POST "+path+" HTTP/1.1\r\nHost: n1\r\n"+headers+"\r\n"+body)
	}
	r := ask(linkForward+"iam/whoAmI", headerID+": r-1\r\n"+headerSource+": 10.0.0.1\r\nAuthorization: Bearer "+n.admin+"\r\nContent-Length: 2\r\n", "{}")
	require.Equal(t, 200, r.status)
	require.Contains(t, r.body, `"sourceAddress":"10.0.0.1"`)
	require.Equal(t, "r-1", r.header.Get(headerID))
	require.Equal(t, 413, ask(linkForward+"iam/whoAmI", headerSource+": 10.0.0.1\r\nContent-Length: 101\r\n", "").status)
	require.Equal(t, 500, ask(linkForward+"iam/whoAmI", headerSource+": somewhere\r\nContent-Length: 2\r\n", "{}").status)
	require.Equal(t, 404, ask(linkForward+"iam/fly", "Content-Length: 2\r\n", "{}").status)
	require.Equal(t, 400, ask(linkTrail, "Content-Length: 2\r\n", "[]").status)
	require.Equal(t, 400, ask(linkChain, "Content-Length: 2\r\n", "[]").status)
	require.Equal(t, 400, ask(linkChain, "Content-Length: 2\r\n", "{}").status, "no chain is named")
}

// A member is handed the lines of a chain as they are written. Who waits for
// more is answered when the node stops, and does not hold that up.
func TestMembersTakeEachOthersChains(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.ok("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`)
	ctx := context.Background()
	list, err := follower.server.link.Chains(ctx, "n1", engine.ChainsQuery{})
	require.NoError(t, err)
	require.Len(t, list.Chains, 1)
	own := list.Chains[0]
	require.True(t, own.Own)
	q := engine.ChainQuery{Node: "n1", Chain: own.Chain}
	run, err := follower.server.link.Chain(ctx, "n1", q)
	require.NoError(t, err)
	require.EqualValues(t, 1, run.First)
	require.Positive(t, run.Count)
	require.Contains(t, string(run.Data), `"audit.open"`)
	require.NotContains(t, string(run.Data), mark)

	q.After, q.Hash, q.WaitMs = 1_000_000, own.Hash, 10_000
	run, err = follower.server.link.Chain(ctx, "n1", q)
	require.NoError(t, err)
	require.True(t, run.Forked, "nobody can hold more than there is")

	// The head may still move under the asker: then it asks behind the new one.
	done := make(chan error, 1)
	leader.server.Drain()
	go func() {
		for {
			list, err := follower.server.link.Chains(ctx, "n1", engine.ChainsQuery{})
			if err != nil {
				done <- err
				return
			}
			head := list.Chains[0]
			run, err := follower.server.link.Chain(ctx, "n1", engine.ChainQuery{Node: "n1", Chain: head.Chain, After: head.Sequence, Hash: head.Hash, WaitMs: 10_000})
			if err != nil || run.Count == 0 {
				done <- err
				return
			}
		}
	}()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(8 * time.Second):
		t.Fatal("who waits holds up a node that stops")
	}
}

func TestMembersAskForEachOthersTrails(t *testing.T) {
	leader, follower := pair(t, nil)
	leader.ok("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`)
	page, err := follower.server.link.Events(context.Background(), "n1", engine.TrailQuery{Event: "secrets.create", Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Events, 1)
	require.Equal(t, "n1", page.Events[0].Node)
	require.NotNil(t, page.Events[0].Time)
	local, err := leader.engine.LocalEvents(context.Background(), engine.TrailQuery{Event: "secrets.create", Limit: 10})
	require.NoError(t, err)
	want, err := json.Marshal(local)
	require.NoError(t, err)
	got, err := json.Marshal(page)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got), "nothing is lost on the way")

	_, err = follower.server.link.Events(context.Background(), "n9", engine.TrailQuery{})
	require.ErrorContains(t, err, "n9")
}

func TestBrokenExchangesMeanWhatTheyMayMean(t *testing.T) {
	write, read := engine.Find("secrets", "createSecret"), engine.Find("secrets", "getSecretValue")
	lost := errors.New("reset")
	for _, c := range []struct {
		o    *engine.Operation
		sent bool
		err  error
		want fault.Kind
	}{
		{write, true, lost, fault.Uncertain}, {write, false, lost, fault.NoLeader}, {read, true, lost, fault.NoLeader}, {read, false, lost, fault.NoLeader},
		{write, true, context.DeadlineExceeded, fault.Uncertain}, {write, true, context.Canceled, fault.Uncertain}, {write, true, io.EOF, fault.Uncertain},
	} {
		require.Equal(t, c.want, fault.KindOf(broken(context.Background(), c.o, c.sent, c.err)))
		require.ErrorIs(t, broken(context.Background(), c.o, c.sent, c.err), c.err)
	}
}

func TestMembersTellEachOtherTheTime(t *testing.T) {
	leader, follower := pair(t, nil)
	before := time.Now()
	reading, err := follower.server.link.Clock(context.Background(), "n1", engine.ClockQuery{})
	require.NoError(t, err)
	require.WithinRange(t, time.UnixMilli(reading.UnixMs), before.Truncate(time.Millisecond), time.Now())
	local, err := leader.engine.LocalClock(context.Background(), engine.ClockQuery{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, local.UnixMs, reading.UnixMs)
	_, err = follower.server.link.Clock(context.Background(), "n9", engine.ClockQuery{})
	require.ErrorContains(t, err, "n9")
}

// A node that follows serves a read by itself once it has the leader's word, and
// hands the same request to the leader, under the same id, when it has not.
func TestAFollowerServesAReadByTheLeadersWord(t *testing.T) {
	leader, follower := pair(t, nil)
	var deaf atomic.Bool
	follower.engine.Cluster.AskLeader = func(_ context.Context, item []byte) (engine.Reading, error) {
		if deaf.Load() {
			return engine.Reading{}, errors.New("no answer")
		}
		sent := time.Now()
		answer := leader.engine.AnswerFollowers()
		state := leader.log.machine.State()
		return engine.Reading{State: state, Answer: answer(state, "n2", [][]byte{item})[0], Sent: sent}, nil
	}
	leader.ok("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`)
	where := func(operation, body string) (here, there int) {
		t.Helper()
		r := follower.ok(operation, body)
		require.NotEmpty(t, r.header.Get(headerIndex))
		for i, n := range []*node{follower, leader} {
			events, _, err := n.trail.Query(context.Background(), audit.Filter{RequestID: r.header.Get(headerID)})
			require.NoError(t, err)
			*[]*int{&here, &there}[i] = len(events)
		}
		return here, there
	}
	here, there := where("secrets/describeSecret", `{"path":"/a/b"}`)
	require.Equal(t, []int{1, 0}, []int{here, there})
	here, there = where("secrets/getSecretValue", `{"path":"/a/b"}`)
	require.Equal(t, []int{0, 2}, []int{here, there}, "the leader has not consented yet")
	require.Regexp(t, headerHeard+`: [1-9][0-9]* [1-9][0-9]+\r\n`, leader.link.received(), "and is told how old the request is")
	deaf.Store(true)
	here, there = where("secrets/describeSecret", `{"path":"/a/b"}`)
	require.Equal(t, []int{0, 1}, []int{here, there})
	deaf.Store(false)
	require.Equal(t, 404, follower.call("secrets/describeSecret", `{"path":"/a/none"}`).status)
	require.Equal(t, 401, follower.send(post("secrets/describeSecret", "srt_x", `{"path":"/a/b"}`)).status)
	require.Contains(t, leader.link.received(), "srt_x", "failures are counted where all are")
}
