package engine_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// emergency is a world on a Saturday in November: ann reads /app/dev/web in
// office hours, and may break glass to read all of /app/dev; bob reviews.
type emergency struct {
	*world
	ann, bob string
	read     func(token string) error
	id       string
}

const onDuty = `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]},{"effect":"allow","actions":["iam:openBreakGlass"]}]`

func newEmergency(t *testing.T) *emergency {
	w, read, ann := inNovember(t, onDuty)
	w.ok("iam/putPolicy", `{"name":"emergency","statements":[{"effect":"allow","actions":["secrets:*"],"paths":["/app/dev/**"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"emergency","principal":"ann","mode":"breakGlass"}`)
	w.ok("iam/putAccessPolicy", "%s", office)
	w.ok("secrets/createSecret", `{"path":"/app/dev/api/key","value":%q}`, b64("v"))
	e := &emergency{world: w, ann: ann, read: read}
	w.principal("bob", `[{"effect":"allow","actions":["iam:reviewBreakGlass","iam:listBreakGlass","iam:closeBreakGlass"]}]`)
	e.bob = string(into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"bob","ttl":"300d"}`)).Token.Expose())
	w.setNow(time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC))
	return e
}

func (e *emergency) open(fields string) wire.OpenBreakGlassResponse {
	e.t.Helper()
	out := into[wire.OpenBreakGlassResponse](e.t, e.okAs(e.ann, "iam/openBreakGlass", `{"reason":"incident 7"`+fields+`}`))
	e.id = out.BreakGlassID
	return out
}

func (e *emergency) api() error {
	_, err := e.as(e.ann, "secrets/getSecretValue", `{"path":"/app/dev/api/key"}`)
	return err
}

func (e *emergency) close(token string) (wire.CloseBreakGlassResponse, error) {
	answer, err := e.as(token, "iam/closeBreakGlass", fmt.Sprintf(`{"breakGlassId":%q}`, e.id))
	if err != nil {
		return wire.CloseBreakGlassResponse{}, err
	}
	return into[wire.CloseBreakGlassResponse](e.t, answer), nil
}

func (e *emergency) review(token string) (string, error) {
	return e.as(token, "iam/reviewBreakGlass", fmt.Sprintf(`{"breakGlassId":%q,"notes":"as ticket 7 says"}`, e.id))
}

func (e *emergency) list(token, state string) []wire.BreakGlassSession {
	e.t.Helper()
	return into[wire.ListBreakGlassResponse](e.t, e.okAs(token, "iam/listBreakGlass", fmt.Sprintf(`{"state":%q}`, state))).Sessions
}

// metrics asserts what the gauges say.
func (e *emergency) metrics(open, rotate, review int) {
	e.t.Helper()
	require.NoError(e.t, testutil.CollectAndCompare(e.engine.GlassCollector(), strings.NewReader(fmt.Sprintf(`
# HELP strongroom_break_glass_duties What is to be done after break-glass sessions, by duty: secrets to rotate, sessions to review.
# TYPE strongroom_break_glass_duties gauge
strongroom_break_glass_duties{duty="review"} %d
strongroom_break_glass_duties{duty="rotate"} %d
# HELP strongroom_break_glass_open Break-glass sessions that are open.
# TYPE strongroom_break_glass_open gauge
strongroom_break_glass_open %d
`, review, rotate, open))))
}

func TestASessionFromTheAlarmToTheReview(t *testing.T) {
	e := newEmergency(t)
	e.refused(fault.AccessDenied, "before 2026-11-30T08:00:00Z", e.read(e.ann))
	e.refused(fault.AccessDenied, "", e.api())
	opened := e.open("")
	require.Equal(t, []string{"emergency"}, opened.Policies)
	require.Equal(t, e.now().Add(time.Hour), opened.ExpiresAt.UTC())
	e.metrics(1, 0, 0)
	require.NoError(t, e.read(e.ann))
	require.NoError(t, e.api())
	require.NoError(t, e.api(), "once noted is noted")
	session := e.list(e.ann, "open")[0]
	require.Equal(t, 2, session.Reads)
	require.Equal(t, []wire.BreakGlassDuty{
		{Duty: "rotate", Path: "/app/dev/api/key", Version: 1, Since: wire.Millis(e.now().UnixMilli())},
		{Duty: "rotate", Path: "/app/dev/web/db", Version: 1, Since: wire.Millis(e.now().UnixMilli())},
	}, session.Duties)
	e.metrics(1, 2, 0)

	closed, err := e.close(e.ann)
	require.NoError(t, err)
	require.Equal(t, 3, closed.Duties)
	e.refused(fault.AccessDenied, "", e.api())
	e.metrics(0, 2, 1)
	require.Equal(t, "review", e.list(e.bob, "duties")[0].Duties[0].Duty)
	_, err = e.review(e.ann)
	e.refused(fault.AccessDenied, "iam:reviewBreakGlass", err)
	_, err = e.review(e.bob)
	require.NoError(t, err)
	e.metrics(0, 2, 0)
	e.put("/app/dev/api/key", "new")
	e.put("/app/dev/web/db", "new")
	e.metrics(0, 0, 0)
	require.Empty(t, e.list(e.bob, "duties"))
	session = e.list(e.bob, "all")[0]
	require.Equal(t, "bob", session.ReviewedBy)
	require.NotNil(t, session.SettledAt)
	require.Empty(t, session.Duties)
}

// A session opens windows. It moves nobody, and lifts no deny and no boundary.
func TestWhatASessionDoesNotOpen(t *testing.T) {
	e := newEmergency(t)
	e.ok("iam/putAccessPolicy", `{"name":"net","paths":["/app/dev/**"],"actions":["secrets:getSecretValue"],"principals":["ann"],"sourceCidrs":["10.0.0.0/8"]}`)
	e.open("")
	err := e.api()
	e.refused(fault.AccessDenied, "", err)
	require.Equal(t, "sourceAddress", detail(t, err, "reason"))
	home := e.source
	e.source = netip.MustParseAddr("10.1.2.3")
	require.NoError(t, e.api())
	e.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["secrets:*"],"paths":["/app/dev/web/**"]}]}`)
	e.ok("iam/attachPolicy", `{"policy":"cap","principal":"ann","mode":"boundary"}`)
	err = e.api()
	e.refused(fault.AccessDenied, "", err)
	require.Equal(t, "boundary", detail(t, err, "reason"))
	require.NoError(t, e.read(e.ann))
	e.ok("iam/putPolicy", `{"name":"stop","statements":[{"effect":"deny","actions":["secrets:getSecretValue"],"paths":["/app/**"]}]}`)
	e.ok("iam/attachPolicy", `{"policy":"stop","principal":"ann"}`)
	e.refused(fault.AccessDenied, "", e.read(e.ann))
	e.source = home
}

