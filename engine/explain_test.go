package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
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
	w.setNow(w.now().Add(time.Hour))
	got := w.explain(`{"decisionId":%q}`, id)
	require.Equal(t, "deny", got.Decision)
	require.Equal(t, "iam", got.Reason)
	require.Empty(t, got.Chain)
	require.Equal(t, "denied: no statement allows ann to secrets:getSecretValue on /app/dev/web/db", got.Text)
	require.Equal(t, wire.AskedQuestion{
		Principal: "ann", Action: "secrets:getSecretValue", Path: "/app/dev/web/db", SourceAddress: "192.0.2.7", AuthMethod: "token",
	}, got.Question)
	require.Equal(t, w.now().Add(-time.Hour), got.At.Time)
	require.Equal(t, "secrets.get_value", got.Event)
	require.Equal(t, "n1", got.Node)
	require.Equal(t, "deny", got.Now.Decision)
	require.Equal(t, w.now(), got.Now.At.Time)
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
			wire.DecisionStep{Policy: "office", Revision: 1, Effect: "deny", Action: "default actions", Matched: "path /app/**", Unmet: "sourceCidrs", Access: true},
		},
		"time": {
			`iam/putAccessPolicy {"name":"later","paths":["/app/**"],"notBefore":"2026-03-05T00:00:00Z"}`,
			"timeWindow", "denied: access policy later (path /app/**) does not accept this time; it opens at 2026-03-05T00:00:00Z",
			wire.DecisionStep{Policy: "later", Revision: 1, Effect: "deny", Action: "default actions", Matched: "path /app/**", Unmet: "notBefore", Access: true},
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
		return w.explain(`{"principal":"ann","action":"secrets:getSecretValue","path":"/app/dev/web/db","at":%q}`, w.now().Add(d).Format(time.RFC3339)).Decision
	}
	for range 2 {
		require.Equal(t, "deny", at(2*time.Hour))
		require.NoError(t, read(ann), "now it holds")
		require.Equal(t, "allow", at(0))
	}
	w.setNow(w.now().Add(3 * time.Hour))
	require.Equal(t, "allow", at(-2*time.Hour))
	w.refused(fault.AccessDenied, "", read(ann))
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
			day := wire.Duration(24 * time.Hour)
			require.Equal(t, []wire.ApprovalNeed{{Policy: "four", Count: 1, Groups: []string{"security"}, ValidFor: &day}}, got.Needs)
		}
	}
}
