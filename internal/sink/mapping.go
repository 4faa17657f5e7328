package sink

import (
	"path"
	"strings"
)

// Versions of the schemas that are written.
const (
	ecsVersion  = "8.17.0"
	ocsfVersion = "1.3.0"
)

// Classes of OCSF that are used.
const (
	ocsfLifecycle      = 6002
	ocsfAPI            = 6003
	ocsfAuthentication = 3002
	ocsfFinding        = 2004
	ocsfBase           = 0
)

var ocsfClasses = map[int]string{
	ocsfLifecycle: "Application Lifecycle", ocsfAPI: "API Activity", ocsfAuthentication: "Authentication", ocsfFinding: "Detection Finding", ocsfBase: "Base Event",
}

var ocsfCategories = map[int]string{0: "Uncategorized", 2: "Findings", 3: "Identity & Access Management", 6: "Application Activity"}

// kind is what an event is in either schema.
type kind struct {
	events       string // patterns of path.Match, separated by spaces
	ecsCategory  string
	ecsType      string
	class        int
	activity     int
	activityName string
}

// kinds are looked through from the first on. The last stands for everything.
// docs/siem.md shows this table, and a test holds the two together.
var kinds = []kind{
	{"alert.*", "intrusion_detection", "info", ocsfFinding, 1, "Create"},
	{"audit.open", "process", "start", ocsfLifecycle, 3, "Start"},
	{"audit.recovered", "process", "change", ocsfLifecycle, 99, "Recovered"},
	{"iam.login", "authentication", "start", ocsfAuthentication, 1, "Logon"},
	{"iam.logout", "authentication", "end", ocsfAuthentication, 2, "Logoff"},
	{"iam.get_* iam.list_* iam.describe_* iam.lint_* iam.explain iam.simulate_* iam.who_* iam.what_*", "iam", "info", ocsfAPI, 2, "Read"},
	{"iam.create_* iam.open_* iam.request_*", "iam", "creation", ocsfAPI, 1, "Create"},
	{"iam.delete_* iam.revoke_*", "iam", "deletion", ocsfAPI, 4, "Delete"},
	{"iam.*", "iam", "change", ocsfAPI, 3, "Update"},
	{"kms.encrypt kms.decrypt kms.re_encrypt kms.sign kms.verify kms.verify_* kms.generate_*", "api", "info", ocsfAPI, 99, "Cryptographic operation"},
	{"*.get_* *.list *.list_* *.describe *.describe_* *.lint_* *.query_* *.batch_get_* *.watch *.status", "api", "access", ocsfAPI, 2, "Read"},
	{"*.create *.create_* *.generate *.copy", "api", "creation", ocsfAPI, 1, "Create"},
	{"*.delete *.delete_* *.destroy_* *.remove_*", "api", "deletion", ocsfAPI, 4, "Delete"},
	{"*.put_* *.update *.update_* *.set_* *.bind_* *.label_* *.confirm_* *.enable_* *.disable_* *.rotate *.rotate_* *.cancel_* *.schedule_* *.retire_* *.import_* *.migrate_* *.restore *.transfer_* *.pause_* *.resume_*",
		"api", "change", ocsfAPI, 3, "Update"},
	{"*", "api", "info", ocsfAPI, 99, "Other"},
}

func kindOf(event string) kind {
	for _, k := range kinds {
		for _, pattern := range strings.Fields(k.events) {
			if ok, err := path.Match(pattern, event); ok && err == nil {
				return k
			}
		}
	}
	return kinds[len(kinds)-1]
}

// place is where a field of an event is found in either schema. In OCSF, [E]
// is nothing but in a Detection Finding, where it is "evidences[0].".
type place struct {
	field, ecs, ocsf, note string
}

// places of fields. What is not here stands under strongroom in ECS and under
// unmapped in OCSF, by the name that it has in the trail: nothing is lost.
var places = []place{
	{"time", "@timestamp", "time", "OCSF: milliseconds since the Unix epoch"},
	{"node", "service.node.name", "metadata.log_provider", "OCSF: also dst_endpoint.name of API Activity and Authentication"},
	{"sequence", "event.sequence", "metadata.sequence", ""},
	{"requestId", "http.request.id", "metadata.correlation_uid", ""},
	{"event", "event.action", "metadata.event_code", "OCSF: also api.operation of API Activity, finding_info.title of Detection Finding"},
	{"outcome", "event.outcome", "status_id", "ok: success, 1; denied and failed: failure, 2; as in the trail: strongroom.outcome, unmapped.outcome"},
	{"code", "error.code", "status_code", ""},
	{"reason", "event.reason", "status_detail", ""},
	{"principal", "user.name", "[E]actor.user.name", "OCSF: user.name of Authentication; unknown where a caller was not known, actor.app_name strongroom where there was no caller"},
	{"credentialId", "strongroom.credentialId", "[E]actor.user.credential_uid", "OCSF: user.credential_uid of Authentication"},
	{"sourceAddress", "source.ip", "[E]src_endpoint.ip", "ECS: also source.address; OCSF: src_endpoint.name is the node where there is none"},
	{"path", "strongroom.path", "resources[].name", "OCSF: of the resource with the type secret"},
	{"version", "strongroom.version", "resources[].version", "OCSF: a text, of the resource with the type secret, or of the key if there is no path"},
	{"keyId", "strongroom.keyId", "resources[].uid", "OCSF: of the resource with the type key"},
	{"durationMicros", "event.duration", "duration", "ECS: nanoseconds; OCSF: milliseconds, cut"},
	{"hash", "event.hash", "unmapped.hash", "SHA-256 of the line in the trail, which the next line carries as prev"},
}

// left out: they say something about a line of the trail and nothing about
// what happened.
var leftOut = map[string]bool{"v": true, "crc": true}
