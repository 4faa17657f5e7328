package iam_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

func TestAnUnconfiguredServerDenies(t *testing.T) {
	for _, q := range worldQuestions() {
		d := iam.Decide(iam.Rules{}, q)
		require.Equal(t, iam.Decision{Reason: iam.ReasonIAM}, d, "an empty chain: nothing matched")
		require.False(t, iam.MayAnywhere(iam.Rules{}, q.Action))
	}
}

func TestDenyWinsFromAnyPlaceAndAtAnyWidth(t *testing.T) {
	q := about("secrets:getSecretValue", "/app/prod/web/key")
	exact := allow(list("secrets:getSecretValue"), "/app/prod/web/key")
	for name, d := range map[string]iam.Statement{
		"exact":      deny(list("secrets:getSecretValue"), "/app/prod/web/key"),
		"wider":      deny(list("secrets:*"), "/**"),
		"part":       deny(list("*"), "/app/*/web/k*"),
		"by role":    {Effect: iam.Deny, Roles: list("secrets-value-access"), Paths: list("/app/**")},
		"everything": deny(list("*")),
	} {
		for _, r := range []iam.Rules{
			rules(compile(t, "p", exact, d)),
			rules(compile(t, "p", d, exact)),
			rules(compile(t, "a", exact), compile(t, "b", d)),
			rules(compile(t, "b", d), compile(t, "a", exact)),
		} {
			got := iam.Decide(r, q)
			require.False(t, got.Allowed, name)
			require.Equal(t, iam.ReasonIAM, got.Reason)
			require.Len(t, got.Chain, 2, "who asks why sees both rules")
		}
	}
	// A deny next to it does not.
	for _, d := range []iam.Statement{
		deny(list("secrets:getSecretValue"), "/app/prod/web/key2"),
		deny(list("secrets:putSecretValue"), "/**"),
		deny(list("iam:*")),
		{Effect: iam.Deny, Actions: list("*"), Keys: list("*")},
	} {
		require.True(t, allowed(rules(compile(t, "p", exact, d)), q))
	}
}

func TestChainSaysHowEachRuleMatched(t *testing.T) {
	r := rules(
		compile(t, "first",
			allow(list("secrets:putSecretValue"), "/app/**"), // another action: no say
			allow(list("secrets:*"), "/other", "/app/*/web/*", "/app/**")),
		compile(t, "second",
			iam.Statement{Effect: iam.Allow, Roles: list("secrets-value-access"), Paths: list("/**")},
			allow(list("*"))),
	)
	r.Access = iam.Accesses(
		compileAccess(t, iam.AccessDocument{Name: "inner", Paths: list("/app/**"), SourceCIDRs: list("10.0.0.0/8")}),
		compileAccess(t, iam.AccessDocument{Name: "elsewhere", Paths: list("/other"), SourceCIDRs: list("192.0.2.0/24")}),
	)
	d := iam.Decide(r, about("secrets:getSecretValue", "/app/prod/web/key"))
	require.Equal(t, iam.Decision{Allowed: true, Chain: []iam.Step{
		{Policy: "first", Revision: 1, Statement: 1, Effect: iam.Allow, Action: "secrets:*", Matched: "path /app/*/web/*"},
		{Policy: "second", Revision: 1, Statement: 0, Effect: iam.Allow, Action: "role secrets-value-access", Matched: "path /**"},
		{Policy: "second", Revision: 1, Statement: 1, Effect: iam.Allow, Action: "*", Matched: "everything"},
		{Policy: "inner", Access: true, Effect: iam.Allow, Action: "default actions", Matched: "path /app/**"},
	}}, d)

	d = iam.Decide(r, about("secrets:getSecretValue", "/app/web"))
	require.Equal(t, "path /app/**", d.Chain[0].Matched)
}

// Of several ways in, the chain shows the one that is closest to the action:
// itself, before a role, before its service, before everything.
func TestChainShowsTheClosestWayIn(t *testing.T) {
	for want, s := range map[string]iam.Statement{
		"secrets:getSecretValue":    {Actions: list("*", "secrets:*", "secrets:getSecretValue"), Roles: list("full-access", "secrets-value-access")},
		"role secrets-value-access": {Actions: list("*", "secrets:*"), Roles: list("full-access", "secrets-value-access", "secrets-full-access")},
		"secrets:*":                 {Actions: list("*", "secrets:*"), Roles: list("full-access")},
		"role full-access":          {Roles: list("full-access")},
	} {
		s.Effect, s.Paths = iam.Allow, list("/a")
		require.Equal(t, want, iam.Decide(rules(compile(t, "p", s)), about("secrets:getSecretValue", "/a")).Chain[0].Action)
	}
}

