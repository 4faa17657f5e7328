package engine_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// TestARuleMakesASecretOverdue where it has no schedule of its own.
func TestARuleMakesASecretOverdue(t *testing.T) {
	w, _ := turning(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/old","value":"eA=="}`)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/empty"}`)
	for path, want := range map[string]bool{"/app/dev/web/old": true, "/app/dev/web/empty": false, turned: false} {
		state := w.log.machine.State()
		s := state.Secret(names.Path(path))
		require.False(t, engine.RotationOverdue(state, s, 0, w.now().Add(23*time.Hour)), path)
		require.False(t, engine.RotationOverdue(state, s, 23*time.Hour, w.now().Add(22*time.Hour)), path)
		require.Equal(t, want, engine.RotationOverdue(state, s, 22*time.Hour, w.now().Add(23*time.Hour)), path)
	}
}

func TestOverdueAndFailedRotationsAreCounted(t *testing.T) {
	w, f := turning(t)
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(w.engine.RotationCollector()))
	expect := func(overdue, failed, running int) {
		t.Helper()
		w.setNow(w.now().Add(time.Minute)) // the count is kept for a while
		var want strings.Builder
		for _, m := range []struct {
			name, help string
			n          int
		}{
			{"failed", "Secrets whose last rotation failed or is rolling back.", failed},
			{"overdue", "Secrets whose rotation is due and not done, or whose path rule asks for one.", overdue},
			{"running", "Rotations of secrets that are on their way.", running},
		} {
			name := "strongroom_secrets_rotations_" + m.name
			fmt.Fprintf(&want, "# HELP %s %s\n# TYPE %s gauge\n%s %d\n", name, m.help, name, name, m.n)
		}
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(want.String())))
	}
	expect(0, 0, 0)
	f.fail["test"] = fault.New(fault.NotFound, "no")
	w.setNow(w.now().Add(24*time.Hour + 10*time.Minute))
	w.turns(0)
	expect(1, 0, 1)
	w.turns(12 * time.Minute)
	expect(1, 1, 0)
	f.fail = map[string]error{}
	w.turns(20 * time.Minute)
	expect(0, 0, 0)
}

func TestGeneratedSecretsAreRotated(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":%q}`, turned)
	w.ok("secrets/updateSecret", `{"path":%q,"rotation":{"kind":"generate","cron":"30 3 * * sun","timezone":"Europe/Berlin","generate":{"kind":"hex","length":8}}}`, turned)
	w.admin = w.longToken()
	require.Equal(t, "2026-03-08T02:30:00Z", w.rotation().NextRotationAt.UTC().Format(time.RFC3339))
	w.setNow(w.rotation().NextRotationAt.Time)
	w.turns(0)
	first := w.value(turned)
	require.Len(t, first, 16)
	require.Equal(t, "2026-03-15T02:30:00Z", w.rotation().NextRotationAt.UTC().Format(time.RFC3339))
	_, err := w.as(w.admin, "secrets/rotateSecret", fmt.Sprintf(`{"path":%q}`, turned))
	w.refused(fault.Conflict, "less than a minute ago", err)
	w.setNow(w.now().Add(time.Minute))
	w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
	w.turns(0)
	require.NotEqual(t, first, w.value(turned))

	w.ok("secrets/updateSecret", `{"path":%q,"rotation":{"kind":"none"}}`, turned)
	require.Nil(t, into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":%q}`, turned)).Rotation)
}