func TestASessionEndsToTheMillisecond(t *testing.T) {
	e := newEmergency(t)
	end := e.open(`,"duration":"1m"`).ExpiresAt
	e.setNow(end.Add(-time.Millisecond))
	require.NoError(t, e.api())
	e.setNow(end.Time)
	e.refused(fault.AccessDenied, "", e.api())
	require.Equal(t, "ended", e.list(e.ann, "all")[0].State, "with no Sweep")
	e.metrics(0, 1, 1)
	e.open("")
	require.NoError(t, e.api())
}

// What is taken away is gone at once, whoever has compiled what before.
func TestRevocationsEndWhatASessionGives(t *testing.T) {
	for name, revoke := range map[string]func(e *emergency){
		"closed by its owner": func(e *emergency) { _, err := e.close(e.ann); require.NoError(e.t, err) },
		"closed by another":   func(e *emergency) { _, err := e.close(e.bob); require.NoError(e.t, err) },
		"detached": func(e *emergency) {
			e.ok("iam/detachPolicy", `{"policy":"emergency","principal":"ann","mode":"breakGlass"}`)
		},
		"replaced": func(e *emergency) {
			e.ok("iam/putPolicy", `{"name":"emergency","statements":[{"effect":"allow","actions":["secrets:*"],"paths":["/other/**"]}]}`)
		},
	} {
		e := newEmergency(t)
		e.open("")
		require.NoError(t, e.api())
		require.NoError(t, e.api())
		revoke(e)
		e.refused(fault.AccessDenied, "", e.api())
		require.Equal(t, "deny", e.explain(`{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/api/key"}`).Decision, name)
	}
}

// Groups open glass by the state, and until the membership ends; claims do not.
func TestSessionsThroughGroups(t *testing.T) {
	e := newEmergency(t)
	e.ok("iam/detachPolicy", `{"policy":"emergency","principal":"ann","mode":"breakGlass"}`)
	e.ok("iam/createGroup", `{"name":"oncall"}`)
	e.ok("iam/attachPolicy", `{"policy":"emergency","group":"oncall","mode":"breakGlass"}`)
	_, err := e.as(e.ann, "iam/openBreakGlass", `{"reason":"incident"}`)
	e.refused(fault.InvalidRequest, "policies: must have 1 to 256 entries; 0 are attached to ann", err)
	e.ok("iam/addToGroup", `{"group":"oncall","principal":"ann","ttl":"30m"}`)
	e.open("")
	require.NoError(t, e.api())
	question := `{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/api/key"%s}`
	said := e.explain(question, "")
	require.Equal(t, "group oncall", said.Chain[0].Via)
	require.Equal(t, e.id, said.BreakGlass)
	e.ok("iam/removeFromGroup", `{"group":"oncall","principal":"ann"}`)
	e.refused(fault.AccessDenied, "", e.api())
	require.Equal(t, "deny", e.explain(question, `,"groups":["oncall"]`).Decision, "claims open no glass")
	e.ok("iam/addToGroup", `{"group":"oncall","principal":"ann","ttl":"30m"}`)
	require.NoError(t, e.api())
	e.setNow(e.now().Add(30 * time.Minute))
	e.refused(fault.AccessDenied, "", e.api())
}

