package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// Nothing is opened for whom it cannot be noted.
func TestANodeThatCannotCommitOpensNothing(t *testing.T) {
	e := newEmergency(t)
	e.open("")
	for _, lost := range []error{fault.New(fault.NoLeader, "lost"), fault.New(fault.Uncertain, "who knows")} {
		e.log.committed = func() error { return lost }
		before := len(e.events(audit.Filter{Events: []string{"kms.decrypt"}}))
		e.refused(fault.NoLeader, "", e.api())
		require.Len(t, e.events(audit.Filter{Events: []string{"kms.decrypt"}}), before, "opened all the same")
		e.log.committed = nil
		e.put("/app/dev/api/key", string(fault.KindOf(lost))) // a version that nobody has noted
	}
	require.NoError(t, e.api())
}

// The session ends between the decision and the note: nothing is opened.
func TestASessionThatEndsMeanwhileOpensNothing(t *testing.T) {
	e := newEmergency(t)
	e.open("")
	e.log.proposing = func() {
		e.log.proposing = nil
		_, err := e.close(e.bob)
		require.NoError(t, err)
	}
	err := e.api()
	e.refused(fault.Conflict, "has ended", err)
	require.Empty(t, e.events(audit.Filter{Events: []string{"kms.decrypt"}, Path: "/app/dev/api/key", Principal: "ann"}))
}

// Whatever hands out a stored value notes it; what does not, does not.
func TestEveryWayToAValueIsNoted(t *testing.T) {
	e := newEmergency(t)
	reads := func() int { return e.list(e.ann, "all")[0].Reads }
	e.open("")
	e.okAs(e.ann, "secrets/describeSecret", `{"path":"/app/dev/api/key"}`)
	e.okAs(e.ann, "secrets/getSecretValue", `{"path":"/app/dev/api/key","ifNotVersion":1}`)
	e.okAs(e.ann, "secrets/generateSecret", `{"path":"/app/dev/api/key","kind":"hex"}`)
	require.Zero(t, reads())
	answer := e.okAs(e.ann, "secrets/batchGetSecretValue", `{"items":[{"path":"/app/dev/api/key"},{"path":"/app/dev/api/key","version":1},{"path":"/app/dev/web/db"}]}`)
	require.NotContains(t, answer, "error")
	require.Equal(t, 3, reads())
	e.okAs(e.ann, "secrets/generateSecret", `{"path":"/app/dev/api/key","kind":"hex","reveal":true}`)
	require.Equal(t, 4, reads())
	e.ok("secrets/createSecret", `{"path":"/app/dev/api/other","value":%q}`, b64("v"))
	e.put("/app/dev/api/other", "v2")
	e.okAs(e.ann, "secrets/copySecret", `{"path":"/app/dev/api/other","toPath":"/app/dev/api/mine"}`)
	require.Equal(t, 6, reads(), "all versions went along")
}

// In office hours ann needs no session for what is hers.
func TestWhatNeedsNoSessionIsNoDuty(t *testing.T) {
	e := newEmergency(t)
	e.setNow(time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC))
	e.open(`,"duration":"12h"`)
	require.NoError(t, e.read(e.ann))
	require.Zero(t, e.list(e.ann, "all")[0].Reads)
	e.setNow(time.Date(2026, 11, 27, 16, 30, 0, 0, time.UTC))
	require.NoError(t, e.read(e.ann), "the window has closed")
	require.Equal(t, 1, e.list(e.ann, "all")[0].Reads)
	require.Empty(t, e.events(audit.Filter{Events: []string{"secrets.get_value"}, Principal: "ann", To: e.now()})[0].BreakGlassID)
}

