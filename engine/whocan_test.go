package engine_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestWhoCanNamesThoseWhoMayAndThoseWhoMight(t *testing.T) {
	w, _ := reader(t)
	w.principal("always", readWeb)
	w.principal("elsewhere", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/prod/**"]}]`)
	w.principal("inside", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"],"conditions":{"sourceCidrs":["10.0.0.0/8"]}}]`)
	w.principal("here", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"],"conditions":{"sourceCidrs":["192.0.2.0/24"]}}]`)
	w.principal("stopped", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"]},{"effect":"deny","actions":["secrets:*"],"paths":["/app/dev/web/**"]}]`)
	w.principal("behind", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	w.principal("waits", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/**"]},{"effect":"requireApproval","actions":["secrets:getSecretValue"],"paths":["/app/dev/**"],"approval":{}}]`)
	w.ok("iam/putPolicy", `{"name":"glass","statements":%s}`, readWeb)
	w.ok("iam/attachPolicy", `{"policy":"glass","principal":"behind","mode":"breakGlass"}`)
	w.ok("iam/createGroup", `{"name":"ops"}`)
	w.bare("member")
	w.ok("iam/addToGroup", `{"group":"ops","principal":"member"}`)
	w.ok("iam/attachPolicy", `{"policy":"glass","group":"ops"}`)
	ask := func(more string) map[string]wire.WhoCan {
		out := map[string]wire.WhoCan{}
		for _, p := range into[wire.WhoCanResponse](t, w.ok("iam/whoCan", `{"action":"secrets:getSecretValue","path":"/app/dev/web/db"%s}`, more)).Principals {
			out[p.Principal] = p
		}
		return out
	}
	got := ask("")
	require.Len(t, got, 7)
	require.Equal(t, wire.WhoCan{Principal: "always", Kind: "service", Decision: "allow", By: []wire.GrantedBy{{Policy: "always", Matched: "path /app/dev/web/**"}}}, got["always"])
	require.Equal(t, "allow", got["admin"].Decision)
	require.Equal(t, "group ops", got["member"].By[0].Via)
	require.Equal(t, []string{"sourceCidrs"}, got["inside"].Lacks)
	require.Equal(t, "conditional", got["inside"].Decision)
	require.Equal(t, "allow", got["here"].Decision)
	require.Equal(t, []string{"sourceCidrs"}, got["here"].Conditions)
	require.Equal(t, []string{"approval"}, got["waits"].Lacks)
	require.Equal(t, []string{"breakGlass"}, got["behind"].Lacks)
	require.True(t, got["behind"].BreakGlass)
	require.Equal(t, "glass", got["behind"].By[0].Policy)
	got = ask(`,"sourceAddress":"10.0.0.1"`)
	require.Equal(t, "allow", got["inside"].Decision)
	require.Equal(t, "conditional", got["here"].Decision)
	w.ok("iam/putAccessPolicy", `{"name":"office","paths":["/app/**"],"sourceCidrs":["10.0.0.0/8"]}`)
	require.Equal(t, []string{"sourceAddress"}, ask("")["always"].Lacks)
	require.Equal(t, []string{"accessPolicy"}, ask(`,"sourceAddress":"10.0.0.1"`)["always"].Conditions)
}

func TestWhatCanShowsRightsAndReadableValues(t *testing.T) {
	w, _ := reader(t)
	w.put2("/app/dev/web/other", "/app/prod/web/db")
	w.principal("ann", `[
		{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]},
		{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/prod/**"],"conditions":{"authMethods":["oidc"]}},
		{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/default"]},
		{"effect":"deny","actions":["secrets:*"],"paths":["/app/dev/web/other"]},
		{"effect":"requireApproval","actions":["kms:encrypt"],"keys":["*"],"approval":{}}]`)
	w.ok("iam/putPolicy", `{"name":"cap","statements":[{"effect":"allow","actions":["secrets:*"],"paths":["/app/**"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"cap","principal":"ann","mode":"boundary"}`)
	got := into[wire.WhatCanResponse](t, w.ok("iam/whatCan", `{"principal":"ann"}`))
	require.Equal(t, []wire.ActionReach{{
		Action: "secrets:getSecretValue", On: []string{"/app/dev/web/**", "/app/prod/**"}, By: []string{"ann"},
	}}, got.Actions, "the boundary lets no kms action pass")
	require.Equal(t, []string{"/app/dev/web/other"}, got.Denies[0].On)
	require.Equal(t, 3, got.Denies[0].Statement)
	require.Equal(t, "cap", got.Boundaries[0].Policy)
	require.Equal(t, "requireApproval", got.Approvals[0].Effect)
	values := func(more string) (out []string) {
		for _, v := range into[wire.WhatCanResponse](t, w.ok("iam/whatCan", `{"principal":"ann","values":true%s}`, more)).Values {
			out = append(out, v.Path)
		}
		return out
	}
	require.Equal(t, []string{"/app/dev/web/db"}, values(""))
	require.Equal(t, []string{"/app/dev/web/db", "/app/prod/web/db"}, values(`,"authMethod":"oidc"`))
	require.Equal(t, []string{"/app/prod/web/db"}, values(`,"authMethod":"oidc","prefix":"/app/prod/"`))
	// Who may not list a secret does not learn of it here.
	auditor := w.principal("auditor", `[{"effect":"allow","roles":["iam-read-access"]}]`)
	page := w.okAs(auditor, "iam/whatCan", `{"principal":"ann","values":true}`)
	require.NotContains(t, page, "/app/")
	_, err := w.as(w.admin, "iam/whatCan", `{"principal":"ann","limit":3}`)
	w.refused(fault.InvalidRequest, "limit: and cursor go with values", err)
}

func (w *world) put2(paths ...string) {
	w.t.Helper()
	for _, path := range paths {
		w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, b64("v"))
	}
}

// What a page costs is bounded: it may be empty and have a next one, and the
// pages together have everybody, once.
func TestPagesOfWhoCanGetOn(t *testing.T) {
	w := newWorld(t)
	for i := range 4000 {
		w.ok("iam/createPrincipal", `{"name":"p%04d","kind":"service"}`, i)
	}
	w.principal("zoe", readWeb)
	var names []string
	pages, empty := 0, 0
	for cursor := ""; pages == 0 || cursor != ""; pages++ {
		page := into[wire.WhoCanResponse](t, w.ok("iam/whoCan", `{"action":"secrets:getSecretValue","path":"/app/dev/web/db","cursor":%q}`, cursor))
		for _, p := range page.Principals {
			names = append(names, p.Principal)
		}
		if len(page.Principals) == 0 {
			empty++
		}
		cursor = page.NextCursor
	}
	require.Equal(t, []string{"admin", "zoe"}, names)
	require.Equal(t, 2, pages)
}

// The same for the secrets that somebody may read, and a place that the caller
// may not see is not named by a cursor.
func TestPagesOfReadableValuesGetOn(t *testing.T) {
	w := newWorld(t)
	for i := range 3000 {
		w.ok("secrets/createSecret", `{"path":"/app/dev/web/s%04d"}`, i)
	}
	w.principal("ann", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]}]`)
	look := w.principal("look", `[{"effect":"allow","roles":["iam-read-access"]},{"effect":"allow","actions":["secrets:listSecrets"],"paths":["/app/dev/web/s*9"]}]`)
	pages, found := 0, 0
	for cursor := ""; pages == 0 || cursor != ""; pages++ {
		page := into[wire.WhatCanResponse](t, w.okAs(look, "iam/whatCan", fmt.Sprintf(`{"principal":"ann","values":true,"limit":1000,"cursor":%q}`, cursor)))
		found += len(page.Values)
		cursor = page.NextCursor
		if cursor != "" && len(page.Values) > 0 {
			require.Regexp(t, `^[12]\.`, cursor)
		}
	}
	require.Equal(t, 300, found)
	require.Greater(t, pages, 2)
}
