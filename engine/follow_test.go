package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/trust"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// behind is a node that follows the one of a world: its own trail, HSM and
// clock, and the same log.
type behind struct {
	*world
	engine   *engine.Engine
	trail    *audit.Trail
	registry *prometheus.Registry
	hsm      *failingToken
	clock    time.Duration // ahead of the leader's
	state    *fsm.State    // what it has applied, nil: everything
	asked    int
	deaf     bool   // the leader does not answer
	between  func() // between the leader's answer and what is done with it
}

type failingToken struct {
	*softtoken.Token
	gone bool
}

func (f *failingToken) Open(ctx context.Context, k wrapped.Key, iv, box, aad []byte) (secret.Bytes, error) {
	if f.gone {
		return secret.Bytes{}, fault.New(fault.HsmUnavailable, "the HSM is gone")
	}
	return f.Token.Open(ctx, k, iv, box, aad)
}

// behindLog is the log as a node sees it that does not lead.
type behindLog struct{ *behind }

func (l behindLog) Propose(context.Context, []byte) (fsm.Result, error) {
	return fsm.Result{}, fault.New(fault.NoLeader, "follows")
}

func (l behindLog) ReadState(context.Context) (*fsm.State, error) {
	return nil, fault.New(fault.NoLeader, "follows")
}

func (l behindLog) Local() *fsm.State {
	if l.state != nil {
		return l.state
	}
	return l.log.machine.State()
}

func (l behindLog) Moved() <-chan struct{} { return l.log.Moved() }

func newBehind(t *testing.T) *behind {
	w := newWorld(t)
	b := &behind{world: w, registry: prometheus.NewRegistry(), hsm: &failingToken{Token: w.token}}
	var err error
	b.trail, err = audit.Open(audit.Config{Dir: t.TempDir(), Node: "n2", Durability: audit.Written, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.trail.Close() })
	service, err := kms.New(b.hsm, w.engine.ClusterID)
	require.NoError(t, err)
	b.engine, err = engine.New(engine.Config{
		Node: "n2", ClusterID: w.engine.ClusterID, Log: behindLog{b}, KMS: service, Trail: b.trail, BootID: "boot",
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now().Add(b.clock) }, Trusts: trust.New(trust.Config{}),
		Registerer: b.registry, Cluster: engine.Cluster{AskLeader: b.askLeader},
	})
	require.NoError(t, err)
	for _, more := range []string{"", "2", "3"} {
		b.ok("secrets/createSecret", `{"path":%q}`, behindPath+more)
	}
	return b
}

func (b *behind) askLeader(ctx context.Context, item []byte) (engine.Reading, error) {
	if b.deaf {
		return engine.Reading{}, errors.New("no answer")
	}
	b.asked++
	sent := b.now().Add(b.clock)
	answer := b.world.engine.AnswerFollowers()
	state, err := b.log.ReadState(ctx)
	if err != nil {
		return engine.Reading{}, err
	}
	out := answer(state, "n2", [][]byte{item})
	if b.between != nil {
		b.between()
	}
	return engine.Reading{State: state, Answer: out[0], Sent: sent}, nil
}

// follow sends a request to the node that follows.
func (b *behind) follow(token, operation, format string, args ...any) (string, error) {
	service, name, _ := strings.Cut(operation, "/")
	o := engine.Find(service, name)
	answer, err := b.engine.Follow(context.Background(), o, engine.Caller{RequestID: uuid.NewString(), Token: token, Source: b.source}, fmt.Appendf(nil, format, args...))
	defer answer.Wipe()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	require.NoError(b.t, wire.Encode(&out, answer.Response))
	return out.String(), nil
}

// served is follow for the administrator, and must succeed.
func (b *behind) served(operation, format string, args ...any) string {
	b.t.Helper()
	out, err := b.follow(b.admin, operation, format, args...)
	require.NoError(b.t, err)
	return out
}

// handedOn is a request that the node hands to the leader, for why.
func (b *behind) handedOn(why, token, operation, format string, args ...any) {
	b.t.Helper()
	before := b.count(why)
	_, err := b.follow(token, operation, format, args...)
	b.refused(fault.NoLeader, "", err)
	require.InDelta(b.t, before+1, b.count(why), 0, why)
}

