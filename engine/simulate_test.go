package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

func (w *world) simulate(format string, args ...any) wire.SimulatePolicyResponse {
	w.t.Helper()
	before := w.log.machine.State()
	out := into[wire.SimulatePolicyResponse](w.t, w.ok("iam/simulatePolicy", format, args...))
	require.Same(w.t, before, w.log.machine.State(), "nothing is changed")
	return out
}

// history makes requests of ann, who may read below web, and of bob, who may
// not, and lets an hour pass.
func history(t *testing.T) *world {
	w, read := reader(t)
	w.put2("/app/dev/web/cert")
	ann, bob := w.principal("ann", readWeb), w.bare("bob")
	for range 3 {
		require.NoError(t, read(ann))
	}
	_, err := w.as(ann, "secrets/getSecretValue", `{"path":"/app/dev/web/cert"}`)
	require.NoError(t, err)
	w.refused(fault.AccessDenied, "", read(bob))
	w.setNow(w.now().Add(time.Hour))
	return w
}

func TestASimulationTellsWhoLosesAndWhoGains(t *testing.T) {
	w := history(t)
	at := wire.Millis(w.now().Add(-time.Hour).UnixMilli())
	db := wire.ChangedAnswer{Principal: "ann", Action: "secrets:getSecretValue", Path: "/app/dev/web/db", Count: 3, LastAt: at, Reason: "iam"}
	cert := wire.ChangedAnswer{Principal: "ann", Action: "secrets:getSecretValue", Path: "/app/dev/web/cert", Count: 1, LastAt: at, Reason: "iam"}

	got := w.simulate(`{"name":"ann","statements":[]}`)
	require.Equal(t, []wire.ChangedAnswer{db, cert}, got.Loses, "removed: she loses all, the most frequent first")
	require.Empty(t, got.Gains)
	require.Positive(t, got.Questions)
	require.Nil(t, got.StoppedAt)

	got = w.simulate(`{"name":"ann","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/db"]}]}`)
	require.Equal(t, []wire.ChangedAnswer{cert}, got.Loses)

	got = w.simulate(`{"name":"ann","attachTo":{"principals":["bob"]}}`)
	require.Empty(t, got.Loses)
	require.Equal(t, []wire.ChangedAnswer{{Principal: "bob", Action: "secrets:getSecretValue", Path: "/app/dev/web/db", Count: 1, LastAt: at}}, got.Gains)

	got = w.simulate(`{"name":"stop","statements":[{"effect":"deny","actions":["secrets:*"],"paths":["/**"]}],"attachTo":{"groups":["everyone"]}}`)
	require.Contains(t, got.Loses, db)
	require.Contains(t, got.Loses, cert)
	require.Contains(t, fmt.Sprint(got.Loses), "admin", "also of those who set it up")

	got = w.simulate(`{"name":"cap","statements":[{"effect":"allow","actions":["iam:*"]}],"attachTo":{"principals":["ann"],"mode":"boundary"}}`)
	db.Reason, cert.Reason = "boundary", "boundary"
	require.Equal(t, []wire.ChangedAnswer{db, cert}, got.Loses)

	got = w.simulate(`{"accessPolicy":{"name":"office","paths":["/app/dev/web/db"],"principals":["ann"],"sourceCidrs":["10.0.0.0/8"]}}`)
	db.Reason = "sourceAddress"
	require.Equal(t, []wire.ChangedAnswer{db}, got.Loses)

	got = w.simulate(`{"name":"wide","statements":[{"effect":"allow","actions":["*"]}]}`)
	require.NotEmpty(t, got.Warnings, "what putPolicy would warn of")
}

// What a simulation says is what happens when the change is made and the
// requests are sent again.
func TestWhatWasSimulatedHappens(t *testing.T) {
	w := history(t)
	const change = `"name":"ann","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/c*"]}]`
	got := w.simulate(`{%s}`, change)
	require.Len(t, got.Loses, 1)
	w.ok("iam/putPolicy", `{%s}`, change)
	ann := w.tokenOf("ann")
	for path, kind := range map[string]fault.Kind{"/app/dev/web/db": fault.AccessDenied, "/app/dev/web/cert": ""} {
		_, err := w.as(ann, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path))
		require.Equal(t, kind, fault.KindOf(err), path)
		require.Equal(t, kind != "", path == got.Loses[0].Path)
	}
	again := w.simulate(`{%s}`, change)
	require.Empty(t, again.Loses, "it is as it is now")
	require.Empty(t, again.Gains)
}