func TestWhoSeesWhichSession(t *testing.T) {
	e := newEmergency(t)
	e.principal("eve", onDuty)
	eve := e.tokenOf("eve")
	e.open("")
	require.Len(t, e.list(e.ann, "all"), 1)
	require.Len(t, e.list(e.bob, "open"), 1)
	require.Empty(t, e.list(eve, "all"))
	_, err := e.close(eve)
	e.refused(fault.AccessDenied, "iam:closeBreakGlass", err)
	_, absent := e.as(eve, "iam/closeBreakGlass", fmt.Sprintf(`{"breakGlassId":%q}`, absentID))
	e.refused(fault.AccessDenied, "iam:closeBreakGlass", absent)
	_, err = e.as(eve, "iam/openBreakGlass", `{"reason":"incident","policies":["emergency"]}`)
	e.refused(fault.InvalidRequest, "policies: emergency is not attached to eve", err)

	// Somebody else of the same name finds nothing.
	require.NoError(t, e.api())
	e.ok("iam/deletePrincipal", `{"name":"ann"}`)
	e.setNow(e.now().Add(time.Second))
	e.ok("iam/createPrincipal", `{"name":"ann","kind":"user"}`)
	again := e.tokenOf("ann")
	require.Empty(t, e.list(again, "all"))
	_, err = e.close(again)
	e.refused(fault.AccessDenied, "iam:closeBreakGlass", err)
	e.metrics(0, 1, 1)
	require.Equal(t, "the principal was deleted", e.list(e.bob, "all")[0].CloseReason)
}

func TestSelfReviewIsRefusedWhateverPolicySays(t *testing.T) {
	e := newEmergency(t)
	e.open("")
	_, err := e.review(e.bob)
	e.refused(fault.Conflict, "the session is open", err)
	_, err = e.close(e.ann)
	require.NoError(t, err)
	e.ok("iam/attachPolicy", `{"policy":"full-access","principal":"ann"}`)
	_, err = e.review(e.ann)
	e.refused(fault.Conflict, "nobody reviews a session of their own", err)
	e.principal("puppet", `[{"effect":"allow","actions":["iam:reviewBreakGlass"]}]`)
	_, err = e.review(e.tokenOf("puppet"))
	e.refused(fault.Conflict, "were there before the session", err)
	_, err = e.review(e.bob)
	require.NoError(t, err)
	_, err = e.review(e.admin)
	e.refused(fault.Conflict, "bob has reviewed", err)
}

func TestBadRequestsAboutSessions(t *testing.T) {
	e := newEmergency(t)
	for body, says := range map[string]string{
		`{}`:                                   "reason: is missing",
		`{"reason":"x\n"}`:                     "reason:",
		`{"reason":"x","duration":"59s"}`:      "duration: must be 1m to 12h",
		`{"reason":"x","duration":"12h1s"}`:    "duration: must be 1m to 12h",
		`{"reason":"x","policies":[]}`:         "policies:",
		`{"reason":"x","policies":["ann"]}`:    "policies: ann is not attached",
		`{"reason":"x","policies":["no way"]}`: "policies:",
	} {
		_, err := e.as(e.ann, "iam/openBreakGlass", body)
		e.refused(fault.InvalidRequest, says, err)
	}
	for _, body := range []string{`{"notes":"x"}`, `{"breakGlassId":"x","notes":"x"}`} {
		_, err := e.as(e.bob, "iam/reviewBreakGlass", body)
		e.refused(fault.InvalidRequest, "breakGlassId:", err)
	}
	_, err := e.as(e.bob, "iam/reviewBreakGlass", fmt.Sprintf(`{"breakGlassId":%q}`, absentID))
	e.refused(fault.InvalidRequest, "notes: is missing", err)
	e.open("")
	_, err = e.as(e.ann, "iam/openBreakGlass", `{"reason":"again"}`)
	e.refused(fault.Conflict, e.id, err)
	require.Equal(t, e.id, detail(t, err, "breakGlassId"))
	_, err = e.close(e.bob)
	require.NoError(t, err)
	ended, err := e.close(e.bob)
	require.NoError(t, err, "it has ended, as was asked")
	require.Equal(t, 1, ended.Duties)
}
