package engine_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestLifeOfAPolicy(t *testing.T) {
	w := newWorld(t)
	put := func(statements string) wire.PutPolicyResponse {
		return into[wire.PutPolicyResponse](t, w.ok("iam/putPolicy", `{"name":"web","statements":%s}`, statements))
	}
	first := put(`[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]}]`)
	require.Equal(t, uint64(1), first.Revision)
	require.Empty(t, first.Warnings)
	second := put(`[{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/**"]},{"effect":"deny","actions":["kms:decrypt"],"keys":["*"]}]`)
	require.Equal(t, uint64(2), second.Revision)
	require.Len(t, second.Warnings, 1, "a wide allow is told, a wide deny is safe")
	require.Contains(t, second.Warnings[0], "statements[0].paths[0]: /app/** reaches beyond one service")

	got := into[wire.PolicyResponse](t, w.ok("iam/getPolicy", `{"name":"web"}`))
	require.Equal(t, uint64(2), got.Revision)
	require.Equal(t, "admin", got.UpdatedBy)
	require.Equal(t, []wire.Statement{
		{Effect: "allow", Actions: []string{"secrets:getSecretValue"}, Paths: []string{"/app/**"}},
		{Effect: "deny", Actions: []string{"kms:decrypt"}, Keys: []string{"*"}},
	}, got.Statements)
	w.ok("iam/deletePolicy", `{"name":"web"}`)
	_, err := w.as(w.admin, "iam/getPolicy", `{"name":"web"}`)
	w.refused(fault.NotFound, "name:", err)
}

func TestAReplacedPolicyIsInForceForTheNextRequest(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("v"))
	token := w.principal("web", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]}]`)
	_, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	require.NoError(t, err)
	w.ok("iam/putPolicy", `{"name":"web","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/other"]}]}`)
	_, err = w.as(token, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	w.refused(fault.AccessDenied, "", err)
}

func TestPoliciesThatCannotBeMeantAreRefused(t *testing.T) {
	w := newWorld(t)
	many := strings.TrimSuffix(strings.Repeat(`{"effect":"deny","actions":["*"]},`, 1001), ",")
	for statements, says := range map[string]string{
		`[]`: "statements: must hold at least one",
		`[{"effect":"allow","actions":["*"],"conditions":{"ip":"x"}}]`:                                 "ip",
		`[{"effect":"deny","actions":["*"]},{"effect":"allow","actions":["*"],"conditions":{}}]`:       "statements[1].conditions: holds no condition",
		`[{"effect":"allow","actions":["*"],"conditions":{"tags":{"a":["b"]}}}]`:                       "statements[0].conditions.tags: only secrets and keys have tags",
		`[{"effect":"allow","actions":["*"],"conditions":{"sourceCidrs":["10.0.0.1"]}}]`:               "statements[0].conditions.sourceCidrs[0]:",
		`[{"effect":"allow","actions":["*"],"conditions":{"authMethods":["password"]}}]`:               "statements[0].conditions.authMethods[0]:",
		`[{"effect":"requireApproval","actions":["*"]}]`:                                               "statements[0].approval: is missing",
		`[{"effect":"requireApproval","actions":["*"],"approval":{"count":0}}]`:                        "statements[0].approval.count: must be 1",
		`[{"effect":"requireApproval","actions":["*"],"approval":{"count":2,"principals":["a","a"]}}]`: "nobody could ever get it",
		`[{"effect":"requireApproval","actions":["*"],"approval":{"validFor":"1s"}}]`:                  "statements[0].approval.validFor:",
		`[{"effect":"allow","actions":["*"],"approval":{}}]`:                                           "statements[0].approval: goes only with",
		`[{"effect":"Allow","actions":["*"]}]`:                                                         "statements[0].effect:",
		`[{"actions":["*"]}]`:                                                                          "statements[0].effect:",
		`[{"effect":"allow"}]`:                                                                         "statements[0].actions:",
		`[{"effect":"allow","actions":["secrets:fly"],"paths":["/a"]}]`:                                "statements[0].actions[0]:",
		`[{"effect":"allow","actions":["secrets:get*"],"paths":["/a"]}]`:                               "statements[0].actions[0]:",
		`[{"effect":"allow","actions":["iam:whoAmI"]}]`:                                                "statements[0].actions[0]:",
		`[{"effect":"allow","roles":["root"]}]`:                                                        "statements[0].roles[0]:",
		`[{"effect":"allow","actions":["secrets:getSecretValue"]}]`:                                    "statements[0].paths: is missing",
		`[{"effect":"allow","actions":["kms:decrypt"]}]`:                                               "statements[0].keys: is missing",
		`[{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/a/**/b"]}]`:                "statements[0].paths[0]:",
		`[{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/a","a"]}]`:                 "statements[0].paths[1]:",
		`[{"effect":"allow","actions":["kms:decrypt"],"keys":["alias/*"]}]`:                            "statements[0].keys[0]:",
		`[{"effect":"allow","actions":["iam:getPolicy"],"paths":["/a"]}]`:                              "statements[0].paths:",
		`[{"effect":"allow","actions":["iam:getPolicy","secrets:getSecretValue"],"paths":["/a/b/c"]}]`: "statements[0].actions:",
		`[` + many + `]`: "body: one object or array has more than 1000 members",
	} {
		_, err := w.as(w.admin, "iam/putPolicy", fmt.Sprintf(`{"name":"p","statements":%s}`, statements))
		w.refused(fault.InvalidRequest, says, err)
	}
	_, err := w.as(w.admin, "iam/getPolicy", `{"name":"p"}`)
	w.refused(fault.NotFound, "", err) // none of them was half kept
}

