package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/notice"
)

const readsApp = `[{"effect":"allow","roles":["secrets-value-access","secrets-read-access"],"paths":["/app/**"]}]`

// noticing is a leader with a reader, some secrets and a canary.
func noticing(t *testing.T) (w *world, reader string) {
	w = newWorld(t)
	w.engine.Leads(true)
	for _, path := range []string{"/app/a", "/app/trap", "/other/trap"} {
		w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, b64("x"))
	}
	for _, path := range []string{"/app/trap", "/other/trap"} {
		w.ok("secrets/setCanary", `{"path":%q,"canary":true}`, path)
	}
	reader = w.principal("app", readsApp)
	w.notices()
	require.Empty(t, w.alerts())
	return w, reader
}

func (w *world) notices() { w.engine.Notice(context.Background()) }

func (w *world) alerts() (out []audit.Event) {
	for _, e := range w.events(audit.Filter{}) {
		if strings.HasPrefix(e.Event, "alert.") {
			out = append(out, e)
		}
	}
	return out
}

func TestAReadOfACanaryAlertsAtOnce(t *testing.T) {
	w, reader := noticing(t)
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/a"}`))
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	alerts := w.alerts()
	require.Len(t, alerts, 1)
	a := alerts[0]
	require.Equal(t, "alert.canary", a.Event)
	require.Equal(t, audit.OK, a.Outcome)
	require.Equal(t, "app", a.Principal)
	require.Equal(t, "/app/trap", a.Path)
	require.Equal(t, "192.0.2.7", a.SourceAddress)
	require.Equal(t, "a canary was touched by secrets.get_value", a.Reason)
	require.EqualValues(t, 1, testutil.ToFloat64(w.engine.Alerts().WithLabelValues("canary")))
	require.Equal(t, len(notice.Detectors), testutil.CollectAndCount(w.engine.Alerts()), "zero is an answer, too")

	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	w.notices()
	require.Len(t, w.alerts(), 1, "one in an hour")
	w.setNow(w.now().Add(time.Hour))
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	require.Contains(t, w.alerts()[1].Reason, "1 more alerts of this kind were held back")
}

// Whatever answers the value of a canary, or is denied it, touches it.
func TestEveryWayToACanaryAlertsAndBrowsingDoesNot(t *testing.T) {
	for request, want := range map[string]int{
		`secrets/getSecretValue {"path":"/app/trap"}`:                                    1,
		`secrets/getSecretValue {"path":"/app/trap","version":9}`:                        1,
		`secrets/getSecretValue {"path":"/other/trap"}`:                                  1, // denied
		`secrets/describeSecret {"path":"/other/trap"}`:                                  1, // denied
		`secrets/batchGetSecretValue {"items":[{"path":"/app/a"},{"path":"/app/trap"}]}`: 1,
		`secrets/batchGetSecretValue {"items":[{"path":"/other/trap"}]}`:                 1, // denied
		`secrets/copySecret {"path":"/app/trap","toPath":"/app/copy"}`:                   1,
		`secrets/describeSecret {"path":"/app/trap"}`:                                    0,
		`secrets/listSecrets {"prefix":"/app"}`:                                          0,
		`secrets/listSecretVersions {"path":"/app/trap"}`:                                0,
	} {
		w, reader := noticing(t)
		operation, body, _ := strings.Cut(request, " ")
		_, _ = w.as(reader, operation, body) // allowed or not
		w.notices()
		require.Len(t, w.alerts(), want, request)
	}
}

