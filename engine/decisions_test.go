package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestReportsOfPoliciesThatOnlyReport(t *testing.T) {
	w, read := reader(t)
	ann := w.principal("ann", readWeb)
	w.ok("iam/putPolicy", `{"name":"stop","reportOnly":true,"statements":[{"effect":"deny","actions":["secrets:*"],"paths":["/app/**"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"stop","principal":"ann"}`)
	require.NoError(t, read(ann))
	events := w.events(audit.Filter{Principal: "ann", Events: []string{"secrets.get_value"}})
	require.Len(t, events, 1)
	require.Equal(t, audit.OK, events[0].Outcome)
	require.Equal(t, &audit.Outcome{Reason: "iam"}, events[0].Decision.Report)
	got := w.explain(`{"decisionId":%q}`, events[0].DecisionID)
	require.Equal(t, "allow", got.Decision)
	require.Equal(t, &wire.PolicyReport{Reason: "iam"}, got.Report)
	require.Contains(t, got.Text, ". If the policies that only report had a say, it would be denied")
	shown := w.allEvents(`"principal":"ann","event":"secrets.get_value"`, 10)[0]
	require.Equal(t, &wire.PolicyReport{Reason: "iam"}, shown.Report)

	// And the reverse: denied, and it would be allowed.
	bob := w.principal("bob", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	w.ok("iam/putPolicy", `{"name":"soon","reportOnly":true,"statements":%s}`, readWeb)
	w.ok("iam/attachPolicy", `{"policy":"soon","principal":"bob"}`)
	err := read(bob)
	w.refused(fault.AccessDenied, "", err)
	require.Equal(t, &wire.PolicyReport{Allowed: true}, w.explain(`{"decisionId":%q}`, decisionOf(t, err)).Report)
}

// Guards are no questions to policies, and say so.
func TestAGuardIsExplained(t *testing.T) {
	w, _ := reader(t)
	ann := w.bare("ann")
	w.ok("iam/attachPolicy", `{"policy":"full-access","principal":"ann"}`)
	w.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["iam:*"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"cap","principal":"ann","mode":"boundary"}`)
	_, err := w.as(ann, "iam/detachPolicy", `{"policy":"cap","principal":"ann","mode":"boundary"}`)
	got := w.explain(`{"decisionId":%q}`, decisionOf(t, err))
	require.Equal(t, "boundary", got.Reason)
	require.Contains(t, got.Text, "could lift it; no policy decides this")
	require.Nil(t, got.Now)
}

// Each item of a batch has a decision of its own, and lists ask for anything.
func TestDecisionsOfItemsAndLists(t *testing.T) {
	w, _ := reader(t)
	ann := w.principal("ann", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/prod/**"]}]`)
	_, err := w.as(ann, "secrets/batchGetSecretValue", `{"items":[{"path":"/app/dev/web/db"},{"path":"/app/dev/web/none"}]}`)
	require.NoError(t, err)
	items := w.events(audit.Filter{Principal: "ann", Outcome: audit.Denied})
	require.Len(t, items, 2)
	for _, e := range items {
		got := w.explain(`{"decisionId":%q}`, e.DecisionID)
		require.Equal(t, e.Path, got.Question.Path)
		require.Equal(t, "deny", got.Now.Decision)
	}
	_, err = w.as(ann, "secrets/listSecrets", `{}`)
	got := w.explain(`{"decisionId":%q}`, decisionOf(t, err))
	require.Equal(t, "denied: no statement allows ann to secrets:listSecrets on anything", got.Text)
	require.Equal(t, "deny", got.Now.Decision)
	require.Equal(t, "deny", w.explain(`{"principal":"ann","action":"secrets:listSecrets"}`).Decision)
	require.Equal(t, "allow", w.explain(`{"principal":"ann","action":"secrets:getSecretValue"}`).Decision)
	require.Equal(t, "allow", w.explain(`{"principal":"ann","action":"secrets:getSecretValue","prefix":"/app/prod"}`).Decision)
	require.Equal(t, "deny", w.explain(`{"principal":"ann","action":"secrets:getSecretValue","prefix":"/app"}`).Decision)
}