func TestTheTrailAndTheLogTellOfSessions(t *testing.T) {
	e := newEmergency(t)
	var out bytes.Buffer
	e.engine.Logger = slog.New(slog.NewTextHandler(&out, nil))
	id, answer, err := e.request(e.ann, "iam/openBreakGlass", `{"reason":"incident 7"}`)
	require.NoError(t, err)
	e.id = into[wire.OpenBreakGlassResponse](t, answer).BreakGlassID
	own, _ := e.story(id, "iam.open_break_glass")
	require.Equal(t, e.id, own[0].BreakGlassID)
	require.Equal(t, "incident 7", own[0].Reason)
	require.Contains(t, out.String(), "level=WARN msg=\"a break-glass session was opened\" breakGlassId="+e.id+" principal=ann policies=[emergency]")
	require.NotContains(t, out.String(), "incident 7", "what people write stays in the trail")

	e.okAs(e.ann, "secrets/getSecretValue", `{"path":"/app/dev/api/key"}`)
	e.okAs(e.ann, "secrets/listSecrets", `{"prefix":"/app/dev/"}`)
	e.okAs(e.ann, "iam/whoAmI", `{}`)
	_, err = e.as(e.ann, "secrets/getSecretValue", `{"path":"/other"}`)
	e.refused(fault.AccessDenied, "", err)
	var seen []string
	for _, one := range into[wire.QueryEventsResponse](t, e.ok("audit/queryEvents", `{"breakGlassId":%q}`, e.id)).Events {
		require.Equal(t, e.id, one.BreakGlassID)
		seen = append(seen, one.Event)
	}
	require.Equal(t, []string{"iam.open_break_glass", "secrets.get_value", "secrets.list"}, seen)
	retry := `{"reason":"once","clientToken":"t-1"}`
	_, err = e.close(e.ann)
	require.NoError(t, err)
	out.Reset()
	first := e.okAs(e.ann, "iam/openBreakGlass", retry)
	require.JSONEq(t, first, e.okAs(e.ann, "iam/openBreakGlass", retry))
	require.Equal(t, 1, strings.Count(out.String(), "was opened"), "a repetition opens nothing")
}

// A wait that the session allows lasts as long as it, whatever windows do.
func TestAWaitEndsWithItsSession(t *testing.T) {
	e := newEmergency(t)
	e.ok("iam/putAccessPolicy", `{"name":"office","paths":["/app/**"],"actions":["secrets:*"],"timeWindows":[{"from":"09:00","to":"17:30","timezone":"Europe/Madrid"}]}`)
	e.setNow(time.Date(2026, 11, 28, 16, 29, 50, 0, time.UTC))
	end := e.open(`,"duration":"1m"`).ExpiresAt
	wait := fmt.Sprintf(`{"paths":["/app/dev/api/key"],"afterIndex":%d,"timeout":"60s"}`, e.log.machine.State().Index())
	e.setNow(e.now().Add(5 * time.Second))
	_, err := e.patient(e.ann, wait)
	var not *engine.NotYet
	require.True(t, errors.As(err, &not), "%v", err)
	require.Equal(t, 55*time.Second, not.For, "the window closes in five")
	e.setNow(end.Time)
	_, err = e.patient(e.ann, wait)
	e.refused(fault.AccessDenied, "", err)
}

func TestAClockThatIsOffTakesTheSessionForNeeded(t *testing.T) {
	w, o, read, ann, _ := clocks(t)
	w.ok("iam/putPolicy", `{"name":"opener","statements":[{"effect":"allow","actions":["iam:openBreakGlass"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"opener","principal":"ann"}`)
	w.ok("iam/attachPolicy", `{"policy":"ann","principal":"ann","mode":"breakGlass"}`)
	w.okAs(ann, "iam/openBreakGlass", `{"reason":"the clocks"}`)
	reads := func() int {
		return into[wire.ListBreakGlassResponse](t, w.okAs(ann, "iam/listBreakGlass", `{}`)).Sessions[0].Reads
	}
	require.NoError(t, read(ann))
	require.Zero(t, reads(), "the window is open")
	o.say(time.Hour, time.Hour)
	w.askClocks()
	require.NoError(t, read(ann))
	require.Equal(t, 1, reads(), "who knows what time it is")
}

