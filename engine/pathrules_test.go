package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

const convention = `"segments":["{env:dev|staging|prod}","{service}","{name}"]`

func (w *world) lint(token, fields string) []wire.PathFinding {
	w.t.Helper()
	answer, err := w.as(token, "secrets/lintPaths", "{"+fields+"}")
	require.NoError(w.t, err)
	return into[wire.LintPathsResponse](w.t, answer).Findings
}

func TestLifeOfAPathRule(t *testing.T) {
	w := newWorld(t)
	first := into[wire.PathRuleResponse](t, w.ok("secrets/putPathRule", `{"prefix":"/app","owner":"platform","expectedRevision":0}`))
	require.Equal(t, wire.PathRuleResponse{Prefix: "/app/", Revision: 1}, first)
	w.setNow(w.now().Add(time.Hour))
	second := into[wire.PathRuleResponse](t, w.ok("secrets/putPathRule",
		`{"prefix":"/app/",%s,"kmsKeyId":"alias/default","rotationPeriod":"90d","consumerHorizon":"1h","requiredTags":["owner","tier=1|2"],"keepVersions":3,"minRetention":"30d","reason":"house rule","expectedRevision":1}`, convention))
	require.Equal(t, uint64(2), second.Revision)
	_, err := w.as(w.admin, "secrets/putPathRule", `{"prefix":"/app/","owner":"x","expectedRevision":1}`)
	w.refused(fault.Conflict, "expectedRevision: is 1, but the rule is at revision 2", err)

	rules := into[wire.ListPathRulesResponse](t, w.ok("secrets/listPathRules", `{}`)).PathRules
	require.Len(t, rules, 1)
	got := rules[0]
	require.Equal(t, []string{"{env:dev|staging|prod}", "{service}", "{name}"}, got.Segments)
	require.Equal(t, []string{"owner", "tier=1|2"}, got.RequiredTags)
	require.Equal(t, []string{"alias/default", "active", "house rule", "admin", ""}, []string{got.KMSKeyID, got.KMSKeyState, got.Reason, got.CreatedBy, got.Owner}, "put replaces the whole rule")
	require.Equal(t, time.Hour, got.UpdatedAt.Sub(got.CreatedAt.Time))
	require.Equal(t, uint64(3), *got.KeepVersions)
	require.Equal(t, wire.Duration(30*24*time.Hour), *got.MinRetention)

	_, err = w.as(w.admin, "secrets/deletePathRule", `{"prefix":"/app/","expectedRevision":1}`)
	w.refused(fault.Conflict, "expectedRevision", err)
	w.ok("secrets/deletePathRule", `{"prefix":"/app","reason":"moved"}`)
	require.Empty(t, into[wire.ListPathRulesResponse](t, w.ok("secrets/listPathRules", `{}`)).PathRules)
	_, err = w.as(w.admin, "secrets/deletePathRule", `{"prefix":"/app/"}`)
	w.refused(fault.NotFound, "prefix: there is no path rule of /app/", err)

	put := w.events(audit.Filter{Events: []string{"secrets.put_path_rule"}, Path: "/app/"})
	require.Len(t, put, 3)
	require.Equal(t, "house rule", put[1].Reason)
	require.Equal(t, audit.Failed, put[2].Outcome)
	gone := w.events(audit.Filter{Events: []string{"secrets.delete_path_rule"}, Path: "/app/"})
	require.Equal(t, "moved", gone[1].Reason)
}

