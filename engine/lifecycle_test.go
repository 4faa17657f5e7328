package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestADestructionCanWaitAndBeTakenBack(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	w.put("/a/b", "two")
	state := func() wire.VersionSummary {
		return into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":"/a/b"}`)).Versions[1]
	}
	got := into[wire.VersionStateResponse](t, w.ok("secrets/destroyVersion", `{"path":"/a/b","version":1,"delay":"90d","reason":"leaked"}`))
	require.Equal(t, "pendingDestroy", got.State)
	require.Equal(t, w.now().Add(90*24*time.Hour), got.DestroyAt.Time)
	require.Equal(t, "leaked", state().Reason)

	got = into[wire.VersionStateResponse](t, w.ok("secrets/cancelDestroyVersion", `{"path":"/a/b","version":1}`))
	require.Equal(t, "active", got.State)
	require.Nil(t, got.DestroyAt)
	require.Empty(t, state().Reason, "a reason for what did not happen is none")
	_, err := w.as(w.admin, "secrets/cancelDestroyVersion", `{"path":"/a/b","version":1}`)
	w.refused(fault.Conflict, "nothing to cancel", err)

	w.ok("secrets/destroyVersion", `{"path":"/a/b","version":1,"delay":"1h"}`)
	w.setNow(w.now().Add(time.Hour))
	_, err = w.as(w.admin, "secrets/cancelDestroyVersion", `{"path":"/a/b","version":1}`)
	w.refused(fault.Conflict, "has passed", err)
	w.ok("secrets/destroyVersion", `{"path":"/a/b","version":1,"delay":"0s"}`)
	require.Equal(t, "destroyed", state().State)
	_, err = w.as(w.admin, "secrets/destroyVersion", `{"path":"/a/b","version":1}`)
	w.refused(fault.VersionNotActive, "destroyed already", err)
	_, err = w.as(w.admin, "secrets/cancelDestroyVersion", `{"path":"/a/b","version":1}`)
	w.refused(fault.VersionNotActive, "cannot be taken back", err)
	require.Equal(t, "two", w.value("/a/b"))
}

