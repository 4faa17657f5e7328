package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

const held = "/app/dev/web/held"

// rotated has a secret whose first version pod-1 of web was given, before the
// second one became current.
func rotated(t *testing.T) (w *world, web string) {
	w = newWorld(t)
	w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, held, b64("one"))
	web = w.principal("web", `[{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/dev/web/*"]}]`)
	w.reads(web, `"instance":"pod-1"`)
	w.put(held, "two")
	return w, web
}

func (w *world) reads(token, fields string) string {
	w.t.Helper()
	out, err := w.as(token, "secrets/getSecretValue", `{"path":"`+held+`",`+fields+`}`)
	require.NoError(w.t, err)
	return out
}

func (w *world) consumers(fields string) []wire.Consumer {
	w.t.Helper()
	return into[wire.ListConsumersResponse](w.t, w.ok("secrets/listConsumers", `{"path":%q%s}`, held, fields)).Consumers
}

// destroys tries to destroy version 1.
func (w *world) destroys(fields string) error {
	_, err := w.as(w.admin, "secrets/destroyVersion", `{"path":"`+held+`","version":1`+fields+`}`)
	return err
}

func TestAConsumerIsSeenAtOnceAndHoldsWhatItWasGiven(t *testing.T) {
	w, _ := rotated(t)
	line := w.consumers("")[0]
	require.Equal(t, []any{uint64(1), "web", "pod-1", false}, []any{line.Version, line.Principal, line.Instance, line.Confirmed})
	require.Equal(t, w.now().Add(5*time.Minute).UnixMilli(), line.MayHoldUntil.UnixMilli())
	require.Equal(t, w.now().UnixMilli(), line.LastReadAt.UnixMilli())

	err := w.destroys("")
	w.refused(fault.VersionInUse, "version: 1", err)
	shown := detail(t, err, "consumers").([]wire.Consumer)
	require.Len(t, shown, 1)
	require.Equal(t, "pod-1", shown[0].Instance)
	require.Equal(t, w.now().Add(5*time.Minute).UnixMilli(), detail(t, err, "mayHoldUntil").(*wire.Time).UnixMilli())
	w.setNow(w.now().Add(5*time.Minute - time.Millisecond))
	w.refused(fault.VersionInUse, "", w.destroys(""))
	require.Len(t, w.consumers(`,"holding":true`), 1)
	w.setNow(w.now().Add(time.Millisecond))
	require.Empty(t, w.consumers(`,"holding":true`))
	require.NoError(t, w.destroys(""))
	require.Len(t, w.consumers(""), 1, "who had it stays known")
}

func TestAConsumerMovesByWhatItSays(t *testing.T) {
	w, web := rotated(t)
	w.reads(web, `"instance":"pod-1"`)
	require.Equal(t, []uint64{2, 1}, []uint64{w.consumers("")[0].Version, w.consumers("")[1].Version})
	w.refused(fault.VersionInUse, "", w.destroys("")) // it was given another one; that says nothing about the first

	require.Contains(t, w.reads(web, `"instance":"pod-1","ifNotVersion":2`), `"notModified":true`)
	lines := w.consumers("")
	require.True(t, lines[0].Confirmed)
	require.Equal(t, uint64(2), lines[1].MovedTo)
	require.Equal(t, w.now().UnixMilli(), lines[1].MayHoldUntil.UnixMilli(), "since it said so")
	require.NoError(t, w.destroys(""))
}

func TestTheQuestionForNewsTellsWhatIsHeld(t *testing.T) {
	w, web := rotated(t)
	w.setNow(w.now().Add(4 * time.Minute))
	require.Contains(t, w.reads(web, `"instance":"pod-1","ifNotVersion":1`), b64("two"))
	first := w.consumers(`,"version":1`)[0]
	require.True(t, first.Confirmed)
	require.Equal(t, w.now().Add(5*time.Minute).UnixMilli(), first.MayHoldUntil.UnixMilli(), "it says that it still has it")
	w.setNow(w.now().Add(2 * time.Minute))
	w.refused(fault.VersionInUse, "", w.destroys(""))
	_, err := w.as(web, "secrets/confirmVersion", `{"path":"`+held+`","version":2,"instance":"pod-1"}`)
	require.NoError(t, err)
	require.NoError(t, w.destroys(""))
}

func TestWhatIsSaidOfNothingMovesNobody(t *testing.T) {
	w, web := rotated(t)
	w.reads(web, `"instance":"pod-1","ifNotVersion":7`)
	w.refused(fault.VersionInUse, "", w.destroys(""))
	for body, says := range map[string]string{
		`"version":7`: "has no version 7", `"version":0`: "version:", `"version":2,"instance":"a b"`: "instance:",
	} {
		_, err := w.as(web, "secrets/confirmVersion", `{"path":"`+held+`",`+body+`}`)
		require.ErrorContains(t, err, says)
	}
	_, err := w.as(web, "secrets/confirmVersion", `{"path":"`+held+`","version":2,"instance":"pod-2"}`)
	require.NoError(t, err)
	w.refused(fault.VersionInUse, "", w.destroys("")) // another instance has moved
}