// Who may look at a secret, and at all that is said about it, cannot tell that
// it is a canary; nor does what it waits for move.
func TestACanaryLooksLikeAnyOtherSecret(t *testing.T) {
	w, reader := noticing(t)
	look := func() string {
		return must(w.as(reader, "secrets/describeSecret", `{"path":"/app/a"}`)) + must(w.as(reader, "secrets/listSecrets", `{"prefix":"/app"}`)) +
			must(w.as(reader, "secrets/listSecretVersions", `{"path":"/app/a"}`))
	}
	before, changed := look(), w.log.machine.State().Secret("/app/a").Changed
	w.ok("secrets/setCanary", `{"path":"/app/a","canary":true,"reason":"in the wiki"}`)
	require.Equal(t, before, look())
	require.Equal(t, changed, w.log.machine.State().Secret("/app/a").Changed)
	require.NotContains(t, before, "canary")
	for _, operation := range []string{`secrets/listCanaries {}`, `secrets/setCanary {"path":"/app/a","canary":true}`} {
		name, body, _ := strings.Cut(operation, " ")
		_, err := w.as(reader, name, body)
		w.refused(fault.AccessDenied, "", err)
	}
	given := into[wire.IncidentResponse](t, func() string {
		must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/a"}`))
		auditor := w.principal("auditor", `[{"effect":"allow","roles":["audit-read-access"]}]`)
		return must(w.as(auditor, "audit/incident", `{"principal":"app"}`))
	}())
	require.Len(t, given.Given, 1)
	require.False(t, given.Given[0].Canary, "the auditor may not manage canaries")

	manager := w.principal("manager", `[{"effect":"allow","actions":["secrets:manageCanaries"],"paths":["/app/**"]}]`)
	list := into[wire.ListCanariesResponse](t, must(w.as(manager, "secrets/listCanaries", `{}`)))
	require.Len(t, list.Canaries, 2, "and none of /other")
	require.Equal(t, "in the wiki", list.Canaries[0].Reason)
	_, err := w.as(manager, "secrets/setCanary", `{"path":"/other/trap","canary":false}`)
	w.refused(fault.AccessDenied, "", err)
}

func TestAMarkThatIsTakenAwayAlertsNoMore(t *testing.T) {
	w, reader := noticing(t)
	w.ok("secrets/setCanary", `{"path":"/app/trap","canary":false}`)
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	require.Empty(t, w.alerts())
	_, err := w.as(w.admin, "secrets/setCanary", `{"path":"/app/none","canary":true}`)
	w.refused(fault.NotFound, "path:", err)
}

func TestABurstOfDenialsAlerts(t *testing.T) {
	w, reader := noticing(t)
	for i := range 30 {
		_, err := w.as(reader, "secrets/getSecretValue", fmt.Sprintf(`{"path":"/probe/%d"}`, i))
		w.refused(fault.AccessDenied, "", err)
	}
	w.notices()
	alerts := w.alerts()
	require.Len(t, alerts, 1)
	require.Equal(t, "alert.denials", alerts[0].Event)
	require.Equal(t, "app", alerts[0].Principal)
	require.Regexp(t, `^2\d denials within ten minutes, .*; the threshold is 20, and there were none on the 14 days before$`, alerts[0].Reason)
}

func TestWhoCannotBeNamedAlertsByAddress(t *testing.T) {
	w, _ := noticing(t)
	w.source = netip.MustParseAddr("203.0.113.9")
	for range 30 {
		_, err := w.as("", "iam/whoAmI", `{}`)
		w.refused(fault.Unauthenticated, "", err)
	}
	w.notices()
	alerts := w.alerts()
	require.Len(t, alerts, 1)
	require.Empty(t, alerts[0].Principal)
	require.Equal(t, "203.0.113.9", alerts[0].SourceAddress)
}

// Alerts are never what an alert is about, nor is what the cluster does.
func TestAlertsFeedNoDetector(t *testing.T) {
	w, reader := noticing(t)
	for i := range 20 {
		w.setNow(w.now().Add(time.Hour))
		must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
		w.notices()
		w.notices()
		require.Len(t, w.alerts(), i+1)
	}
}

func TestTheLeaderAloneWritesAndWhoLeadsNextMissesNothing(t *testing.T) {
	w, reader := noticing(t)
	w.engine.Leads(false)
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	require.Empty(t, w.alerts())
	w.engine.Leads(true)
	w.notices()
	require.Len(t, w.alerts(), 1)
	w.notices()
	require.Len(t, w.alerts(), 1)
}

