package sink

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/strongroom/strongroom/audit"
)

// format writes an event as one line of printable ASCII, without a newline.
// line is how the trail has it.
type format func(line []byte, r record) []byte

func formatOf(name string) (format, error) {
	switch name {
	case "native":
		return func(line []byte, _ record) []byte { return bytes.Clone(line) }, nil
	case "ecs":
		return formatECS, nil
	case "ocsf":
		return formatOCSF, nil
	}
	return nil, fmt.Errorf("its format %q is not known", name)
}

// document is a JSON object that grows by dotted names.
type document map[string]any

func (d document) put(name string, value any) {
	at := map[string]any(d)
	for {
		first, rest, deeper := strings.Cut(name, ".")
		if !deeper {
			at[first] = value
			return
		}
		next, ok := at[first].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[first] = next
		}
		at, name = next, rest
	}
}

// encode answers the object as one line of ASCII: no event, whatever a
// stranger has put into it, steers a terminal or begins a line.
func (d document) encode() []byte {
	raw, err := json.Marshal(map[string]any(d))
	if err != nil {
		panic("sink: a document of texts and numbers: " + err.Error()) // cannot be
	}
	out := make([]byte, 0, len(raw))
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		if r < 0x7f {
			out = append(out, raw[0])
		} else { // inside a string, where else
			out = appendEscaped(out, r)
		}
		raw = raw[size:]
	}
	return out
}

func appendEscaped(b []byte, r rune) []byte {
	if r >= 0x10000 {
		r -= 0x10000
		return fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
	}
	return fmt.Appendf(b, `\u%04x`, r)
}

// fieldsOf answers the fields of a line as they are. New ones that this
// package has not heard of are among them.
func fieldsOf(line []byte, r record) map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	if !r.known || json.Unmarshal(line, &fields) != nil {
		return nil
	}
	for name := range leftOut {
		delete(fields, name)
	}
	fields["hash"] = json.RawMessage(`"` + hex.EncodeToString(r.at.hash[:]) + `"`)
	return fields
}

func idOf(e audit.Event) string { return e.Node + ":" + strconv.FormatUint(e.Sequence, 10) }

const unreadable = "a line of the audit trail is not what the trail writes: run strongroom audit verify on this node"