func TestASimulationSaysWhatItCouldNotReplay(t *testing.T) {
	w := history(t)
	w.ok("iam/deletePrincipal", `{"name":"bob"}`)
	got := w.simulate(`{"name":"ann","statements":[]}`)
	require.Equal(t, 1, got.Unreplayable, "bob is gone")

	none := w.simulate(`{"name":"ann","statements":[],"since":"30m"}`)
	require.Empty(t, none.Loses, "it was an hour ago")
	require.Equal(t, w.now().Add(-30*time.Minute), none.Since.Time)

	mark := wire.AuditEvent{Node: "n2", Sequence: 1, Time: wire.Millis(w.now().Add(-time.Minute).UnixMilli()), Event: "secrets.get_value", Outcome: "ok", Principal: "ann", Path: "/app/dev/web/db"}
	noise := []wire.AuditEvent{
		{Node: "n2", Sequence: 2, Time: mark.Time, Event: "kms.decrypt", Outcome: "ok", Principal: "ann", Path: "/app/dev/web/db", KeyID: absentID},
		{Node: "n2", Sequence: 3, Time: mark.Time, Event: "audit.open", Outcome: "ok"},
		{Node: "n2", Sequence: 4, Time: mark.Time, Event: "secrets.get_value", Outcome: "denied", Code: "Unauthenticated", Path: "/app/dev/web/db"},
		{Node: "n2", Sequence: 5, Time: mark.Time, Event: "iam.who_am_i", Outcome: "ok", Principal: "ann"},
		{Node: "n2", Sequence: 6, Time: mark.Time, Event: "of.a_later_release", Outcome: "ok", Principal: "ann"},
	}
	w.members(map[string][]wire.AuditEvent{"n2": append([]wire.AuditEvent{mark}, noise...), "n3": nil})
	before := w.simulate(`{"name":"ann","statements":[],"since":"30m"}`)
	require.Equal(t, []string{"n3"}, before.Unreachable)
	require.Len(t, before.Loses, 1)
	require.Equal(t, 1, before.Loses[0].Count, "a question is one event, not those of its keys")
}

// A trail that holds more than one answer replays says up to when it came.
func TestALongTrailIsReplayedInPartAndSaysSo(t *testing.T) {
	w, _ := reader(t)
	w.bare("ann")
	const many = 51_000
	trail := make([]wire.AuditEvent, many)
	for i := range trail {
		trail[i] = wire.AuditEvent{Node: "n2", Sequence: uint64(i + 1), Time: wire.Millis(w.now().UnixMilli() - many + int64(i)), Event: "iam.list_policies", Outcome: "ok", Principal: "ann"}
	}
	w.members(map[string][]wire.AuditEvent{"n2": trail})
	w.engine.Cluster.PeerEvents = func(_ context.Context, _ string, q engine.TrailQuery) (engine.TrailPage, error) {
		from := trail[q.After:]
		return engine.TrailPage{Events: from[:min(q.Limit, len(from))], More: len(from) > q.Limit}, nil
	}
	got := w.simulate(`{"name":"new","statements":[{"effect":"allow","actions":["iam:listPolicies"]}],"attachTo":{"principals":["ann"]}}`)
	require.NotNil(t, got.StoppedAt)
	require.Equal(t, trail[50_000-1].Time, got.StoppedAt)
	require.Equal(t, 50_000, got.Gains[0].Count)
}