func (b *behind) count(result string) float64 {
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, f := range families {
		if f.GetName() != "strongroom_follower_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// known makes the administrator a consumer that the ledger of the state knows
// for a while: it read by way of the node, and that is committed.
func (b *behind) known(body string) {
	b.t.Helper()
	o := engine.Find("secrets", "getSecretValue")
	answer, err := b.world.engine.Do(context.Background(), o, engine.Caller{RequestID: uuid.NewString(), Token: b.admin, Source: b.source, Member: "n2"}, []byte(body))
	require.NoError(b.t, err)
	answer.Wipe()
	b.world.engine.FlushLedger(context.Background())
}

const behindPath = "/app/dev/web/behind"

// TestEveryOperationSaysWhoServesIt: what changes nothing is in the table, with
// why where the leader serves it, and what changes state is never served here.
func TestEveryOperationSaysWhoServesIt(t *testing.T) {
	said := engine.FollowTable()
	for _, o := range engine.Operations() {
		why, there := said[o.Path()]
		require.Equal(t, !o.Write, there, o.Path())
		require.Equal(t, there && why == "", o.Follows, o.Path())
		delete(said, o.Path())
	}
	require.Empty(t, said, "operations that are not there")
}

func TestANodeThatFollowsServesReads(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "v1")
	got := b.served("secrets/describeSecret", `{"path":%q}`, behindPath)
	require.Equal(t, b.ok("secrets/describeSecret", `{"path":%q}`, behindPath), got)
	events, _, err := b.trail.Query(context.Background(), audit.Filter{Events: []string{"secrets.describe"}, Limit: 10})
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.Equal(t, "n2", events[0].Node)
	require.Empty(t, events[0].Via)
	require.Equal(t, "admin", events[0].Principal)

	// The first read of a value by a consumer is the leader's; the next ones are
	// not, while the ledger of the state covers them.
	body := fmt.Sprintf(`{"path":%q,"instance":"i1"}`, behindPath)
	b.handedOn("consent", b.admin, "secrets/getSecretValue", "%s", body)
	b.known(body)
	value := into[wire.GetSecretValueResponse](t, b.served("secrets/getSecretValue", "%s", body))
	require.Equal(t, "v1", string(value.Value.Expose()))
	events, _, err = b.trail.Query(context.Background(), audit.Filter{Events: []string{"secrets.get_value", "kms.decrypt"}, Outcome: audit.OK, Limit: 10})
	require.NoError(t, err)
	require.Len(t, events, 2, "no value without its events")
	require.Equal(t, "i1", events[1].Consumer.Instance)
	require.NotZero(t, events[1].Consumer.Stamp)

	b.setNow(b.now().Add(10 * time.Minute))
	b.handedOn("consent", b.admin, "secrets/getSecretValue", "%s", body)
}

func TestABatchIsServedByANodeThatFollows(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "one")
	b.put(behindPath+"2", "two")
	b.known(fmt.Sprintf(`{"path":%q}`, behindPath))
	batch := fmt.Sprintf(`{"items":[{"path":%q},{"path":%q},{"path":"/app/dev/web/none"}]}`, behindPath, behindPath+"2")
	b.handedOn("consent", b.admin, "secrets/batchGetSecretValue", "%s", batch)
	b.known(fmt.Sprintf(`{"path":%q}`, behindPath+"2"))
	out := into[wire.BatchGetSecretValueResponse](t, b.served("secrets/batchGetSecretValue", "%s", batch))
	require.Equal(t, "one", string(out.Results[0].Value.Expose()))
	require.Equal(t, "two", string(out.Results[1].Value.Expose()))
	require.Equal(t, "NotFound", out.Results[2].Error.Code)
}

