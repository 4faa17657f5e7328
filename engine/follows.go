package engine

// Why the leader alone serves an operation that changes nothing.
const (
	// ledgerOnly: it shows, or adds to, what the leader's ledger of consumers has
	// and has not committed yet.
	ledgerOnly = "the leader's ledger"
	// usesOnly: it shows when something was last used, which the leader is told.
	usesOnly = "the leader is told of uses"
	// membersOnly: it asks all members, or shows what the leader knows of them;
	// whoever serves it has the same work.
	membersOnly = "asks the members"
	// booksOnly: it seals, and only a leader books seals.
	booksOnly = "seals are booked by the leader"
	// writesOnly: it may write by the way, or is no read at all.
	writesOnly = "may write"
	// waitsOnly: its looks are made by the front end.
	waitsOnly = "waits"
)

// follows has every operation that changes nothing: "" says that a node that
// follows serves it by itself, anything else is why it hands it to the leader.
// What changes state is the leader's, always.
var follows = map[string]string{
	"secrets/getSecretValue":      "",
	"secrets/batchGetSecretValue": "",
	"secrets/describeSecret":      "",
	"secrets/listSecrets":         "",
	"secrets/listPathRules":       "",
	"secrets/lintPaths":           "",
	"secrets/getUsage":            "",
	"secrets/listCompromised":     "",
	"secrets/listCanaries":        "",
	"secrets/listSecretVersions":  ledgerOnly, // lastReadAt
	"secrets/listConsumers":       ledgerOnly,
	"secrets/confirmVersion":      ledgerOnly,
	"secrets/waitForChange":       waitsOnly,

	"kms/listAliases":                     "",
	"kms/listKeyVersions":                 "",
	"kms/listBoundSecrets":                "",
	"kms/getPublicKey":                    "",
	"kms/decrypt":                         "",
	"kms/verify":                          "",
	"kms/verifyMac":                       "",
	"kms/generateRandom":                  "",
	"kms/describeKey":                     usesOnly,
	"kms/listKeys":                        usesOnly,
	"kms/getKeyHealth":                    membersOnly,
	"kms/encrypt":                         booksOnly,
	"kms/reEncrypt":                       booksOnly,
	"kms/generateDataKey":                 booksOnly,
	"kms/generateDataKeyWithoutPlaintext": booksOnly,
	"kms/sign":                            "",
	"kms/generateMac":                     "",

	"iam/whoAmI":              "",
	"iam/getPolicy":           "",
	"iam/listPolicies":        "",
	"iam/listPolicyRevisions": "",
	"iam/getAccessPolicy":     "",
	"iam/listAccessPolicies":  "",
	"iam/listPrincipals":      "",
	"iam/describePrincipal":   "",
	"iam/listGroups":          "",
	"iam/describeGroup":       "",
	"iam/listGroupMembers":    "",
	"iam/getTrust":            "",
	"iam/listTrusts":          "",
	"iam/listRateLimits":      "",
	"iam/whoCan":              "",
	"iam/whatCan":             "",
	"iam/lintPolicies":        "",
	"iam/listApprovals":       "",
	"iam/describeApproval":    "",
	"iam/listBreakGlass":      "",
	"iam/listTokens":          usesOnly,
	"iam/listAccessKeys":      usesOnly,
	"iam/explain":             membersOnly,
	"iam/simulatePolicy":      membersOnly,
	"iam/describeLogin":       writesOnly, // each counts against its source

	"audit/queryEvents":       membersOnly,
	"audit/exportEvents":      membersOnly,
	"audit/incident":          membersOnly,
	"audit/listChains":        membersOnly,
	"audit/getCheckpoint":     membersOnly,
	"audit/getProof":          membersOnly,
	"audit/describeDetectors": membersOnly,

	"cluster/status":             membersOnly,
	"cluster/getRootKey":         membersOnly,
	"cluster/transferLeadership": writesOnly,
	"cluster/members":            membersOnly,
	"cluster/tls":                membersOnly,
	"cluster/saveSnapshot":       membersOnly, // of the node that leads, as its documentation says
	"cluster/verifySnapshot":     membersOnly,
	"cluster/getAutopilot":       "",
	"cluster/listJoinTokens":     "",
	"cluster/listJobs":           "",
	"cluster/describeJob":        "",
}
