package engine_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

const readWeb = `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]}]`

// reader answers a world with one secret, and a function that reads it.
func reader(t *testing.T) (*world, func(token string) error) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q,"tags":{"tier":"1"}}`, b64("v"))
	return w, func(token string) error {
		_, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
		return err
	}
}

func (w *world) okAs(token, operation, body string) string {
	w.t.Helper()
	answer, err := w.as(token, operation, body)
	require.NoError(w.t, err, operation)
	return answer
}

// cut divides "operation body".
func cut(ask string) (operation, body string) {
	operation, body, _ = strings.Cut(ask, " ")
	return operation, body
}

func (w *world) bare(name string) (token string) {
	w.ok("iam/createPrincipal", `{"name":%q,"kind":"user"}`, name)
	return w.tokenOf(name)
}

func TestPoliciesReachMembersOfGroups(t *testing.T) {
	w, read := reader(t)
	ann, bob := w.bare("ann"), w.bare("bob")
	w.ok("iam/putPolicy", `{"name":"web","statements":%s}`, readWeb)
	w.ok("iam/createGroup", `{"name":"ops","description":"who operates"}`)
	w.ok("iam/attachPolicy", `{"policy":"web","group":"ops","reason":"their job"}`)
	w.refused(fault.AccessDenied, "", read(ann))
	w.ok("iam/addToGroup", `{"group":"ops","principal":"ann","reason":"joined"}`)
	require.NoError(t, read(ann))
	w.refused(fault.AccessDenied, "", read(bob))
	who := into[wire.WhoAmIResponse](t, w.okAs(ann, "iam/whoAmI", `{}`))
	require.Equal(t, []string{"ops"}, who.Groups)
	require.Equal(t, "token", who.AuthMethod)

	g := into[wire.GroupResponse](t, w.ok("iam/describeGroup", `{"name":"ops"}`))
	require.Equal(t, 1, *g.MemberCount)
	members := into[wire.ListGroupMembersResponse](t, w.ok("iam/listGroupMembers", `{"group":"ops"}`)).Members
	require.Len(t, members, 1)
	require.Equal(t, "ann", members[0].Principal)
	require.Equal(t, "joined", members[0].Reason)
	require.Equal(t, "their job", g.Attached[0].Reason)
	p := into[wire.PrincipalResponse](t, w.ok("iam/describePrincipal", `{"name":"ann"}`))
	require.Equal(t, "ops", p.Groups[0].Group)
	holders := into[wire.PolicyResponse](t, w.ok("iam/getPolicy", `{"name":"web"}`)).Holders
	require.Equal(t, []wire.PolicyHolder{{Group: "ops", Mode: "grant"}}, holders)

	w.ok("iam/removeFromGroup", `{"group":"ops","principal":"ann"}`)
	w.refused(fault.AccessDenied, "", read(ann))
}

func TestEveryoneIsAGroup(t *testing.T) {
	w, read := reader(t)
	ann := w.bare("ann")
	w.ok("iam/putPolicy", `{"name":"web","statements":%s}`, readWeb)
	w.ok("iam/attachPolicy", `{"policy":"web","group":"everyone"}`)
	require.NoError(t, read(ann))
	w.ok("iam/putPolicy", `{"name":"stop","statements":[{"effect":"deny","actions":["secrets:getSecretValue"],"paths":["/app/dev/**"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"stop","group":"everyone"}`)
	w.refused(fault.AccessDenied, "", read(w.admin))
	for _, body := range []string{`{"name":"everyone"}`} {
		_, err := w.as(w.admin, "iam/createGroup", body)
		w.refused(fault.AlreadyExists, "built in", err)
		_, err = w.as(w.admin, "iam/deleteGroup", body)
		w.refused(fault.Conflict, "built in", err)
	}
	groups := into[wire.ListGroupsResponse](t, w.ok("iam/listGroups", `{}`)).Groups
	require.Len(t, groups, 1)
	require.Len(t, groups[0].Attached, 2)
}

// A grant for two hours ends after two hours, to the millisecond, whether or
// not anything has removed it.
func TestGrantsForSomeTime(t *testing.T) {
	for name, grant := range map[string]string{
		"attachment": `iam/attachPolicy {"policy":"web","principal":"ann","ttl":"2h","reason":"incident 7"}`,
		"membership": `iam/addToGroup {"group":"ops","principal":"ann","ttl":"2h","reason":"incident 7"}`,
		"group's":    `iam/attachPolicy {"policy":"web","group":"all-of-them","ttl":"2h"}`,
	} {
		w, read := reader(t)
		ann := w.bare("ann")
		w.ok("iam/putPolicy", `{"name":"web","statements":%s}`, readWeb)
		w.ok("iam/createGroup", `{"name":"ops"}`)
		w.ok("iam/createGroup", `{"name":"all-of-them"}`)
		w.ok("iam/addToGroup", `{"group":"all-of-them","principal":"ann"}`)
		w.ok("iam/attachPolicy", `{"policy":"web","group":"ops"}`)
		w.refused(fault.AccessDenied, "", read(ann))
		start := w.now()
		operation, body := cut(grant)
		answer := w.ok(operation, "%s", body)
		require.Contains(t, answer, `"expiresAt":"`+start.Add(2*time.Hour).UTC().Format("2006-01-02T15:04:05"), name)
		w.setNow(start.Add(2*time.Hour - time.Millisecond))
		require.NoError(t, read(ann), name)
		w.setNow(start.Add(2 * time.Hour))
		w.refused(fault.AccessDenied, "", read(ann))
		require.NotContains(t, w.ok("iam/describePrincipal", `{"name":"ann"}`), "incident 7", "what has ended is not shown as if it held")
	}
	w, _ := reader(t)
	for _, ttl := range []string{"0s", "999ms", "367d"} {
		_, err := w.as(w.admin, "iam/attachPolicy", fmt.Sprintf(`{"policy":"full-access","principal":"admin","ttl":%q}`, ttl))
		require.Error(t, err, ttl)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), ttl)
	}
}

