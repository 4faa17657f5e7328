package iam_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
)

func TestCompiledPolicyKeepsNameAndRevision(t *testing.T) {
	p, warnings, err := iam.CompilePolicy(catalogue, "web", 7, []iam.Statement{allow(list("secrets:getSecretValue"), "/app/prod/web/**")})
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, "web", p.Name())
	require.EqualValues(t, 7, p.Revision())
}

// Whoever wrote sixty statements is told which one, which list and which
// entry, and what could stand there instead.
func TestErrorsNameFieldAndIndex(t *testing.T) {
	good := allow(list("secrets:getSecretValue"), "/a")
	keys := func(keys ...string) iam.Statement {
		return iam.Statement{Effect: iam.Allow, Actions: list("kms:decrypt"), Keys: keys}
	}
	for name, c := range map[string]struct {
		statement   iam.Statement
		field, want string
	}{
		"no effect":         {iam.Statement{Actions: list("*")}, "statements[2].effect", `must be "allow", "deny" or "requireApproval"`},
		"effect's case":     {iam.Statement{Effect: "Allow", Actions: list("*")}, "statements[2].effect", `must be "allow", "deny" or "requireApproval"`},
		"unknown effect":    {iam.Statement{Effect: "audit", Actions: list("*")}, "statements[2].effect", "must be"},
		"nothing":           {iam.Statement{Effect: iam.Allow}, "statements[2].actions", "at least one action or role is needed"},
		"only paths":        {allow(nil, "/a"), "statements[2].actions", "at least one action or role is needed"},
		"empty action":      {allow(list("secrets:getSecretValue", ""), "/a"), "statements[2].actions[1]", `"" is not an action; write service:operation, service:* or *`},
		"no service":        {allow(list("getSecretValue"), "/a"), "statements[2].actions[0]", "is not an action; write service:operation"},
		"no such service":   {allow(list("vault:read"), "/a"), "statements[2].actions[0]", "is of no service that there is; services are audit, backup, cluster, iam, kms, secrets"},
		"no operation":      {allow(list("secrets:"), "/a"), "statements[2].actions[0]", "is not an action; those of secrets are bindKey, createSecret, "},
		"typing error":      {allow(list("secrets:getSecretValues"), "/a"), "statements[2].actions[0]", "and secrets:* means all of them"},
		"part of a name":    {allow(list("secrets:get*"), "/a"), "statements[2].actions[0]", `"secrets:get*" is not an action`},
		"any service":       {allow(list("*:getSecretValue"), "/a"), "statements[2].actions[0]", "is of no service"},
		"two stars":         {allow(list("**"), "/a"), "statements[2].actions[0]", "is not an action"},
		"another case":      {allow(list("Secrets:getSecretValue"), "/a"), "statements[2].actions[0]", "is of no service"},
		"folds to k":        {allow(list("\u212ams:decrypt"), "/a"), "statements[2].actions[0]", "is of no service"},
		"two colons":        {allow(list("secrets:getSecretValue:x"), "/a"), "statements[2].actions[0]", "is not an action"},
		"unknown role":      {iam.Statement{Effect: iam.Allow, Roles: list("full-access", "root")}, "statements[2].roles[1]", `"root" is not a role; roles are audit-admin-access, audit-read-access, cluster-admin-access, `},
		"bad path":          {allow(list("secrets:*"), "/a", "/b", "/a/../b"), "statements[2].paths[2]", `segment 2 is ".."`},
		"bad pattern":       {allow(list("secrets:*"), "/**/a"), "statements[2].paths[0]", "'**' stands alone and only as the last segment"},
		"bad key":           {keys("*", "payments"), "statements[2].keys[1]", "must be a key id (a UUID in lower case) or alias/NAME, or * for every key"},
		"bad alias":         {keys("alias/"), "statements[2].keys[0]", "alias must not be empty, or * for every key"},
		"stars in an alias": {keys("alias/pay*"), "statements[2].keys[0]", "has the byte 0x2a at offset 3"},

		"secrets without paths": {allow(list("secrets:getSecretValue")), "statements[2].paths", `is missing; actions of secrets are granted on paths, "/**" is all of them`},
		"all of secrets":        {allow(list("secrets:*")), "statements[2].paths", "is missing"},
		"role without paths":    {iam.Statement{Effect: iam.Allow, Roles: list("secrets-value-access")}, "statements[2].paths", "is missing"},
		"a deny without paths":  {deny(list("secrets:getSecretValue")), "statements[2].paths", "is missing"},
		"kms without keys":      {allow(list("kms:decrypt")), "statements[2].keys", `is missing; actions of kms are granted on keys: ids, alias/NAME, or "*" for all of them`},
		"kms on paths":          {allow(list("kms:decrypt"), "/a"), "statements[2].keys", "is missing"},
		"secrets on keys":       {iam.Statement{Effect: iam.Allow, Actions: list("secrets:*"), Keys: list("*")}, "statements[2].paths", "is missing"},
		"both, one resource":    {allow(list("secrets:*", "kms:*"), "/a"), "statements[2].keys", "is missing"},
		"paths for nothing": {iam.Statement{Effect: iam.Allow, Actions: list("kms:decrypt"), Paths: list("/a"), Keys: list("*")}, "statements[2].paths",
			"no action of this statement is about a path"},
		"keys for nothing": {iam.Statement{Effect: iam.Allow, Actions: list("secrets:*"), Paths: list("/a"), Keys: list("*")}, "statements[2].keys",
			"no action of this statement is about a key"},
		"cluster on paths":     {allow(list("cluster:status"), "/a"), "statements[2].paths", "no action of this statement is about a path"},
		"cluster on keys":      {iam.Statement{Effect: iam.Allow, Actions: list("iam:*"), Keys: list("*")}, "statements[2].keys", "no action of this statement is about a key"},
		"cluster along":        {allow(list("secrets:*", "cluster:status"), "/a"), "statements[2].actions", "cluster:status is about neither a path nor a key and cannot be limited to some"},
		"all of iam along":     {allow(list("secrets:*", "iam:*"), "/a"), "statements[2].actions", "iam:* is about neither a path nor a key"},
		"cluster and all":      {allow(list("*", "cluster:status"), "/a"), "statements[2].actions", "cluster:status is about neither"},
		"the first of several": {allow(list("secrets:*", "iam:whoCan", "cluster:status"), "/a"), "statements[2].actions", "cluster:status is about neither"},
	} {
		_, warnings, err := iam.CompilePolicy(catalogue, "p", 1, []iam.Statement{good, good, c.statement, good})
		t.Log(name)
		requireInvalid(t, err, c.field, c.want)
		require.Nil(t, warnings)
	}
}

