package sink

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/audit"
)

// mappingTables are the tables of docs/siem.md.
func mappingTables() string {
	var b strings.Builder
	b.WriteString("| events, the first row that fits | ECS `event.category` | ECS `event.type` | OCSF class | OCSF activity |\n|---|---|---|---|---|\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %d %s | %d %s |\n", strings.ReplaceAll(k.events, " ", "` `"), k.ecsCategory, k.ecsType, k.class, ocsfClasses[k.class], k.activity, k.activityName)
	}
	b.WriteString("\n| field of the trail | ECS | OCSF | |\n|---|---|---|---|\n")
	for _, p := range places {
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | %s |\n", p.field, p.ecs, strings.TrimPrefix(p.ocsf, "[E]"), p.note)
	}
	b.WriteString("| any other | `strongroom.` and its name | `unmapped.` and its name | as in the trail |\n")
	return b.String()
}

func TestTheManualHasTheTablesOfTheCode(t *testing.T) {
	raw, err := os.ReadFile("../../docs/siem.md")
	require.NoError(t, err)
	for _, table := range strings.Split(mappingTables(), "\n\n") {
		require.Contains(t, string(raw), strings.TrimSpace(table), "put this table into docs/siem.md")
	}
	require.Contains(t, string(raw), "ECS "+ecsVersion)
	require.Contains(t, string(raw), "OCSF "+ocsfVersion)
}

// rich is an event with every field that an event has.
func rich() audit.Event {
	return audit.Event{
		Time: time.Date(2026, 2, 3, 4, 5, 6, 7_000_000, time.UTC), RequestID: "r-1", Event: "secrets.get_value", Outcome: audit.Failed, Code: "Conflict",
		Principal: "pay", CredentialID: "tok-1", SourceAddress: "192.0.2.7", Via: "n2", Path: "/app/pay/db", KeyID: "key-1", Version: 7, DecisionID: "d-1",
		Reason: "because", Index: 99, Cached: true, DurationMicros: 12_345, ApprovalID: "a-1", BreakGlassID: "b-1",
		KMS:      []audit.KMSEvent{{Event: "kms.decrypt", KeyID: "key-1", KeyVersion: 2, Sequence: 1}},
		Consumer: &audit.Consumer{Instance: "i-1", Session: 4, Stamp: 5, HoldUntil: 6},
		Decision: &audit.Decision{Action: "secrets:getSecretValue", Allowed: true, Path: "/app/pay/db"},
	}
}

// formatted answers the document of an event.
func formatted(t require.TestingT, f format, line []byte, r record) map[string]any {
	text := f(line, r)
	require.Regexp(t, `^[ -~]+$`, string(text), "one line of printable ASCII")
	var d map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&d))
	return d
}

// at answers what stands at a dotted name; [] and [0] are any element.
func at(d any, name string) []any {
	if name == "" {
		return []any{d}
	}
	first, rest, _ := strings.Cut(name, ".")
	first, list := strings.CutSuffix(strings.Replace(first, "[0]", "[]", 1), "[]")
	object, ok := d.(map[string]any)
	if !ok || object[first] == nil {
		return nil
	}
	if !list {
		return at(object[first], rest)
	}
	var out []any
	for _, one := range object[first].([]any) {
		out = append(out, at(one, rest)...)
	}
	return out
}

// Each row of the table is where the code puts the field, in every class that
// has it.
func TestEachFieldIsWhereTheTableSays(t *testing.T) {
	for _, name := range []string{"secrets.get_value", "alert.read_volume", "iam.login"} {
		e := rich()
		e.Event = name
		r := recordsOf(t, e)[0]
		var native map[string]any
		require.NoError(t, json.Unmarshal(r.body, &native))
		native["hash"] = fmt.Sprintf("%x", r.at.hash)
		ecs, ocsf := formatted(t, formatECS, r.body, r), formatted(t, formatOCSF, r.body, r)
		for _, p := range places {
			require.NotNil(t, native[p.field], "the event of this test has the field %s", p.field)
			want := fmt.Sprint(native[p.field])
			wantECS, wantOCSF := want, want
			switch p.field {
			case "time":
				wantOCSF = fmt.Sprint(e.Time.UnixMilli())
			case "outcome":
				wantECS, wantOCSF = "failure", "2"
			case "durationMicros":
				wantECS, wantOCSF = "12345000", "12"
			}
			place := strings.Replace(p.ocsf, "[E]", "", 1)
			switch {
			case name == "alert.read_volume":
				place = strings.Replace(p.ocsf, "[E]", "evidences[0].", 1)
			case name == "iam.login":
				place = strings.Replace(place, "actor.user", "user", 1)
			}
			require.Equal(t, []string{wantECS}, texts(at(ecs, p.ecs)), p.field)
			require.Contains(t, texts(at(ocsf, place)), wantOCSF, "%s of %s", p.field, name)
		}
		placed := map[string]bool{}
		for _, p := range places {
			placed[p.field] = true
		}
		for field, value := range native {
			if placed[field] || leftOut[field] {
				continue
			}
			require.Equal(t, mustJSON(t, value), mustJSON(t, at(ecs, "strongroom."+field)[0]), field)
			require.Equal(t, mustJSON(t, value), mustJSON(t, at(ocsf, "unmapped."+field)[0]), field)
		}
	}
}