func TestABoundaryCapsWhatIsAllowed(t *testing.T) {
	w, read := reader(t)
	ann := w.bare("ann")
	w.ok("iam/attachPolicy", `{"policy":"full-access","principal":"ann"}`)
	w.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["secrets:describeSecret"],"paths":["/**"]},{"effect":"allow","actions":["iam:*"]}]}`)
	require.NoError(t, read(ann))
	w.ok("iam/attachPolicy", `{"policy":"cap","principal":"ann","mode":"boundary"}`)
	err := read(ann)
	w.refused(fault.AccessDenied, "", err)
	require.Equal(t, "boundary", detail(t, err, "reason"))
	_, err = w.as(ann, "secrets/describeSecret", `{"path":"/app/dev/web/db"}`)
	require.NoError(t, err)
	list := into[wire.ListSecretsResponse](t, w.okAs(w.admin, "secrets/listSecrets", `{"recursive":true}`))
	require.Len(t, list.Secrets, 1)
	_, err = w.as(ann, "secrets/listSecrets", `{"recursive":true}`)
	w.refused(fault.AccessDenied, "", err)
}

// Who is under a boundary cannot get out from under it, by no operation.
func TestNobodyLiftsTheirOwnBoundary(t *testing.T) {
	w, read := reader(t)
	ann := w.bare("ann")
	w.bare("free")
	w.ok("iam/attachPolicy", `{"policy":"full-access","principal":"ann"}`)
	w.ok("iam/createGroup", `{"name":"ops"}`)
	w.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["iam:*"]}]}`)
	w.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["iam:*"]}],"reason":"a second revision"}`)
	w.ok("iam/createPrincipal", `{"name":"bob","kind":"user"}`)
	w.ok("iam/addToGroup", `{"group":"ops","principal":"ann"}`)
	w.ok("iam/attachPolicy", `{"policy":"cap","group":"ops","mode":"boundary"}`)
	for _, ask := range []string{
		`iam/detachPolicy {"policy":"cap","group":"ops","mode":"boundary"}`,
		`iam/removeFromGroup {"group":"ops","principal":"ann"}`,
		`iam/putPolicy {"name":"cap","statements":[{"effect":"allow","actions":["*"]}]}`,
		`iam/rollbackPolicy {"name":"cap","revision":1}`,
		`iam/deletePolicy {"name":"cap"}`,
		`iam/createToken {"principal":"free"}`, `iam/createToken {"principal":"admin"}`, `iam/createAccessKey {"principal":"free"}`,
		`iam/attachPolicy {"policy":"full-access","principal":"free"}`,
		`iam/addToGroup {"group":"ops","principal":"free"}`,
		`iam/putTrust {"name":"door","kind":"jwt","issuer":"https://issuer.example","jwksUrl":"https://issuer.example/keys","audiences":["a"],"claims":{"sub":"ann"},"principal":"admin"}`,
	} {
		operation, body := cut(ask)
		_, err := w.as(ann, operation, body)
		w.refused(fault.AccessDenied, "", err)
		require.Equal(t, "boundary", detail(t, err, "reason"), ask)
	}
	// What she makes is under the same boundary.
	w.okAs(ann, "iam/createPrincipal", `{"name":"puppet","kind":"service"}`)
	w.okAs(ann, "iam/attachPolicy", `{"policy":"full-access","principal":"puppet"}`)
	puppet := string(into[wire.CreateTokenResponse](t, w.okAs(ann, "iam/createToken", `{"principal":"puppet"}`)).Token.Expose())
	err := read(puppet)
	w.refused(fault.AccessDenied, "", err)
	require.Equal(t, "boundary", detail(t, err, "reason"))
	require.NoError(t, read(w.admin))
}

func TestConditionsNarrowStatements(t *testing.T) {
	allow := func(conditions string) string {
		return `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"],"conditions":` + conditions + `}]`
	}
	for conditions, want := range map[string]bool{
		`{"sourceCidrs":["192.0.2.0/24"]}`:                                  true,
		`{"sourceCidrs":["198.51.100.0/24","192.0.2.7/32"]}`:                true,
		`{"sourceCidrs":["198.51.100.0/24"]}`:                               false,
		`{"authMethods":["token","oidc"]}`:                                  true,
		`{"authMethods":["accessKey"]}`:                                     false,
		`{"groups":["ops","nobody"]}`:                                       true,
		`{"groups":["nobody"]}`:                                             false,
		`{"tags":{"tier":["1","2"]}}`:                                       true,
		`{"tags":{"tier":["*"]}}`:                                           true,
		`{"tags":{"tier":["2"]}}`:                                           false,
		`{"tags":{"owner":["*"]}}`:                                          false,
		`{"tags":{"tier":["1"],"owner":["pay"]}}`:                           false,
		`{"notAfter":"2020-01-01T00:00:00Z"}`:                               false,
		`{"notBefore":"2020-01-01T00:00:00Z"}`:                              true,
		`{"notBefore":"2020-01-01T00:00:00Z","authMethods":["kubernetes"]}`: false,
	} {
		w, read := reader(t)
		w.ok("iam/createGroup", `{"name":"ops"}`)
		token := w.principal("ann", allow(conditions))
		w.ok("iam/addToGroup", `{"group":"ops","principal":"ann"}`)
		err := read(token)
		require.Equal(t, want, err == nil, "%s: %v", conditions, err)
	}
}