func TestConfirmingIsForWhoMayRead(t *testing.T) {
	w, web := rotated(t)
	stranger := w.principal("stranger", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/dev/web/*"]}]`)
	_, err := w.as(stranger, "secrets/confirmVersion", `{"path":"`+held+`","version":2}`)
	w.refused(fault.AccessDenied, "secrets:getSecretValue", err)
	_, err = w.as(stranger, "secrets/listConsumers", `{"path":"`+held+`"}`)
	require.NoError(t, err)
	_, err = w.as(web, "secrets/listConsumers", `{"path":"`+held+`"}`)
	w.refused(fault.AccessDenied, "secrets:listConsumers", err)
}

func TestForcingIsARightOfItsOwnAndTakesAReason(t *testing.T) {
	w, _ := rotated(t)
	destroyer := w.principal("destroyer", `[{"effect":"allow","roles":["secrets-destroy-access"],"paths":["/app/dev/web/*"]}]`)
	body := `{"path":"` + held + `","version":1,"force":true%s}`
	_, err := w.as(destroyer, "secrets/destroyVersion", fmt.Sprintf(body, `,"reason":"leaked"`))
	w.refused(fault.AccessDenied, "secrets:forceDestroyVersion", err)
	w.refused(fault.InvalidRequest, "reason:", w.destroys(`,"force":true`))
	require.NoError(t, w.destroys(`,"force":true,"reason":"leaked"`))
}

func TestEveryWayToAValueIsInTheLedger(t *testing.T) {
	w, web := rotated(t)
	_, err := w.as(web, "secrets/batchGetSecretValue", `{"instance":"pod-2","items":[{"path":"`+held+`"},{"path":"`+held+`","ifNotVersion":2},{"path":"/app/dev/web/none"}]}`)
	require.NoError(t, err)
	w.ok("secrets/generateSecret", `{"path":%q,"kind":"uuid","reveal":true}`, held)
	w.ok("secrets/generateSecret", `{"path":%q,"kind":"uuid"}`, held)
	lines := w.consumers("")
	require.Len(t, lines, 3)
	require.Equal(t, []any{uint64(3), "admin", uint64(2), "pod-2", uint64(1), "pod-1"},
		[]any{lines[0].Version, lines[0].Principal, lines[1].Version, lines[1].Instance, lines[2].Version, lines[2].Instance})
	require.True(t, lines[1].Confirmed)
	events := w.events(audit.Filter{Events: []string{"secrets.get_value"}, Outcome: audit.OK})
	require.Equal(t, "pod-2", events[len(events)-1].Consumer.Instance)
}

// What was not answered was not given to anybody.
func TestAReadThatFailsLeavesNothing(t *testing.T) {
	w, web := rotated(t)
	w.token.Down.Store(true)
	_, err := w.as(web, "secrets/getSecretValue", `{"path":"`+held+`","instance":"pod-9"}`)
	require.Error(t, err)
	_, err = w.as(web, "secrets/batchGetSecretValue", `{"instance":"pod-9","items":[{"path":"`+held+`"}]}`)
	require.Error(t, err)
	w.token.Down.Store(false)
	require.Len(t, w.consumers(""), 1)
}

func TestLastReadIsInTheHistory(t *testing.T) {
	w, _ := rotated(t)
	lastRead := func() []*wire.Time {
		var out []*wire.Time
		for _, v := range into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":%q}`, held)).Versions {
			out = append(out, v.LastReadAt)
		}
		return out
	}
	require.Nil(t, lastRead()[0])
	require.Equal(t, w.now().UnixMilli(), lastRead()[1].UnixMilli())
	w.engine.FlushLedger(t.Context())
	require.Equal(t, w.now().UnixMilli(), w.log.machine.State().LastRead(held, 1))
	require.Equal(t, w.now().UnixMilli(), lastRead()[1].UnixMilli())
}

func TestABatchOfObservationsIsOneCommandAndIsNotLost(t *testing.T) {
	w, web := rotated(t)
	for i := range 30 {
		w.reads(web, fmt.Sprintf(`"instance":"many-%d"`, i))
	}
	w.log.lost = true
	w.engine.FlushLedger(t.Context())
	w.log.lost = false
	before := w.log.proposed
	w.engine.FlushLedger(t.Context())
	w.engine.FlushLedger(t.Context())
	require.Equal(t, before+1, w.log.proposed, "and nothing when there is nothing new")
	count := 0
	for range w.log.machine.State().Consumers(held) {
		count++
	}
	require.Equal(t, 31, count)
	require.Equal(t, w.trail.Head().Sequence, w.session().Sequence)
}

func (w *world) session() *fsm.Session {
	var last *fsm.Session
	for s := range w.log.machine.State().Sessions() {
		last = s
	}
	return last
}

// A process that died has what it gave in its trail.
func TestTheLedgerIsRebuiltFromTheTrail(t *testing.T) {
	for name, c := range map[string]struct {
		restart func(w *world, cfg *engine.Config)
		lost    bool
	}{
		"the process died": {restart: func(*world, *engine.Config) {}},
		"the power went":   {restart: func(_ *world, cfg *engine.Config) { cfg.BootID = "another" }, lost: true},
		"the disk burnt": {restart: func(w *world, cfg *engine.Config) {
			w.setNow(w.now().Add(time.Second))
			w.dir = w.t.TempDir()
			w.openTrail()
			cfg.Trail = w.trail
		}, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			w, web := rotated(t)
			w.engine.FlushLedger(t.Context())
			w.reads(web, `"instance":"pod-2","version":1`)
			w.reads(web, `"instance":"pod-3","version":1`)
			w.reads(web, `"instance":"pod-1","ifNotVersion":2`)
			_, err := w.as(web, "secrets/confirmVersion", `{"path":"`+held+`","version":2,"instance":"pod-3"}`)
			require.NoError(t, err)
			w.reborn(func(cfg *engine.Config) { c.restart(w, cfg) })
			require.NoError(t, w.engine.OpenLedger(t.Context()))
			err = w.destroys("")
			w.refused(fault.VersionInUse, "", err)
			require.Contains(t, fmt.Sprint(detail(t, err, "unknown")), "n1", "what the dead process gave is not known yet")
			w.engine.SettleSessions(t.Context())
			err = w.destroys("")
			w.refused(fault.VersionInUse, "", err)
			if c.lost {
				require.Contains(t, fmt.Sprint(detail(t, err, "unknown")), "n1")
				w.setNow(w.now().Add(5*time.Minute + 5*time.Second))
				require.NoError(t, w.destroys(""), "nobody can hold it any more")
				return
			}
			shown := detail(t, err, "consumers").([]wire.Consumer)
			require.Len(t, shown, 1)
			require.Equal(t, "pod-2", shown[0].Instance)
			_, err = w.as(web, "secrets/confirmVersion", `{"path":"`+held+`","version":2,"instance":"pod-2"}`)
			require.NoError(t, err)
			require.NoError(t, w.destroys(""))
		})
	}
}

// reborn starts another process on the same state.
func (w *world) reborn(change func(*engine.Config)) {
	w.t.Helper()
	cfg := w.engine.Config
	change(&cfg)
	var err error
	w.engine, err = engine.New(cfg)
	require.NoError(w.t, err)
}

// A destruction whose outcome nobody knows keeps its version closed until it
// is known.
func TestAnUncertainDestructionHandsOutNothingMeanwhile(t *testing.T) {
	w, web := rotated(t)
	w.setNow(w.now().Add(10 * time.Minute))
	w.log.delay = true
	w.refused(fault.Uncertain, "", w.destroys(""))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.engine.Do(ctx, engine.Find("secrets", "getSecretValue"), engine.Caller{Token: web, Source: w.source}, []byte(`{"path":"`+held+`","version":1}`))
	w.refused(fault.NoLeader, "being destroyed", err)
	w.reads(web, `"instance":"pod-1"`) // the others are read
	w.engine.FlushLedger(t.Context())
	_, err = w.as(web, "secrets/getSecretValue", `{"path":"`+held+`","version":1}`)
	w.refused(fault.VersionNotActive, "destroyed", err)
}

// A read that looked at the state before a destruction does not open what is
// destroyed when it comes to it.
func TestAReadThatLookedBeforeADestructionLooksAgain(t *testing.T) {
	w, web := rotated(t)
	w.setNow(w.now().Add(10 * time.Minute))
	looks := 0
	w.log.onRead = func() {
		if looks++; looks == 1 {
			w.log.onRead = nil
			stale := w.log.machine.State()
			require.NoError(t, w.destroys(""))
			w.log.stale = stale
		}
	}
	_, err := w.as(web, "secrets/getSecretValue", `{"path":"`+held+`","version":1}`)
	w.refused(fault.VersionNotActive, "destroyed", err)
}

// A node that has only begun to lead does not answer from half a ledger.
func TestTheListWaitsForTheSessionOfANewLeader(t *testing.T) {
	w, web := rotated(t)
	w.reborn(func(*engine.Config) {})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	ask := func(ctx context.Context) error {
		_, err := w.engine.Do(ctx, engine.Find("secrets", "listConsumers"), engine.Caller{Token: w.admin, Source: w.source}, []byte(`{"path":"`+held+`"}`))
		return err
	}
	w.refused(fault.NoLeader, "retry", ask(ctx))
	require.NoError(t, w.engine.OpenLedger(t.Context()))
	require.NoError(t, ask(t.Context()))
	answer := into[wire.ListConsumersResponse](t, w.ok("secrets/listConsumers", `{"path":%q}`, held))
	require.Equal(t, []string{"n1"}, answer.Unknown.Nodes, "what the process before it handed out")
	w.engine.SettleSessions(t.Context())
	answer = into[wire.ListConsumersResponse](t, w.ok("secrets/listConsumers", `{"path":%q}`, held))
	require.Nil(t, answer.Unknown)
	require.Len(t, answer.Consumers, 1)
	w.reads(web, `"instance":"pod-1"`)
}