func TestPathPatternsBindActionsOfSecrets(t *testing.T) {
	r := rules(compile(t, "p", allow(list("secrets:getSecretValue"), "/app/prod/web/db-*", "/shared/**")))
	for path, want := range map[names.Path]bool{
		"/app/prod/web/db-password":   true,
		"/app/prod/web/db-":           true,
		"/shared/a":                   true,
		"/shared/a/b/c":               true,
		"/app/prod/web/db":            false,
		"/app/prod/web/db-password/x": false,
		"/app/prod/web/xdb-password":  false,
		"/app/PROD/web/db-password":   false,
		"/app/prod/web":               false,
		"/shared":                     false, // a folder's rule is not about a secret of the folder's name
		"/sharedx/a":                  false,
	} {
		require.Equal(t, want, allowed(r, about("secrets:getSecretValue", path)), path)
		require.False(t, allowed(r, about("secrets:describeSecret", path)), "another action: %s", path)
	}
}

func TestKeysMatchByIDOrByAnyAlias(t *testing.T) {
	statement := func(keys ...string) iam.Rules {
		return rules(compile(t, "p", iam.Statement{Effect: iam.Allow, Actions: list("kms:decrypt"), Keys: keys}))
	}
	for _, c := range []struct {
		rules iam.Rules
		q     iam.Question
		want  bool
	}{
		{statement(keyA), aboutKey("kms:decrypt", keyA), true},
		{statement(keyA), aboutKey("kms:decrypt", keyA, alias), true},
		{statement(keyA), aboutKey("kms:decrypt", keyB), false},
		{statement(keyB, keyA), aboutKey("kms:decrypt", keyA), true},
		{statement(alias), aboutKey("kms:decrypt", keyA), false},
		{statement(alias), aboutKey("kms:decrypt", keyA, alias), true},
		{statement(alias), aboutKey("kms:decrypt", keyA, "alias/other", alias), true},
		{statement(alias), aboutKey("kms:decrypt", keyA, "alias/payments2"), false}, // no prefixes
		{statement(alias), aboutKey("kms:decrypt", keyA, "alias/Payments"), false},
		{statement("*"), aboutKey("kms:decrypt", keyA), true},
		{statement("*"), aboutKey("kms:encrypt", keyA), false},
		{statement(keyA), aboutKey("kms:decrypt", "", ""), false},
	} {
		require.Equal(t, c.want, allowed(c.rules, c.q), "%+v", c.q.Resource)
	}
	d := iam.Decide(statement("alias/other", alias), aboutKey("kms:decrypt", keyA, alias))
	require.Equal(t, "key alias/payments", d.Chain[0].Matched)
}

// A key has several names: whoever denies one of them denies the key.
func TestADenyOfAnAliasHoldsForTheKey(t *testing.T) {
	r := rules(compile(t, "p",
		iam.Statement{Effect: iam.Allow, Actions: list("kms:decrypt"), Keys: list(keyA)},
		iam.Statement{Effect: iam.Deny, Actions: list("kms:decrypt"), Keys: list(alias)}))
	require.True(t, allowed(r, aboutKey("kms:decrypt", keyA, "alias/other")))
	require.False(t, allowed(r, aboutKey("kms:decrypt", keyA, "alias/other", alias)))
}

// createKey and managePathRules have no key and no path to be limited to.
func TestOperationsWithoutAResourceNeedAllOfThem(t *testing.T) {
	for _, c := range []struct {
		statement iam.Statement
		action    iam.Action
		want      bool
	}{
		{iam.Statement{Effect: iam.Allow, Actions: list("kms:createKey"), Keys: list("*")}, "kms:createKey", true},
		{iam.Statement{Effect: iam.Allow, Actions: list("kms:createKey"), Keys: list(keyA, alias)}, "kms:createKey", false},
		{allow(list("secrets:listSecrets"), "/**"), "secrets:listSecrets", true},
		{allow(list("secrets:listSecrets"), "/a", "/**"), "secrets:listSecrets", true},
		{allow(list("secrets:listSecrets"), "/*"), "secrets:listSecrets", false},
		{allow(list("secrets:listSecrets"), "/app/**"), "secrets:listSecrets", false},
		{allow(list("*")), "kms:createKey", true},
	} {
		q := iam.Question{Action: c.action, Resource: iam.Resource{Any: true}}
		require.Equal(t, c.want, allowed(rules(compile(t, "p", c.statement)), q), "%+v", c.statement)
	}
}

