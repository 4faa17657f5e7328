package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
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
	require.Equal(t, "activated", history[3].Changes[0].What)
	require.Equal(t, "admin", history[3].Changes[0].By)
	require.Equal(t, "ready", history[1].Changes[0].Reason)
	require.Equal(t, []string{"labelled", "unlabelled"}, []string{history[2].Changes[0].What, history[2].Changes[1].What})
	events := w.named("secrets.label_version")
	require.Len(t, events, 5)
	require.Equal(t, history[1].Changes[0].RequestID, events[0].RequestID)
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
	w.ok("secrets/putSecretValue", `{"path":%q,"value":%q,"activate":false,"expiresAt":%q}`, life, b64("short"), w.now.Add(time.Hour).Format(time.RFC3339))
	w.ok("secrets/destroyVersion", `{"path":%q,"version":2,"delay":"10d"}`, life)
	_, err := w.read(`,"version":2`)
	require.NoError(t, err)
	w.now = w.now.Add(2 * time.Hour)
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