// A decision of another member is found, and one of a release that kept none
// says so.
func TestDecisionsOfOtherMembersAndEarlierReleases(t *testing.T) {
	w, _ := reader(t)
	w.bare("ann")
	w.members(map[string][]wire.AuditEvent{"n2": {{
		Node: "n2", Sequence: 7, Time: wire.Millis(5), Event: "secrets.get_value", Outcome: "denied", Principal: "ann", Path: "/app/dev/web/db",
		SourceAddress: "192.0.2.9", DecisionID: absentID, Reason: "sourceAddress",
	}}})
	got := w.explain(`{"decisionId":%q}`, absentID)
	require.Equal(t, "n2", got.Node)
	require.Equal(t, "sourceAddress", got.Reason)
	require.Equal(t, "denied: an access policy does not accept the source address; the trail of that release did not keep the rules", got.Text)
	require.Equal(t, "deny", got.Now.Decision)
	require.Equal(t, "192.0.2.9", got.Question.SourceAddress)
}

// Who reads the trail sees the grounds of decisions only with iam:explain.
func TestGroundsAreForWhoMayExplain(t *testing.T) {
	w, read := reader(t)
	ann := w.principal("ann", `[{"effect":"deny","actions":["secrets:*"],"paths":["/app/dev/secret-project/**","/app/**"]}]`)
	err := read(ann)
	auditor := w.principal("auditor", `[{"effect":"allow","roles":["audit-read-access"]}]`)
	ask := fmt.Sprintf(`{"decisionId":%q}`, decisionOf(t, err))
	page := w.okAs(auditor, "audit/queryEvents", ask)
	require.Contains(t, page, `"reason":"iam"`)
	require.NotContains(t, page, `"decision":`)
	require.NotContains(t, page, `"chain":`)
	_, err = w.as(auditor, "iam/explain", ask)
	w.refused(fault.AccessDenied, "", err)
	events := into[wire.QueryEventsResponse](t, w.ok("audit/queryEvents", "%s", ask)).Events
	require.Len(t, events, 1)
	require.Equal(t, "ann", events[0].Decision.Chain[0].Policy)
}

// A chain of many statements is cut, and what restricts is kept.
func TestLongChainsAreCut(t *testing.T) {
	w, read := reader(t)
	statements := ""
	for range 80 {
		statements += `{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/dev/**"]},`
	}
	ann := w.principal("ann", `[`+statements+`{"effect":"deny","actions":["secrets:*"],"paths":["/app/**"]}]`)
	err := read(ann)
	got := w.explain(`{"decisionId":%q}`, decisionOf(t, err))
	require.Len(t, got.Chain, audit.MaxSteps)
	require.Equal(t, 31, got.More)
	require.Equal(t, 80, got.Chain[len(got.Chain)-1].Statement)
	require.Equal(t, "deny", got.Chain[len(got.Chain)-1].Effect)
}

// Denials with long grounds make pages shorter, and lose no event.
func TestLongDecisionsDoNotFillAPage(t *testing.T) {
	w, read := reader(t)
	long := "/app/dev/" + strings.Repeat("x", 120)
	var statements []string
	for i := range 60 {
		statements = append(statements, fmt.Sprintf(`{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["%s%d/**","/app/dev/**"],"conditions":{"authMethods":["oidc"]}}`, long, i))
	}
	ann := w.principal("ann", "["+strings.Join(statements, ",")+"]")
	const denials = 400
	for range denials {
		w.refused(fault.AccessDenied, "", read(ann))
	}
	page, err := w.engine.LocalEvents(context.Background(), engine.TrailQuery{Principal: "ann", Limit: 1000})
	require.NoError(t, err)
	require.True(t, page.More)
	require.Less(t, len(page.Events), denials)
	w.members(map[string][]wire.AuditEvent{"n2": {{Node: "n2", Sequence: 1, Time: wire.Millis(w.now().Add(time.Hour).UnixMilli()), Event: "secrets.get_value", Outcome: "denied"}}})
	var seen []string
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		var page struct {
			Events []struct {
				Node     string
				Sequence int
			}
			NextCursor string
		}
		require.NoError(t, json.Unmarshal([]byte(w.ok("audit/queryEvents", `{"event":"secrets.get_value","limit":1000,"cursor":%q}`, cursor)), &page))
		require.Less(t, len(page.Events), denials)
		for _, e := range page.Events {
			seen = append(seen, fmt.Sprint(e.Node, " ", e.Sequence))
		}
		cursor = page.NextCursor
	}
	require.Len(t, seen, denials+1)
	require.Equal(t, "n2 1", seen[denials], "a later event of another chain waits for this one")
	slices.Sort(seen)
	require.Len(t, slices.Compact(seen), denials+1)
}