// "*" on some paths is every action on those paths: it makes nobody an
// administrator of the cluster, of keys, or of policies.
func TestEveryActionOnPathsIsAboutPathsOnly(t *testing.T) {
	for _, s := range []iam.Statement{
		allow(list("*"), "/**"),
		{Effect: iam.Allow, Roles: list("full-access"), Paths: list("/**")},
	} {
		r := rules(compile(t, "p", s))
		require.True(t, allowed(r, about("secrets:purgeSecret", "/a")))
		require.False(t, allowed(r, aboutKey("kms:decrypt", keyA)))
		for _, action := range []iam.Action{"iam:putPolicy", "cluster:status", "backup:start", "kms:createKey"} {
			require.False(t, allowed(r, iam.Question{Action: action, Resource: iam.Resource{Any: true}}), action)
			require.False(t, iam.MayAnywhere(r, action), action)
		}
	}
	r := rules(compile(t, "p", iam.Statement{Effect: iam.Allow, Actions: list("*"), Keys: list("*")}))
	require.True(t, allowed(r, aboutKey("kms:decrypt", keyA)))
	require.False(t, allowed(r, about("secrets:getSecretValue", "/a")))
	require.False(t, allowed(r, iam.Question{Action: "iam:putPolicy"}))
}

// Only the part of a resource that an action is about has a say: a path that
// slips into a question about a key reaches no rule about paths.
func TestActionsLookAtTheirOwnKindOfResource(t *testing.T) {
	both := iam.Resource{Path: "/a", KeyID: keyA}
	paths := rules(compile(t, "p", allow(list("*"), "/**")))
	keys := rules(compile(t, "p", iam.Statement{Effect: iam.Allow, Actions: list("*"), Keys: list("*")}))
	require.False(t, allowed(paths, iam.Question{Action: "kms:decrypt", Resource: both}))
	require.False(t, allowed(keys, iam.Question{Action: "secrets:getSecretValue", Resource: both}))
	require.False(t, allowed(paths, iam.Question{Action: "iam:putPolicy", Resource: both}))
	require.False(t, allowed(keys, iam.Question{Action: "iam:putPolicy", Resource: both}))
}

// "iam:*" is not the start of "iamroles:anything".
func TestServicesAreComparedWhole(t *testing.T) {
	r := rules(compile(t, "p", allow(list("iam:*"))))
	require.True(t, allowed(r, iam.Question{Action: "iam:putPolicy"}))
	for _, action := range []iam.Action{"iamx:putPolicy", "ia:putPolicy", "IAM:putPolicy", "iam", "iam*", "", "*"} {
		require.False(t, allowed(r, iam.Question{Action: action}), action)
	}
}

// Later releases add operations; only the two wildcards that say so mean them.
func TestUnknownActionsFallUnderWildcardsOnly(t *testing.T) {
	later := about("secrets:operationOfNextYear", "/a")
	require.True(t, allowed(rules(compile(t, "p", allow(list("secrets:*"), "/a"))), later))
	require.True(t, allowed(rules(compile(t, "p", allow(list("*"), "/a"))), later))
	require.False(t, allowed(rules(compile(t, "p", iam.Statement{Effect: iam.Allow, Roles: list("secrets-full-access"), Paths: list("/a")})), later))
}

// What was compiled is what was checked: nobody changes a policy afterwards
// through the slices that it was made of.
func TestACompiledPolicyKeepsNoSliceOfItsAuthor(t *testing.T) {
	s := allow(list("secrets:getSecretValue"), "/a")
	p := compile(t, "p", s)
	d := iam.AccessDocument{Name: "ap", Paths: list("/a"), SourceCIDRs: list("10.0.0.0/8"), Principals: list("web"), Actions: list("secrets:getSecretValue")}
	r := iam.Rules{Policies: iam.Set(p), Access: iam.Accesses(compileAccess(t, d))}
	s.Actions[0], s.Paths[0] = "*", "/**"
	d.Paths[0], d.SourceCIDRs[0], d.Principals[0], d.Actions[0] = "/b", "0.0.0.0/0", "ops", "secrets:putSecretValue"

	require.False(t, allowed(r, about("secrets:getSecretValue", "/b")))
	require.True(t, allowed(r, about("secrets:getSecretValue", "/a")))
	outside := about("secrets:getSecretValue", "/a")
	outside.Source = address(t, "192.0.2.1")
	require.False(t, allowed(r, outside))
}