// What was taken away is taken away at once: the guess from an old state asks,
// and the state that the leader's word made fresh decides.
func TestANodeThatFollowsDecidesByTheLeadersWord(t *testing.T) {
	b := newBehind(t)
	token := b.principal("svc", `[{"effect":"allow","actions":["secrets:*"],"paths":["/app/dev/**"]}]`)
	b.put(behindPath, "v1")
	body := fmt.Sprintf(`{"path":%q}`, behindPath)
	read := func() error { _, err := b.follow(token, "secrets/getSecretValue", "%s", body); return err }
	asMember := func() {
		o := engine.Find("secrets", "getSecretValue")
		answer, err := b.world.engine.Do(context.Background(), o, engine.Caller{RequestID: uuid.NewString(), Token: token, Source: b.source, Member: "n2"}, []byte(body))
		require.NoError(t, err)
		answer.Wipe()
		b.world.engine.FlushLedger(context.Background())
	}
	asMember()
	require.NoError(t, read())

	b.state = b.log.machine.State() // what it had applied when it guessed
	b.ok("iam/detachPolicy", `{"policy":"svc","principal":"svc"}`)
	b.refused(fault.AccessDenied, "", read())
	b.ok("iam/attachPolicy", `{"policy":"svc","principal":"svc"}`)
	require.NoError(t, read())
	b.ok("secrets/disableVersion", `{"path":%q,"version":1,"reason":"leaked"}`, behindPath)
	b.refused(fault.VersionNotActive, "disabled", read())
	b.ok("secrets/enableVersion", `{"path":%q,"version":1,"reason":"no"}`, behindPath)
	require.NoError(t, read())
	b.put(behindPath, "v2")
	b.handedOn("consent", token, "secrets/getSecretValue", "%s", body) // the guess was version 1
	b.state = nil
	asMember()
	require.NoError(t, read())

	b.state = b.log.machine.State()
	tokens := into[wire.ListTokensResponse](t, b.ok("iam/listTokens", `{"principal":"svc"}`))
	b.ok("iam/revokeToken", `{"tokenId":%q}`, tokens.Tokens[0].TokenID)
	b.handedOn("unauthenticated", token, "secrets/getSecretValue", "%s", body)
	b.handedOn("unauthenticated", token, "secrets/describeSecret", "%s", body)
	require.Empty(t, b.world.engine.Lent(), "what nobody got is given back")
}

// A version that a node is about to hand out is not destroyed: the destruction
// waits until the node has told how it ended, and decides by that.
func TestNoVersionIsDestroyedWhileANodeThatFollowsHandsItOut(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "v1")
	b.known(fmt.Sprintf(`{"path":%q,"instance":"i1"}`, behindPath))
	b.put(behindPath, "v2")
	b.known(fmt.Sprintf(`{"path":%q,"instance":"i1"}`, behindPath))
	destroy := func() error {
		_, err := b.as(b.admin, "secrets/destroyVersion", fmt.Sprintf(`{"path":%q,"version":1,"reason":"old"}`, behindPath))
		return err
	}
	b.between = func() {
		b.between = nil
		b.ok("secrets/confirmVersion", `{"path":%q,"version":2,"instance":"i1"}`, behindPath)
		b.world.engine.FlushLedger(context.Background())
		// It says that it uses 2 while 1 is on its way to it.
		b.refused(fault.VersionInUse, "", destroy())
	}
	b.served("secrets/getSecretValue", `{"path":%q,"version":1,"instance":"i1"}`, behindPath)
	b.engine.TellLeader(context.Background())
	b.refused(fault.VersionInUse, "", destroy())
	b.setNow(b.now().Add(time.Second))
	b.ok("secrets/confirmVersion", `{"path":%q,"version":2,"instance":"i1"}`, behindPath)
	require.NoError(t, destroy())
	_, err := b.follow(b.admin, "secrets/getSecretValue", `{"path":%q,"version":1,"instance":"i1"}`, behindPath)
	b.refused(fault.VersionNotActive, "destroyed", err)
}

// While a version is being destroyed, and while the outcome is not known, the
// leader consents to nothing.
func TestTheLeaderConsentsToNothingThatIsBeingDestroyed(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "v1")
	body := fmt.Sprintf(`{"path":%q,"version":1}`, behindPath)
	b.known(body)
	b.put(behindPath, "v2")
	b.log.proposing = func() {
		b.log.proposing = nil
		b.handedOn("consent", b.admin, "secrets/getSecretValue", "%s", body)
	}
	_, err := b.as(b.admin, "secrets/destroyVersion", fmt.Sprintf(`{"path":%q,"version":1,"force":true,"reason":"leaked"}`, behindPath))
	require.NoError(t, err)
	_, err = b.follow(b.admin, "secrets/getSecretValue", "%s", body)
	b.refused(fault.VersionNotActive, "destroyed", err)
}

