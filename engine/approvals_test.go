package engine_test

import (
	"encoding/base64"
	"fmt"
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

const approves = `[{"effect":"allow","actions":["iam:approve","iam:deny"]}]`

// heldBack is a world in which a policy holds back what ann may do until one of
// bob and carl has approved it.
type heldBack struct {
	*world
	ann, bob, carl string
}

func newHeld(t *testing.T, actions, reach string) *heldBack {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/prod/web/db","value":%q}`, b64(markValue))
	h := &heldBack{world: w}
	h.ann = w.principal("ann", `[{"effect":"allow","roles":["full-access"]}]`)
	h.bob, h.carl = w.principal("bob", approves), w.principal("carl", approves)
	w.ok("iam/createGroup", `{"name":"security"}`)
	w.ok("iam/addToGroup", `{"group":"security","principal":"bob"}`)
	w.ok("iam/addToGroup", `{"group":"security","principal":"carl"}`)
	w.ok("iam/putPolicy", `{"name":"two","statements":[{"effect":"requireApproval","actions":[%s]%s,"approval":{"groups":["security"],"count":1,"validFor":"1h"}}]}`, actions, reach)
	w.ok("iam/attachPolicy", `{"policy":"two","principal":"ann"}`)
	w.setNow(w.now().Add(time.Second)) // who approves was there before
	return h
}

func (h *heldBack) ask(operation, body string) wire.ApprovalResponse {
	h.t.Helper()
	return into[wire.ApprovalResponse](h.t, h.okAs(h.ann, "iam/requestApproval", fmt.Sprintf(`{"operation":%q,"request":%s,"reason":"ticket 7"}`, operation, body)))
}

func (h *heldBack) say(token, verdict, id string) error {
	_, err := h.as(token, "iam/"+verdict, fmt.Sprintf(`{"approvalId":%q}`, id))
	return err
}

// lacks asserts that ann is told what is missing, and how to get it.
func (h *heldBack) lacks(operation, body string) {
	h.t.Helper()
	_, err := h.as(h.ann, operation, body)
	h.refused(fault.AccessDenied, "ask for it with iam/requestApproval, then send exactly this request again", err)
	require.Equal(h.t, "approval", detail(h.t, err, "reason"))
	hour := wire.Duration(time.Hour)
	require.Equal(h.t, []wire.ApprovalNeed{{Policy: "two", Count: 1, Groups: []string{"security"}, ValidFor: &hour}}, detail(h.t, err, "needs"))
}

const readDB = `{"path":"/app/prod/web/db"}`

func heldRead(t *testing.T) *heldBack {
	return newHeld(t, `"secrets:getSecretValue"`, `,"paths":["/app/prod/**"]`)
}

// What the issue names: a destruction, a deletion, the end of a key, a change
// of policy, a value that is read. One person alone does none of them.
func TestTwoPeopleForWhatAPolicyNames(t *testing.T) {
	const key, secret = `,"keys":["*"]`, `,"paths":["/**"]`
	for operation, c := range map[string]struct{ action, reach, body string }{
		"secrets/getSecretValue":  {"secrets:getSecretValue", secret, readDB},
		"secrets/destroyVersion":  {"secrets:destroyVersion", secret, `{"path":"/app/prod/web/db","version":1,"delay":"1d"}`},
		"secrets/deleteSecret":    {"secrets:deleteSecret", secret, readDB},
		"secrets/putSecretValue":  {"secrets:putSecretValue", secret, `{"path":"/app/prod/web/db","value":"` + b64(markCaller) + `"}`},
		"kms/scheduleKeyDeletion": {"kms:scheduleKeyDeletion", key, `{"keyId":"alias/old"}`},
		"iam/putPolicy":           {"iam:putPolicy", "", `{"name":"new","statements":[{"effect":"allow","actions":["iam:listPolicies"]}]}`},
		"iam/detachPolicy":        {"iam:detachPolicy", "", `{"policy":"two","principal":"ann"}`},
	} {
		t.Run(operation, func(t *testing.T) {
			h := newHeld(t, `"`+c.action+`"`, c.reach)
			h.put("/app/prod/web/db", "second")
			h.ok("kms/createKey", `{"alias":"alias/old"}`)
			h.lacks(operation, c.body)
			asked := h.ask(operation, c.body)
			require.Equal(t, "pending", asked.State)
			require.Equal(t, c.action, asked.Action)
			require.NotContains(t, asked.Request, b64(markCaller))
			h.lacks(operation, c.body)
			h.refused(fault.AccessDenied, "iam:approve is not allowed", h.say(h.principal("dave", `[{"effect":"allow","actions":["iam:listPolicies"]}]`), "approve", asked.ApprovalID))
			require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
			id, answer, err := h.request(h.ann, operation, c.body)
			require.NoError(t, err, answer)
			for _, e := range h.events(audit.Filter{RequestID: id}) {
				if e.Event == engineEvent(operation) {
					require.Equal(t, asked.ApprovalID, e.ApprovalID)
				}
			}
			after := into[wire.ApprovalResponse](t, h.okAs(h.bob, "iam/describeApproval", fmt.Sprintf(`{"approvalId":%q}`, asked.ApprovalID)))
			require.Equal(t, "used", after.State)
			require.Equal(t, "bob", after.Approvals[0].Principal)
		})
	}
}

func engineEvent(operation string) string {
	service, name, _ := strings.Cut(operation, "/")
	return engine.Find(service, name).Event
}

// What was approved is one exact request of one person: nothing in it may be
// another, but what does not change what it does.
func TestAnApprovalIsOfTheExactRequest(t *testing.T) {
	h := newHeld(t, `"secrets:putSecretValue","secrets:deleteSecret"`, `,"paths":["/app/prod/**"]`)
	const put = "secrets/putSecretValue"
	body := func(more string) string {
		return fmt.Sprintf(`{"path":"/app/prod/web/db","value":%q%s}`, b64("one"), more)
	}
	asked := h.ask(put, body(`,"reason":"leaked"`))
	require.JSONEq(t, `{"path":"/app/prod/web/db","reason":"leaked","value":"(hidden)"}`, asked.Request)
	require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
	for name, other := range map[string]string{
		"another value":  fmt.Sprintf(`{"path":"/app/prod/web/db","value":%q,"reason":"leaked"}`, b64("two")),
		"another path":   fmt.Sprintf(`{"path":"/app/prod/web/x","value":%q,"reason":"leaked"}`, b64("one")),
		"another reason": body(`,"reason":"Leaked"`),
		"a field less":   body(""),
		"a field more":   body(`,"reason":"leaked","activate":false`),
	} {
		_, err := h.as(h.ann, put, other)
		h.refused(fault.AccessDenied, "needs the approval", err)
		require.NotEmpty(t, detail(t, err, "needs"), name)
	}
	other := h.principal("other", `[{"effect":"allow","roles":["full-access"]}]`)
	h.ok("iam/attachPolicy", `{"policy":"two","principal":"other"}`)
	_, err := h.as(other, put, body(`,"reason":"leaked"`))
	h.refused(fault.AccessDenied, "needs the approval", err)
	_, err = h.as(h.ann, "secrets/deleteSecret", readDB)
	h.refused(fault.AccessDenied, "needs the approval", err)
	// Spelt another way, and with a token for retries: the same request.
	same := fmt.Sprintf(`{ "reason":"leaked","clientToken":"t", "value":%q,"path":"/app/prod/web/db"}`, b64("one"))
	first := into[wire.PutSecretValueResponse](t, h.okAs(h.ann, put, same))
	// By its client token the answer that was lost comes again, for a while.
	again := into[wire.PutSecretValueResponse](t, h.okAs(h.ann, put, same))
	require.Equal(t, first.VersionID, again.VersionID)
	h.lacks2(put, strings.Replace(same, `"t"`, `"u"`, 1))
	h.setNow(h.now().Add(5 * time.Minute))
	h.lacks2(put, same)
}

// lacks2 is lacks where another approval was used before.
func (h *heldBack) lacks2(operation, body string) {
	h.t.Helper()
	_, err := h.as(h.ann, operation, body)
	h.refused(fault.AccessDenied, "needs the approval", err)
}

func TestNobodyApprovesTheirOwnRequest(t *testing.T) {
	h := heldRead(t)
	h.ok("iam/addToGroup", `{"group":"security","principal":"ann"}`)
	asked := h.ask("secrets/getSecretValue", readDB)
	for _, verdict := range []string{"approve", "deny"} {
		h.refused(fault.Conflict, "nobody approves or denies a request of their own", h.say(h.ann, verdict, asked.ApprovalID))
	}
	// Nor through another credential, nor by somebody made for it.
	h.refused(fault.Conflict, "of their own", h.say(h.tokenOf("ann"), "approve", asked.ApprovalID))
	h.okAs(h.ann, "iam/createPrincipal", `{"name":"puppet","kind":"user"}`)
	h.okAs(h.ann, "iam/addToGroup", `{"group":"security","principal":"puppet"}`)
	h.okAs(h.ann, "iam/attachPolicy", `{"policy":"bob","principal":"puppet"}`)
	h.refused(fault.Conflict, "that were there before the request", h.say(h.tokenOf("puppet"), "approve", asked.ApprovalID))
	h.lacks("secrets/getSecretValue", readDB)
}

// What an approval is worth is decided when it is used.
func TestAnApprovalHoldsOnlyAsLongAsItsGrounds(t *testing.T) {
	for name, change := range map[string]func(h *heldBack, id string){
		"who approved left":    func(h *heldBack, _ string) { h.ok("iam/removeFromGroup", `{"group":"security","principal":"bob"}`) },
		"who approved is gone": func(h *heldBack, _ string) { h.ok("iam/deletePrincipal", `{"name":"bob"}`) },
		"the policy asks more": func(h *heldBack, _ string) { h.demands(2) },
		"it expired":           func(h *heldBack, _ string) { h.setNow(h.now().Add(time.Hour)) },
		"it was denied":        func(h *heldBack, id string) { require.NoError(h.t, h.say(h.carl, "deny", id)) },
		"it was taken back":    func(h *heldBack, id string) { require.NoError(h.t, h.say(h.ann, "withdrawApproval", id)) },
		"another policy asks too": func(h *heldBack, _ string) {
			h.ok("iam/putPolicy", `{"name":"three","statements":[{"effect":"requireApproval","actions":["secrets:*"],"paths":["/**"],"approval":{"principals":["carl"],"count":1}}]}`)
			h.ok("iam/attachPolicy", `{"policy":"three","group":"everyone"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := heldRead(t)
			asked := h.ask("secrets/getSecretValue", readDB)
			require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
			change(h, asked.ApprovalID)
			h.lacks2("secrets/getSecretValue", readDB)
			require.NotEqual(t, fsm.ApprovalUsed, h.log.machine.State().Approval(asked.ApprovalID).State)
		})
	}
	h := heldRead(t)
	asked := h.ask("secrets/getSecretValue", readDB)
	require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
	h.setNow(asked.ExpiresAt.Add(-time.Millisecond))
	h.okAs(h.ann, "secrets/getSecretValue", readDB)
}

func (h *heldBack) demands(count int) {
	h.ok("iam/putPolicy", `{"name":"two","statements":[{"effect":"requireApproval","actions":["secrets:getSecretValue"],"paths":["/app/prod/**"],"approval":{"groups":["security"],"count":%d}}]}`, count)
}

func TestAsManyPeopleAsAPolicyAsks(t *testing.T) {
	h := heldRead(t)
	h.demands(2)
	asked := h.ask("secrets/getSecretValue", readDB)
	for range 2 {
		require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID)) // counts once
	}
	_, err := h.as(h.ann, "secrets/getSecretValue", readDB)
	h.refused(fault.AccessDenied, "", err)
	require.Equal(t, 1, detail(t, err, "needs").([]wire.ApprovalNeed)[0].Given)
	require.NoError(t, h.say(h.carl, "approve", asked.ApprovalID))
	h.okAs(h.ann, "secrets/getSecretValue", readDB)
	h.refused(fault.Conflict, "is used already", h.say(h.carl, "deny", asked.ApprovalID))
}

// A write that fails has used nothing up; a read that another policy stops is
// not approved either.
func TestWhatFailsUsesNoApproval(t *testing.T) {
	h := newHeld(t, `"secrets:putSecretValue"`, `,"paths":["/app/prod/**"]`)
	body := fmt.Sprintf(`{"path":"/app/prod/web/db","value":%q,"expectedVersion":2}`, b64("x"))
	asked := h.ask("secrets/putSecretValue", body)
	require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
	_, err := h.as(h.ann, "secrets/putSecretValue", body)
	h.refused(fault.Conflict, "expectedVersion", err)
	require.Equal(t, fsm.ApprovalPending, h.log.machine.State().Approval(asked.ApprovalID).State)
	h.put("/app/prod/web/db", "y")
	h.okAs(h.ann, "secrets/putSecretValue", body)
	h.lacks2("secrets/putSecretValue", body)
}

// No node that cannot commit opens anything by an approval.
func TestNothingIsOpenedBeforeItsApprovalIsUsed(t *testing.T) {
	h := heldRead(t)
	asked := h.ask("secrets/getSecretValue", readDB)
	require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
	h.log.proposing = func() { h.log.lost = true }
	id, answer, err := h.request(h.ann, "secrets/getSecretValue", readDB)
	h.refused(fault.NoLeader, "", err)
	require.Empty(t, answer)
	h.log.proposing, h.log.lost = nil, false
	require.Empty(t, h.events(audit.Filter{RequestID: id, Events: []string{"kms.decrypt"}}))
	h.okAs(h.ann, "secrets/getSecretValue", readDB)
}

// Two requests at once do not share an approval: the second finds it used.
func TestAnApprovalServesOneOfTwoAtOnce(t *testing.T) {
	h := newHeld(t, `"iam:createToken"`, "")
	asked := h.ask("iam/createToken", `{"principal":"bob"}`)
	require.NoError(t, h.say(h.carl, "approve", asked.ApprovalID))
	before := h.log.machine.State()
	h.okAs(h.ann, "iam/createToken", `{"principal":"bob"}`)
	h.log.stale = before
	_, err := h.as(h.ann, "iam/createToken", `{"principal":"bob"}`)
	h.refused(fault.Conflict, "the approval was used", err)
}

func TestWhatCanBeAskedFor(t *testing.T) {
	h := newHeld(t, `"secrets:createSecret","secrets:getSecretValue"`, `,"paths":["/app/prod/**"]`)
	nobody := h.principal("nobody", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	h.ok("iam/attachPolicy", `{"policy":"two","principal":"nobody"}`)
	for body, says := range map[string]string{
		`{"operation":"secrets/none","request":{},"reason":"x"}`:                                            "InvalidRequest operation: there is no operation",
		`{"operation":"a b","request":{},"reason":"x"}`:                                                     "InvalidRequest operation: must be",
		`{"operation":"secrets/batchGetSecretValue","request":{},"reason":"x"}`:                             "InvalidRequest operation: a batch",
		`{"operation":"secrets/getSecretValue","reason":"x"}`:                                               "InvalidRequest request: is missing",
		`{"operation":"secrets/getSecretValue","request":[],"reason":"x"}`:                                  "InvalidRequest request: must be the JSON object",
		`{"operation":"secrets/getSecretValue","request":` + readDB + `}`:                                   "InvalidRequest reason: is missing",
		`{"operation":"secrets/getSecretValue","request":{"path":"/app//x"},"reason":"x"}`:                  "InvalidRequest request: path: ",
		`{"operation":"secrets/getSecretValue","request":{"pfad":"/app/x"},"reason":"x"}`:                   "InvalidRequest request: pfad: ",
		`{"operation":"secrets/getSecretValue","request":{"path":"/app/dev/x"},"reason":"x"}`:               "Conflict request: needs no approval",
		`{"operation":"iam/whoAmI","request":{},"reason":"x"}`:                                              "Conflict request: needs no approval",
		`{"operation":"iam/approve","request":{"approvalId":"` + absentID + `"},"reason":"x"}`:              "Conflict request: needs no approval",
		`{"operation":"secrets/generateSecret","request":{"path":"/x","kind":"rsa","bits":7},"reason":"x"}`: "InvalidRequest request: ",
	} {
		_, err := h.as(h.ann, "iam/requestApproval", body)
		kind, text, _ := strings.Cut(says, " ")
		h.refused(fault.Kind(kind), text, err)
	}
	// Who would not be allowed anyway asks for nothing, and learns nothing.
	_, err := h.as(nobody, "iam/requestApproval", `{"operation":"secrets/getSecretValue","request":`+readDB+`,"reason":"x"}`)
	h.refused(fault.AccessDenied, "secrets:getSecretValue is not allowed here", err)
	require.Nil(t, detail(t, err, "needs"))
	why := h.explain(`{"decisionId":%q}`, detail(t, err, "decisionId"))
	require.Equal(t, "deny", why.Decision)
	require.Equal(t, "/app/prod/web/db", why.Question.Path)

	// What a request asks for besides its own action is found, and approved, too.
	h.ok("secrets/createSecret", `{"path":"/app/dev/from","value":%q}`, b64("x"))
	body := `{"path":"/app/dev/from","toPath":"/app/prod/to"}`
	asked := h.ask("secrets/copySecret", body)
	require.Equal(t, "secrets:createSecret", asked.Action)
	require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
	h.okAs(h.ann, "secrets/copySecret", body)
	h.ok("secrets/createSecret", `{"path":"/app/prod/one"}`)
	h.ok("iam/putPolicy", `{"name":"see","statements":[{"effect":"requireApproval","actions":["secrets:describeSecret","kms:reEncrypt","kms:listAliases"],"paths":["/app/prod/one"],"keys":["alias/to"],"approval":{"count":1}}]}`)
	h.ok("iam/attachPolicy", `{"policy":"see","principal":"ann"}`)
	h.ok("kms/createKey", `{"alias":"alias/to"}`)
	h.ok("kms/createKey", `{"alias":"alias/from"}`)
	sealed := into[wire.EncryptResponse](t, h.okAs(h.ann, "kms/encrypt", `{"keyId":"alias/from","plaintext":"aGk="}`))
	for operation, body := range map[string]string{
		"secrets/waitForChange": `{"paths":["/app/dev/from","/app/prod/one"],"timeout":"0s"}`,
		"kms/listAliases":       `{"keyId":"alias/to"}`,
		"kms/reEncrypt":         fmt.Sprintf(`{"ciphertext":%q,"toKeyId":"alias/to"}`, base64.StdEncoding.EncodeToString(sealed.Ciphertext)),
	} {
		h.lacks2(operation, body)
		require.NoError(t, h.say(h.bob, "approve", h.ask(operation, body).ApprovalID), operation)
		h.okAs(h.ann, operation, body)
	}
	body = `{"path":"/app/prod/fresh","kind":"hex","create":true,"reveal":true}`
	h.lacks("secrets/generateSecret", body)
	asked = h.ask("secrets/generateSecret", body)
	require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
	h.okAs(h.ann, "secrets/generateSecret", body)
}

// A retry of the request for approval, and asking for the same once more,
// make no second one.
func TestOneRequestIsAskedForOnce(t *testing.T) {
	h := heldRead(t)
	ask := `{"operation":"secrets/getSecretValue","request":` + readDB + `,"reason":"x","clientToken":"t"}`
	first := into[wire.ApprovalResponse](t, h.okAs(h.ann, "iam/requestApproval", ask))
	second := into[wire.ApprovalResponse](t, h.okAs(h.ann, "iam/requestApproval", ask))
	require.Equal(t, first.ApprovalID, second.ApprovalID)
	require.Equal(t, first.ApprovalID, h.ask("secrets/getSecretValue", readDB).ApprovalID)
	list := into[wire.ListApprovalsResponse](t, h.okAs(h.bob, "iam/listApprovals", `{"forMe":true,"state":"pending"}`))
	require.Len(t, list.Approvals, 1)
}

func TestWhoSeesRequestsForApproval(t *testing.T) {
	h := heldRead(t)
	h.ok("iam/createPrincipal", `{"name":"eve","kind":"user"}`)
	eve, auditor := h.principal("nosy", `[{"effect":"allow","actions":["iam:listPolicies"]}]`), h.principal("auditor", `[{"effect":"allow","roles":["iam-read-access"]}]`)
	outsider := h.principal("outsider", approves)
	asked := h.ask("secrets/getSecretValue", readDB)
	one := fmt.Sprintf(`{"approvalId":%q}`, asked.ApprovalID)
	for who, c := range map[string]struct {
		token, filter string
		sees          bool
	}{
		"who asks":               {h.ann, `"mine":true`, true},
		"an approver":            {h.bob, `"forMe":true`, true},
		"an auditor":             {auditor, `"state":"pending"`, true},
		"an auditor for himself": {auditor, `"forMe":true`, false},
		"not named":              {outsider, `"forMe":true`, false},
		"a stranger":             {eve, "", false},
		"who asks, others":       {h.ann, `"forMe":true`, false},
		"another state":          {h.bob, `"state":"used"`, false},
	} {
		list := into[wire.ListApprovalsResponse](t, h.okAs(c.token, "iam/listApprovals", "{"+c.filter+"}"))
		require.Equal(t, c.sees, len(list.Approvals) == 1, who)
	}
	_, err := h.as(eve, "iam/describeApproval", one)
	h.refused(fault.NotFound, "there is no such request", err)
	h.okAs(auditor, "iam/describeApproval", one)
	for _, verdict := range []string{"approve", "deny"} {
		h.refused(fault.AccessDenied, "iam:"+verdict+" is not allowed here", h.say(outsider, verdict, asked.ApprovalID))
	}
	_, err = h.as(h.bob, "iam/listApprovals", `{"state":"open"}`)
	h.refused(fault.InvalidRequest, "state: must be one of pending, approved", err)
	require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
	require.Empty(t, into[wire.ListApprovalsResponse](t, h.okAs(h.bob, "iam/listApprovals", `{"forMe":true}`)).Approvals)
	require.Len(t, into[wire.ListApprovalsResponse](t, h.okAs(h.bob, "iam/listApprovals", `{"state":"approved"}`)).Approvals, 1)

	// The trail tells how it came about, and what was done by it.
	h.okAs(h.ann, "secrets/getSecretValue", readDB)
	var story []string
	for _, e := range h.allEvents(fmt.Sprintf(`"approvalId":%q`, asked.ApprovalID), 100) {
		story = append(story, e.Outcome+" "+e.Event)
	}
	require.Contains(t, story, "ok iam.request_approval")
	require.Contains(t, story, "denied iam.deny")
	require.Contains(t, story, "ok iam.approve")
	require.Contains(t, story, "ok secrets.get_value")
}

// Items of a batch are denied one by one, and say what to use instead.
func TestABatchIsNotApproved(t *testing.T) {
	h := heldRead(t)
	asked := h.ask("secrets/getSecretValue", readDB)
	require.NoError(t, h.say(h.bob, "approve", asked.ApprovalID))
	got := into[wire.BatchGetSecretValueResponse](t, h.okAs(h.ann, "secrets/batchGetSecretValue", `{"items":[`+readDB+`]}`))
	require.Nil(t, got.Results[0].GetSecretValueResponse)
	require.Contains(t, got.Results[0].Error.Message, "use secrets/getSecretValue")
}

// A policy that nobody can meet says so where it is written.
func TestADemandThatNobodyCanMeetIsWarnedOf(t *testing.T) {
	h := heldRead(t)
	for approval, says := range map[string]string{
		`"groups":["security"],"count":3`:                      "asks for 3 approvals, and of those it names only 2 are there now",
		`"principals":["none"],"count":1`:                      "only 0 are there now",
		`"principals":["bob","carl","ann"],"count":3`:          "",
		`"groups":["security"],"principals":["ann"],"count":3`: "",
		`"count":2`:                       "",
		`"groups":["everyone"],"count":9`: "",
	} {
		put := into[wire.PutPolicyResponse](t, h.ok("iam/putPolicy", `{"name":"w","statements":[{"effect":"requireApproval","actions":["iam:putPolicy"],"approval":{%s}}]}`, approval))
		require.Equal(t, says != "", len(put.Warnings) == 1, "%s: %v", approval, put.Warnings)
		if says != "" {
			require.Contains(t, put.Warnings[0], "statements[0].approval: ")
			require.Contains(t, put.Warnings[0], says)
		}
	}
}
