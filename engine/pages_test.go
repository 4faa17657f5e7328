package engine_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// lists are the operations with pages, and a request for all of each.
func lists() map[string]string {
	return map[string]string{
		"secrets/listConsumers": `"path":"/app/dev/web/db"`,
		"secrets/listSecrets":   `"recursive":true`, "secrets/listSecretVersions": `"path":"/app/dev/web/db"`,
		"kms/listKeys": "", "kms/listBoundSecrets": `"keyId":"alias/default"`, "iam/listPrincipals": "", "iam/listTokens": "",
		"iam/listPolicies": "", "iam/listAccessPolicies": "", "iam/listGroups": "", "iam/listGroupMembers": `"group":"ops"`,
		"iam/listPolicyRevisions": `"name":"loose"`,
		"kms/listAliases":         "", "kms/listKeyVersions": `"keyId":"alias/worn"`, "kms/getKeyHealth": "", "cluster/listJobs": "",
		"iam/listAccessKeys":     "",
		"cluster/listJoinTokens": "",
		"iam/listRateLimits":     "",
		"iam/listBreakGlass":     "",
		"iam/listTrusts":         "",
		"iam/listApprovals":      "",
		"secrets/listPathRules":  "", "secrets/lintPaths": `"rule":{"requiredTags":["owner","tier=1|2"]}`,
		"audit/queryEvents": `"event":"secrets.create"`,
		"audit/incident":    `"principal":"admin"`, "secrets/listCanaries": "", "secrets/listCompromised": "",
		"iam/whoCan": `"action":"iam:listPolicies"`, "iam/whatCan": `"principal":"admin","values":true`,
	}
}

func body(fields ...string) string {
	var out []string
	for _, f := range fields {
		if f != "" {
			out = append(out, f)
		}
	}
	return "{" + strings.Join(out, ",") + "}"
}

func TestEveryListIsKnownHere(t *testing.T) {
	for _, o := range engine.Operations() {
		_, paged := o.Request.FieldByName("Cursor")
		_, listed := lists()[o.Path()]
		require.Equal(t, paged, listed, o.Path())
	}
}

// TestPagesAreThePiecesOfTheWhole compares pages of one with one page.
func TestPagesAreThePiecesOfTheWhole(t *testing.T) {
	s := newStock(t)
	s.ok("iam/putAccessPolicy", `{"name":"second","paths":["/app/prod/**"],"sourceCidrs":["192.0.2.0/24"]}`)
	for operation, fields := range lists() {
		if operation == "audit/queryEvents" {
			continue // reading the trail makes it longer; see trail_test.go
		}
		whole := s.ok(operation, "%s", body(fields))
		require.NotContains(t, whole, "nextCursor", "the last page has none")
		items, cursor := 0, ""
		for pages := 1; ; pages++ {
			page := s.ok(operation, "%s", body(fields, `"limit":1`, fmt.Sprintf(`"cursor":%q`, cursor)))
			next, item := splitPage(t, page)
			require.Contains(t, whole, item, operation)
			items++
			if next == "" {
				break
			}
			require.NotEqual(t, cursor, next, "%s must get on", operation)
			cursor = next
			require.Less(t, pages, 100, operation)
		}
		require.Greater(t, items, 1, "%s: one item has no second page", operation)
		require.Len(t, s.ok(operation, "%s", body(fields, `"limit":1000`)), len(whole))
	}
}

// splitPage answers the cursor of a page of one item, and the item.
func splitPage(t *testing.T, page string) (cursor, item string) {
	t.Helper()
	start, end := strings.Index(page, ":[{")+2, strings.LastIndex(page, "}]")+1
	require.Greater(t, start, 1, page)
	if _, after, ok := strings.Cut(page, `"nextCursor":"`); ok {
		cursor, _, _ = strings.Cut(after, `"`)
	}
	return cursor, page[start:end]
}