// What a consumer says on a node that follows counts as on the leader.
func TestAWordOnANodeThatFollowsReleases(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "v1")
	b.known(fmt.Sprintf(`{"path":%q,"instance":"i1"}`, behindPath))
	b.served("secrets/getSecretValue", `{"path":%q,"instance":"i1"}`, behindPath)
	b.put(behindPath, "v2")
	b.known(fmt.Sprintf(`{"path":%q,"instance":"i1"}`, behindPath))
	b.served("secrets/getSecretValue", `{"path":%q,"instance":"i1"}`, behindPath)
	b.engine.TellLeader(context.Background())
	b.setNow(b.now().Add(time.Second))
	out := into[wire.GetSecretValueResponse](t, b.served("secrets/getSecretValue", `{"path":%q,"instance":"i1","ifNotVersion":2}`, behindPath))
	require.True(t, out.NotModified)
	b.engine.TellLeader(context.Background())
	lines := into[wire.ListConsumersResponse](t, b.ok("secrets/listConsumers", `{"path":%q}`, behindPath))
	require.Len(t, lines.Consumers, 2)
	require.True(t, lines.Consumers[0].Confirmed)
	require.EqualValues(t, 2, lines.Consumers[1].MovedTo)
	b.ok("secrets/destroyVersion", `{"path":%q,"version":1,"reason":"old"}`, behindPath)
}

// A word that is refused says nothing.
func TestAWordOfWhoIsDeniedDoesNotRelease(t *testing.T) {
	b := newBehind(t)
	token := b.principal("svc", `[{"effect":"allow","actions":["secrets:*"],"paths":["/app/dev/**"]}]`)
	b.put(behindPath, "v1")
	body := fmt.Sprintf(`{"path":%q}`, behindPath)
	_, err := b.as(token, "secrets/getSecretValue", body)
	require.NoError(t, err)
	b.put(behindPath, "v2")
	b.served("secrets/describeSecret", "%s", body) // it has heard of the session
	b.setNow(b.now().Add(time.Second))
	b.ok("iam/detachPolicy", `{"policy":"svc","principal":"svc"}`)
	_, err = b.follow(token, "secrets/getSecretValue", `{"path":%q,"ifNotVersion":2}`, behindPath)
	b.refused(fault.AccessDenied, "", err)
	b.engine.TellLeader(context.Background())
	_, err = b.as(b.admin, "secrets/destroyVersion", fmt.Sprintf(`{"path":%q,"version":1,"reason":"old"}`, behindPath))
	b.refused(fault.VersionInUse, "", err)
}

// Times are the leader's: a node whose clock is wrong opens no window, and an
// expired token is no good there.
func TestTheLeadersClockDecidesOnANodeThatFollows(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "v1")
	b.clock = -48 * time.Hour
	got := into[wire.WhoAmIResponse](t, b.served("iam/whoAmI", `{}`))
	require.Equal(t, "admin", got.Principal)
	events, _, err := b.trail.Query(context.Background(), audit.Filter{Events: []string{"iam.who_am_i"}, Limit: 10})
	require.NoError(t, err)
	require.True(t, b.now().Equal(events[0].Time), "%s", events[0].Time)
	b.setNow(b.now().Add(25 * time.Hour))
	b.handedOn("unauthenticated", b.admin, "iam/whoAmI", `{}`)
}

// Everything that this node cannot do, or that must be counted for all nodes,
// goes to the leader, and nothing of it stays.
func TestWhatANodeThatFollowsHandsOn(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "v1")
	body := fmt.Sprintf(`{"path":%q}`, behindPath)
	b.known(body)
	b.served("secrets/getSecretValue", "%s", body)

	b.hsm.gone = true
	fresh := fmt.Sprintf(`{"path":%q}`, behindPath+"3")
	b.put(behindPath+"3", "v3")
	b.known(fresh)
	b.handedOn("hsm", b.admin, "secrets/getSecretValue", "%s", fresh)
	b.hsm.gone = false

	b.deaf = true
	b.handedOn("leader", b.admin, "secrets/getSecretValue", "%s", body)
	b.deaf = false

	b.between = func() { b.setNow(b.now().Add(11 * time.Second)) }
	b.handedOn("slow", b.admin, "secrets/describeSecret", "%s", body)
	b.between = nil

	b.handedOn("unauthenticated", "nobody", "secrets/getSecretValue", "%s", body)

	b.ok("iam/putRateLimit", `{"name":"reads","kind":"valueReads","per":"principal","count":5}`)
	b.handedOn("rateLimit", b.admin, "secrets/getSecretValue", "%s", body)
	b.served("secrets/describeSecret", "%s", body)
	b.ok("iam/putRateLimit", `{"name":"all","kind":"requests","per":"principal","count":5}`)
	b.handedOn("rateLimit", b.admin, "secrets/describeSecret", "%s", body)

	require.NoError(t, b.trail.Close())
	b.handedOn("audit", b.admin, "secrets/describeSecret", "%s", body)
	require.Empty(t, b.world.engine.Lent())
}

