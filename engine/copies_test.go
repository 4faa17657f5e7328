package engine_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestACopyOpensUnderItsOwnPath(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q,"contentType":"text/x","description":"d","tags":{"team":"web"}}`, b64("one"))
	w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q,"expiresAt":"2026-03-05T00:00:00Z"}`, b64("two"))
	w.put("/a/b", "three")
	w.ok("secrets/destroyVersion", `{"path":"/a/b","version":1}`)
	w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q,"activate":false}`, b64("four"))

	id, answer, err := w.request(w.admin, "secrets/copySecret", `{"path":"/a/b","toPath":"/c/d"}`)
	require.NoError(t, err)
	got := into[wire.CopySecretResponse](t, answer)
	require.Equal(t, []any{"/c/d", 3, uint64(2)}, []any{got.Path, got.Versions, got.CurrentVersion})
	for version, want := range map[int]string{1: "two", 2: "three", 3: "four"} {
		require.Contains(t, w.ok("secrets/getSecretValue", `{"path":"/c/d","version":%d}`, version), b64(want))
	}
	require.Contains(t, w.ok("secrets/getSecretValue", `{"path":"/c/d","label":"previous"}`), b64("two"))
	require.Contains(t, w.ok("secrets/getSecretValue", `{"path":"/c/d","version":1}`), `"expiresAt":"2026-03-05T00:00:00Z"`)
	copied := into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":"/c/d"}`))
	require.Equal(t, "d", copied.Description)
	require.Equal(t, map[string]string{"team": "web"}, copied.Tags)
	require.Equal(t, got.SecretID, copied.SecretID)

	var inner []string
	for _, e := range w.events(audit.Filter{RequestID: id}) {
		inner = append(inner, fmt.Sprint(e.Event, " ", e.Path, " ", e.Version))
	}
	require.Equal(t, []string{
		"kms.decrypt /a/b 2", "kms.encrypt /c/d 1", "kms.decrypt /a/b 3", "kms.encrypt /c/d 2", "kms.decrypt /a/b 4", "kms.encrypt /c/d 3", "secrets.copy /a/b 0",
	}, inner)
	own, _ := w.story(id, "secrets.copy")
	require.Equal(t, "to /c/d", own[0].Reason)

	state := w.log.machine.State()
	for number := range uint64(3) {
		require.NotEqual(t, state.Version("/a/b", number+2).Fingerprint, state.Version("/c/d", number+1).Fingerprint, "that two paths hold one value must not be visible")
	}
	w.put("/a/b", "five")
	require.Equal(t, "three", w.value("/c/d"), "they part from here on")
}

