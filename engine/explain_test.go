package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

func (w *world) explain(format string, args ...any) wire.ExplainResponse {
	w.t.Helper()
	return into[wire.ExplainResponse](w.t, w.ok("iam/explain", format, args...))
}

// decisionOf answers the id that a denied caller was told.
func decisionOf(t *testing.T, err error) string {
	t.Helper()
	id, ok := detail(t, err, "decisionId").(string)
	require.True(t, ok)
	return id
}

func TestADenialIsExplainedByItsId(t *testing.T) {
	w, read := reader(t)
	ann := w.principal("ann", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/api/**"]}]`)
	err := read(ann)
	w.refused(fault.AccessDenied, "", err)
	id := decisionOf(t, err)
	w.now = w.now.Add(time.Hour)
	got := w.explain(`{"decisionId":%q}`, id)
	require.Equal(t, "deny", got.Decision)
	require.Equal(t, "iam", got.Reason)
	require.Empty(t, got.Chain)
	require.Equal(t, "denied: no statement allows ann to secrets:getSecretValue on /app/dev/web/db", got.Text)
	require.Equal(t, wire.AskedQuestion{
		Principal: "ann", Action: "secrets:getSecretValue", Path: "/app/dev/web/db", SourceAddress: "192.0.2.7", AuthMethod: "token",
	}, got.Question)
	require.Equal(t, w.now.Add(-time.Hour), got.At.Time)
	require.Equal(t, "secrets.get_value", got.Event)
	require.Equal(t, "n1", got.Node)
	require.Equal(t, "deny", got.Now.Decision)
	require.Equal(t, w.now, got.Now.At.Time)
	require.Contains(t, got.Now.Text, "; the closest is statements[0] of policy ann (path /app/dev/api/**)")

	// What was decided stays; what would be decided follows the rules.
	w.ok("iam/putPolicy", `{"name":"ann","statements":%s}`, readWeb)
	got = w.explain(`{"decisionId":%q}`, id)
	require.Equal(t, "deny", got.Decision)
	require.Equal(t, "allow", got.Now.Decision)
	require.Equal(t, "allowed: ann may secrets:getSecretValue on /app/dev/web/db, by statements[0] of policy ann (path /app/dev/web/**)", got.Now.Text)
	w.ok("iam/deletePrincipal", `{"name":"ann"}`)
	got = w.explain(`{"decisionId":%q}`, id)
	require.Equal(t, "deny", got.Decision)
	require.Nil(t, got.Now, "nobody is there to ask today")
}

// Each kind of denial says why, in the chain and in words.
func TestEveryKindOfDenialIsExplained(t *testing.T) {
	for name, c := range map[string]struct {
		setup        string
		reason, text string
		step         wire.DecisionStep
	}{
		"deny": {
			`iam/putPolicy {"name":"stop","statements":[{"effect":"deny","actions":["secrets:*"],"paths":["/app/dev/**"]}]}
iam/attachPolicy {"policy":"stop","group":"everyone"}`,
			"iam", "denied: statements[0] of policy stop, through group everyone denies it (path /app/dev/**), and a deny wins over every allow",
			wire.DecisionStep{Policy: "stop", Revision: 1, Effect: "deny", Action: "secrets:*", Matched: "path /app/dev/**", Via: "group everyone"},
		},
		"condition": {
			`iam/putPolicy {"name":"ann","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/**"],"conditions":{"tags":{"tier":["2"]}}}]}`,
			"iam", "denied: statements[0] of policy ann would allow it, but its condition tags is not met",
			wire.DecisionStep{Policy: "ann", Revision: 2, Effect: "allow", Action: "role secrets-value-access", Matched: "path /app/**", Unmet: "tags"},
		},
		"boundary": {
			`iam/putPolicy {"name":"cap","statements":[{"effect":"allow","actions":["iam:*"]}]}
iam/attachPolicy {"policy":"cap","principal":"ann","mode":"boundary"}`,
			"boundary", "denied: policies allow secrets:getSecretValue on /app/dev/web/db, but a boundary of ann does not",
			wire.DecisionStep{Policy: "ann", Revision: 1, Effect: "allow", Action: "role secrets-value-access", Matched: "path /app/dev/web/**"},
		},
		"boundary that denies": {
			`iam/putPolicy {"name":"cap","statements":[{"effect":"allow","actions":["*"]},{"effect":"deny","actions":["*"]}]}
iam/attachPolicy {"policy":"cap","principal":"ann","mode":"boundary"}`,
			"boundary", "denied: statements[1] of boundary cap denies it (everything)",
			wire.DecisionStep{Policy: "cap", Revision: 1, Statement: 1, Effect: "deny", Action: "*", Matched: "everything", Boundary: true},
		},
		"source": {
			`iam/putAccessPolicy {"name":"office","paths":["/app/**"],"sourceCidrs":["198.51.100.0/24"]}`,
			"sourceAddress", "denied: access policy office (path /app/**) does not accept this source address",
			wire.DecisionStep{Policy: "office", Effect: "deny", Action: "default actions", Matched: "path /app/**", Access: true},
		},
		"time": {
			`iam/putAccessPolicy {"name":"later","paths":["/app/**"],"notBefore":"2026-03-05T00:00:00Z"}`,
			"timeWindow", "denied: access policy later (path /app/**) does not accept this time; it opens at 2026-03-05T00:00:00Z",
			wire.DecisionStep{Policy: "later", Effect: "deny", Action: "default actions", Matched: "path /app/**", Access: true},
		},
		"approval": {
			`iam/putPolicy {"name":"four","statements":[{"effect":"requireApproval","actions":["secrets:getSecretValue"],"paths":["/app/**"],"approval":{"count":2}}]}
iam/attachPolicy {"policy":"four","group":"everyone"}`,
			"approval", "denied: statements[0] of policy four, through group everyone asks for 2 more approvals before secrets:getSecretValue on /app/dev/web/db",
			wire.DecisionStep{Policy: "four", Revision: 1, Effect: "requireApproval", Action: "secrets:getSecretValue", Matched: "path /app/**", Via: "group everyone", Missing: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, read := reader(t)
			ann := w.principal("ann", readWeb)
			w.each(c.setup)
			err := read(ann)
			w.refused(fault.AccessDenied, "", err)
			require.Equal(t, c.reason, detail(t, err, "reason"))
			made := w.explain(`{"decisionId":%q}`, decisionOf(t, err))
			asked := w.explain(`{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/web/db"}`)
			for _, got := range []wire.Explanation{made.Explanation, *made.Now, asked.Explanation} {
				require.Equal(t, "deny", got.Decision)
				require.Equal(t, c.reason, got.Reason)
				require.Contains(t, got.Text, c.text)
				require.Contains(t, got.Chain, c.step)
				require.Equal(t, c.reason == "timeWindow", got.OpensAt != nil)
			}
			require.Equal(t, asked.Chain, made.Chain)
			require.Equal(t, name == "boundary", strings.HasSuffix(asked.Text, "does not: no statement of cap allows it"), "the boundary is named")
			require.NotContains(t, asked.Text, "the closest is")
		})
	}
}

// each sends "operation body" lines as the administrator.
func (w *world) each(lines string) {
	w.t.Helper()
	for _, ask := range strings.Split(lines, "\n") {
		operation, body := cut(ask)
		w.ok(operation, "%s", body)
	}
}

func TestWhatIfIsAskedInOtherCircumstances(t *testing.T) {
	w, _ := reader(t)
	w.ok("iam/createGroup", `{"name":"ops"}`)
	w.bare("ann")
	w.ok("iam/putPolicy", `{"name":"web","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"],
		"conditions":{"sourceCidrs":["10.0.0.0/8"],"authMethods":["oidc"],"tags":{"tier":["9"]},"notBefore":"2026-06-01T00:00:00Z"}}]}`)
	w.ok("iam/attachPolicy", `{"policy":"web","group":"ops"}`)
	full := `"groups":["ops"],"sourceAddress":"10.1.2.3","authMethod":"oidc","tags":{"tier":"9"},"at":"2026-06-01T00:00:00Z"`
	ask := func(circumstances string) wire.ExplainResponse {
		return w.explain(`{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/web/db",%s}`, circumstances)
	}
	require.Equal(t, "allow", ask(full).Decision)
	for without, unmet := range map[string]string{
		`"groups":["ops"],"authMethod":"oidc","tags":{"tier":"9"},"at":"2026-06-01T00:00:00Z"`:                                            "sourceCidrs",
		`"groups":["ops"],"sourceAddress":"10.1.2.3","tags":{"tier":"9"},"at":"2026-06-01T00:00:00Z"`:                                     "authMethods",
		`"groups":["ops"],"sourceAddress":"10.1.2.3","authMethod":"oidc","at":"2026-06-01T00:00:00Z"`:                                     "tags",
		`"groups":["ops"],"sourceAddress":"10.1.2.3","authMethod":"oidc","tags":{"tier":"9"}`:                                             "notBefore",
		`"groups":["ops","other"],"sourceAddress":"10.1.2.3","authMethod":"oidc","tags":{"tier":"9"},"at":"2026-05-31T23:59:59.999Z"`:     "notBefore",
		`"groups":["ops"],"sourceAddress":"::ffff:11.1.2.3","authMethod":"oidc","tags":{"tier":"9"},"at":"2026-06-01T00:00:00Z"`:          "sourceCidrs",
		`"groups":["ops"],"sourceAddress":"10.1.2.3","authMethod":"oidc","tags":{"other":"9"},"at":"2026-06-01T00:00:00Z","keyId":""`:     "tags",
		`"groups":["ops"],"sourceAddress":"10.1.2.3","authMethod":"oidc","tags":{"tier":"9"},"at":"2026-05-01T00:00:00Z","approvedBy":[]`: "notBefore",
	} {
		got := ask(without)
		require.Equal(t, "deny", got.Decision, without)
		require.Equal(t, unmet, got.Chain[0].Unmet, without)
	}
	require.Empty(t, ask(`"at":"2026-06-01T00:00:00Z"`).Chain, "without the group the policy is none of hers")
}

// A question about another time must not change what holds now.
func TestAQuestionAboutAnotherTimeLeavesNoTrace(t *testing.T) {
	w, read := reader(t)
	ann := w.bare("ann")
	w.ok("iam/putPolicy", `{"name":"web","statements":%s}`, readWeb)
	w.ok("iam/attachPolicy", `{"policy":"web","principal":"ann","ttl":"2h"}`)
	at := func(d time.Duration) string {
		return w.explain(`{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/web/db","at":%q}`, w.now.Add(d).Format(time.RFC3339)).Decision
	}
	for range 2 {
		require.Equal(t, "deny", at(2*time.Hour))
		require.NoError(t, read(ann), "now it holds")
		require.Equal(t, "allow", at(0))
	}
	w.now = w.now.Add(3 * time.Hour)
	require.Equal(t, "allow", at(-2*time.Hour))
	w.refused(fault.AccessDenied, "", read(ann))
}

func TestReportsOfPoliciesThatOnlyReport(t *testing.T) {
	w, read := reader(t)
	ann := w.principal("ann", readWeb)
	w.ok("iam/putPolicy", `{"name":"stop","reportOnly":true,"statements":[{"effect":"deny","actions":["secrets:*"],"paths":["/app/**"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"stop","principal":"ann"}`)
	require.NoError(t, read(ann))
	events := w.events(audit.Filter{Principal: "ann", Events: []string{"secrets.get_value"}})
	require.Len(t, events, 1)
	require.Equal(t, audit.OK, events[0].Outcome)
	require.Equal(t, &audit.Outcome{Reason: "iam"}, events[0].Decision.Report)
	got := w.explain(`{"decisionId":%q}`, events[0].DecisionID)
	require.Equal(t, "allow", got.Decision)
	require.Equal(t, &wire.PolicyReport{Reason: "iam"}, got.Report)
	require.Contains(t, got.Text, ". If the policies that only report had a say, it would be denied")
	shown := w.allEvents(`"principal":"ann","event":"secrets.get_value"`, 10)[0]
	require.Equal(t, &wire.PolicyReport{Reason: "iam"}, shown.Report)

	// And the reverse: denied, and it would be allowed.
	bob := w.principal("bob", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	w.ok("iam/putPolicy", `{"name":"soon","reportOnly":true,"statements":%s}`, readWeb)
	w.ok("iam/attachPolicy", `{"policy":"soon","principal":"bob"}`)
	err := read(bob)
	w.refused(fault.AccessDenied, "", err)
	require.Equal(t, &wire.PolicyReport{Allowed: true}, w.explain(`{"decisionId":%q}`, decisionOf(t, err)).Report)
}

// Guards are no questions to policies, and say so.
func TestAGuardIsExplained(t *testing.T) {
	w, _ := reader(t)
	ann := w.bare("ann")
	w.ok("iam/attachPolicy", `{"policy":"full-access","principal":"ann"}`)
	w.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["iam:*"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"cap","principal":"ann","mode":"boundary"}`)
	_, err := w.as(ann, "iam/detachPolicy", `{"policy":"cap","principal":"ann","mode":"boundary"}`)
	got := w.explain(`{"decisionId":%q}`, decisionOf(t, err))
	require.Equal(t, "boundary", got.Reason)
	require.Contains(t, got.Text, "could lift it; no policy decides this")
	require.Nil(t, got.Now)
}

// Each item of a batch has a decision of its own, and lists ask for anything.
func TestDecisionsOfItemsAndLists(t *testing.T) {
	w, _ := reader(t)
	ann := w.principal("ann", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/prod/**"]}]`)
	_, err := w.as(ann, "secrets/batchGetSecretValue", `{"items":[{"path":"/app/dev/web/db"},{"path":"/app/dev/web/none"}]}`)
	require.NoError(t, err)
	items := w.events(audit.Filter{Principal: "ann", Outcome: audit.Denied})
	require.Len(t, items, 2)
	for _, e := range items {
		got := w.explain(`{"decisionId":%q}`, e.DecisionID)
		require.Equal(t, e.Path, got.Question.Path)
		require.Equal(t, "deny", got.Now.Decision)
	}
	_, err = w.as(ann, "secrets/listSecrets", `{}`)
	got := w.explain(`{"decisionId":%q}`, decisionOf(t, err))
	require.Equal(t, "denied: no statement allows ann to secrets:listSecrets on anything", got.Text)
	require.Equal(t, "deny", got.Now.Decision)
	require.Equal(t, "deny", w.explain(`{"principal":"ann","action":"secrets:listSecrets"}`).Decision)
	require.Equal(t, "allow", w.explain(`{"principal":"ann","action":"secrets:getSecretValue"}`).Decision)
	require.Equal(t, "allow", w.explain(`{"principal":"ann","action":"secrets:getSecretValue","prefix":"/app/prod"}`).Decision)
	require.Equal(t, "deny", w.explain(`{"principal":"ann","action":"secrets:getSecretValue","prefix":"/app"}`).Decision)
}

func TestKeysAreExplainedByIdAndAlias(t *testing.T) {
	s := newStock(t)
	s.principal("ann", `[{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/pay"]}]`)
	for ref, want := range map[string]string{"alias/pay": "allow", s.keyID: "allow", "alias/off": "deny", "alias/none": "deny", absentID: "deny"} {
		require.Equal(t, want, s.explain(`{"principal":"ann","action":"kms:encrypt","keyId":%q}`, ref).Decision, ref)
	}
	require.Equal(t, "deny", s.explain(`{"principal":"ann","action":"kms:createKey"}`).Decision)
	require.Equal(t, "deny", s.explain(`{"principal":"ann","action":"kms:listKeys"}`).Decision)
}

func TestRequestsOfExplainThatMeanNothingAreRefused(t *testing.T) {
	w, _ := reader(t)
	w.bare("ann")
	for body, says := range map[string]string{
		`{}`:                 "principal: is missing",
		`{"decisionId":"x"}`: "decisionId: must be",
		`{"decisionId":"` + absentID + `","principal":"ann"}`: "decisionId: goes alone",
		`{"principal":"ann"}`:                      "action: is missing",
		`{"principal":"ann","action":"secrets:*"}`: "action: is no action",
		`{"principal":"ann","action":"secrets:getSecretValue","path":"/a","prefix":"/a"}`:                  "prefix: goes without path",
		`{"principal":"ann","action":"secrets:getSecretValue","keyId":"alias/default"}`:                    "keyId: is nothing that",
		`{"principal":"ann","action":"iam:listPolicies","path":"/a"}`:                                      "path: is nothing that",
		`{"principal":"ann","action":"secrets:getSecretValue","path":"/a//b"}`:                             "path: ",
		`{"principal":"ann","action":"secrets:getSecretValue","path":"/a","sourceAddress":"x"}`:            "sourceAddress: ",
		`{"principal":"ann","action":"secrets:getSecretValue","path":"/a","sourceAddress":"fe80::1%eth0"}`: "sourceAddress: ",
		`{"principal":"ann","action":"secrets:getSecretValue","path":"/a","authMethod":"password"}`:        "authMethod: ",
		`{"principal":"ann","action":"secrets:getSecretValue","path":"/a","groups":["a b"]}`:               "groups: ",
		`{"principal":"ann","action":"secrets:getSecretValue","prefix":"/a","tags":{"a":"b"}}`:             "tags: go with",
		`{"principal":"ann","action":"secrets:getSecretValue","path":"/a","approvedBy":["a b"]}`:           "approvedBy: ",
		`{"principal":"` + w.admin + `","action":"secrets:getSecretValue","path":"/a"}`:                    "principal: ",
	} {
		_, err := w.as(w.admin, "iam/explain", body)
		w.refused(fault.InvalidRequest, says, err)
	}
	for body, says := range map[string]string{
		`{"decisionId":"` + absentID + `"}`:                                                       "decisionId: no trail has this decision",
		`{"principal":"none","action":"iam:listPolicies"}`:                                        "principal: there is no principal none",
		`{"principal":"ann","action":"secrets:getSecretValue","path":"/a","approvedBy":["none"]}`: "approvedBy: there is no principal",
	} {
		_, err := w.as(w.admin, "iam/explain", body)
		w.refused(fault.NotFound, says, err)
	}
	w.members(map[string][]wire.AuditEvent{"n2": nil})
	_, err := w.as(w.admin, "iam/explain", `{"decisionId":"`+absentID+`"}`)
	w.refused(fault.NotFound, "[n2] did not answer", err)
}

// A decision of another member is found, and one of a release that kept none
// says so.
func TestDecisionsOfOtherMembersAndEarlierReleases(t *testing.T) {
	w, _ := reader(t)
	w.bare("ann")
	w.members(map[string][]wire.AuditEvent{"n2": {{
		Node: "n2", Sequence: 7, Time: wire.Millis(5), Event: "secrets.get_value", Outcome: "denied", Principal: "ann", Path: "/app/dev/web/db",
		SourceAddress: "192.0.2.9", DecisionID: absentID, Reason: "sourceAddress",
	}}})
	got := w.explain(`{"decisionId":%q}`, absentID)
	require.Equal(t, "n2", got.Node)
	require.Equal(t, "sourceAddress", got.Reason)
	require.Equal(t, "denied: an access policy does not accept the source address; the trail of that release did not keep the rules", got.Text)
	require.Equal(t, "deny", got.Now.Decision)
	require.Equal(t, "192.0.2.9", got.Question.SourceAddress)
}

// Who reads the trail sees the grounds of decisions only with iam:explain.
func TestGroundsAreForWhoMayExplain(t *testing.T) {
	w, read := reader(t)
	ann := w.principal("ann", `[{"effect":"deny","actions":["secrets:*"],"paths":["/app/dev/secret-project/**","/app/**"]}]`)
	err := read(ann)
	auditor := w.principal("auditor", `[{"effect":"allow","roles":["audit-read-access"]}]`)
	ask := fmt.Sprintf(`{"decisionId":%q}`, decisionOf(t, err))
	page := w.okAs(auditor, "audit/queryEvents", ask)
	require.Contains(t, page, `"reason":"iam"`)
	require.NotContains(t, page, `"decision":`)
	require.NotContains(t, page, `"chain":`)
	_, err = w.as(auditor, "iam/explain", ask)
	w.refused(fault.AccessDenied, "", err)
	events := into[wire.QueryEventsResponse](t, w.ok("audit/queryEvents", "%s", ask)).Events
	require.Len(t, events, 1)
	require.Equal(t, "ann", events[0].Decision.Chain[0].Policy)
}

// A chain of many statements is cut, and what restricts is kept.
func TestLongChainsAreCut(t *testing.T) {
	w, read := reader(t)
	statements := ""
	for range 80 {
		statements += `{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/dev/**"]},`
	}
	ann := w.principal("ann", `[`+statements+`{"effect":"deny","actions":["secrets:*"],"paths":["/app/**"]}]`)
	err := read(ann)
	got := w.explain(`{"decisionId":%q}`, decisionOf(t, err))
	require.Len(t, got.Chain, audit.MaxSteps)
	require.Equal(t, 31, got.More)
	require.Equal(t, 80, got.Chain[len(got.Chain)-1].Statement)
	require.Equal(t, "deny", got.Chain[len(got.Chain)-1].Effect)
}

func TestWhoCanNamesThoseWhoMayAndThoseWhoMight(t *testing.T) {
	w, _ := reader(t)
	w.principal("always", readWeb)
	w.principal("elsewhere", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/prod/**"]}]`)
	w.principal("inside", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"],"conditions":{"sourceCidrs":["10.0.0.0/8"]}}]`)
	w.principal("here", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"],"conditions":{"sourceCidrs":["192.0.2.0/24"]}}]`)
	w.principal("stopped", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"]},{"effect":"deny","actions":["secrets:*"],"paths":["/app/dev/web/**"]}]`)
	w.principal("behind", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	w.principal("waits", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"]},{"effect":"requireApproval","actions":["secrets:getSecretValue"],"paths":["/app/dev/**"],"approval":{}}]`)
	w.ok("iam/putPolicy", `{"name":"glass","statements":%s}`, readWeb)
	w.ok("iam/attachPolicy", `{"policy":"glass","principal":"behind","mode":"breakGlass"}`)
	w.ok("iam/createGroup", `{"name":"ops"}`)
	w.bare("member")
	w.ok("iam/addToGroup", `{"group":"ops","principal":"member"}`)
	w.ok("iam/attachPolicy", `{"policy":"glass","group":"ops"}`)
	ask := func(more string) map[string]wire.WhoCan {
		out := map[string]wire.WhoCan{}
		for _, p := range into[wire.WhoCanResponse](t, w.ok("iam/whoCan", `{"action":"secrets:getSecretValue","path":"/app/dev/web/db"%s}`, more)).Principals {
			out[p.Principal] = p
		}
		return out
	}
	got := ask("")
	require.Len(t, got, 7)
	require.Equal(t, wire.WhoCan{Principal: "always", Kind: "service", Decision: "allow", By: []wire.GrantedBy{{Policy: "always", Matched: "path /app/dev/web/**"}}}, got["always"])
	require.Equal(t, "allow", got["admin"].Decision)
	require.Equal(t, "group ops", got["member"].By[0].Via)
	require.Equal(t, []string{"sourceCidrs"}, got["inside"].Lacks)
	require.Equal(t, "conditional", got["inside"].Decision)
	require.Equal(t, "allow", got["here"].Decision)
	require.Equal(t, []string{"sourceCidrs"}, got["here"].Conditions)
	require.Equal(t, []string{"approval"}, got["waits"].Lacks)
	require.Equal(t, []string{"breakGlass"}, got["behind"].Lacks)
	require.True(t, got["behind"].BreakGlass)
	require.Equal(t, "glass", got["behind"].By[0].Policy)
	got = ask(`,"sourceAddress":"10.0.0.1"`)
	require.Equal(t, "allow", got["inside"].Decision)
	require.Equal(t, "conditional", got["here"].Decision)
	w.ok("iam/putAccessPolicy", `{"name":"office","paths":["/app/**"],"sourceCidrs":["10.0.0.0/8"]}`)
	require.Equal(t, []string{"sourceAddress"}, ask("")["always"].Lacks)
	require.Equal(t, []string{"accessPolicy"}, ask(`,"sourceAddress":"10.0.0.1"`)["always"].Conditions)
}

func TestWhatCanShowsRightsAndReadableValues(t *testing.T) {
	w, _ := reader(t)
	w.put2("/app/dev/web/other", "/app/prod/web/db")
	w.principal("ann", `[
		{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]},
		{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/prod/**"],"conditions":{"authMethods":["oidc"]}},
		{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/default"]},
		{"effect":"deny","actions":["secrets:*"],"paths":["/app/dev/web/other"]},
		{"effect":"requireApproval","actions":["kms:encrypt"],"keys":["*"],"approval":{}}]`)
	w.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["secrets:*"],"paths":["/app/**"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"cap","principal":"ann","mode":"boundary"}`)
	got := into[wire.WhatCanResponse](t, w.ok("iam/whatCan", `{"principal":"ann"}`))
	require.Equal(t, []wire.ActionReach{{
		Action: "secrets:getSecretValue", On: []string{"/app/dev/web/**", "/app/prod/**"}, By: []string{"ann"},
	}}, got.Actions, "the boundary lets no kms action pass")
	require.Equal(t, []string{"/app/dev/web/other"}, got.Denies[0].On)
	require.Equal(t, 3, got.Denies[0].Statement)
	require.Equal(t, "cap", got.Boundaries[0].Policy)
	require.Equal(t, "requireApproval", got.Approvals[0].Effect)
	values := func(more string) (out []string) {
		for _, v := range into[wire.WhatCanResponse](t, w.ok("iam/whatCan", `{"principal":"ann","values":true%s}`, more)).Values {
			out = append(out, v.Path)
		}
		return out
	}
	require.Equal(t, []string{"/app/dev/web/db"}, values(""))
	require.Equal(t, []string{"/app/dev/web/db", "/app/prod/web/db"}, values(`,"authMethod":"oidc"`))
	require.Equal(t, []string{"/app/prod/web/db"}, values(`,"authMethod":"oidc","prefix":"/app/prod/"`))
	// Who may not list a secret does not learn of it here.
	auditor := w.principal("auditor", `[{"effect":"allow","roles":["iam-read-access"]}]`)
	page := w.okAs(auditor, "iam/whatCan", `{"principal":"ann","values":true}`)
	require.NotContains(t, page, "/app/")
	_, err := w.as(w.admin, "iam/whatCan", `{"principal":"ann","limit":3}`)
	w.refused(fault.InvalidRequest, "limit: and cursor go with values", err)
}

func (w *world) put2(paths ...string) {
	w.t.Helper()
	for _, path := range paths {
		w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, b64("v"))
	}
}

// Denials with long grounds make pages shorter, and lose no event.
func TestLongDecisionsDoNotFillAPage(t *testing.T) {
	w, read := reader(t)
	long := "/app/dev/" + strings.Repeat("x", 120)
	var statements []string
	for i := range 60 {
		statements = append(statements, fmt.Sprintf(`{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["%s%d/**","/app/dev/**"],"conditions":{"authMethods":["oidc"]}}`, long, i))
	}
	ann := w.principal("ann", "["+strings.Join(statements, ",")+"]")
	const denials = 400
	for range denials {
		w.refused(fault.AccessDenied, "", read(ann))
	}
	page, err := w.engine.LocalEvents(context.Background(), engine.TrailQuery{Principal: "ann", Limit: 1000})
	require.NoError(t, err)
	require.True(t, page.More)
	require.Less(t, len(page.Events), denials)
	w.members(map[string][]wire.AuditEvent{"n2": {{Node: "n2", Sequence: 1, Time: wire.Millis(w.now.Add(time.Hour).UnixMilli()), Event: "secrets.get_value", Outcome: "denied"}}})
	var seen []string
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		var page struct {
			Events []struct {
				Node     string
				Sequence int
			}
			NextCursor string
		}
		require.NoError(t, json.Unmarshal([]byte(w.ok("audit/queryEvents", `{"event":"secrets.get_value","limit":1000,"cursor":%q}`, cursor)), &page))
		require.Less(t, len(page.Events), denials)
		for _, e := range page.Events {
			seen = append(seen, fmt.Sprint(e.Node, " ", e.Sequence))
		}
		cursor = page.NextCursor
	}
	require.Len(t, seen, denials+1)
	require.Equal(t, "n2 1", seen[denials], "a later event of another chain waits for this one")
	slices.Sort(seen)
	require.Len(t, slices.Compact(seen), denials+1)
}

// Approvals that are said to be given are counted as enforcement counts them.
func TestApprovalsOfAQuestion(t *testing.T) {
	w, _ := reader(t)
	w.principal("ann", readWeb)
	w.bare("bob")
	w.bare("eve")
	w.ok("iam/createGroup", `{"name":"security"}`)
	w.ok("iam/addToGroup", `{"group":"security","principal":"bob"}`)
	w.ok("iam/putPolicy", `{"name":"four","statements":[{"effect":"requireApproval","actions":["secrets:getSecretValue"],"paths":["/app/**"],"approval":{"groups":["security"]}}]}`)
	w.ok("iam/attachPolicy", `{"policy":"four","group":"everyone"}`)
	for approvers, want := range map[string]string{`[]`: "deny", `["eve"]`: "deny", `["ann"]`: "deny", `["bob"]`: "allow", `["eve","bob","bob"]`: "allow"} {
		got := w.explain(`{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/web/db","approvedBy":%s}`, approvers)
		require.Equal(t, want, got.Decision, approvers)
		if want == "deny" {
			require.Equal(t, []wire.ApprovalNeed{{Policy: "four", Count: 1, Groups: []string{"security"}}}, got.Needs)
		}
	}
}
