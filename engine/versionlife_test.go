package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

const life = "/app/dev/web/life"

func (w *world) lived(n int) {
	w.t.Helper()
	w.ok("secrets/createSecret", `{"path":%q}`, life)
	for i := range n {
		w.put(life, fmt.Sprint("value ", i+1))
	}
}

func (w *world) read(extra string) (string, error) {
	answer, err := w.as(w.admin, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q%s}`, life, extra))
	if err != nil {
		return "", err
	}
	return string(into[wire.GetSecretValueResponse](w.t, answer).Value.Expose()), nil
}

// TestRollback: readers get what is activated, whichever is newest, and the
// labels say where they are sent.
func TestRollback(t *testing.T) {
	w := newWorld(t)
	w.lived(2)
	w.ok("secrets/putSecretValue", `{"path":%q,"value":%q,"activate":false}`, life, b64("value 3"))
	require.Equal(t, "value 2", w.value(life))
	got := into[wire.VersionLabelResponse](t, w.ok("secrets/setVersionLabel", `{"path":%q,"version":3,"label":"current","reason":"ready"}`, life))
	require.Equal(t, wire.VersionLabelResponse{Path: life, Version: 3, Label: "current", CurrentVersion: 3, Labels: map[string]uint64{"current": 3, "previous": 2}}, got)
	require.Equal(t, "value 3", w.value(life))
	_, err := w.as(w.admin, "secrets/setVersionLabel", fmt.Sprintf(`{"path":%q,"version":1,"label":"current","expectedVersion":2}`, life))
	w.refused(fault.Conflict, "expectedVersion", err)
	w.ok("secrets/setVersionLabel", `{"path":%q,"version":1,"label":"current","expectedVersion":3}`, life)
	require.Equal(t, "value 1", w.value(life))
	w.put(life, "value 4")
	require.Equal(t, "value 4", w.value(life))

	w.ok("secrets/setVersionLabel", `{"path":%q,"version":2,"label":"blue"}`, life)
	value, err := w.read(`,"label":"blue"`)
	require.NoError(t, err)
	require.Equal(t, "value 2", value)
	require.NotContains(t, into[wire.VersionLabelResponse](t, w.ok("secrets/removeVersionLabel", `{"path":%q,"label":"blue"}`, life)).Labels, "blue")
	_, err = w.read(`,"label":"blue"`)
	w.refused(fault.NotFound, "label", err)

	history := into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":%q}`, life)).Versions
	require.Equal(t, []string{"created", "activated", "replaced", "activated", "replaced"}, stories(history[3]))
	require.Equal(t, []string{"created", "activated", "replaced", "labelled", "unlabelled"}, stories(history[2]))
	require.Equal(t, []string{"created", "activated", "replaced"}, stories(history[1]))
	require.Equal(t, "ready", history[1].Changes[1].Reason)
	for _, change := range history[1].Changes {
		require.Equal(t, "admin", change.By)
		require.NotZero(t, change.At)
	}
	require.Equal(t, history[1].RequestID, history[1].Changes[0].RequestID)
	events := w.named("secrets.label_version")
	require.Len(t, events, 5)
	require.Equal(t, history[1].Changes[1].RequestID, events[0].RequestID)
	require.Equal(t, history[2].Changes[2].RequestID, events[0].RequestID, "one request, told of both versions")
	for i, about := range []string{"label current", "label current", "label current", "label blue", "remove label blue"} {
		require.Equal(t, about, events[i].Reason)
	}
	require.Equal(t, audit.Failed, events[1].Outcome)
}

// stories is what happened to a version, in short.
func stories(v wire.VersionSummary) (out []string) {
	for _, c := range v.Changes {
		out = append(out, c.What)
	}
	return out
}

// TestTheHistoryHoldsEveryReason that people gave, from the first to the last.
func TestTheHistoryHoldsEveryReason(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":%q,"value":%q,"reason":"born"}`, life, b64("value 1"))
	w.ok("secrets/putSecretValue", `{"path":%q,"value":%q,"reason":"put","activate":false}`, life, b64("value 2"))
	w.ok("secrets/generateSecret", `{"path":%q,"kind":"uuid","reason":"made"}`, life)
	for _, body := range []string{
		`setVersionLabel {"path":%q,"version":2,"label":"blue","reason":"r1"}`, `removeVersionLabel {"path":%q,"label":"blue","version":2,"expectedVersion":3,"reason":"r2"}`,
		`disableVersion {"path":%q,"version":2,"reason":"r3"}`, `enableVersion {"path":%q,"version":2,"reason":"r4"}`,
		`destroyVersion {"path":%q,"version":2,"delay":"1d","reason":"r5"}`, `cancelDestroyVersion {"path":%q,"version":2,"reason":"r6"}`,
		`destroyVersion {"path":%q,"version":2,"reason":"r7"}`,
	} {
		operation, body, _ := strings.Cut(body, " ")
		w.ok("secrets/"+operation, body, life)
	}
	var got []string
	history := into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":%q}`, life)).Versions
	for _, v := range history {
		for _, c := range v.Changes {
			got = append(got, fmt.Sprintf("%d %s %s", v.Version, c.What, c.Reason))
		}
	}
	require.Equal(t, []string{
		"3 created made", "3 activated made",
		"2 created put", "2 labelled r1", "2 unlabelled r2", "2 disabled r3", "2 enabled r4", "2 destroyScheduled r5", "2 destroyCancelled r6", "2 destroyed r7",
		"1 created born", "1 activated born", "1 replaced made",
	}, got)
	require.Zero(t, history[1].ChangesOmitted)
}