func texts(values []any) []string {
	var out []string
	for _, v := range values {
		out = append(out, fmt.Sprint(v))
	}
	return out
}

func mustJSON(t *testing.T, v any) string {
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return string(raw)
}

func TestDocumentsAreThese(t *testing.T) {
	e := audit.Event{
		Node: "n1", Sequence: 2, Time: time.Date(2026, 2, 3, 4, 5, 6, 7_000_000, time.UTC), RequestID: "r-1", Event: "secrets.get_value", Outcome: audit.Denied,
		Code: "AccessDenied", Principal: "pay", SourceAddress: "192.0.2.7", Path: "/app/pay/db", DecisionID: "d-1",
	}
	r := recordsOf(t, e)[0]
	hash, prev := fmt.Sprintf("%x", r.at.hash), regexp.MustCompile(`"prev":"([0-9a-f]+)"`).FindStringSubmatch(string(r.body))[1]
	require.JSONEq(t, `{"@timestamp":"2026-02-03T04:05:06.007Z","ecs":{"version":"8.17.0"},"error":{"code":"AccessDenied"},
		"event":{"action":"secrets.get_value","category":["api"],"dataset":"strongroom.audit","hash":"`+hash+`","id":"n1:2","kind":"event","module":"strongroom","outcome":"failure","sequence":2,"type":["access","denied"]},
		"http":{"request":{"id":"r-1"}},"service":{"name":"strongroom","node":{"name":"n1"},"type":"strongroom"},"source":{"address":"192.0.2.7","ip":"192.0.2.7"},
		"strongroom":{"decisionId":"d-1","outcome":"denied","path":"/app/pay/db","prev":"`+prev+`"},"user":{"name":"pay"}}`, string(formatECS(r.body, r)))
	require.JSONEq(t, `{"activity_id":2,"activity_name":"Read","category_uid":6,"category_name":"Application Activity","class_uid":6003,"class_name":"API Activity","type_uid":600302,"type_name":"API Activity: Read",
		"time":1770091506007,"severity_id":3,"severity":"Medium","status_id":2,"status":"Failure","status_code":"AccessDenied",
		"actor":{"user":{"name":"pay"}},"src_endpoint":{"ip":"192.0.2.7"},"dst_endpoint":{"name":"n1"},"api":{"operation":"secrets.get_value","service":{"name":"strongroom"}},
		"resources":[{"type":"secret","name":"/app/pay/db"}],
		"metadata":{"version":"1.3.0","product":{"name":"Strongroom","vendor_name":"Strongroom"},"uid":"n1:2","sequence":2,"log_name":"audit","log_provider":"n1","event_code":"secrets.get_value","correlation_uid":"r-1"},
		"unmapped":{"decisionId":"d-1","hash":"`+hash+`","outcome":"denied","prev":"`+prev+`"}}`, string(formatOCSF(r.body, r)))
}

// What the schemas demand of each class is there, whatever the event has.
func TestOCSFHasWhatItsClassesDemand(t *testing.T) {
	demands := map[int][]string{
		ocsfAPI: {"actor", "api.operation", "src_endpoint"}, ocsfAuthentication: {"user.name", "dst_endpoint.name"},
		ocsfFinding: {"finding_info.uid", "finding_info.title"}, ocsfLifecycle: {"app.name", "app.vendor_name"}, ocsfBase: {"message"},
	}
	seen := map[int]bool{}
	check := func(r record, line []byte) {
		d := formatted(t, formatOCSF, line, r)
		class := 0
		_, err := fmt.Sscan(fmt.Sprint(d["class_uid"]), &class)
		require.NoError(t, err)
		seen[class] = true
		for _, name := range append(demands[class], "activity_id", "category_uid", "class_uid", "type_uid", "time", "severity_id", "metadata.version", "metadata.product.vendor_name") {
			require.NotEmpty(t, at(d, name), "%s of class %d", name, class)
		}
	}
	for _, e := range []audit.Event{
		{Event: "iam.login", Outcome: audit.Denied}, {Event: "iam.logout", Outcome: audit.OK, Principal: "a"}, {Event: "audit.open", Outcome: audit.OK},
		{Event: "secrets.list", Outcome: audit.OK}, {Event: "kms.encrypt", Outcome: audit.OK, KeyID: "k"}, {Event: "alert.canary", Outcome: audit.OK}, {Event: "new", Outcome: audit.Failed},
	} {
		r := recordsOf(t, e)[0]
		check(r, r.body)
	}
	check(record{at: cursor{sequence: 7}}, []byte("torn \x00\xff line"))
	require.Len(t, seen, len(ocsfClasses))
}