func TestRulesThatCannotBeMeantAreRefused(t *testing.T) {
	w := newWorld(t)
	w.ok("kms/createKey", `{"alias":"alias/mac","spec":"hmac-256"}`)
	for fields, says := range map[string]string{
		``:                           "the rule says nothing",
		`,"prefix":"/app//x"`:        "prefix",
		`,"segments":["{a"]`:         "segments: entry 1: has no '}'",
		`,"segments":["{a...}","b"]`: "segments: entry 1: '...' is only for the last entry",
		`,"kmsKeyId":"x"`:            "kmsKeyId: must be a key id",
		`,"kmsKeyId":"alias/mac"`:    "kmsKeyId: ",
		`,"owner":"` + strings.Repeat("x", 300) + `"`: "owner: has 300 bytes",
		`,"owner":"a\u0007"`:                          "owner: must not hold control characters",
		`,"rotationPeriod":"0s"`:                      "rotationPeriod: must be 1s to 3660d",
		`,"consumerHorizon":"10ms"`:                   "consumerHorizon: must be 1s to 3660d",
		`,"minRetention":"3661d"`:                     "minRetention: must be 1s to 3660d",
		`,"keepVersions":0`:                           "keepVersions: must be 1 to 10000",
		`,"keepVersions":10001`:                       "keepVersions: must be 1 to 10000",
		`,"requiredTags":["a b"]`:                     "requiredTags",
		`,"requiredTags":["a","a=1"]`:                 "requiredTags: names a twice",
		`,"requiredTags":["a="]`:                      "requiredTags: a value of a must have 1 to 256 bytes",
	} {
		prefix := `"prefix":"/app/"`
		if strings.Contains(fields, "prefix") {
			prefix, fields = fields[1:], ""
		}
		before := w.log.proposed
		_, err := w.as(w.admin, "secrets/putPathRule", "{"+prefix+fields+"}")
		w.refused(fault.InvalidRequest, says, err)
		require.True(t, before == w.log.proposed || strings.Contains(fields, "alias/mac"), "what is no rule does not go into the log")
	}
	_, err := w.as(w.admin, "secrets/putPathRule", `{"prefix":"/app/","kmsKeyId":"alias/none"}`)
	w.refused(fault.NotFound, "kmsKeyId: there is no key alias/none", err)
	_, err = w.as(w.admin, "secrets/putPathRule", `{"owner":"x"}`)
	w.refused(fault.InvalidRequest, "prefix: is missing", err)
}

func TestEveryWayInIsHeldToTheRule(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/qa/web/old","value":%q}`, b64("v"))
	w.ok("secrets/putPathRule", `{"prefix":"/app/",%s,"requiredTags":["owner","tier=1|2"]}`, convention)
	const bad, tags = "path: the rule /app/ wants {env:dev|staging|prod}/{service}/{name} below it: segment 1 (env) must be dev or staging or prod", `"tags":{"owner":"web","tier":"1"}`
	used := len(w.events(audit.Filter{Events: []string{"kms.encrypt", "kms.decrypt"}}))
	for operation, body := range map[string]string{
		"secrets/createSecret":   `{"path":"/app/qa/web/db",` + tags + `,"value":"dg=="}`,
		"secrets/generateSecret": `{"path":"/app/qa/web/db",` + tags + `,"kind":"uuid","create":true}`,
		"secrets/copySecret":     `{"path":"/app/qa/web/old","toPath":"/app/qa/web/db"}`,
	} {
		_, err := w.as(w.admin, operation, body)
		w.refused(fault.InvalidRequest, bad, err)
		require.Equal(t, "/app/", detail(t, err, "rule"))
		require.Equal(t, "segments", detail(t, err, "ruleField"))
		_, err = w.as(w.admin, operation, strings.NewReplacer("/app/qa/web/db", "/app/dev/web/db", `"tier":"1"`, `"tier":"3"`).Replace(body))
		w.refused(fault.InvalidRequest, "tags: the rule /app/", err)
	}
	require.Len(t, w.events(audit.Filter{Events: []string{"kms.encrypt", "kms.decrypt"}}), used, "nothing is opened or sealed to hear no")
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db",%s}`, tags)
	w.ok("secrets/generateSecret", `{"path":"/app/dev/web/made","kind":"uuid","create":true,%s}`, tags)
	w.ok("secrets/copySecret", `{"path":"/app/dev/web/made","toPath":"/app/dev/web/copy"}`)
	_, err := w.as(w.admin, "secrets/updateSecret", `{"path":"/app/dev/web/db","tags":{"tier":"1"}}`)
	w.refused(fault.InvalidRequest, "tags: the rule /app/ requires the tag owner; set it", err)
	w.ok("secrets/updateSecret", `{"path":"/app/dev/web/db","description":"d"}`)
	// What was there goes on as before.
	w.put("/app/qa/web/old", "w")
	w.ok("secrets/deleteSecret", `{"path":"/app/qa/web/old"}`)
	w.ok("secrets/restoreSecret", `{"path":"/app/qa/web/old"}`)
	_, err = w.as(w.admin, "secrets/generateSecret", `{"path":"/app/dev/web/db","kind":"uuid","tags":{"a":"b"}}`)
	w.refused(fault.InvalidRequest, "tags: goes with create", err)
}