func TestRefusalsOfVersionLifeSayWhatToDo(t *testing.T) {
	s := newStock(t)
	long := strings.Repeat("x", 1025)
	for _, one := range []struct {
		operation, body string
		kind            fault.Kind
		says            string
	}{
		{"setVersionLabel", `"version":1,"label":"previous"`, fault.Conflict, "label: previous is kept by the server"},
		{"setVersionLabel", `"version":1,"label":"no good"`, fault.InvalidRequest, "label: has the byte"},
		{"setVersionLabel", `"version":1`, fault.InvalidRequest, "label: must not be empty"},
		{"setVersionLabel", `"label":"green"`, fault.InvalidRequest, "version: is missing"},
		{"setVersionLabel", `"version":99,"label":"green"`, fault.NotFound, "version: "},
		{"setVersionLabel", `"version":2,"label":"green"`, fault.VersionNotActive, "cancelDestroyVersion first"},
		{"setVersionLabel", `"version":1,"label":"green","expectedVersion":1`, fault.Conflict, "expectedVersion: is 1, but the current version is 3"},
		{"setVersionLabel", `"version":1,"label":"green","reason":"` + long + `"`, fault.InvalidRequest, "reason: has 1025 bytes"},
		{"removeVersionLabel", `"label":"previous"`, fault.Conflict, "kept by the server"},
		{"removeVersionLabel", `"label":"green"`, fault.NotFound, "label: no version"},
		{"removeVersionLabel", `"label":"no good"`, fault.InvalidRequest, "label: has the byte"},
		{"removeVersionLabel", `"label":"blue","version":0`, fault.InvalidRequest, "version: must be 1"},
		{"removeVersionLabel", `"label":"blue","version":3`, fault.Conflict, "version: the label is on version 1"},
		{"removeVersionLabel", `"label":"blue","expectedVersion":9`, fault.Conflict, "expectedVersion: is 9"},
		{"removeVersionLabel", `"label":"blue","reason":"\u0007"`, fault.InvalidRequest, "reason: must not hold control"},
		{"disableVersion", `"version":2`, fault.Conflict, "cancelDestroyVersion first"},
		{"disableVersion", `"version":99`, fault.NotFound, "version: "},
		{"disableVersion", `"version":1,"reason":"` + long + `"`, fault.InvalidRequest, "reason: has 1025 bytes"},
		{"enableVersion", `"version":2`, fault.Conflict, "cancelDestroyVersion first"},
		{"enableVersion", ``, fault.InvalidRequest, "version: is missing"},
		{"cancelDestroyVersion", `"version":2,"reason":"` + long + `"`, fault.InvalidRequest, "reason: has 1025 bytes"},
		{"updateSecret", `"rotation":{}`, fault.InvalidRequest, "rotation"},
		{"updateSecret", `"description":"` + long + `"`, fault.InvalidRequest, "description: has 1025 bytes"},
		{"putSecretValue", `"value":"AAAA","reason":"` + long + `"`, fault.InvalidRequest, "reason: has 1025 bytes"},
		{"putSecretValue", `"value":"AAAA","notifyBefore":"1d"`, fault.InvalidRequest, "notifyBefore: goes with expiresAt"},
		{"generateSecret", `"kind":"uuid","expiresAt":"2030-01-01T00:00:00Z","notifyBefore":"367d"`, fault.InvalidRequest, "notifyBefore: must be 1s to 366d"},
		{"putSecretValue", `"value":"AAAA","expiresAt":"2030-01-01T00:00:00Z","notifyBefore":"10ms"`, fault.InvalidRequest, "notifyBefore: must be 1s to 366d"},
	} {
		before := s.dump()
		body := `{"path":"/app/dev/web/db"`
		if one.body != "" {
			body += "," + one.body
		}
		_, err := s.as(s.admin, "secrets/"+one.operation, body+"}")
		s.refused(one.kind, one.says, err)
		require.Equal(t, before, s.dump())
	}
	for operation, more := range map[string]string{
		"setVersionLabel": `,"version":1,"label":"green"`, "removeVersionLabel": `,"label":"green"`, "disableVersion": `,"version":1`,
		"enableVersion": `,"version":1`, "updateSecret": `,"description":"d"`,
	} {
		_, err := s.as(s.admin, "secrets/"+operation, `{"path":"/app/dev/web/gone"`+more+"}")
		s.refused(fault.Conflict, "restoreSecret", err)
	}
}

