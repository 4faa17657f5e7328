package engine_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// office restricts values below /app to weekdays from nine to half past five
// in Madrid, of everybody but the administrator.
const office = `{"name":"office","paths":["/app/**"],"principals":["ann"],"reason":"audit 7","description":"office hours",
	"timeWindows":[{"days":["mon","tue","wed","thu","fri"],"from":"09:00","to":"17:30","timezone":"Europe/Madrid"}]}`

// inNovember is reader, late in the year, with tokens that outlive it, and ann,
// who has the statements.
func inNovember(t *testing.T, statements string) (w *world, read func(string) error, ann string) {
	w, read = reader(t)
	w.longLived()
	w.setNow(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC))
	w.principal("ann", statements)
	made := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"ann","ttl":"300d"}`))
	return w, read, string(made.Token.Expose())
}

func TestWindowsOfAccessPolicies(t *testing.T) {
	w, read, ann := inNovember(t, readWeb)
	w.ok("iam/putAccessPolicy", "%s", office)
	for when, opens := range map[string]string{
		"2026-11-27T08:00:00Z":     "", // Friday, nine o'clock
		"2026-11-27T16:29:59.999Z": "",
		"2026-11-27T07:59:59.999Z": "2026-11-27T08:00:00Z",
		"2026-11-27T16:30:00Z":     "2026-11-30T08:00:00Z", // over the weekend
		"2026-11-28T12:00:00Z":     "2026-11-30T08:00:00Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, when)
		require.NoError(t, err)
		w.setNow(at)
		err = read(ann)
		if opens == "" {
			require.NoError(t, err, when)
			continue
		}
		w.refused(fault.AccessDenied, opens, err)
		require.Equal(t, "timeWindow", detail(t, err, "reason"))
		require.Equal(t, opens, detail(t, err, "opensAt"), when)
		require.NoError(t, read(w.admin))
	}
	got := into[wire.AccessPolicyResponse](t, w.ok("iam/getAccessPolicy", `{"name":"office"}`))
	require.Equal(t, "audit 7", got.Reason)
	require.Equal(t, "office hours", got.Description)
	require.Equal(t, []wire.TimeWindow{{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "09:00", To: "17:30", Timezone: "Europe/Madrid"}}, got.TimeWindows)
}

// Of several policies the caller is told when all of them are open.
func TestOpensAtIsWhenAllAreOpen(t *testing.T) {
	w, read, ann := inNovember(t, readWeb)
	w.ok("iam/putAccessPolicy", "%s", office)
	w.ok("iam/putAccessPolicy", `{"name":"mondays","paths":["/app/dev/**"],"timeWindows":[{"days":["mon"],"from":"12:00","to":"24:00","timezone":"UTC"}],"principals":["ann"]}`)
	w.ok("iam/putAccessPolicy", `{"name":"project","paths":["/app/dev/web/*"],"notBefore":"2026-12-01T00:00:00Z","principals":["ann"]}`)
	w.setNow(time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC))
	require.Equal(t, "2026-12-07T12:00:00Z", detail(t, read(ann), "opensAt"))
	w.ok("iam/putAccessPolicy", `{"name":"project","paths":["/app/dev/web/*"],"notAfter":"2026-12-01T00:00:00Z","principals":["ann"]}`)
	require.Equal(t, "2026-11-30T12:00:00Z", detail(t, read(ann), "opensAt"))
	w.ok("iam/putAccessPolicy", `{"name":"project","paths":["/app/dev/web/*"],"notAfter":"2026-11-30T12:00:00Z","principals":["ann"]}`)
	var f *fault.Error
	require.ErrorAs(t, read(ann), &f)
	require.NotContains(t, f.Details, "opensAt", "it never opens again")
}

func TestAccessPoliciesOfGroups(t *testing.T) {
	w, read := reader(t)
	ann, bob := w.principal("ann", readWeb), w.principal("bob", readWeb)
	w.ok("iam/createGroup", `{"name":"night"}`)
	w.ok("iam/addToGroup", `{"group":"night","principal":"ann"}`)
	w.ok("iam/putAccessPolicy", `{"name":"night","paths":["/app/**"],"groups":["night"],"notAfter":"2020-01-01T00:00:00Z"}`)
	w.refused(fault.AccessDenied, "", read(ann))
	require.NoError(t, read(bob))
	w.ok("iam/putAccessPolicy", `{"name":"night","paths":["/app/**"],"groups":["night"],"principals":["bob"],"notAfter":"2020-01-01T00:00:00Z"}`)
	w.refused(fault.AccessDenied, "", read(bob))
	_, err := w.as(w.admin, "iam/putAccessPolicy", `{"name":"night","paths":["/a"],"notAfter":"2020-01-01T00:00:00Z","expectedRevision":1}`)
	w.refused(fault.Conflict, "expectedRevision:", err)
	w.ok("iam/putAccessPolicy", `{"name":"night","paths":["/app/**"],"notAfter":"2020-01-01T00:00:00Z","reportOnly":true}`)
	require.NoError(t, read(ann), "it only reports")
}

// A wait lasts as long as the window, and then says that it has closed.
func TestAWindowThatClosesEndsWaits(t *testing.T) {
	w, _, ann := inNovember(t, `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/dev/web/**"]}]`)
	w.ok("iam/putAccessPolicy", `{"name":"office","paths":["/app/**"],"actions":["secrets:*"],"timeWindows":[{"from":"09:00","to":"17:30","timezone":"Europe/Madrid"}]}`)
	w.setNow(time.Date(2026, 11, 27, 16, 29, 30, 0, time.UTC))
	index := w.log.machine.State().Index()
	for _, what := range []string{`"paths":["/app/dev/web/db"]`, `"paths":["/app/dev/web/db","/app/dev/web/x"]`, `"prefix":"/app/dev/"`} {
		_, err := w.patient(ann, fmt.Sprintf(`{%s,"afterIndex":%d,"timeout":"60s"}`, what, index))
		var not *engine.NotYet
		require.True(t, errors.As(err, &not), "%s: %v", what, err)
		require.Equal(t, 30*time.Second, not.For, what)
	}
	w.setNow(w.now().Add(30 * time.Second))
	_, err := w.patient(ann, fmt.Sprintf(`{"paths":["/app/dev/web/db"],"afterIndex":%d,"timeout":"60s"}`, index))
	w.refused(fault.AccessDenied, "", err)
	require.Equal(t, "2026-11-28T08:00:00Z", detail(t, err, "opensAt"))
}

// A condition of a statement has windows too.
func TestWindowsOfStatements(t *testing.T) {
	w, read, ann := inNovember(t, `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]},
		{"effect":"deny","actions":["secrets:getSecretValue"],"paths":["/app/dev/web/**"],"conditions":{"timeWindows":[{"days":["sat","sun"],"from":"00:00","to":"24:00","timezone":"UTC"}]}}]`)
	w.setNow(time.Date(2026, 11, 27, 23, 59, 59, 999e6, time.UTC))
	require.NoError(t, read(ann))
	w.setNow(w.now().Add(time.Millisecond))
	w.refused(fault.AccessDenied, "", read(ann))
	w.setNow(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC))
	require.NoError(t, read(ann))
}