// A node that dies, or is cut off, tells nothing: what it was lent counts as
// handed out after a while.
func TestWhatANodeNeverToldCountsAsHandedOut(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "v1")
	b.known(fmt.Sprintf(`{"path":%q,"instance":"i1"}`, behindPath))
	b.put(behindPath, "v2")
	b.served("secrets/getSecretValue", `{"path":%q,"version":1,"instance":"i1"}`, behindPath)
	require.Len(t, b.world.engine.Lent(), 1)
	b.setNow(b.now().Add(time.Minute))
	b.world.engine.FlushLedger(context.Background())
	require.Empty(t, b.world.engine.Lent())
	_, err := b.as(b.admin, "secrets/destroyVersion", fmt.Sprintf(`{"path":%q,"version":1,"reason":"old"}`, behindPath))
	b.refused(fault.VersionInUse, "", err)
}

// The leader is told of the use of credentials and keys, and writes it.
func TestTheLeaderIsToldOfUses(t *testing.T) {
	b := newBehind(t)
	token := b.principal("svc", `[{"effect":"allow","actions":["secrets:*"],"paths":["/app/dev/**"]}]`)
	b.put(behindPath, "v1")
	_, err := b.follow(token, "secrets/describeSecret", `{"path":%q}`, behindPath)
	require.NoError(t, err)
	b.engine.TellLeader(context.Background())
	tokens := into[wire.ListTokensResponse](t, b.ok("iam/listTokens", `{"principal":"svc"}`))
	require.Equal(t, b.now().UnixMilli(), tokens.Tokens[0].LastUsedAt.UnixMilli())
}

// Sessions end what was of them: a leader that took over knows nothing of what
// another one lent, and hears nothing of it.
func TestWhatWasLentInAnotherSessionIsForgotten(t *testing.T) {
	b := newBehind(t)
	b.put(behindPath, "v1")
	body := fmt.Sprintf(`{"path":%q}`, behindPath)
	b.known(body)
	b.served("secrets/getSecretValue", "%s", body)
	require.NoError(t, b.world.engine.OpenLedger(context.Background()))
	b.served("secrets/getSecretValue", "%s", body)
	b.engine.TellLeader(context.Background())
	require.Len(t, b.world.engine.Lent(), 1, "of the session before; it is overdue one day")
}

// What a consumer says is as old as the request: if a node that follows had it
// for a while before it handed it on, what the consumer was given meanwhile it
// may have all the same.
func TestAWordIsAsOldAsTheRequestThatCameToAnotherNode(t *testing.T) {
	for what, told := range map[string]bool{"handed on with its age": true, "as if it were new": false} {
		t.Run(what, func(t *testing.T) {
			b := newBehind(t)
			b.put(behindPath, "v1")
			b.known(`{"path":"` + behindPath + `","instance":"i0"}`)
			b.put(behindPath, "v2")
			b.served("secrets/describeSecret", `{"path":%q}`, behindPath) // it has heard of the leader's ledger
			o := engine.Find("secrets", "getSecretValue")
			from := engine.Caller{RequestID: uuid.NewString(), Token: b.admin, Source: b.source, Member: "n2"}
			heard := b.engine.Heard(o, engine.Caller{Token: b.admin})
			require.NotNil(t, heard)
			require.NotZero(t, heard.Session)

			b.known(`{"path":"` + behindPath + `","instance":"i0"}`) // version 2, by another request of it
			b.put(behindPath, "v3")
			if told {
				from.Heard = heard
			}
			answer, err := b.world.engine.Do(context.Background(), o, from, []byte(`{"path":"`+behindPath+`","instance":"i0","ifNotVersion":1}`))
			require.NoError(t, err)
			answer.Wipe()
			_, err = b.as(b.admin, "secrets/destroyVersion", `{"path":"`+behindPath+`","version":2}`)
			if told {
				b.refused(fault.VersionInUse, "", err)
			} else {
				require.NoError(t, err, "which is why it is handed on")
			}
		})
	}
}
