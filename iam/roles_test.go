package iam_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
)

// golden is what each built-in role holds. Policies name roles, so a change
// here changes what people in production may do: it is made on purpose, in
// this table too, and told in the changelog.
var golden = map[string]string{
	"secrets-read-access":    "secrets: describeSecret getUsage listConsumers listSecretVersions listSecrets",
	"secrets-value-access":   "secrets: getSecretValue",
	"secrets-write-access":   "secrets: createSecret generateSecret labelVersion markCompromised putSecretValue rotateSecret updateSecret updateVersion",
	"secrets-destroy-access": "secrets: deleteSecret destroyVersion restoreSecret",
	"secrets-full-access": "secrets: bindKey createSecret deleteSecret describeSecret destroyVersion forceDestroyVersion generateSecret getSecretValue getUsage" +
		" labelVersion listConsumers listSecretVersions listSecrets manageCanaries managePathRules markCompromised purgeSecret putSecretValue restoreSecret rotateSecret updateSecret updateVersion",
	"kms-use-access":  "kms: decrypt encrypt generateDataKey generateDataKeyWithoutPlaintext generateMac generateRandom getPublicKey reEncrypt sign verify verifyMac",
	"kms-read-access": "kms: describeKey getKeyHealth getPublicKey listAliases listBoundSecrets listKeyVersions listKeys",
	"kms-admin-access": "kms: cancelKeyDeletion createAlias createKey deleteAlias describeKey disableKey enableKey getKeyHealth getPublicKey" +
		" importKeyMaterial listAliases listBoundSecrets listKeyVersions listKeys migrateBoundSecrets retireKey rotateKey scheduleKeyDeletion setKeyRotation updateAlias updateKey",
	"iam-read-access": "iam: describePrincipal explain getAccessPolicy getPolicy listAccessKeys listAccessPolicies listApprovals listBreakGlass listGroups listPolicies" +
		" listPrincipals listRateLimits listTokens listTrusts simulatePolicy whatCan whoCan",
	"iam-admin-access": "iam: addToGroup attachPolicy closeBreakGlass createAccessKey createGroup createPrincipal createToken deleteAccessKey deleteAccessPolicy" +
		" deleteGroup deletePolicy deletePrincipal deleteRateLimit deleteTrust describePrincipal detachPolicy explain getAccessPolicy getPolicy listAccessKeys" +
		" listAccessPolicies listApprovals listBreakGlass listGroups listPolicies listPrincipals listRateLimits listTokens listTrusts putAccessPolicy putPolicy putRateLimit putTrust quarantinePrincipal releasePrincipal removeFromGroup" +
		" revokeToken simulatePolicy whatCan whoCan",
	"audit-read-access":    "audit: describeDetectors exportEvents getCheckpoint getProof incident queryEvents",
	"audit-admin-access":   "audit: addCosignature describeDetectors exportEvents getCheckpoint getProof incident putDetectors queryEvents",
	"cluster-read-access":  "cluster: describeJob getAutopilot listJobs listJoinTokens members status tls",
	"cluster-admin-access": "cluster: addMember createJoinToken describeJob getAutopilot getRootKey listJobs listJoinTokens manageJobs members removeMember removeRootKey restoreSnapshot revokeJoinToken rotateRootKey saveSnapshot setAutopilot setVoter status tls transferLeadership verifySnapshot",
}

func TestRolesHoldExactlyTheseActions(t *testing.T) {
	roles := iam.Roles()
	require.Equal(t, []iam.Action{iam.Everything}, roles["full-access"])
	delete(roles, "full-access")
	require.Equal(t, slices.Sorted(maps.Keys(golden)), slices.Sorted(maps.Keys(roles)))
	for role, want := range golden {
		service, operations, _ := strings.Cut(want, ": ")
		var got []string
		for _, action := range roles[role] {
			operation, ok := strings.CutPrefix(string(action), service+":")
			require.True(t, ok, "%s holds %s of another service", role, action)
			got = append(got, operation)
		}
		slices.Sort(got)
		require.Equal(t, operations, strings.Join(got, " "), role)
		require.Len(t, slices.Compact(got), len(roles[role]), "%s names an action twice", role)
	}
}

// granted is the decision for one who holds a role on everything it is about.
func granted(t *testing.T, role string, action iam.Action) bool {
	s := iam.Statement{Effect: iam.Allow, Roles: list(role)}
	switch service, _, _ := strings.Cut(role, "-"); service {
	case "secrets":
		s.Paths = list("/**")
	case "kms":
		s.Keys = list("*")
	}
	r := rules(compile(t, "p", s))
	var out bool
	switch service, _, _ := strings.Cut(string(action), ":"); service {
	case "secrets":
		out = allowed(r, about(action, "/app/prod/web/key"))
	case "kms":
		out = allowed(r, aboutKey(action, keyA, alias))
	default:
		out = allowed(r, iam.Question{Action: action, Resource: iam.Resource{Any: true}})
	}
	require.Equal(t, out, iam.MayAnywhere(r, action))
	return out
}