// A line that cannot be read is handed on as what it is.
func TestALineThatCannotBeReadIsHandedOn(t *testing.T) {
	r, line := record{at: cursor{sequence: 7}}, []byte("torn \x1b[31m line")
	ecs, ocsf := formatted(t, formatECS, line, r), formatted(t, formatOCSF, line, r)
	require.Equal(t, string(line), at(ecs, "event.original")[0])
	require.Equal(t, "pipeline_error", at(ecs, "event.kind")[0])
	require.NotEmpty(t, at(ecs, "@timestamp"))
	require.Equal(t, string(line), ocsf["raw_data"])
	require.True(t, (&follower{Settings: Settings{Events: []string{"iam.*"}}}).wants(r), "no filter hides it")
}

func TestKindsOfEvents(t *testing.T) {
	for event, want := range map[string]string{
		"iam.login": "authentication start 3002 1", "iam.logout": "authentication end 3002 2", "alert.anything_at_all": "intrusion_detection info 2004 1",
		"iam.create_token": "iam creation 6003 1", "iam.delete_policy": "iam deletion 6003 4", "iam.put_policy": "iam change 6003 3", "iam.list_groups": "iam info 6003 2",
		"iam.open_break_glass": "iam creation 6003 1", "iam.who_am_i": "iam info 6003 2", "iam.revoke_token": "iam deletion 6003 4",
		"secrets.get_value": "api access 6003 2", "secrets.batch_get_value": "api access 6003 2", "secrets.list": "api access 6003 2", "secrets.create": "api creation 6003 1",
		"secrets.put_value": "api change 6003 3", "secrets.destroy_version": "api deletion 6003 4", "secrets.delete": "api deletion 6003 4", "secrets.restore": "api change 6003 3",
		"kms.decrypt": "api info 6003 99", "kms.generate_data_key": "api info 6003 99", "kms.create_key": "api creation 6003 1", "kms.schedule_key_deletion": "api change 6003 3",
		"audit.query_events": "api access 6003 2", "cluster.status": "api access 6003 2", "audit.open": "process start 6002 3", "something.new": "api info 6003 99",
	} {
		k := kindOf(event)
		require.Equal(t, want, fmt.Sprintf("%s %s %d %d", k.ecsCategory, k.ecsType, k.class, k.activity), event)
	}
	for _, k := range kinds {
		for _, pattern := range strings.Fields(k.events) {
			_, err := path.Match(pattern, "x")
			require.NoError(t, err)
		}
		require.NotEmpty(t, ocsfClasses[k.class])
		require.NotEmpty(t, ocsfCategories[k.class/1000])
	}
}

// Whatever strangers put into an event, each format is one line of printable
// ASCII that says it again.
func TestNothingInAnEventLeavesItsLine(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		e := event("iam.login", rapid.SampledFrom([]string{audit.OK, audit.Denied, audit.Failed}).Draw(t, "outcome"))
		e.Principal, e.Path, e.SourceAddress = rapid.String().Draw(t, "principal"), rapid.String().Draw(t, "path"), rapid.String().Draw(t, "source")
		sequence, err := w.trail.Append(t.Context(), []audit.Event{e})
		require.NoError(t, err)
		require.NoError(t, w.trail.Wait(t.Context(), sequence-1))
		lines, err := w.trail.Lines(t.Context(), sequence-1, 1)
		require.NoError(t, err)
		line := lines.Data[:len(lines.Data)-1]
		read, _, err := audit.Decode(line)
		require.NoError(t, err)
		r := record{at: cursor{sequence: sequence}, event: read, known: true}
		ecs, ocsf := formatted(t, formatECS, line, r), formatted(t, formatOCSF, line, r)
		if e.Principal != "" {
			require.Equal(t, read.Principal, at(ecs, "user.name")[0])
			require.Equal(t, read.Principal, at(ocsf, "user.name")[0])
		}
		if e.Path != "" {
			require.Equal(t, read.Path, at(ecs, "strongroom.path")[0])
			require.Equal(t, read.Path, at(ocsf, "resources[].name")[0])
		}
		if e.SourceAddress != "" {
			require.Equal(t, read.SourceAddress, at(ecs, "source.address")[0])
		}
	})
}