func TestCursorsThatWeDidNotMakeAreRefused(t *testing.T) {
	s := newStock(t)
	raw := base64.RawURLEncoding
	for operation, fields := range lists() {
		for name, cursor := range map[string]string{
			"of another release":   "2." + raw.EncodeToString([]byte("a")),
			"without a release":    raw.EncodeToString([]byte("a")),
			"standard base64":      "1.//8=",
			"stray bits":           "1.YR",
			"cut":                  "1.Y",
			"with a newline":       "1.YW\nE",
			"with white space":     " 1.YWE",
			"not UTF-8":            "1." + raw.EncodeToString([]byte{0xff}),
			"a path in plain text": "/app/dev/web/db",
		} {
			_, err := s.as(s.admin, operation, body(fields, fmt.Sprintf(`"cursor":%q`, cursor)))
			s.refused(fault.InvalidRequest, "cursor:", err)
			require.NotContains(t, err.Error(), cursor, name)
		}
		for _, limit := range []string{"0", "-1", "1001", "1e3", "1.5", `"10"`, "99999999999999999999"} {
			_, err := s.as(s.admin, operation, body(fields, `"limit":`+limit))
			s.refused(fault.InvalidRequest, "limit:", err)
		}
	}
}

// TestForeignCursorsShowNothingMore: a cursor is a place in an order, and
// anybody can write one. It may skip, never widen.
func TestForeignCursorsShowNothingMore(t *testing.T) {
	s := newStock(t)
	for _, path := range []string{"/a/first", "/app/dev/api/x", "/zoo/last"} {
		s.ok("secrets/createSecret", `{"path":%q}`, path)
	}
	token := s.principal("web", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/dev/web/**"]}]`)
	for _, place := range []string{"/", "/a", "/app/dev/api/x", "/app/dev/web/", "/zoo", "", "\x00", "zzz", "/app/dev/web/db\x7f", "{}", "7", "null"} {
		cursor := "1." + base64.RawURLEncoding.EncodeToString([]byte(place))
		for _, recursive := range []string{"true", "false"} {
			for _, prefix := range []string{"/", "/app/dev/web"} {
				page, err := s.as(token, "secrets/listSecrets", fmt.Sprintf(`{"prefix":%q,"recursive":%s,"cursor":%q}`, prefix, recursive, cursor))
				require.NoError(t, err)
				for _, shown := range into[wire.ListSecretsResponse](t, page).Secrets {
					require.True(t, strings.HasPrefix(shown.Path, "/app/dev/web/"), "%q shows %s", place, shown.Path)
				}
				for _, hidden := range []string{"first", "api", "zoo"} {
					require.NotContains(t, page, hidden)
				}
			}
		}
		_, err := s.as(s.admin, "secrets/listSecretVersions", fmt.Sprintf(`{"path":"/app/dev/web/db","cursor":%q}`, cursor))
		if place != "7" && place != "" {
			s.refused(fault.InvalidRequest, "cursor:", err)
		}
		_, err = s.as(s.admin, "audit/queryEvents", fmt.Sprintf(`{"cursor":%q}`, cursor))
		if place != "{}" && place != "" {
			s.refused(fault.InvalidRequest, "cursor:", err)
		}
	}
}

func TestConsistencyIsObeyedByEveryReadThatTakesIt(t *testing.T) {
	s := newStock(t)
	samples := map[string]string{}
	for _, c := range s.samples() {
		samples[c.operation] = c.good
	}
	reads := 0
	for _, o := range engine.Operations() {
		if _, takes := o.Request.FieldByName("Consistency"); !takes {
			continue
		}
		reads++
		ask := func(consistency string) error {
			fields := strings.TrimSuffix(strings.TrimPrefix(samples[o.Path()], "{"), "}")
			_, err := s.as(s.admin, o.Path(), body(fields, `"consistency":`+consistency))
			return err
		}
		index := s.log.machine.State().Index()
		require.NoError(t, ask(`{}`))
		require.NoError(t, ask(`{"maxStale":"5s"}`), "every read is fresher than that")
		require.NoError(t, ask(fmt.Sprintf(`{"minIndex":%d}`, index)), o.Path())
		s.refused(fault.Conflict, "consistency.minIndex:", ask(fmt.Sprintf(`{"minIndex":%d}`, index+1)))
		s.refused(fault.InvalidRequest, "consistency:", ask(`{"minIndex":1,"maxStale":"5s"}`))
		for _, bad := range []string{`{"minIndex":-1}`, `{"minIndex":"1"}`, `{"maxStale":5}`, `{"maxStale":"-5s"}`, `{"strong":true}`, `"stale"`, `[]`} {
			s.refused(fault.InvalidRequest, "consistency", ask(bad))
		}
	}
	require.Greater(t, reads, 8)
	for _, o := range []string{"secrets/getSecretValue", "secrets/batchGetSecretValue"} {
		_, err := s.as(s.admin, o, `{"path":"/a/b","consistency":{"maxStale":"5s"}}`)
		s.refused(fault.InvalidRequest, "is not a field", err) // a value is never stale
	}
}