func TestVersionOperationsRefuseBadInput(t *testing.T) {
	s := newStock(t)
	for _, operation := range []string{"destroyVersion", "cancelDestroyVersion"} {
		for body, says := range map[string]string{
			``: "version: is missing", `,"version":0`: "version: must be 1 or more", `,"version":1.5`: "version: must be a whole",
			`,"version":-1`: "version: must be a whole", `,"version":"1"`: "version: must be a whole",
		} {
			_, err := s.as(s.admin, "secrets/"+operation, `{"path":"/app/dev/web/db"`+body+`}`)
			s.refused(fault.InvalidRequest, says, err)
		}
		_, err := s.as(s.admin, "secrets/"+operation, `{"path":"/app/dev/web/db","version":18446744073709551615}`)
		s.refused(fault.NotFound, "version:", err)
	}
	for body, says := range map[string]string{
		`"delay":"90d1s"`: "delay: must be a duration", `"delay":"2160h0m1s"`: "delay: must be at most 90d", `"delay":"-1s"`: "delay: must be a duration",
		`"reason":"a\u0007"`: "reason: must not hold control", `"reason":"` + strings.Repeat("r", 1025) + `"`: "reason: has 1025 bytes",
	} {
		_, err := s.as(s.admin, "secrets/destroyVersion", `{"path":"/app/dev/web/db","version":1,`+body+`}`)
		s.refused(fault.InvalidRequest, says, err)
	}
	for body, says := range map[string]string{
		`"version":0`: "version:", `"version":1,"label":"current"`: "label: goes without version",
		`"label":"no such"`: "label: has the byte", `"instance":"a b"`: "instance:",
	} {
		_, err := s.as(s.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db",`+body+`}`)
		s.refused(fault.InvalidRequest, says, err)
	}
	_, err := s.as(s.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db","label":"green"}`)
	s.refused(fault.NotFound, "label: no version", err)
}

func TestRecoveryWindowsAreBounded(t *testing.T) {
	for window, want := range map[string]time.Duration{"7d": 7 * 24 * time.Hour, "90d": 90 * 24 * time.Hour, "": 30 * 24 * time.Hour} {
		w := newWorld(t)
		w.ok("secrets/createSecret", `{"path":"/a/b"}`)
		body := `{"path":"/a/b","reason":"not needed"`
		if window != "" {
			body += `,"recoveryWindow":"` + window + `"`
		}
		got := into[wire.SecretStateResponse](t, w.ok("secrets/deleteSecret", "%s}", body))
		require.Equal(t, "pendingDeletion", got.State)
		require.Equal(t, w.now().Add(want), got.DeletionAt.Time)
		shown := into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":"/a/b"}`))
		require.Equal(t, got.DeletionAt, shown.DeletionAt)

		w.setNow(w.now().Add(want - time.Millisecond))
		body = `{"path":"/a/b","clientToken":"r"}`
		admin := w.longToken()
		_, err := w.as(admin, "secrets/restoreSecret", body)
		require.NoError(t, err, "to the last millisecond")
		_, err = w.as(admin, "secrets/restoreSecret", `{"path":"/a/b"}`)
		w.refused(fault.Conflict, "not deleted", err)
	}
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	for body, says := range map[string]string{
		`"recoveryWindow":"167h59m59s"`: "recoveryWindow: must be 7d to 90d", `"recoveryWindow":"91d"`: "recoveryWindow: must be 7d to 90d",
		`"recoveryWindow":"0s"`: "recoveryWindow: must be 7d to 90d", `"force":true,"recoveryWindow":"7d"`: "recoveryWindow: goes without force",
		`"reason":"\u0000"`: "reason: must not hold control",
	} {
		_, err := w.as(w.admin, "secrets/deleteSecret", `{"path":"/a/b",`+body+`}`)
		w.refused(fault.InvalidRequest, says, err)
	}
}

// longToken answers a token of a principal with full access that is good
// after the administrator's own has expired. The clock may have moved: the
// state is asked, not the gate.
func (w *world) longToken() string {
	w.t.Helper()
	now := w.now()
	w.setNow(time.UnixMilli(w.log.machine.State().Time()).UTC())
	made := into[wire.CreateTokenResponse](w.t, w.ok("iam/createToken", `{"principal":"admin","ttl":"366d"}`))
	w.setNow(now)
	return string(made.Token.Expose())
}

func TestPurgingNeedsARightOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("v"))
	token := w.principal("ops", `[{"effect":"allow","roles":["secrets-destroy-access"],"paths":["/app/dev/web/**"]}]`)
	_, err := w.as(token, "secrets/deleteSecret", `{"path":"/app/dev/web/db","force":true}`)
	w.refused(fault.AccessDenied, "secrets:purgeSecret", err)
	_, err = w.as(token, "secrets/deleteSecret", `{"path":"/app/dev/web/db"}`)
	require.NoError(t, err)
	_, err = w.as(token, "secrets/deleteSecret", `{"path":"/app/dev/web/db","force":true}`)
	w.refused(fault.AccessDenied, "secrets:purgeSecret", err) // the recovery window holds against this role

	other := w.principal("purger", `[{"effect":"allow","actions":["secrets:purgeSecret"],"paths":["/app/dev/web/**"]}]`)
	_, err = w.as(other, "secrets/deleteSecret", `{"path":"/app/dev/web/db"}`)
	w.refused(fault.AccessDenied, "secrets:deleteSecret", err)
	_, err = w.as(other, "secrets/deleteSecret", `{"path":"/app/dev/web/db","force":true}`)
	require.NoError(t, err)
	v := w.log.machine.State().Version("/app/dev/web/db", 1)
	require.Equal(t, fsm.VersionDestroyed, v.State)
	require.Empty(t, v.Sealed)
	require.Empty(t, v.DataKey)
}