func TestACopyMayBeBoundToAnotherKey(t *testing.T) {
	w := newWorld(t)
	pay := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/pay"}`)).KeyID
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q,"kmsKeyId":"alias/pay"}`, b64("one"))
	require.Equal(t, pay, into[wire.CopySecretResponse](t, w.ok("secrets/copySecret", `{"path":"/a/b","toPath":"/a/same"}`)).KMSKeyID)
	other := into[wire.CopySecretResponse](t, w.ok("secrets/copySecret", `{"path":"/a/b","toPath":"/a/other","kmsKeyId":"alias/default"}`))
	require.NotEqual(t, pay, other.KMSKeyID)
	require.Equal(t, "one", w.value("/a/other"))
}

func TestACopyNeedsBothRights(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/src/x","value":%q}`, b64("one"))
	reader := w.principal("reader", `[{"effect":"allow","roles":["secrets-value-access","secrets-read-access"],"paths":["/**"]}]`)
	writer := w.principal("writer", `[{"effect":"allow","roles":["secrets-write-access","secrets-read-access"],"paths":["/**"]}]`)
	both := w.principal("both", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/src/**"]},{"effect":"allow","roles":["secrets-write-access"],"paths":["/app/dst/**"]}]`)
	opens := w.token.Opens.Load()
	body := func(from, to string) string { return fmt.Sprintf(`{"path":%q,"toPath":%q}`, from, to) }
	_, err := w.as(reader, "secrets/copySecret", body("/app/src/x", "/app/dst/x"))
	w.refused(fault.AccessDenied, "secrets:createSecret", err)
	_, err = w.as(writer, "secrets/copySecret", body("/app/src/x", "/app/dst/x"))
	w.refused(fault.AccessDenied, "secrets:getSecretValue", err)
	_, err = w.as(both, "secrets/copySecret", body("/app/src/x", "/app/src/y"))
	w.refused(fault.AccessDenied, "secrets:createSecret", err)
	_, absent := w.as(both, "secrets/copySecret", body("/app/else/none", "/app/dst/x"))
	_, there := w.as(both, "secrets/copySecret", body("/app/dst/x", "/app/dst/y"))
	require.Equal(t, publicText(t, absent), publicText(t, there))
	require.Equal(t, opens, w.token.Opens.Load(), "nothing may be opened for who is denied")
	_, err = w.as(both, "secrets/copySecret", body("/app/src/x", "/app/dst/x"))
	require.NoError(t, err)
}

func TestCopiesThatCannotBe(t *testing.T) {
	s := newStock(t)
	opens := s.token.Opens.Load()
	for body, want := range map[string]struct {
		kind fault.Kind
		says string
	}{
		`{"path":"/app/dev/web/none","toPath":"/x"}`:                                      {fault.NotFound, "there is no secret"},
		`{"path":"/app/dev/web/gone","toPath":"/x"}`:                                      {fault.Conflict, "recovery window"},
		`{"path":"/app/dev/web/db","toPath":"/app/dev/web/db"}`:                           {fault.AlreadyExists, "is taken"},
		`{"path":"/app/dev/web/db","toPath":"/app/dev/api/busy"}`:                         {fault.AlreadyExists, "is taken"},
		`{"path":"/app/dev/web/db"}`:                                                      {fault.InvalidRequest, "toPath:"},
		`{"path":"/app/dev/web/db","toPath":"x"}`:                                         {fault.InvalidRequest, "toPath:"},
		`{"path":"","toPath":"/x"}`:                                                       {fault.InvalidRequest, "path:"},
		`{"path":"/app/dev/web/db","toPath":"/x","kmsKeyId":"pay"}`:                       {fault.InvalidRequest, "kmsKeyId:"},
		`{"path":"/app/dev/web/db","toPath":"/x","kmsKeyId":"alias/none"}`:                {fault.NotFound, "kmsKeyId:"},
		`{"path":"/app/dev/web/db","toPath":"/x","clientToken":"with a space"}`:           {fault.InvalidRequest, "clientToken:"},
		`{"path":"/app/dev/web/db","toPath":"/x","versions":[1]}`:                         {fault.InvalidRequest, "is not a field"},
		`{"path":"/app/dev/web/db","toPath":"/app/dev/web/gone","reuseRetiredPath":true}`: {fault.AlreadyExists, "recovery window"},
	} {
		_, err := s.as(s.admin, "secrets/copySecret", body)
		s.refused(want.kind, want.says, err)
	}
	require.Equal(t, opens, s.token.Opens.Load(), "none of these needs a value")
	_, err := s.as(s.admin, "secrets/copySecret", `{"path":"/app/dev/web/db","toPath":"/x","kmsKeyId":"alias/off"}`)
	s.refused(fault.KeyNotActive, "kmsKeyId", err)
	s.token.Down.Store(true)
	_, err = s.as(s.admin, "secrets/copySecret", `{"path":"/app/dev/web/db","toPath":"/x"}`)
	s.refused(fault.HsmUnavailable, "", err)
	require.Nil(t, s.log.machine.State().Secret("/x"))
}

// TestACopyThatIsTooLargeIsRefusedWhole: no half of a secret is left.
func TestACopyThatIsTooLargeIsRefusedWhole(t *testing.T) {
	w := newWorld(t)
	w.engine.MaxValueBytes = 1 << 20
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	for i := range 5 {
		w.put("/a/b", fmt.Sprint(i)+strings.Repeat("x", 1<<20-1))
	}
	opens := w.token.Opens.Load()
	_, err := w.as(w.admin, "secrets/copySecret", `{"path":"/a/b","toPath":"/c"}`)
	w.refused(fault.TooLarge, "destroy those that are not needed", err)
	require.Equal(t, opens, w.token.Opens.Load(), "that is known before anything is opened")
	w.ok("secrets/destroyVersion", `{"path":"/a/b","version":1}`)
	w.log.tooLarge = true // a cluster may be configured for less
	_, err = w.as(w.admin, "secrets/copySecret", `{"path":"/a/b","toPath":"/c"}`)
	w.refused(fault.TooLarge, "destroy those that are not needed", err)
	require.Nil(t, w.log.machine.State().Secret("/c"))
}

// TestACopyIsOfTheSourceAsItIs: what is put or destroyed while it is being
// made is in it, or not.
func TestACopyIsOfTheSourceAsItIs(t *testing.T) {
	for name, change := range map[string]string{
		"a version more":      `secrets/putSecretValue {"path":"/a/b","value":"` + b64("new") + `"}`,
		"a version destroyed": `secrets/destroyVersion {"path":"/a/b","version":1}`,
		"another key":         `secrets/bindKey {"path":"/a/b","kmsKeyId":"alias/pay"}`,
		"a rotated key":       `kms/rotateKey {"keyId":"alias/default"}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.ok("kms/createKey", `{"alias":"alias/pay"}`)
			w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
			w.put("/a/b", "two")
			once := false
			w.log.proposing = func() {
				if once {
					return
				}
				once = true
				operation, body, _ := strings.Cut(change, " ")
				w.ok(operation, "%s", body)
			}
			// The change comes while the copy is on its way into the log.
			w.ok("secrets/copySecret", `{"path":"/a/b","toPath":"/c"}`)
			live := 0
			for v := range w.log.machine.State().Versions("/a/b") {
				if v.State != fsm.VersionDestroyed {
					live++
				}
			}
			require.EqualValues(t, live, w.log.machine.State().Secret("/c").Latest)
			require.Equal(t, w.value("/a/b"), w.value("/c"))
		})
	}
}

func TestARetriedCopyIsAnsweredOnce(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	const body = `{"path":"/a/b","toPath":"/c","clientToken":"t-1"}`
	first := w.ok("secrets/copySecret", body)
	w.put("/a/b", "two")
	require.Equal(t, first, w.ok("secrets/copySecret", body))
	_, err := w.as(w.admin, "secrets/copySecret", `{"path":"/a/b","toPath":"/d","clientToken":"t-1"}`)
	w.refused(fault.Conflict, "clientToken", err)
}

func TestACopyShowsAndStoresNoPlaintext(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64(markValue))
	require.False(t, holds(w.ok("secrets/copySecret", `{"path":"/a/b","toPath":"/c"}`), markValue))
	var snapshot bytes.Buffer
	_, err := w.log.machine.Snapshot().WriteTo(&snapshot)
	require.NoError(t, err)
	require.False(t, holds(snapshot.String(), markValue))
}