// The same document gives the same error on every node and every time, though
// a set has no order.
func TestErrorsAreTheSameEachTime(t *testing.T) {
	s := allow(list("secrets:*", "iam:whoCan", "iam:whatCan", "cluster:status", "audit:getProof"), "/a")
	for range 50 {
		_, _, err := iam.CompilePolicy(catalogue, "p", 1, []iam.Statement{s})
		requireInvalid(t, err, "statements[0].actions", "audit:getProof is about neither")
	}
}

func TestNamesAndNumbersOfPoliciesAreBounded(t *testing.T) {
	good := allow(list("secrets:getSecretValue"), "/a")
	for name, want := range map[string]string{"": "must not be empty", "-p": "must start with", "a b": "has the byte 0x20", strings.Repeat("p", 129): "at most 128"} {
		_, _, err := iam.CompilePolicy(catalogue, name, 1, []iam.Statement{good})
		requireInvalid(t, err, "name", want)
	}
	_, _, err := iam.CompilePolicy(catalogue, "p", 1, nil)
	requireInvalid(t, err, "statements", "must hold at least one statement")

	_, _, err = iam.CompilePolicy(catalogue, "p", 1, slices.Repeat([]iam.Statement{good}, 1000))
	require.NoError(t, err)
	_, _, err = iam.CompilePolicy(catalogue, "p", 1, slices.Repeat([]iam.Statement{good}, 1001))
	requireInvalid(t, err, "statements", "has 1001 entries; at most 1000 are allowed")

	// The cost of one decision is at most the product of these.
	for field, s := range map[string]func(n int) iam.Statement{
		"actions": func(n int) iam.Statement { return allow(slices.Repeat(list("secrets:getSecretValue"), n), "/a") },
		"paths":   func(n int) iam.Statement { return allow(list("secrets:*"), slices.Repeat(list("/a"), n)...) },
		"keys": func(n int) iam.Statement {
			return iam.Statement{Effect: iam.Allow, Actions: list("kms:*"), Keys: slices.Repeat(list("*"), n)}
		},
		"roles": func(n int) iam.Statement {
			return iam.Statement{Effect: iam.Allow, Roles: slices.Repeat(list("full-access"), n)}
		},
	} {
		_, _, err := iam.CompilePolicy(catalogue, "p", 1, []iam.Statement{s(256)})
		require.NoError(t, err, field)
		_, _, err = iam.CompilePolicy(catalogue, "p", 1, []iam.Statement{s(257)})
		requireInvalid(t, err, "statements[0]."+field, "has 257 entries; at most 256 are allowed")
	}
}