func TestSettingsOfRotationsAreChecked(t *testing.T) {
	w, _ := turning(t)
	for rotation, says := range map[string]string{
		`{}`:                              "rotation.kind: is missing",
		`{"kind":"cron"}`:                 "rotation.kind: must be",
		`{"kind":"none","interval":"1d"}`: "rotation.kind: none goes alone",
		`{"kind":"generate"}`:             "rotation.generate: is missing",
		`{"kind":"generate","url":"https://a","generate":{"kind":"hex"}}`:                    "rotation.kind: generate takes only",
		`{"kind":"generate","generate":{"kind":"hex","length":1}}`:                           "rotation.generate.length: must be",
		`{"kind":"generate","generate":{"kind":"hex"},"interval":"1m"}`:                      "rotation.interval: must be 1h",
		`{"kind":"generate","generate":{"kind":"hex"},"interval":"1d","cron":"0 3 * * *"}`:   "rotation.cron: goes without interval",
		`{"kind":"generate","generate":{"kind":"hex"},"cron":"0 3 * *"}`:                     "rotation.cron: has 4 fields",
		`{"kind":"generate","generate":{"kind":"hex"},"cron":"*/5 * * * *"}`:                 "rotation.cron: is due twice within an hour",
		`{"kind":"generate","generate":{"kind":"hex"},"cron":"0 3 * * *","timezone":"Mars"}`: "IANA",
		`{"kind":"generate","generate":{"kind":"hex"},"timezone":"Europe/Berlin"}`:           "rotation.timezone: goes with cron",
		`{"kind":"postgresql","database":"bad"}`:                                             "rotation.database: must be good",
		`{"kind":"postgresql","adminSecret":"no path"}`:                                      "rotation.adminSecret: ",
		`{"kind":"postgresql","adminSecret":"` + turned + `"}`:                               "rotation.adminSecret: must be another secret",
	} {
		_, err := w.as(w.admin, "secrets/updateSecret", fmt.Sprintf(`{"path":%q,"rotation":%s}`, turned, rotation))
		w.refused(fault.InvalidRequest, says, err)
	}
	_, err := w.as(w.admin, "secrets/updateSecret", fmt.Sprintf(`{"path":%q,"rotation":{"kind":"postgresql","adminSecret":"/a/none"}}`, turned))
	w.refused(fault.NotFound, "rotation.adminSecret: there is no secret", err)
}

// TestWhoSetsRotationsMustHaveTheRightsForThem: what the cluster opens and
// writes later, it does because this caller could.
func TestWhoSetsRotationsMustHaveTheRightsForThem(t *testing.T) {
	w, _ := turning(t)
	allow := func(action, path string) string {
		return fmt.Sprintf(`{"effect":"allow","actions":["secrets:%s"],"paths":[%q]}`, action, path)
	}
	all := []string{
		allow("updateSecret", turned), allow("putSecretValue", turned),
		allow("getSecretValue", turned), allow("getSecretValue", "/app/dev/web/admin"),
	}
	body := fmt.Sprintf(`{"path":%q,"rotation":{"kind":"postgresql","adminSecret":"/app/dev/web/admin"}}`, turned)
	for i := range all {
		token := w.principal(fmt.Sprintf("without-%d", i), "["+strings.Join(append(append([]string{}, all[:i]...), all[i+1:]...), ",")+"]")
		_, err := w.as(token, "secrets/updateSecret", body)
		w.refused(fault.AccessDenied, "is not allowed here", err)
	}
	_, err := w.as(w.principal("with-all", "["+strings.Join(all, ",")+"]"), "secrets/updateSecret", body)
	require.NoError(t, err)
	_, err = w.as(w.principal("reader", `[{"effect":"allow","roles":["secrets-read-access","secrets-value-access"],"paths":["/app/**"]}]`), "secrets/rotateSecret", fmt.Sprintf(`{"path":%q}`, turned))
	w.refused(fault.AccessDenied, "secrets:rotateSecret", err)
}

// TestNoValueIsInTheStateOfARotation: settings, errors and history are all
// that a snapshot has of it.
func TestNoValueIsInTheStateOfARotation(t *testing.T) {
	w, f := turning(t)
	w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
	w.turns(0)
	raw, err := json.Marshal(w.log.machine.State().Secret(turned))
	require.NoError(t, err)
	for _, value := range []string{f.inForce, "first value", "the admin's"} {
		require.NotContains(t, string(raw), value)
		for _, e := range w.events(audit.Filter{}) {
			require.NotContains(t, fmt.Sprintf("%+v", e), value)
		}
	}
}
