package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestLifeOfAPrincipal(t *testing.T) {
	w := newWorld(t)
	made := into[wire.PrincipalResponse](t, w.ok("iam/createPrincipal", `{"name":"web","kind":"service","description":"the web shop"}`))
	shown := into[wire.PrincipalResponse](t, w.ok("iam/describePrincipal", `{"name":"web"}`))
	require.Equal(t, made, shown)
	require.Equal(t, "admin", shown.CreatedBy)
	require.Equal(t, w.now(), shown.CreatedAt.Time)
	_, err := w.as(w.admin, "iam/createPrincipal", `{"name":"web","kind":"user"}`)
	w.refused(fault.AlreadyExists, "name:", err)

	var names []string
	for _, p := range into[wire.ListPrincipalsResponse](t, w.ok("iam/listPrincipals", `{}`)).Principals {
		names = append(names, p.Name)
	}
	require.Equal(t, []string{"admin", "web"}, names)
	require.Equal(t, "web", into[wire.NameResponse](t, w.ok("iam/deletePrincipal", `{"name":"web"}`)).Name)
	_, err = w.as(w.admin, "iam/describePrincipal", `{"name":"web"}`)
	w.refused(fault.NotFound, "name:", err)
	_, err = w.as(w.admin, "iam/deletePrincipal", `{"name":"web"}`)
	w.refused(fault.NotFound, "name:", err)
}

func TestSomebodyAlwaysKeepsFullAccess(t *testing.T) {
	w := newWorld(t)
	last := func(operation, body string) {
		t.Helper()
		_, err := w.as(w.admin, operation, body)
		w.refused(fault.Conflict, "full-access", err)
	}
	last("iam/detachPolicy", `{"policy":"full-access","principal":"admin"}`)
	last("iam/deletePrincipal", `{"name":"admin"}`)
	last("iam/deletePolicy", `{"name":"full-access"}`)
	last("iam/putPolicy", `{"name":"full-access","statements":[{"effect":"allow","actions":["iam:getPolicy"]}]}`)

	w.ok("iam/createPrincipal", `{"name":"second","kind":"user"}`)
	w.ok("iam/attachPolicy", `{"policy":"full-access","principal":"second"}`)
	second := w.tokenOf("second")
	w.ok("iam/detachPolicy", `{"policy":"full-access","principal":"admin"}`)
	_, err := w.as(w.admin, "iam/listPolicies", `{}`)
	w.refused(fault.AccessDenied, "", err)
	_, err = w.as(second, "iam/detachPolicy", `{"policy":"full-access","principal":"second"}`)
	w.refused(fault.Conflict, "full-access", err)
	_, err = w.as(second, "iam/deletePrincipal", `{"name":"admin"}`)
	require.NoError(t, err, "who has not the policy is not the last one with it")
}

func TestIAMOperationsRefuseBadInput(t *testing.T) {
	s := newStock(t)
	long := strings.Repeat("n", 129)
	text := strings.Repeat("t", 1025)
	for _, c := range []struct{ operation, body, says string }{
		{"iam/createPrincipal", `{}`, "name: must not be empty"},
		{"iam/createPrincipal", `{"name":"a b","kind":"user"}`, "name: has the byte 0x20"},
		{"iam/createPrincipal", `{"name":"/a","kind":"user"}`, "name: has the byte 0x2f"},
		{"iam/createPrincipal", `{"name":"-a","kind":"user"}`, "name: must start with"},
		{"iam/createPrincipal", `{"name":"é","kind":"user"}`, "name: has the byte 0xc3"},
		{"iam/createPrincipal", `{"name":"` + long + `","kind":"user"}`, "name: has 129 bytes"},
		{"iam/createPrincipal", `{"name":"a"}`, "kind: must be user or service"},
		{"iam/createPrincipal", `{"name":"a","kind":"User"}`, "kind: must be user or service"},
		{"iam/createPrincipal", `{"name":"a","kind":"user","description":"` + text + `"}`, "description: has 1025 bytes"},
		{"iam/createPrincipal", `{"name":"a","kind":"user","description":"a\u001b[31m"}`, "description: must not hold control"},
		{"iam/createPrincipal", `{"name":"a","kind":"user","description":"a\u2028b"}`, "description: must not hold control"},
		{"iam/createPrincipal", `{"name":"a","kind":"user","clientToken":"a b"}`, "clientToken: must be printable"},
		{"iam/createPrincipal", `{"name":"a","kind":"user","clientToken":"` + long[:65] + `"}`, "clientToken: has 65 characters"},
		{"iam/describePrincipal", `{}`, "name:"},
		{"iam/createToken", `{}`, "principal: must not be empty"},
		{"iam/createToken", `{"principal":"svc","description":"a\nb"}`, "description: must not hold control"},
		{"iam/listTokens", `{"principal":"a/b"}`, "principal: has the byte"},
		{"iam/attachPolicy", `{"principal":"svc"}`, "policy: must not be empty"},
		{"iam/attachPolicy", `{"policy":"loose"}`, "principal: must not be empty"},
		{"iam/detachPolicy", `{"policy":"..","principal":"svc"}`, "policy: must start with"},
		{"iam/getPolicy", `{"name":""}`, "name: must not be empty"},
		{"iam/deleteAccessPolicy", `{"name":"a*"}`, "name: has the byte 0x2a"},
		{"cluster/transferLeadership", `{"to":"a b"}`, "to: has the byte"},
	} {
		_, err := s.as(s.admin, c.operation, c.body)
		s.refused(fault.InvalidRequest, c.says, err)
	}
}

func TestAttachingTwiceAndDetachingWhatIsNotAttachedChangeNothing(t *testing.T) {
	s := newStock(t)
	want := []string{"attached", "loose"}
	for range 2 {
		got := into[wire.AttachPolicyResponse](t, s.ok("iam/attachPolicy", `{"policy":"loose","principal":"svc"}`))
		require.Equal(t, want, got.Policies)
	}
	for range 2 {
		got := into[wire.AttachPolicyResponse](t, s.ok("iam/detachPolicy", `{"policy":"loose","principal":"svc"}`))
		require.Equal(t, want[:1], got.Policies)
	}
	for _, c := range []struct{ body, says string }{
		{`{"policy":"none","principal":"svc"}`, "policy:"},
		{`{"policy":"loose","principal":"none"}`, "principal:"},
	} {
		_, err := s.as(s.admin, "iam/attachPolicy", c.body)
		s.refused(fault.NotFound, c.says, err)
	}
}

// TestARetryAnswersWhenThePrincipalWasMade: the first result, also when the
// clock went on.
func TestARetryAnswersWhenThePrincipalWasMade(t *testing.T) {
	w := newWorld(t)
	body := `{"name":"web","kind":"service","clientToken":"p-1"}`
	first := w.ok("iam/createPrincipal", "%s", body)
	w.setNow(w.now().Add(3600e9))
	require.JSONEq(t, first, w.ok("iam/createPrincipal", "%s", body))
}

func TestADeletedPrincipalHasNoPoliciesWhenItComesBack(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("v"))
	w.principal("web", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/a/**"]}]`)
	_, err := w.as(w.admin, "iam/deletePolicy", `{"name":"web"}`)
	w.refused(fault.Conflict, "attached to web", err)
	w.ok("iam/deletePrincipal", `{"name":"web"}`)
	w.ok("iam/createPrincipal", `{"name":"web","kind":"service"}`)
	_, err = w.as(w.tokenOf("web"), "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, "/a/b"))
	w.refused(fault.AccessDenied, "", err)
	w.ok("iam/deletePolicy", `{"name":"web"}`)
}