func TestTheKeyOfARuleIsTheDefaultAndFollowsItsAlias(t *testing.T) {
	w := newWorld(t)
	one := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/pay"}`)).KeyID
	two := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/other"}`)).KeyID
	w.ok("secrets/putPathRule", `{"prefix":"/app/","kmsKeyId":"alias/pay"}`)
	keyOf := func(path string) string {
		return into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":%q}`, path)).KMSKeyID
	}
	w.ok("secrets/createSecret", `{"path":"/app/a","value":%q}`, b64("v"))
	w.ok("secrets/createSecret", `{"path":"/app/own","kmsKeyId":"alias/other"}`)
	w.ok("secrets/generateSecret", `{"path":"/app/made","kind":"uuid","create":true}`)
	w.ok("kms/updateAlias", `{"alias":"alias/pay","keyId":%q}`, two)
	w.ok("secrets/createSecret", `{"path":"/app/b"}`)
	require.Equal(t, []string{one, two, one, two}, []string{keyOf("/app/a"), keyOf("/app/own"), keyOf("/app/made"), keyOf("/app/b")})
	findings := w.lint(w.admin, "")
	require.Len(t, findings, 2)
	require.Equal(t, []string{"/app/a", "/app/", "kmsKeyId", "notice"}, []string{findings[0].Path, findings[0].Rule, findings[0].Field, findings[0].Severity})
	require.Contains(t, findings[0].Message, one)

	w.ok("kms/createKey", `{"alias":"alias/third"}`)
	w.ok("kms/updateAlias", `{"alias":"alias/pay","keyId":"alias/third"}`)
	w.ok("kms/disableKey", `{"keyId":"alias/third"}`)
	_, err := w.as(w.admin, "secrets/createSecret", `{"path":"/app/c"}`)
	w.refused(fault.KeyNotActive, "kmsKeyId: the rule /app/ names the key alias/pay, which is disabled; give kmsKeyId, or change the rule", err)
	w.ok("kms/deleteAlias", `{"alias":"alias/pay"}`)
	_, err = w.as(w.admin, "secrets/createSecret", `{"path":"/app/c"}`)
	w.refused(fault.NotFound, "kmsKeyId: the rule /app/ names the key alias/pay, which is not there; give kmsKeyId, or change the rule", err)
	w.ok("secrets/createSecret", `{"path":"/app/c","kmsKeyId":"alias/default"}`)
	require.Equal(t, "missing", into[wire.ListPathRulesResponse](t, w.ok("secrets/listPathRules", `{}`)).PathRules[0].KMSKeyState)
}