func TestARoleGrantsItsActionsAndNoOther(t *testing.T) {
	for role, actions := range iam.Roles() {
		for _, action := range everyAction() {
			want := role == "full-access" || slices.Contains(actions, action)
			require.Equal(t, want, granted(t, role, action), "%s, %s", role, action)
		}
	}
}

// Who browses never reads: not by getSecretValue, not by copying to a place
// of their own (that asks for the same action), not by a generate that
// reveals, and not through the key below.
func TestSecretsReadAccessRevealsNoValue(t *testing.T) {
	for _, action := range []iam.Action{
		"secrets:getSecretValue", "secrets:generateSecret", "secrets:bindKey", "secrets:purgeSecret",
		"kms:decrypt", "kms:reEncrypt", "kms:generateDataKey", "kms:encrypt",
	} {
		require.False(t, granted(t, "secrets-read-access", action), action)
	}
	for _, action := range iam.Roles()["secrets-read-access"] {
		require.Regexp(t, `^secrets:(describe|list|getUsage$)`, string(action))
	}
}

// Who runs keys does not use them: no value, data key, signature or MAC is
// within reach of kms-admin-access.
func TestKMSAdminAccessCannotUseKeys(t *testing.T) {
	for _, action := range iam.Roles()["kms-use-access"] {
		// Public means public: reading it is no use of the key.
		want := action == "kms:getPublicKey"
		require.Equal(t, want, granted(t, "kms-admin-access", action), action)
	}
}

func TestReadRolesChangeNothing(t *testing.T) {
	for role, actions := range iam.Roles() {
		if !strings.HasSuffix(role, "-read-access") {
			continue
		}
		for _, action := range actions {
			require.Regexp(t, `:(describe|list|get|query|export|explain$|whoCan$|whatCan$|simulatePolicy$|status$|members$|incident$|tls$)`, string(action), role)
		}
		require.NotContains(t, actions, iam.Action("secrets:getSecretValue"))
	}
}

// Each admin role can see what it changes.
func TestAdminRolesIncludeTheirReadRole(t *testing.T) {
	roles := iam.Roles()
	for admin, read := range map[string]string{
		"kms-admin-access": "kms-read-access", "iam-admin-access": "iam-read-access", "cluster-admin-access": "cluster-read-access",
		"secrets-full-access": "secrets-read-access",
	} {
		require.Subset(t, roles[admin], roles[read], admin)
	}
	for _, part := range []string{"secrets-value-access", "secrets-write-access", "secrets-destroy-access"} {
		require.Subset(t, roles["secrets-full-access"], roles[part])
	}
}

// Purging and approving are given on purpose, never along with something.
func TestRareRightsAreInNoOtherRole(t *testing.T) {
	for role, actions := range iam.Roles() {
		if role != "secrets-full-access" {
			require.NotContains(t, actions, iam.Action("secrets:purgeSecret"), role)
			require.NotContains(t, actions, iam.Action("secrets:forceDestroyVersion"), role)
		}
		for _, operation := range []string{"requestApproval", "approve", "deny", "openBreakGlass"} {
			for _, service := range []string{"iam:", "secrets:"} {
				require.NotContains(t, actions, iam.Action(service+operation), role)
			}
		}
		if role != "full-access" {
			require.NotContains(t, actions, iam.Everything, role)
		}
	}
}

// The table is made anew for each caller: nobody can widen a role.
func TestRolesAnswersACopy(t *testing.T) {
	for _, actions := range iam.Roles() {
		for i := range actions {
			actions[i] = iam.Everything
		}
	}
	require.NotContains(t, iam.Roles()["secrets-read-access"], iam.Everything)
	require.False(t, granted(t, "secrets-read-access", "secrets:getSecretValue"))
}

// During an upgrade a node may not know every action of a role yet; the role
// means the same there, so two nodes never decide differently.
func TestRolesMeanTheSameOnANodeThatKnowsLess(t *testing.T) {
	old := iam.NewCatalogue([]iam.Action{"secrets:describeSecret"})
	p, _, err := iam.CompilePolicy(old, "p", 1, []iam.Statement{{Effect: iam.Allow, Roles: list("secrets-full-access"), Paths: list("/**")}})
	require.NoError(t, err)
	for _, action := range iam.Roles()["secrets-full-access"] {
		require.True(t, allowed(rules(p), about(action, "/a")), action)
	}
}

// Several operations ask for one action, and a table of operations may hold
// things that are no action: neither shows in what a policy may name.
func TestCatalogueTakesEachActionOnce(t *testing.T) {
	c := iam.NewCatalogue([]iam.Action{"secrets:b", "secrets:a", "secrets:b", "", "nothing", "*"})
	_, _, err := iam.CompilePolicy(c, "p", 1, []iam.Statement{allow(list("secrets:x"), "/a")})
	requireInvalid(t, err, "statements[0].actions[0]", `"secrets:x" is not an action; those of secrets are a, b, and secrets:* means all of them`)
	_, _, err = iam.CompilePolicy(c, "p", 1, []iam.Statement{allow(list("kms:*"), "/a")})
	requireInvalid(t, err, "statements[0].actions[0]", `"kms:*" is of no service that there is; services are secrets`)
}