// TestALabelIsNoPlaceForAToken, and a denial says which label was asked for.
func TestALabelIsNoPlaceForAToken(t *testing.T) {
	s := newStock(t)
	id, _, err := s.request(s.admin, "secrets/setVersionLabel", fmt.Sprintf(`{"path":"/app/dev/web/db","version":1,"label":%q}`, s.admin))
	s.refused(fault.InvalidRequest, "is the text of a token", err)
	own, _ := s.story(id, "secrets.label_version")
	require.NotContains(t, own[0].Reason, s.admin)
	nobody := s.principal("nobody", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/**"]}]`)
	id, _, err = s.request(nobody, "secrets/setVersionLabel", `{"path":"/app/dev/web/db","version":1,"label":"current"}`)
	s.refused(fault.AccessDenied, "secrets:labelVersion", err)
	own, _ = s.story(id, "secrets.label_version")
	require.Equal(t, "iam: label current", own[0].Reason)
}

// TestADisabledVersionIsReadByNobody, by whatever way one asks, also while it
// waits for its destruction.
func TestADisabledVersionIsReadByNobody(t *testing.T) {
	w := newWorld(t)
	w.lived(2)
	require.Equal(t, "disabled", into[wire.VersionStateResponse](t, w.ok("secrets/disableVersion", `{"path":%q,"version":1,"reason":"leaked"}`, life)).State)
	opened := w.token.Opens.Load()
	closed := func() {
		t.Helper()
		for _, ask := range []string{`,"version":1`, `,"label":"previous"`} {
			_, err := w.read(ask)
			w.refused(fault.VersionNotActive, "disabled", err)
		}
		require.Equal(t, opened, w.token.Opens.Load(), "nothing was opened")
	}
	closed()
	w.ok("secrets/destroyVersion", `{"path":%q,"version":1,"delay":"1d"}`, life)
	closed()
	w.ok("secrets/cancelDestroyVersion", `{"path":%q,"version":1}`, life)
	closed()
	w.ok("secrets/enableVersion", `{"path":%q,"version":1}`, life)
	value, err := w.read(`,"version":1`)
	require.NoError(t, err)
	require.Equal(t, "value 1", value)

	// The brake on the current one; a new value takes it off.
	w.ok("secrets/disableVersion", `{"path":%q,"version":2}`, life)
	_, err = w.read("")
	w.refused(fault.VersionNotActive, "disabled", err)
	again := into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", `{"path":%q,"value":%q}`, life, b64("value 2")))
	require.False(t, again.Unchanged, "what may not be read is not answered for")
	require.Equal(t, "value 2", w.value(life))
}

func TestAnExpiredVersionIsNotReadBecauseItWillBeDestroyed(t *testing.T) {
	w := newWorld(t)
	w.lived(1)
	w.ok("secrets/putSecretValue", `{"path":%q,"value":%q,"activate":false,"expiresAt":%q}`, life, b64("short"), w.now().Add(time.Hour).Format(time.RFC3339))
	w.ok("secrets/destroyVersion", `{"path":%q,"version":2,"delay":"10d"}`, life)
	_, err := w.read(`,"version":2`)
	require.NoError(t, err)
	w.setNow(w.now().Add(2 * time.Hour))
	_, err = w.read(`,"version":2`)
	w.refused(fault.VersionNotActive, "expired", err)
}

func TestASecretIsUpdated(t *testing.T) {
	w := newWorld(t)
	w.lived(1)
	got := into[wire.DescribeSecretResponse](t, w.ok("secrets/updateSecret", `{"path":%q,"description":"d","tags":{"team":"pay"}}`, life))
	require.Equal(t, "d", got.Description)
	require.Equal(t, map[string]string{"team": "pay"}, got.Tags)
	got = into[wire.DescribeSecretResponse](t, w.ok("secrets/updateSecret", `{"path":%q,"tags":{}}`, life))
	require.Equal(t, "d", got.Description)
	require.Empty(t, got.Tags)
	_, err := w.as(w.admin, "secrets/updateSecret", fmt.Sprintf(`{"path":%q,"tags":{"no good":"x"}}`, life))
	w.refused(fault.InvalidRequest, "tags", err)
}
