package iam

import (
	"maps"
	"slices"
	"strings"
)

// Action names one right, "service:operation". The operations are those of
// the API; several operations may ask for one action.
type Action string

// Everything is the action that a statement may name to mean all of them,
// also those of later releases.
const Everything Action = "*"

// service answers the part before the colon, with the colon: two services
// of which one's name begins the other's cannot be taken for each other.
func (a Action) service() string {
	i := strings.IndexByte(string(a), ':')
	return string(a[:i+1])
}

// The services whose actions are about a path or about a key. The actions of
// every other service are about the whole cluster.
const (
	secretsService = "secrets:"
	kmsService     = "kms:"
)

// Roles answers the built-in roles with their actions. A role holds the
// actions of the whole API, also of operations that this release does not
// have, so that a role means the same on every node during an upgrade.
//
// No role but full-access holds secrets:purgeSecret or forceDestroyVersion outside
// secrets-full-access, nor iam:approve and iam:deny: who approves is named. Nor
// does one hold openBreakGlass or reviewBreakGlass: who may break glass, and who
// looks at it afterwards, is named too, and comes along with no job. Ending a
// session takes rights away only, so who gives rights may.
func Roles() map[string][]Action {
	secretsRead := actions("secrets", "describeSecret", "listSecrets", "listSecretVersions", "listConsumers", "getUsage")
	// confirmVersion is authorised by getSecretValue.
	secretsValue := actions("secrets", "getSecretValue")
	secretsWrite := actions("secrets", "createSecret", "putSecretValue", "generateSecret", "labelVersion", "updateSecret", "updateVersion", "rotateSecret",
		"markCompromised")
	secretsDestroy := actions("secrets", "destroyVersion", "deleteSecret", "restoreSecret")
	kmsRead := actions("kms", "describeKey", "listKeys", "listAliases", "listKeyVersions", "getPublicKey", "listBoundSecrets", "getKeyHealth")
	iamRead := actions("iam", "listPrincipals", "describePrincipal", "listGroups", "listTokens", "listAccessKeys", "listTrusts", "listRateLimits",
		"getPolicy", "listPolicies", "getAccessPolicy", "listAccessPolicies", "listApprovals", "listBreakGlass", "explain", "whoCan", "whatCan", "simulatePolicy")
	auditRead := actions("audit", "queryEvents", "getCheckpoint", "getProof", "exportEvents", "describeDetectors", "incident")
	clusterRead := actions("cluster", "status", "members", "tls", "getAutopilot", "listJoinTokens", "listJobs", "describeJob")
	return map[string][]Action{
		"secrets-read-access":    secretsRead,
		"secrets-value-access":   secretsValue,
		"secrets-write-access":   secretsWrite,
		"secrets-destroy-access": secretsDestroy,
		"secrets-full-access": slices.Concat(secretsRead, secretsValue, secretsWrite, secretsDestroy,
			actions("secrets", "purgeSecret", "forceDestroyVersion", "bindKey", "managePathRules", "manageCanaries")),
		"kms-use-access": actions("kms", "encrypt", "decrypt", "reEncrypt", "generateDataKey", "generateDataKeyWithoutPlaintext",
			"sign", "verify", "getPublicKey", "generateMac", "verifyMac", "generateRandom"),
		"kms-read-access": kmsRead,
		// Who runs keys does not thereby use them.
		"kms-admin-access": slices.Concat(kmsRead, actions("kms", "createKey", "updateKey", "createAlias", "updateAlias", "deleteAlias",
			"rotateKey", "setKeyRotation", "disableKey", "enableKey", "scheduleKeyDeletion", "cancelKeyDeletion",
			"migrateBoundSecrets", "retireKey", "importKeyMaterial")),
		"iam-read-access": iamRead,
		"iam-admin-access": slices.Concat(iamRead, actions("iam", "createPrincipal", "deletePrincipal", "createGroup", "addToGroup",
			"removeFromGroup", "deleteGroup", "createToken", "revokeToken", "createAccessKey", "deleteAccessKey", "putTrust",
			"deleteTrust", "putPolicy", "deletePolicy", "attachPolicy", "detachPolicy", "putAccessPolicy", "deleteAccessPolicy",
			"putRateLimit", "deleteRateLimit", "closeBreakGlass", "quarantinePrincipal", "releasePrincipal")),
		"audit-read-access": auditRead,
		// Who looks at alerts does not thereby say what is one. A witness is
		// nobody's administrator: its policy names addCosignature.
		"audit-admin-access":  slices.Concat(auditRead, actions("audit", "putDetectors", "addCosignature")),
		"cluster-read-access": clusterRead,
		"cluster-admin-access": slices.Concat(clusterRead, actions("cluster", "addMember", "removeMember", "setVoter", "createJoinToken", "revokeJoinToken", "transferLeadership",
			"saveSnapshot", "restoreSnapshot", "verifySnapshot", "setAutopilot", "manageJobs", "rotateRootKey", "removeRootKey", "getRootKey")),
		"full-access": {Everything},
	}
}

// valueActions reveal a value or change which value a reader gets: what an
// access policy restricts when it names no actions.
func valueActions() []Action {
	return actions("secrets", "getSecretValue", "createSecret", "putSecretValue", "generateSecret", "labelVersion", "updateVersion",
		"destroyVersion", "deleteSecret", "restoreSecret", "purgeSecret", "forceDestroyVersion", "bindKey", "rotateSecret")
}

func actions(service string, operations ...string) []Action {
	out := make([]Action, len(operations))
	for i, operation := range operations {
		out[i] = Action(service + ":" + operation)
	}
	return out
}

// Catalogue is what a policy may name: the actions of this release and the
// roles. It is immutable and safe for concurrent use.
type Catalogue struct {
	actions  map[Action]bool
	services map[string][]string // "secrets:" → its operations, sorted
	roles    map[string][]Action
}

// NewCatalogue makes a Catalogue of the actions that this release enforces,
// each "service:operation".
func NewCatalogue(known []Action) *Catalogue {
	c := &Catalogue{actions: map[Action]bool{}, services: map[string][]string{}, roles: Roles()}
	for _, a := range known {
		service := a.service()
		if service == "" || c.actions[a] {
			continue
		}
		c.actions[a] = true
		c.services[service] = append(c.services[service], string(a[len(service):]))
	}
	for _, operations := range c.services {
		slices.Sort(operations)
	}
	return c
}

func (c *Catalogue) roleNames() string {
	return strings.Join(slices.Sorted(maps.Keys(c.roles)), ", ")
}

func (c *Catalogue) serviceNames() string {
	names := slices.Sorted(maps.Keys(c.services))
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], ":")
	}
	return strings.Join(names, ", ")
}