func TestDescribeShowsTheEffectiveRule(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db"}`)
	require.Nil(t, into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":"/app/dev/web/db"}`)).Rule)
	w.ok("secrets/putPathRule", `{"prefix":"/","owner":"all","minRetention":"30d","requiredTags":["owner"]}`)
	w.ok("secrets/putPathRule", `{"prefix":"/app/","owner":"app","minRetention":"7d","keepVersions":5,"requiredTags":["tier=1"],%s}`, convention)
	w.ok("secrets/putPathRule", `{"prefix":"/other/","owner":"other"}`)
	month := wire.Duration(30 * 24 * time.Hour)
	require.Equal(t, &wire.SecretRule{
		Grammars: []string{"/app/{env:dev|staging|prod}/{service}/{name}"}, Owner: "app", KeepVersions: 5, MinRetention: &month,
		RequiredTags: []string{"owner", "tier=1"}, Prefixes: []string{"/", "/app/"},
		From: map[string]string{"owner": "/app/", "keepVersions": "/app/", "minRetention": "/"},
	}, into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":"/app/dev/web/db"}`)).Rule)
}

func TestWhoMayMakeAndSeeRules(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/prod/pay/db"}`)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db"}`)
	w.ok("secrets/putPathRule", `{"prefix":"/app/","requiredTags":["owner"]}`)
	w.ok("secrets/putPathRule", `{"prefix":"/app/prod/pay/","owner":"pay"}`)
	lead := w.principal("lead", `[{"effect":"allow","actions":["secrets:managePathRules"],"paths":["/app/dev/**","/app/prod/pay/db"]},{"effect":"deny","actions":["*"],"paths":["/app/dev/hr/**"]}]`)
	reader := w.principal("reader", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/dev/web/**"]}]`)
	nobody := w.principal("nobody", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/**"]}]`)

	for prefix, may := range map[string]bool{"/app/dev/web/": true, "/app/dev/": false, "/app/": false, "/": false, "/app/prod/pay/": false, "/app/dev/hr/": false} {
		_, err := w.as(lead, "secrets/putPathRule", fmt.Sprintf(`{"prefix":%q,"owner":"lead"}`, prefix))
		if may {
			require.NoError(t, err, prefix)
			continue
		}
		w.refused(fault.AccessDenied, "secrets:managePathRules", err)
	}
	_, err := w.as(lead, "secrets/putPathRule", `{"prefix":"/app/dev/web/","keepVersions":1}`)
	w.refused(fault.AccessDenied, "secrets:destroyVersion is not allowed", err)
	_, err = w.as(lead, "secrets/deletePathRule", `{"prefix":"/app/"}`)
	w.refused(fault.AccessDenied, "secrets:managePathRules", err)

	seen := func(token string) (out []string) {
		answer, err := w.as(token, "secrets/listPathRules", `{}`)
		require.NoError(t, err)
		for _, rule := range into[wire.ListPathRulesResponse](t, answer).PathRules {
			out = append(out, rule.Prefix)
		}
		return out
	}
	require.Equal(t, []string{"/app/", "/app/dev/web/", "/app/prod/pay/"}, seen(lead))
	require.Equal(t, []string{"/app/", "/app/dev/web/"}, seen(reader))
	_, err = w.as(nobody, "secrets/listPathRules", `{}`)
	w.refused(fault.AccessDenied, "secrets:describeSecret", err)
	require.Len(t, w.lint(w.admin, ""), 2)
	require.Empty(t, w.lint(lead, ""), "who may not describe a secret hears nothing about it")
	_, err = w.as(reader, "secrets/lintPaths", `{}`)
	w.refused(fault.AccessDenied, "secrets:managePathRules", err)
}

func TestLintTellsWhatARuleWouldChange(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/app/dev/web/db", "/app/qa/db", "/tmp/x"} {
		w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, b64("1"))
	}
	for i := range 4 {
		w.put("/app/dev/web/db", fmt.Sprint(i))
	}
	w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/db","version":2,"delay":"1d"}`)
	w.ok("secrets/deleteSecret", `{"path":"/app/qa/db"}`)
	w.setNow(w.now().Add(2 * time.Hour))
	require.Empty(t, w.lint(w.admin, ""))
	before := w.log.proposed
	got := w.lint(w.admin, `"prefix":"/app","rule":{`+convention+`,"requiredTags":["owner"],"keepVersions":2,"minRetention":"60d","rotationPeriod":"1h"}`)
	require.Equal(t, before, w.log.proposed, "it is not stored")
	var said []string
	for _, f := range got {
		require.Equal(t, "/app/", f.Rule)
		said = append(said, f.Path+" "+f.Severity+" "+f.Field+": "+f.Message)
	}
	for i, want := range []string{
		"/app/dev/web/db error requiredTags: the rule /app/ requires the tag owner",
		"/app/dev/web/db notice keepVersions: 2 versions are stored beyond the 2 that the rule /app/ keeps, the oldest is 1",
		"/app/dev/web/db notice rotationPeriod: the current version is of 2026-03-04T05:06:07Z, longer ago than the 1h0m0s",
		"/app/dev/web/db notice minRetention: version 2 will be destroyed at 2026-03-05T05:06:07Z",
		"/app/qa/db error segments: the rule /app/ wants",
		"/app/qa/db error requiredTags: the rule /app/ requires the tag owner",
		"/app/qa/db notice rotationPeriod:",
		"/app/qa/db notice minRetention: the secret will be purged at 2026-04-03T05:06:07Z",
	} {
		require.Contains(t, said[i], want)
	}
	require.Len(t, said, 8)
	_, err := w.as(w.admin, "secrets/lintPaths", `{"prefix":"/app","rule":{"kmsKeyId":"alias/none"}}`)
	w.refused(fault.NotFound, "kmsKeyId", err)
}

func TestMinRetentionHoldsBackDestruction(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/a","value":%q}`, b64("1"))
	w.put("/app/a", "2")
	w.ok("secrets/putPathRule", `{"prefix":"/app/","minRetention":"20d"}`)
	_, err := w.as(w.admin, "secrets/destroyVersion", `{"path":"/app/a","version":1}`)
	w.refused(fault.Conflict, "version: 1 may be destroyed from 2026-03-24T05:06:07Z on, because of minRetention of the rule /app/; destroy it then, or give a delay of at least 480h0m0s", err)
	require.Equal(t, "2026-03-24T05:06:07Z", detail(t, err, "until"))
	_, err = w.as(w.admin, "secrets/deleteSecret", `{"path":"/app/a","force":true}`)
	w.refused(fault.Conflict, "path: the secret may be purged from 2026-03-24T05:06:07Z on, because of minRetention of the rule /app/; delete it with a recoveryWindow of at least 480h0m0s", err)
	_, err = w.as(w.admin, "secrets/deleteSecret", `{"path":"/app/a","recoveryWindow":"19d"}`)
	w.refused(fault.Conflict, "recoveryWindow", err)
	w.ok("secrets/destroyVersion", `{"path":"/app/a","version":1,"delay":"480h0m0s"}`)
	w.ok("secrets/deleteSecret", `{"path":"/app/a","recoveryWindow":"480h0m0s"}`)
	_, err = w.as(w.admin, "secrets/deleteSecret", `{"path":"/app/a","force":true}`)
	w.refused(fault.Conflict, "minRetention", err)
	w.ok("secrets/createSecret", `{"path":"/app/empty"}`)
	w.ok("secrets/deleteSecret", `{"path":"/app/empty","force":true}`)
}

func TestTheLeaderDestroysWhatARuleDoesNotKeep(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/a","value":%q}`, b64("1"))
	for i := range 5 {
		w.put("/app/a", fmt.Sprint("more ", i))
	}
	w.ok("secrets/setVersionLabel", `{"path":"/app/a","version":2,"label":"blue"}`)
	w.ok("secrets/putPathRule", `{"prefix":"/app/","keepVersions":3}`)
	w.ok("secrets/getSecretValue", `{"path":"/app/a","version":1}`)
	w.engine.Reap(t.Context())
	require.Equal(t, "active", string(w.log.machine.State().Version("/app/a", 1).State), "its reader may hold it for a while")
	w.setNow(w.now().Add(time.Hour))
	w.engine.Reap(t.Context())
	states := func() (out []string) {
		for _, v := range into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":"/app/a"}`)).Versions {
			out = append(out, v.State)
		}
		return out
	}
	require.Equal(t, []string{"active", "active", "active", "destroyed", "active", "destroyed"}, states())
	w.ok("secrets/removeVersionLabel", `{"path":"/app/a","label":"blue"}`)
	w.put("/app/a", "seven")
	w.engine.Reap(t.Context())
	require.Equal(t, []string{"active", "active", "active", "destroyed", "destroyed", "destroyed", "destroyed"}, states())

	told := w.events(audit.Filter{Events: []string{"secrets.destroy_version"}, Path: "/app/a"})
	require.Len(t, told, 4)
	require.Equal(t, []any{"strongroom:leader", "keepVersions 3 of the rule /app/", uint64(3)}, []any{told[0].Principal, told[0].Reason, told[0].Version}, "1 was held then")
	last := into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":"/app/a"}`)).Versions[6]
	change := last.Changes[len(last.Changes)-1]
	require.Equal(t, []string{"destroyed", "strongroom:leader", "keepVersions 3 of the rule /app/"}, []string{change.What, change.By, change.Reason})
	before := w.log.proposed
	w.engine.Reap(t.Context())
	require.Equal(t, before, w.log.proposed, "and then it rests")
}