// A caller's own text is shown back cut and escaped: an error ends up in a
// terminal and in a log.
func TestErrorsQuoteShortAndEscaped(t *testing.T) {
	_, _, err := iam.CompilePolicy(catalogue, "p", 1, []iam.Statement{allow(list("x\x1b[2J\n" + strings.Repeat("y", 100_000)))})
	requireInvalid(t, err, "statements[0].actions[0]", `"x\x1b[2J\n`)
	require.Less(t, len(err.Error()), 512)
	require.NotContains(t, err.Error(), "\n")
	require.NotContains(t, err.Error(), "\x1b")
}

func TestWideGrantsAreAcceptedWithAWarning(t *testing.T) {
	const wide = " reaches beyond one service; name environment and service, as in /app/prod/web/**"
	for name, c := range map[string]struct {
		statement iam.Statement
		want      []string
	}{
		"one service":    {allow(list("secrets:*"), "/app/prod/web/**"), nil},
		"one secret":     {allow(list("secrets:*"), "/app"), nil},
		"all paths":      {allow(list("secrets:getSecretValue"), "/**"), list("statements[1].paths[0]: /**" + wide)},
		"any service":    {allow(list("secrets:getSecretValue"), "/app/prod/web/**", "/app/*/web/key"), list("statements[1].paths[1]: /app/*/web/key" + wide)},
		"each is named":  {allow(list("secrets:describeSecret"), "/app/**", "/a", "/app/prod/*"), list("statements[1].paths[0]: /app/**"+wide, "statements[1].paths[2]: /app/prod/*"+wide)},
		"everything":     {allow(list("*")), list("statements[1]: allows every action on everything")},
		"full-access":    {iam.Statement{Effect: iam.Allow, Roles: list("full-access")}, list("statements[1]: allows every action on everything")},
		"every key":      {iam.Statement{Effect: iam.Allow, Actions: list("kms:decrypt"), Keys: list(keyA, "*")}, list("statements[1].keys[1]: * allows to decrypt with every key; name the keys")},
		"all of kms":     {iam.Statement{Effect: iam.Allow, Actions: list("kms:*"), Keys: list("*")}, list("statements[1].keys[0]: * allows to decrypt with every key; name the keys")},
		"run every key":  {iam.Statement{Effect: iam.Allow, Roles: list("kms-admin-access"), Keys: list("*")}, nil},
		"use every key":  {iam.Statement{Effect: iam.Allow, Roles: list("kms-use-access"), Keys: list("*")}, list("statements[1].keys[0]: * allows to decrypt with every key; name the keys")},
		"cluster":        {allow(list("cluster:*", "iam:*")), nil},
		"a deny is safe": {deny(list("*")), nil},
		"so is this":     {deny(list("secrets:*"), "/**"), nil},
		"and this":       {iam.Statement{Effect: iam.Deny, Actions: list("kms:*"), Keys: list("*")}, nil},
	} {
		_, warnings, err := iam.CompilePolicy(catalogue, "p", 1, []iam.Statement{allow(list("secrets:getSecretValue"), "/a"), c.statement})
		require.NoError(t, err, name)
		var got []string
		for _, w := range warnings {
			got = append(got, w.String())
		}
		require.Equal(t, c.want, got, name)
	}
}