func TestARetiredPathIsTakenAgainOnlyOnPurpose(t *testing.T) {
	w := newWorld(t)
	first := into[wire.CreateSecretResponse](t, w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("old")))
	_, err := w.as(w.admin, "secrets/createSecret", `{"path":"/a/b","reuseRetiredPath":true}`)
	w.refused(fault.AlreadyExists, "taken", err) // it is in use
	w.ok("secrets/deleteSecret", `{"path":"/a/b"}`)
	_, err = w.as(w.admin, "secrets/createSecret", `{"path":"/a/b","reuseRetiredPath":true}`)
	w.refused(fault.AlreadyExists, "recovery window", err)
	w.ok("secrets/deleteSecret", `{"path":"/a/b","force":true}`)
	for _, operation := range []string{"secrets/describeSecret", "secrets/getSecretValue", "secrets/listSecretVersions", "secrets/restoreSecret", "secrets/deleteSecret"} {
		_, err := w.as(w.admin, operation, `{"path":"/a/b"}`)
		w.refused(fault.NotFound, "there is no secret", err)
	}
	_, err = w.as(w.admin, "secrets/createSecret", `{"path":"/a/b"}`)
	w.refused(fault.AlreadyExists, "reuseRetiredPath", err)
	_, err = w.as(w.admin, "secrets/generateSecret", `{"path":"/a/b","kind":"uuid","create":true}`)
	w.refused(fault.AlreadyExists, "reuseRetiredPath", err)

	second := into[wire.CreateSecretResponse](t, w.ok("secrets/createSecret", `{"path":"/a/b","value":%q,"reuseRetiredPath":true}`, b64("new")))
	require.NotEqual(t, first.SecretID, second.SecretID)
	require.Equal(t, uint64(1), *second.Version)
	require.Equal(t, "new", w.value("/a/b"))
	require.Len(t, into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":"/a/b"}`)).Versions, 1)
}

func TestADeletedSecretIsSeenAndTakesNothing(t *testing.T) {
	s := newStock(t)
	const gone = `"path":"/app/dev/web/gone"`
	for operation, more := range map[string]string{
		"getSecretValue": "", "putSecretValue": `,"value":"AAAA"`, "generateSecret": `,"kind":"uuid"`,
		"destroyVersion": `,"version":1`, "cancelDestroyVersion": `,"version":1`,
	} {
		_, err := s.as(s.admin, "secrets/"+operation, "{"+gone+more+"}")
		s.refused(fault.Conflict, "restoreSecret", err)
	}
	require.Equal(t, "pendingDeletion", into[wire.DescribeSecretResponse](t, s.ok("secrets/describeSecret", "{%s}", gone)).State)
	require.Len(t, into[wire.ListSecretVersionsResponse](t, s.ok("secrets/listSecretVersions", "{%s}", gone)).Versions, 1)
}

func TestAVersionThatIsNotActivatedWaits(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	got := into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q,"activate":false}`, b64("two")))
	require.Equal(t, uint64(2), got.Version)
	require.Empty(t, got.Labels)
	require.Equal(t, "one", w.value("/a/b"))
	require.Contains(t, w.ok("secrets/getSecretValue", `{"path":"/a/b","version":2}`), b64("two"))
	shown := into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":"/a/b"}`))
	require.Equal(t, []uint64{1, 2}, []uint64{shown.CurrentVersion, shown.LatestVersion})
}

func TestValuesHaveASizeLimit(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	w.put("/a/b", strings.Repeat("v", 64<<10))
	for operation, body := range map[string]string{
		"secrets/putSecretValue": `{"path":"/a/b","value":%q}`, "secrets/createSecret": `{"path":"/a/c","value":%q}`,
	} {
		_, err := w.as(w.admin, operation, fmt.Sprintf(body, b64(strings.Repeat("v", 64<<10+1))))
		w.refused(fault.TooLarge, "value: has 65537 bytes", err)
	}
	_, err := w.as(w.admin, "secrets/putSecretValue", `{"path":"/a/b","value":""}`)
	w.refused(fault.InvalidRequest, "value: must not be empty", err)
	_, err = w.as(w.admin, "secrets/putSecretValue", `{"path":"/a/b"}`)
	w.refused(fault.InvalidRequest, "value: is missing", err)
}