// A node that starts learns from the trails what was told already, and what
// was not.
func TestAfterARestartNothingIsToldTwiceAndNothingIsLost(t *testing.T) {
	w, reader := noticing(t)
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	require.Len(t, w.alerts(), 1)
	w.restarted()
	w.notices()
	require.Len(t, w.alerts(), 1, "it was told before")

	second := w.principal("second", readsApp)
	must(w.as(second, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.restarted()
	w.notices()
	require.Len(t, w.alerts(), 2, "it was not")
	require.Equal(t, "second", w.alerts()[1].Principal)

	must(w.as(second, "secrets/getSecretValue", `{"path":"/app/a"}`))
	w.setNow(w.now().Add(time.Minute))
	w.ok("secrets/setCanary", `{"path":"/app/a","canary":true}`)
	w.restarted()
	w.notices()
	require.Len(t, w.alerts(), 2, "it was none when it was read")

	third := w.principal("third", readsApp)
	must(w.as(third, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.setNow(w.now().Add(2 * time.Hour))
	w.restarted()
	w.notices()
	require.Len(t, w.alerts(), 2, "what is long past is not told as news")
}

// A node that is behind does not know the canaries yet, and does not look.
func TestANodeThatIsBehindDoesNotLook(t *testing.T) {
	w, reader := noticing(t)
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.restarted()
	w.log.lost = true
	w.notices()
	require.Empty(t, w.alerts())
	w.log.lost = false
	w.notices()
	require.Len(t, w.alerts(), 1)
}

// restarted is the engine of the same node, started again.
func (w *world) restarted() {
	w.t.Helper()
	next, err := engine.New(w.engine.Config)
	require.NoError(w.t, err)
	w.engine = next
	require.NoError(w.t, w.engine.OpenLedger(context.Background()))
	w.engine.Leads(true)
}

// The trails of all members count together, each followed from where it was
// left, and one that is away holds nobody up.
func TestTheTrailsOfAllMembersAreFollowed(t *testing.T) {
	w, _ := noticing(t)
	away, asked := false, 0
	event := func(sequence uint64, path string) wire.AuditEvent {
		return wire.AuditEvent{
			Node: "n2", Sequence: sequence, Time: &wire.Time{Time: w.now()}, Event: "secrets.get_value", Outcome: audit.OK,
			Principal: "far", SourceAddress: "192.0.2.9", Path: path, Version: 1,
		}
	}
	events := []wire.AuditEvent{event(1, "/app/a")}
	w.engine.Cluster.Members = func() []wire.NodeStatus {
		return []wire.NodeStatus{{NodeID: "n1", Alive: true}, {NodeID: "n2", Alive: !away}, {NodeID: "n3", Alive: true}}
	}
	w.engine.Cluster.PeerEvents = func(_ context.Context, node string, q engine.TrailQuery) (engine.TrailPage, error) {
		if node == "n3" {
			return engine.TrailPage{}, fault.New(fault.NoLeader, "no answer")
		}
		asked++
		var page engine.TrailPage
		for _, e := range events {
			if e.Sequence > q.After {
				page.Events = append(page.Events, e)
			}
		}
		return page, nil
	}
	w.notices()
	events = append(events, event(2, "/app/trap"))
	w.notices()
	alerts := w.alerts()
	require.Len(t, alerts, 1)
	require.Equal(t, "far", alerts[0].Principal)

	// It lost its disk, and counts from one again.
	w.setNow(w.now().Add(2 * time.Hour))
	events = []wire.AuditEvent{event(1, "/app/trap")}
	w.notices()
	w.notices()
	require.Len(t, w.alerts(), 2)

	before := asked
	away = true
	w.notices()
	require.Equal(t, before, asked, "one that is away is not asked")
}

func TestDetectorsAreSetAsAWhole(t *testing.T) {
	w, reader := noticing(t)
	first := into[wire.DetectorsResponse](t, w.ok("audit/describeDetectors", `{}`))
	require.Zero(t, first.Revision)
	require.Len(t, first.Detectors, len(notice.Detectors))
	require.Equal(t, wire.Duration(7*24*time.Hour), first.Learning)
	w.ok("audit/putDetectors", `{"rules":[{"detector":"read_volume","floor":5},{"detector":"canary","off":true}],"learning":"1h","exemptPrincipals":["scanner"],"exemptGroups":["auditors"],"expectedRevision":0}`)
	now := into[wire.DetectorsResponse](t, w.ok("audit/describeDetectors", `{}`))
	require.EqualValues(t, 1, now.Revision)
	require.EqualValues(t, 5, now.Detectors[0].Floor)
	require.EqualValues(t, first.Detectors[0].Factor, now.Detectors[0].Factor, "what is left out is as it was")
	require.False(t, now.Detectors[4].On)
	require.Equal(t, []string{"scanner"}, now.ExemptPrincipals)

	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	require.Empty(t, w.alerts(), "it is off")
	_, err := w.as(w.admin, "audit/putDetectors", `{"expectedRevision":0}`)
	w.refused(fault.Conflict, "expectedRevision:", err)
	for body, says := range map[string]string{
		`"rules":[{"detector":"read_volum"}]`:                     "rules:",
		`"rules":[{"detector":"denials"},{"detector":"denials"}]`: "rules: has two entries",
		`"rules":[{"detector":"canary","floor":2}]`:               "rules: canary has neither",
		`"rules":[{"detector":"denials","factor":1001}]`:          "rules: factor of denials",
		`"rules":[{"detector":"denials","floor":1000000001}]`:     "rules: floor of denials",
		`"learning":"59m"`:           "learning:",
		`"learning":"0s"`:            "learning:",
		`"exemptPrincipals":["a b"]`: "exemptPrincipals",
		`"exemptGroups":["a b"]`:     "exemptGroups",
		`"reason":"\u0007"`:          "reason:",
	} {
		_, err := w.as(w.admin, "audit/putDetectors", "{"+body+"}")
		w.refused(fault.InvalidRequest, says, err)
	}
	require.Equal(t, fsm.DetectorNames, func() (out []string) {
		for _, d := range notice.Detectors {
			out = append(out, string(d))
		}
		slices.Sort(out)
		return out
	}(), "the state knows the detectors that there are")
}

func TestWhoIsExemptIsLeftAloneButForCanaries(t *testing.T) {
	w, reader := noticing(t)
	w.ok("iam/createGroup", `{"name":"auditors"}`)
	w.ok("iam/addToGroup", `{"group":"auditors","principal":"app"}`)
	w.ok("audit/putDetectors", `{"exemptGroups":["auditors"]}`)
	for i := range 30 {
		_, _ = w.as(reader, "secrets/getSecretValue", fmt.Sprintf(`{"path":"/probe/%d"}`, i))
	}
	w.notices()
	require.Empty(t, w.alerts())
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	require.Len(t, w.alerts(), 1)
}

func TestAnAlertQuarantinesWhereTheSettingsSaySo(t *testing.T) {
	w, reader := noticing(t)
	w.ok("audit/putDetectors", `{"rules":[{"detector":"canary","quarantine":true}]}`)
	must(w.as(reader, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	_, err := w.as(reader, "secrets/getSecretValue", `{"path":"/app/a"}`)
	w.refused(fault.Unauthenticated, "", err)
	p := into[wire.PrincipalResponse](t, w.ok("iam/describePrincipal", `{"name":"app"}`))
	require.Equal(t, "strongroom:leader", p.Quarantined.By)
	require.Equal(t, "alert canary: a canary was touched by secrets.get_value", p.Quarantined.Reason)
	events := w.events(audit.Filter{Events: []string{"iam.quarantine_principal"}})
	require.Len(t, events, 1)
	require.Contains(t, events[0].Reason, "app")

	// The last one with full access stays: there is nobody to release it.
	must(w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/trap"}`))
	w.notices()
	require.Len(t, w.alerts(), 2)
	w.ok("iam/whoAmI", `{}`)
	events = w.events(audit.Filter{Events: []string{"iam.quarantine_principal"}})
	require.Equal(t, audit.Failed, events[1].Outcome)
	require.Nil(t, w.log.machine.State().Principal("admin").Quarantine)
	require.Zero(t, w.log.machine.State().Secret(names.Path("/app/trap")).DeletedAt)
}

// A program whose principal is in quarantine goes on asking; that is no news.
func TestWhoIsInQuarantineKnocksInSilence(t *testing.T) {
	w, k := leading(t)
	w.engine.Leads(true)
	w.ok("secrets/setCanary", `{"path":"/app/dev/web/db","canary":true}`)
	must(w.as(w.tokenOf("svc"), "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`))
	w.setNow(w.now().Add(time.Second))
	w.ok("iam/quarantinePrincipal", `{"principal":"svc","reason":"alert"}`)
	w.notices()
	require.Len(t, w.alerts(), 1, "what it did before is told")
	for range 250 {
		w.setNow(w.now().Add(time.Second))
		_, err := w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`)
		w.refused(fault.Unauthenticated, "", err)
	}
	w.notices()
	require.Len(t, w.alerts(), 1)
}

// Whoever comes to lead must know by then what everybody is used to. A node
// whose log is still being replayed would not know the canaries.
func TestANodeThatFollowsNoticesToo(t *testing.T) {
	b := newBehind(t)
	caughtUp := false
	b.engine.Cluster.CaughtUp = func() bool { return caughtUp }
	b.engine.Notice(t.Context())
	require.False(t, b.engine.Noticing())
	caughtUp = true
	b.engine.Notice(t.Context())
	require.True(t, b.engine.Noticing())
}