// A deny holds where it cannot be known that it does not.
func TestADenyByAddressHoldsForAnUnknownAddress(t *testing.T) {
	w, read := reader(t)
	token := w.principal("ann", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]},
		{"effect":"deny","actions":["secrets:*"],"paths":["/app/**"],"conditions":{"sourceCidrs":["198.51.100.0/24"]}}]`)
	require.NoError(t, read(token))
	for _, from := range []netip.Addr{{}, netip.MustParseAddr("198.51.100.3"), netip.MustParseAddr("::ffff:198.51.100.3")} {
		w.source = from
		w.refused(fault.AccessDenied, "", read(token))
	}
}

// Tags decide about a secret that is to be made by what it is to have, and a
// change of tags must be allowed before and after.
func TestTagsOfWhatIsMade(t *testing.T) {
	w, _ := reader(t)
	token := w.principal("ann", `[{"effect":"allow","roles":["secrets-full-access"],"paths":["/app/dev/**"],"conditions":{"tags":{"team":["pay"]}}}]`)
	ask := func(operation, body string) error { _, err := w.as(token, operation, body); return err }
	w.refused(fault.AccessDenied, "", ask("secrets/createSecret", `{"path":"/app/dev/web/a"}`))
	w.refused(fault.AccessDenied, "", ask("secrets/createSecret", `{"path":"/app/dev/web/a","tags":{"team":"web"}}`))
	require.NoError(t, ask("secrets/createSecret", fmt.Sprintf(`{"path":"/app/dev/web/a","tags":{"team":"pay"},"value":%q}`, b64("v"))))
	require.NoError(t, ask("secrets/getSecretValue", `{"path":"/app/dev/web/a"}`))
	w.refused(fault.AccessDenied, "", ask("secrets/updateSecret", `{"path":"/app/dev/web/a","tags":{"team":"web"}}`))
	w.refused(fault.AccessDenied, "", ask("secrets/updateSecret", `{"path":"/app/dev/web/db","tags":{"team":"pay"}}`))
	w.refused(fault.AccessDenied, "", ask("secrets/generateSecret", `{"path":"/app/dev/web/b","kind":"password","create":true}`))
	require.NoError(t, ask("secrets/generateSecret", `{"path":"/app/dev/web/b","kind":"password","create":true,"tags":{"team":"pay"}}`))
	// An existing secret is judged by its own tags, whatever the request says.
	w.refused(fault.AccessDenied, "", ask("secrets/generateSecret", `{"path":"/app/dev/web/db","kind":"password","create":true,"tags":{"team":"pay"}}`))
	w.refused(fault.AccessDenied, "", ask("secrets/createSecret", `{"path":"/app/dev/web/db","tags":{"team":"pay"}}`))
}

func TestAReportOnlyPolicyDecidesNothing(t *testing.T) {
	w, read := reader(t)
	token := w.principal("ann", readWeb)
	w.ok("iam/putPolicy", `{"name":"stop","reportOnly":true,"statements":[{"effect":"deny","actions":["secrets:*"],"paths":["/app/**"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"stop","principal":"ann"}`)
	require.NoError(t, read(token))
	w.ok("iam/attachPolicy", `{"policy":"stop","principal":"ann","mode":"boundary"}`)
	require.NoError(t, read(token))
	w.ok("iam/putPolicy", `{"name":"stop","statements":[{"effect":"deny","actions":["secrets:*"],"paths":["/app/**"]}]}`)
	w.refused(fault.AccessDenied, "", read(token))
}

// A demand for approvals holds back what the policies allow.
func TestADemandForApprovalHoldsBack(t *testing.T) {
	w, read := reader(t)
	token := w.principal("ann", readWeb)
	put := into[wire.PutPolicyResponse](t, w.ok("iam/putPolicy",
		`{"name":"two","statements":[{"effect":"requireApproval","actions":["secrets:getSecretValue"],"paths":["/app/dev/web/db"],"approval":{"count":1}}]}`))
	require.Empty(t, put.Warnings)
	require.NoError(t, read(token))
	w.ok("iam/attachPolicy", `{"policy":"two","group":"everyone"}`)
	err := read(token)
	w.refused(fault.AccessDenied, "", err)
	require.Equal(t, "approval", detail(t, err, "reason"))
	w.ok("iam/attachPolicy", `{"policy":"full-access","principal":"ann","mode":"breakGlass"}`)
	w.refused(fault.AccessDenied, "", read(token))
}

func TestPoliciesHaveAHistory(t *testing.T) {
	w, read := reader(t)
	token := w.principal("ann", readWeb)
	w.ok("iam/putPolicy", `{"name":"ann","reason":"too wide","expectedRevision":1,"statements":[{"effect":"allow","actions":["iam:getPolicy"]}]}`)
	w.refused(fault.AccessDenied, "", read(token))
	_, err := w.as(w.admin, "iam/putPolicy", `{"name":"ann","expectedRevision":1,"statements":[{"effect":"allow","actions":["*"]}]}`)
	w.refused(fault.Conflict, "expectedRevision:", err)
	back := into[wire.PutPolicyResponse](t, w.ok("iam/rollbackPolicy", `{"name":"ann","revision":1,"reason":"it was needed"}`))
	require.Equal(t, uint64(3), back.Revision)
	require.NoError(t, read(token))
	history := into[wire.ListPolicyRevisionsResponse](t, w.ok("iam/listPolicyRevisions", `{"name":"ann"}`)).Revisions
	require.Len(t, history, 3)
	require.Equal(t, []uint64{3, 2, 1}, []uint64{history[0].Revision, history[1].Revision, history[2].Revision})
	require.Equal(t, "it was needed", history[0].Reason)
	require.Equal(t, uint64(1), history[0].RolledBackTo)
	require.Equal(t, "too wide", history[1].Reason)
	require.NotEmpty(t, history[1].RequestID)
	second := into[wire.PolicyResponse](t, w.ok("iam/getPolicy", `{"name":"ann","revision":2}`))
	require.Equal(t, []string{"iam:getPolicy"}, second.Statements[0].Actions)
	_, err = w.as(w.admin, "iam/getPolicy", `{"name":"ann","revision":9}`)
	w.refused(fault.NotFound, "revision:", err)
}