func TestADenyWinsInsideOnePolicyWhateverTheOrder(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("v"))
	allow := `{"effect":"allow","roles":["secrets-full-access"],"paths":["/app/dev/web/db"]}`
	deny := `{"effect":"deny","actions":["secrets:*"],"paths":["/app/**"]}`
	for name, statements := range map[string]string{"first": deny + "," + allow, "last": allow + "," + deny} {
		token := w.principal(name, "["+statements+"]")
		_, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
		w.refused(fault.AccessDenied, "", err)
		require.Equal(t, "iam", detail(t, err, "reason"))
		require.NotEmpty(t, detail(t, err, "decisionId"))
	}
}

func TestAccessPoliciesRestrictByAddressPrincipalAndTime(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/prod/pay/db","value":%q}`, b64("v"))
	web := w.principal("web", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/prod/pay/**"]}]`)
	read := func(token, from string) error {
		w.source = netip.MustParseAddr(from)
		_, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/prod/pay/db"}`)
		w.source = netip.MustParseAddr("192.0.2.7")
		return err
	}
	denied := func(reason string, err error) {
		t.Helper()
		w.refused(fault.AccessDenied, "", err)
		require.Equal(t, reason, detail(t, err, "reason"))
	}
	w.ok("iam/putAccessPolicy", `{"name":"web-only","paths":["/app/prod/**"],"principals":["web"],"sourceCidrs":["10.0.0.0/8","2001:db8::/32"]}`)
	require.NoError(t, read(web, "10.9.9.9"))
	require.NoError(t, read(web, "2001:db8::1"))
	denied("sourceAddress", read(web, "11.0.0.1"))
	require.NoError(t, read(w.admin, "11.0.0.1"), "it is not about the administrator")

	got := into[wire.PutAccessPolicyResponse](t, w.ok("iam/putAccessPolicy",
		`{"name":"web-only","paths":["/app/prod/**"],"principals":["web"],"notBefore":"2026-03-05T00:00:00Z","notAfter":"2026-03-06T00:00:00Z"}`))
	require.Equal(t, uint64(2), got.Revision)
	denied("timeWindow", read(web, "11.0.0.1"))
	w.setNow(time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC))
	require.NoError(t, read(web, "11.0.0.1"))
	w.ok("iam/putAccessPolicy", `{"name":"everyone","paths":["/app/prod/pay/db"],"sourceCidrs":["192.0.2.0/24"]}`)
	denied("sourceAddress", read(web, "11.0.0.1")) // both must be satisfied
	w.ok("iam/deleteAccessPolicy", `{"name":"everyone"}`)
	require.NoError(t, read(web, "11.0.0.1"))

	shown := into[wire.AccessPolicyResponse](t, w.ok("iam/getAccessPolicy", `{"name":"web-only"}`))
	require.Equal(t, "2026-03-05T00:00:00Z", shown.NotBefore.String())
	require.Equal(t, []string{"web"}, shown.Principals)
	require.Len(t, into[wire.ListAccessPoliciesResponse](t, w.ok("iam/listAccessPolicies", `{}`)).AccessPolicies, 1)
}

func TestAccessPoliciesThatCannotBeMeantAreRefused(t *testing.T) {
	w := newWorld(t)
	for body, says := range map[string]string{
		`"sourceCidrs":["10.0.0.0/8"]`:                                                                         "paths:",
		`"paths":["/a/**"]`:                                                                                    "sourceCidrs: nothing would be restricted",
		`"paths":["a"],"sourceCidrs":["10.0.0.0/8"]`:                                                           "paths[0]:",
		`"paths":["/a"],"sourceCidrs":["10.0.0.1/8"]`:                                                          "sourceCidrs[0]:",
		`"paths":["/a"],"sourceCidrs":["::ffff:0:0/64"]`:                                                       "sourceCidrs[0]:",
		`"paths":["/a"],"sourceCidrs":["10.0.0.0/8"],"actions":["kms:decrypt"]`:                                "actions[0]:",
		`"paths":["/a"],"sourceCidrs":["10.0.0.0/8"],"actions":["nonsense"]`:                                   "actions[0]:",
		`"paths":["/a"],"sourceCidrs":["10.0.0.0/8"],"principals":["a b"]`:                                     "principals[0]:",
		`"paths":["/a"],"notBefore":"2026-01-02T00:00:00Z","notAfter":"2026-01-01T00:00:00Z"`:                  "notAfter:",
		`"paths":["/a"],"timeWindows":[]`:                                                                      "sourceCidrs: nothing would be restricted",
		`"paths":["/a"],"timeWindows":[{"days":["Mon"],"from":"09:00","to":"17:30","timezone":"Europe/Rome"}]`: "timeWindows[0].days[0]:",
		`"paths":["/a"],"timeWindows":[{"from":"09:00","to":"09:00","timezone":"Europe/Rome"}]`:                "timeWindows[0].to:",
		`"paths":["/a"],"timeWindows":[{"from":"09:00","to":"17:30","timezone":"Europe/Roma"}]`:                "timeWindows[0].timezone:",
		`"paths":["/a"],"sourceCidrs":["10.0.0.0/8"],"groups":["a b"]`:                                         "groups[0]:",
	} {
		_, err := w.as(w.admin, "iam/putAccessPolicy", `{"name":"p",`+body+`}`)
		w.refused(fault.InvalidRequest, says, err)
	}
	require.Empty(t, into[wire.ListAccessPoliciesResponse](t, w.ok("iam/listAccessPolicies", `{}`)).AccessPolicies)
}

// TestRolesAndOperationsNameTheSameActions: an action that no role has could
// only be granted by hand, and one in a role that is misspelled would grant
// nothing.
func TestRolesAndOperationsNameTheSameActions(t *testing.T) {
	held := map[iam.Action][]string{}
	for role, actions := range iam.Roles() {
		for _, a := range actions {
			held[a] = append(held[a], role)
		}
	}
	for _, a := range engine.Actions() {
		require.Equal(t, slices.Contains(byHand, a), held[a] == nil, "%s is in no role", a)
	}
	known := map[iam.Action]bool{iam.Everything: true}
	for _, a := range append(engine.Actions(), later...) {
		require.False(t, known[a], "%s is of this release and listed as of a later one", a)
		known[a] = true
	}
	for a, roles := range held {
		require.True(t, known[a], "%s, in %v, is no action of the API", a, roles)
	}
}

// byHand are the actions that come along with no job: iam/roles.go says why.
var byHand = []iam.Action{"iam:openBreakGlass", "iam:reviewBreakGlass", "iam:approve", "iam:deny"}

// later are the actions that roles hold ahead of the operations, from the
// API's contract: a role means the same on every node during an upgrade.
var later = []iam.Action{
	"cluster:restoreSnapshot",
}