func TestSimulationsThatMeanNothingAreRefused(t *testing.T) {
	w := history(t)
	for body, says := range map[string]string{
		`{}`:                "name: is missing",
		`{"name":"ann"}`:    "statements: are missing",
		`{"statements":[]}`: "name: is missing",
		`{"accessPolicy":{"name":"x","paths":["/**"],"sourceCidrs":["10.0.0.0/8"]},"statements":[]}`: "name: is missing; statements",
		`{"accessPolicy":{"name":"x","paths":["/**"]}}`:                                              "sourceCidrs: nothing would be restricted",
		`{"name":"ann","statements":[],"attachTo":{"principals":["bob"]}}`:                           "attachTo: does not go",
		`{"name":"ann","attachTo":{}}`:                                                               "attachTo: must name",
		`{"name":"ann","attachTo":{"principals":["bob"],"mode":"x"}}`:                                "mode: must be",
		`{"name":"ann","statements":[{"effect":"allow","actions":["x"]}]}`:                           "statements[0].actions[0]",
		`{"name":"ann","statements":[],"since":"91d"}`:                                               "since: must be at most 90d",
	} {
		_, err := w.as(w.admin, "iam/simulatePolicy", body)
		w.refused(fault.InvalidRequest, says, err)
	}
	_, err := w.as(w.admin, "iam/simulatePolicy", `{"name":"none","statements":[]}`)
	w.refused(fault.NotFound, "there is no policy none", err)
	_, err = w.as(w.admin, "iam/simulatePolicy", `{"name":"ann","attachTo":{"groups":["none"]}}`)
	w.refused(fault.NotFound, "group: there is no group none", err)
	_, err = w.as(w.admin, "iam/simulatePolicy", `{"name":"full-access","statements":[]}`)
	w.refused(fault.Conflict, "", err) // as it would be if it were done
}

// Who may simulate and not read the trail learns of paths only where it may
// describe the secret.
func TestASimulationIsNoWayAroundTheTrail(t *testing.T) {
	w := history(t)
	look := w.principal("look", `[{"effect":"allow","roles":["iam-read-access"]},{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/dev/web/cert"]}]`)
	got := into[wire.SimulatePolicyResponse](t, w.okAs(look, "iam/simulatePolicy", `{"name":"ann","statements":[]}`))
	require.Equal(t, "", got.Loses[0].Path)
	require.Equal(t, "/app/dev/web/cert", got.Loses[1].Path)
}

func findings(t *testing.T, w *world, format string, args ...any) map[string]wire.PolicyFinding {
	out := map[string]wire.PolicyFinding{}
	for _, f := range into[wire.LintPoliciesResponse](t, w.ok("iam/lintPolicies", format, args...)).Findings {
		out[fmt.Sprintf("%s[%d] %s", f.Policy, f.Statement, f.Kind)] = f
	}
	return out
}