func formatECS(line []byte, r record) []byte {
	d := document{}
	d.put("ecs.version", ecsVersion)
	d.put("event.module", "strongroom")
	d.put("event.dataset", "strongroom.audit")
	d.put("service.name", "strongroom")
	d.put("service.type", "strongroom")
	fields := fieldsOf(line, r)
	if fields == nil {
		d.put("@timestamp", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
		d.put("event.kind", "pipeline_error")
		d.put("event.sequence", r.at.sequence)
		d.put("event.original", string(line))
		d.put("message", unreadable)
		return d.encode()
	}
	k, e := kindOf(r.event.Event), r.event
	d.put("event.kind", "event")
	if k.class == ocsfFinding {
		d.put("event.kind", "alert")
	}
	d.put("event.id", idOf(e))
	d.put("event.category", []string{k.ecsCategory})
	types := []string{k.ecsType}
	if e.Outcome == audit.Denied && k.ecsCategory == "api" { // of the others it is no type
		types = append(types, "denied")
	}
	d.put("event.type", types)
	for _, p := range places {
		if value, ok := fields[p.field]; ok {
			d.put(p.ecs, value)
			delete(fields, p.field)
		}
	}
	d.put("event.outcome", "failure")
	if e.Outcome == audit.OK {
		d.put("event.outcome", "success")
	}
	d.put("strongroom.outcome", e.Outcome)
	if e.DurationMicros != 0 {
		d.put("event.duration", e.DurationMicros*1000)
	}
	if e.SourceAddress != "" {
		d.put("source.address", e.SourceAddress)
		if _, err := netip.ParseAddr(e.SourceAddress); err != nil {
			delete(d["source"].(map[string]any), "ip")
		}
	}
	for name, value := range fields {
		d.put("strongroom."+name, value)
	}
	return d.encode()
}

// severity is that of OCSF.
func severity(e audit.Event, k kind) (id int, name string) {
	switch {
	case k.class == ocsfFinding:
		return 4, "High"
	case e.Outcome == audit.Denied:
		return 3, "Medium"
	case e.Outcome == audit.Failed:
		return 2, "Low"
	}
	return 1, "Informational"
}

func formatOCSF(line []byte, r record) []byte {
	d := document{}
	d.put("metadata.version", ocsfVersion)
	d.put("metadata.product", map[string]any{"name": "Strongroom", "vendor_name": "Strongroom"})
	d.put("metadata.log_name", "audit")
	fields := fieldsOf(line, r)
	if fields == nil {
		d.class(kind{class: ocsfBase, activity: 99, activityName: "Unreadable"})
		d.put("time", time.Now().UnixMilli())
		d.put("severity_id", 5)
		d.put("severity", "Critical")
		d.put("metadata.sequence", r.at.sequence)
		d.put("message", unreadable)
		d.put("raw_data", string(line))
		return d.encode()
	}
	k, e := kindOf(r.event.Event), r.event
	d.class(k)
	id, name := severity(e, k)
	d.put("severity_id", id)
	d.put("severity", name)
	d.put("metadata.uid", idOf(e))
	for _, p := range places {
		value, ok := fields[p.field]
		delete(fields, p.field)
		if ok && !strings.HasPrefix(p.ocsf, "[E]") && !strings.HasPrefix(p.ocsf, "resources[]") {
			d.put(p.ocsf, value)
		}
	}
	d.put("time", e.Time.UnixMilli())
	d.put("status_id", 2)
	d.put("status", "Failure")
	if e.Outcome == audit.OK {
		d.put("status_id", 1)
		d.put("status", "Success")
	}
	d.put("unmapped.outcome", e.Outcome)
	if e.DurationMicros != 0 {
		d.put("duration", e.DurationMicros/1000)
		d.put("unmapped.durationMicros", e.DurationMicros)
	}
	if list := resources(e); len(list) > 0 {
		d.put("resources", list)
	}
	d.ofClass(e, k)
	for name, value := range fields {
		d.put("unmapped."+name, value)
	}
	return d.encode()
}

// class writes what the class of the event determines.
func (d document) class(k kind) {
	d.put("category_uid", k.class/1000)
	d.put("category_name", ocsfCategories[k.class/1000])
	d.put("class_uid", k.class)
	d.put("class_name", ocsfClasses[k.class])
	d.put("activity_id", k.activity)
	d.put("activity_name", k.activityName)
	d.put("type_uid", k.class*100+k.activity)
	d.put("type_name", ocsfClasses[k.class]+": "+k.activityName)
}

// ofClass writes what one class wants and another does not have.
func (d document) ofClass(e audit.Event, k kind) {
	user := map[string]any{"name": e.Principal}
	if e.Principal == "" { // who it was is not known; nothing here claims so
		user = map[string]any{"name": "unknown", "type_id": 0, "type": "Unknown"}
	}
	if e.CredentialID != "" {
		user["credential_uid"] = e.CredentialID
	}
	actor, source := map[string]any{"user": user}, map[string]any{"name": e.Node}
	if e.Principal == "" && e.SourceAddress == "" { // work of the node itself
		actor = map[string]any{"app_name": "strongroom"}
	}
	if e.SourceAddress != "" {
		source = map[string]any{"ip": e.SourceAddress}
	}
	switch k.class {
	case ocsfAPI:
		d.put("actor", actor)
		d.put("src_endpoint", source)
		d.put("dst_endpoint.name", e.Node)
		d.put("api.operation", e.Event)
		d.put("api.service.name", "strongroom")
	case ocsfAuthentication:
		d.put("user", user)
		d.put("src_endpoint", source)
		d.put("dst_endpoint.name", e.Node)
		d.put("service.name", "strongroom")
	case ocsfFinding:
		d.put("finding_info", map[string]any{"uid": idOf(e), "title": e.Event, "created_time": e.Time.UnixMilli()})
		d.put("evidences", []any{map[string]any{"actor": actor, "src_endpoint": source}})
	case ocsfLifecycle:
		d.put("app", map[string]any{"name": "Strongroom", "vendor_name": "Strongroom"})
	}
}

// resources are the secret and the key that the event is about.
func resources(e audit.Event) []any {
	var out []any
	version := map[string]any{}
	if e.Version != 0 {
		version["version"] = strconv.FormatUint(e.Version, 10)
	}
	add := func(r map[string]any) {
		for name, value := range version {
			r[name] = value
		}
		clear(version) // it is of the first
		out = append(out, r)
	}
	if e.Path != "" {
		add(map[string]any{"type": "secret", "name": e.Path})
	}
	if e.KeyID != "" {
		add(map[string]any{"type": "key", "uid": e.KeyID})
	}
	if len(version) > 0 {
		add(map[string]any{"type": "other"})
	}
	return out
}