func TestDecisionsSayWhatASessionDid(t *testing.T) {
	e := newEmergency(t)
	who := func() wire.WhoCan {
		for _, p := range into[wire.WhoCanResponse](t, e.ok("iam/whoCan", `{"action":"secrets:getSecretValue","path":"/app/dev/api/key"}`)).Principals {
			if p.Principal == "ann" {
				return p
			}
		}
		return wire.WhoCan{}
	}
	require.Equal(t, []string{"breakGlass"}, who().Lacks)
	require.Equal(t, "conditional", who().Decision)
	e.open("")
	said := e.explain(`{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/web/db"}`)
	require.Equal(t, e.id, said.BreakGlass)
	require.Equal(t, "waived", said.Chain[len(said.Chain)-1].Effect)
	require.Contains(t, said.Text, "; only while the break-glass session "+e.id+" is open, which waives the times of access policy office")
	require.Equal(t, "allow", who().Decision)
	require.True(t, who().BreakGlass)
	require.Contains(t, who().Conditions, "breakGlass")
	rights := into[wire.WhatCanResponse](t, e.ok("iam/whatCan", `{"principal":"ann"}`))
	for _, a := range rights.Actions {
		if a.Action == "secrets:describeSecret" {
			require.Equal(t, []string{"breakGlass"}, a.If)
		}
	}
	at := func(when time.Time) string {
		return e.explain(`{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/api/key","at":%q}`, when.Format(time.RFC3339)).Decision
	}
	require.Equal(t, "allow", at(e.now().Add(time.Hour-time.Second)))
	require.Equal(t, "deny", at(e.now().Add(time.Hour)))
	list := e.explain(`{"principal":"ann","action":"secrets:listSecrets"}`)
	require.Equal(t, e.id, list.BreakGlass)
}

func TestALongListOfDutiesIsCut(t *testing.T) {
	e := newEmergency(t)
	e.open("")
	for i := range 103 {
		path := fmt.Sprintf("/app/dev/many/%03d", i)
		e.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, b64("v"))
		e.okAs(e.ann, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path))
	}
	session := e.list(e.bob, "duties")[0]
	require.Len(t, session.Duties, 100)
	require.Equal(t, 103, session.RotateDuties)
	require.Equal(t, fsm.GlassTotals{Open: 1, Rotate: 103}, e.log.machine.State().GlassTotals(e.now().UnixMilli()))
}

// A read that others approved, and that needs the session as well, is noted
// like any other; one that has the approval and needs no session is not.
func TestAnApprovedReadIsNotedToo(t *testing.T) {
	e := newEmergency(t)
	e.ok("iam/putPolicy", `{"name":"two","statements":[{"effect":"requireApproval","actions":["secrets:getSecretValue"],"paths":["/app/dev/**"],"approval":{"principals":["eve"],"count":1}}]}`)
	e.ok("iam/attachPolicy", `{"policy":"two","principal":"ann"}`)
	eve := e.principal("eve", `[{"effect":"allow","actions":["iam:approve"]}]`)
	e.setNow(e.now().Add(time.Second))
	e.open(`,"duration":"12h"`)
	read := func(path string) {
		body := fmt.Sprintf(`{"path":%q}`, path)
		_, err := e.as(e.ann, "secrets/getSecretValue", body)
		e.refused(fault.AccessDenied, "needs the approval", err)
		asked := into[wire.ApprovalResponse](t, e.okAs(e.ann, "iam/requestApproval", fmt.Sprintf(`{"operation":"secrets/getSecretValue","request":%s,"reason":"r"}`, body)))
		e.okAs(eve, "iam/approve", fmt.Sprintf(`{"approvalId":%q}`, asked.ApprovalID))
		e.okAs(e.ann, "secrets/getSecretValue", body)
	}
	read("/app/dev/api/key")
	require.Equal(t, 1, e.list(e.ann, "open")[0].Reads)
	e.ok("iam/deleteAccessPolicy", `{"name":"office"}`)
	read("/app/dev/web/db")
	require.Equal(t, 1, e.list(e.ann, "open")[0].Reads)
}