func TestLintFindsWhatAReviewerShouldSee(t *testing.T) {
	w, _ := reader(t)
	w.ok("iam/createGroup", `{"name":"ops"}`)
	ann := w.bare("ann")
	w.ok("iam/addToGroup", `{"group":"ops","principal":"ann"}`)
	w.ok("iam/putPolicy", `{"name":"mixed","statements":[
		{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"]},
		{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/dev/web/db"]},
		{"effect":"allow","actions":["secrets:describeSecret"],"paths":["/app/dev/none","/gone/web/api/**"]},
		{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/none"]},
		{"effect":"allow","actions":["secrets:listSecrets"],"paths":["/app/dev/web/**"],"conditions":{"groups":["left"]}},
		{"effect":"requireApproval","actions":["secrets:deleteSecret"],"paths":["/app/dev/web/**"],"approval":{"principals":["left","ann"]}},
		{"effect":"allow","actions":["secrets:updateSecret"],"paths":["/app/dev/web/**"]},
		{"effect":"deny","actions":["secrets:updateSecret"],"paths":["/app/**"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"mixed","group":"ops"}`)
	w.setNow(w.now().Add(time.Hour))
	_, err := w.as(ann, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	require.NoError(t, err)
	w.setNow(w.now().Add(time.Hour))
	got := findings(t, w, `{"policy":"mixed","since":"90m"}`)
	for name, message := range map[string]string{
		"mixed[0] wide":                 "reaches beyond one service",
		"mixed[0] valueAccessForPeople": "ann (group ops)",
		"mixed[1] valueAccessForPeople": "ann (group ops)",
		"mixed[1] shadowed":             "statements[0] of policy mixed allows all",
		"mixed[2] missing":              "no secret begins with /gone/web/api/",
		"mixed[2] unused":               "no request since",
		"mixed[3] missing":              "there is no key alias/none",
		"mixed[3] unused":               "no request since",
		"mixed[4] stale":                "there is no group left",
		"mixed[4] unused":               "no request since",
		"mixed[5] stale":                "there is no principal left",
		"mixed[6] neverAllows":          "statements[7] of policy mixed denies",
		"mixed[6] unused":               "no request since",
	} {
		require.Contains(t, got, name)
		require.Contains(t, got[name].Message, message)
		delete(got, name)
	}
	require.Empty(t, got, "and nothing else")
	require.Empty(t, unusedOf(findings(t, w, `{"policy":"mixed","since":"0s"}`)), "it did not look")
	require.Empty(t, unusedOf(findings(t, w, `{"policy":"mixed","since":"3h"}`)), "it was changed since")
}

func unusedOf(got map[string]wire.PolicyFinding) (out []string) {
	for name, f := range got {
		if f.Kind == "unused" {
			out = append(out, name)
		}
	}
	return out
}

// Who may change policies may get everything, unless a boundary caps it.
func TestLintFindsAdministratorsWithoutABoundary(t *testing.T) {
	w, _ := reader(t)
	w.principal("boss", `[{"effect":"allow","roles":["iam-admin-access"]}]`)
	require.Contains(t, findings(t, w, `{"policy":"boss","since":"0s"}`)["boss[0] noBoundary"].Message, "boss may change policies")
	require.NotContains(t, findings(t, w, `{"policy":"full-access","since":"0s"}`), "full-access[0] noBoundary")
	w.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["iam:*"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"cap","principal":"boss","mode":"boundary"}`)
	require.NotContains(t, findings(t, w, `{"policy":"boss","since":"0s"}`), "boss[0] noBoundary")
}

// One replay at a time: a second one is told to come again, and the first
// leaves its place however it ends.
func TestReplaysTakeTurns(t *testing.T) {
	w := history(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	w.members(map[string][]wire.AuditEvent{"n2": nil})
	w.engine.Cluster.PeerEvents = func(context.Context, string, engine.TrailQuery) (engine.TrailPage, error) {
		close(entered)
		<-leave
		return engine.TrailPage{}, errors.New("down")
	}
	first := make(chan error, 1)
	go func() {
		_, err := w.as(w.admin, "iam/simulatePolicy", `{"name":"ann","statements":[]}`)
		first <- err
	}()
	<-entered
	_, err := w.as(w.admin, "iam/lintPolicies", `{}`)
	w.refused(fault.RateLimited, "try again in a moment", err)
	close(leave)
	require.NoError(t, <-first)
	w.engine.Cluster.PeerEvents = nil
	w.ok("iam/lintPolicies", `{}`)
}

func TestLintSeesThroughHolders(t *testing.T) {
	w, _ := reader(t)
	w.principal("web", readWeb)
	w.ok("iam/putPolicy", `{"name":"all","statements":[{"effect":"allow","actions":["secrets:*"],"paths":["/app/dev/web/**"]}]}`)
	shadowed := func() bool {
		_, found := findings(t, w, `{"policy":"web","since":"0s"}`)["web[0] shadowed"]
		return found
	}
	require.False(t, shadowed(), "nobody has the other")
	w.ok("iam/attachPolicy", `{"policy":"all","principal":"web","ttl":"2h"}`)
	require.False(t, shadowed(), "the other ends by itself")
	w.ok("iam/detachPolicy", `{"policy":"all","principal":"web"}`)
	w.ok("iam/attachPolicy", `{"policy":"all","principal":"web"}`)
	require.True(t, shadowed())
	w.bare("other")
	w.ok("iam/attachPolicy", `{"policy":"web","principal":"other"}`)
	require.False(t, shadowed(), "not all of its holders have the other")
	w.ok("iam/attachPolicy", `{"policy":"all","group":"everyone"}`)
	require.True(t, shadowed())
	w.ok("iam/attachPolicy", `{"policy":"web","principal":"other","mode":"boundary"}`)
	require.False(t, shadowed(), "as a boundary it is not what another one grants")
}

// A trail that was not read to its end says nothing about use.
func TestNothingIsCalledUnusedOnHalfATrail(t *testing.T) {
	w, _ := reader(t)
	w.principal("web", readWeb)
	w.setNow(w.now().Add(2 * time.Hour))
	require.NotEmpty(t, unusedOf(findings(t, w, `{"policy":"web","since":"1h"}`)))
	w.members(map[string][]wire.AuditEvent{"n2": nil})
	require.Empty(t, unusedOf(findings(t, w, `{"policy":"web","since":"1h"}`)))
}
