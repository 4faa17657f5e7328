package engine_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// court is a world with random rules, and what the properties ask about.
type court struct {
	*world
	r      *rapid.T
	tokens map[string]string
}

var (
	courtPrincipals = []string{"ann", "bob", "web"}
	courtGroups     = []string{"ops", "dev"}
	courtPaths      = []string{"/a/b", "/a/b/c", "/a/d", "/b/c"}
	courtPolicies   = []string{"p0", "p1", "p2", "p3", "p4"}
	courtSources    = []string{"10.1.2.3", "192.0.2.7", "2001:db8::1"}
)

// courtWindow opens and closes while a court sits.
const courtWindow = `{"days":[],"from":"06:00","to":"08:30","timezone":"UTC"}`

func draw[T any](r *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(r, label)
}

// often is true n times out of ten.
func often(r *rapid.T, label string, n int) bool { return rapid.IntRange(0, 9).Draw(r, label) < n }

func newCourt(t testing.TB, r *rapid.T) *court {
	c := &court{world: newWorld(t), r: r, tokens: map[string]string{}}
	for i, path := range courtPaths {
		c.ok("secrets/createSecret", `{"path":%q,"value":%q,"tags":{"tier":"%d"}}`, path, b64("v"), i%2)
	}
	for _, g := range courtGroups {
		c.ok("iam/createGroup", `{"name":%q}`, g)
	}
	for i, p := range courtPrincipals {
		c.ok("iam/createPrincipal", `{"name":%q,"kind":%q}`, p, []string{"user", "service"}[i%2])
		c.tokens[p] = c.tokenOf(p)
	}
	for _, p := range courtPolicies {
		c.policy(p)
	}
	// Half of them may much, so that what restricts has something to restrict.
	c.ok("iam/putPolicy", `{"name":"base","statements":[{"effect":"allow","actions":["secrets:*"],"paths":["/**"]}]}`)
	for _, p := range courtPrincipals {
		if often(r, "base", 5) {
			c.ok("iam/attachPolicy", `{"policy":"base","principal":%q}`, p)
		}
	}
	for range rapid.IntRange(2, 8).Draw(r, "attachments") {
		c.attach()
	}
	for range rapid.IntRange(0, 3).Draw(r, "memberships") {
		c.try("iam/addToGroup", `{"group":%q,"principal":%q%s}`, draw(r, "group", courtGroups...), draw(r, "member", courtPrincipals...), c.ttl())
	}
	for i := range rapid.IntRange(0, 3).Draw(r, "access") {
		c.accessPolicy(fmt.Sprint("access", i))
	}
	return c
}

// try sends what may be refused: a grant for some time of what is there for
// good already.
func (c *court) try(operation, format string, args ...any) {
	if _, err := c.as(c.admin, operation, fmt.Sprintf(format, args...)); err != nil {
		require.Equal(c.t, fault.Conflict, fault.KindOf(err), "%v", err)
	}
}

func (c *court) ttl() string {
	if often(c.r, "for good", 7) {
		return ""
	}
	return fmt.Sprintf(`,"ttl":"%dh"`, rapid.IntRange(1, 3).Draw(c.r, "ttl"))
}

func (c *court) attach() {
	policy, mode := draw(c.r, "policy", courtPolicies...), "grant"
	if often(c.r, "boundary", 2) {
		mode = "boundary"
	}
	holder := fmt.Sprintf(`"principal":%q`, draw(c.r, "principal", courtPrincipals...))
	switch rapid.IntRange(0, 4).Draw(c.r, "holder") {
	case 0:
		holder = fmt.Sprintf(`"group":%q`, draw(c.r, "group", courtGroups...))
	case 1:
		if mode == "grant" { // a boundary of everyone would hold back the one who explains
			holder = `"group":"everyone"`
		}
	}
	c.try("iam/attachPolicy", `{"policy":%q,%s,"mode":%q%s}`, policy, holder, mode, c.ttl())
}

func (c *court) policy(name string) {
	var statements []string
	for range rapid.IntRange(1, 3).Draw(c.r, "statements") {
		statements = append(statements, c.statement())
	}
	c.ok("iam/putPolicy", `{"name":%q,"reportOnly":%v,"statements":[%s]}`, name, often(c.r, "reports", 1), strings.Join(statements, ","))
}

func (c *court) statement() string {
	effect := draw(c.r, "effect", "allow", "allow", "allow", "allow", "deny", "requireApproval")
	more := ""
	if effect == "requireApproval" {
		more += `,"approval":{"groups":["ops"]}`
	}
	about := draw(c.r, "about", `"actions":["secrets:*"],"paths":[%q]`, `"roles":["secrets-value-access"],"paths":[%q]`,
		`"actions":["secrets:describeSecret","secrets:createSecret","secrets:listSecrets"],"paths":[%q]`)
	about = fmt.Sprintf(about, draw(c.r, "pattern", "/a/**", "/a/b", "/*/b/*", "/**", "/b/**", "/a/*"))
	switch {
	case often(c.r, "keys", 2):
		about = `"actions":["kms:encrypt"],"keys":["alias/default"]`
	case effect == "allow" && often(c.r, "cluster", 1):
		about = `"actions":["iam:listPolicies"]`
	}
	if often(c.r, "conditions", 4) {
		more += `,"conditions":` + c.conditions(strings.Contains(about, "paths"))
	}
	return fmt.Sprintf(`{"effect":%q,%s%s}`, effect, about, more)
}

func (c *court) conditions(tags bool) string {
	out := []string{draw(c.r, "condition", `"sourceCidrs":["10.0.0.0/8"]`, `"sourceCidrs":["192.0.2.0/24","2001:db8::/32"]`,
		`"authMethods":["token"]`, `"authMethods":["oidc"]`, `"groups":["ops"]`, `"groups":["dev","none"]`, `"timeWindows":[`+courtWindow+`]`)}
	if often(c.r, "time", 3) {
		at := c.now.Add(time.Duration(rapid.IntRange(-1, 3).Draw(c.r, "hours")) * time.Hour).Format(time.RFC3339)
		out = append(out, fmt.Sprintf(`%q:%q`, draw(c.r, "bound", "notBefore", "notAfter"), at))
	}
	if tags && often(c.r, "tags", 3) {
		out = append(out, fmt.Sprintf(`"tags":{"tier":[%q]}`, draw(c.r, "tier", "0", "1", "*", "9")))
	}
	return "{" + strings.Join(out, ",") + "}"
}

func (c *court) accessPolicy(name string) {
	limit := draw(c.r, "limit", `"timeWindows":[`+courtWindow+`]`, `"sourceCidrs":["10.0.0.0/8"]`, `"sourceCidrs":["192.0.2.0/24","10.0.0.0/8"]`, "")
	if limit == "" || often(c.r, "window", 5) {
		from := c.now.Add(time.Duration(rapid.IntRange(-1, 3).Draw(c.r, "from")) * time.Hour)
		limit = strings.TrimPrefix(limit+fmt.Sprintf(`,"notBefore":%q`, from.Format(time.RFC3339)), ",")
		if often(c.r, "ends", 5) {
			limit += fmt.Sprintf(`,"notAfter":%q`, from.Add(time.Hour).Format(time.RFC3339))
		}
	}
	who := ""
	if often(c.r, "some", 5) {
		who = fmt.Sprintf(`,"principals":[%q]`, draw(c.r, "who", courtPrincipals...))
	}
	c.ok("iam/putAccessPolicy", `{"name":%q,"paths":[%q],%s%s}`, name, draw(c.r, "paths", "/**", "/a/**", "/b/c"), limit, who)
}

// ask is a request, and the question that it asks.
type ask struct{ operation, body, action, about string }

func (c *court) ask() ask {
	path := draw(c.r, "path", append(slices.Clone(courtPaths), "/a/none", "/c")...)
	at := fmt.Sprintf(`"path":%q`, path)
	switch rapid.IntRange(0, 6).Draw(c.r, "ask") {
	case 0:
		return ask{"secrets/describeSecret", "{" + at + "}", "secrets:describeSecret", at}
	case 1:
		tags := fmt.Sprintf(`"tags":{"tier":%q}`, draw(c.r, "new tier", "0", "1", "9"))
		fresh := fmt.Sprintf(`"path":"/a/new%d"`, rapid.IntRange(0, 1<<30).Draw(c.r, "new"))
		return ask{"secrets/createSecret", "{" + fresh + "," + tags + "}", "secrets:createSecret", fresh + "," + tags}
	case 2:
		return ask{"secrets/listSecrets", "{}", "secrets:listSecrets", ""}
	case 3:
		return ask{"kms/encrypt", `{"keyId":"alias/default","plaintext":"eA=="}`, "kms:encrypt", `"keyId":"alias/default"`}
	case 4:
		return ask{"iam/listPolicies", "{}", "iam:listPolicies", ""}
	}
	return ask{"secrets/getSecretValue", "{" + at + "}", "secrets:getSecretValue", at}
}

// outcome is what an explanation and an enforcement have in common.
type outcome struct{ decision, reason, opensAt string }

func enforced(err error) outcome {
	if !fault.Is(err, fault.AccessDenied) {
		return outcome{decision: "allow"}
	}
	var f *fault.Error
	errors.As(err, &f)
	opens, _ := f.Details["opensAt"].(string)
	return outcome{"deny", fmt.Sprint(f.Details["reason"]), opens}
}

func explainedAs(e wire.Explanation) outcome {
	out := outcome{decision: e.Decision, reason: e.Reason}
	if e.OpensAt != nil {
		out.opensAt = e.OpensAt.String()
	}
	return out
}

func (c *court) explainTo(format string, args ...any) wire.ExplainResponse {
	at := c.source
	defer func() { c.source = at }()
	c.source = netip.MustParseAddr("203.0.113.1") // whoever explains is somewhere else
	return c.explain(format, args...)
}

// Whatever the rules are, explain says what enforcement does and why; the
// trail says it later; whoCan and whatCan agree with it.
func TestExplanationsAgreeWithEnforcement(t *testing.T) {
	seen := map[outcome]int{}
	rapid.Check(t, func(r *rapid.T) {
		c := newCourt(t, r)
		for range rapid.IntRange(3, 10).Draw(r, "requests") {
			c.now = c.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(r, "minutes")) * time.Minute)
			c.source = netip.MustParseAddr(draw(r, "source", courtSources...))
			principal, a := draw(r, "asker", courtPrincipals...), c.ask()
			question := strings.TrimSuffix(fmt.Sprintf(`"principal":%q,"action":%q,"sourceAddress":%q,%s`, principal, a.action, c.source, a.about), ",")
			said := c.explainTo(`{%s}`, question)
			timed := c.explainTo(`{%s,"at":%q}`, question, c.now.Format("2006-01-02T15:04:05.000Z"))
			_, err := c.as(c.tokens[principal], a.operation, a.body)
			done := enforced(err)
			require.Equal(t, done, explainedAs(said.Explanation), "%s %s: %s", principal, question, said.Text)
			require.Equal(t, said.Explanation, timed.Explanation, "now is a time like any other")
			if done.decision == "deny" {
				kept := c.explainTo(`{"decisionId":%q}`, decisionOf(t, err))
				require.Equal(t, done, explainedAs(kept.Explanation))
				require.Equal(t, said.Chain, kept.Chain)
				require.Equal(t, said.Report, kept.Report)
				if a.operation != "secrets/createSecret" { // whose tags are not in the trail
					require.Equal(t, done, explainedAs(*kept.Now))
				}
			}
			done.opensAt = ""
			seen[done]++
		}
		c.compareLists(draw(r, "read path", courtPaths...))
	})
	for _, reason := range []string{"iam", "boundary", "sourceAddress", "timeWindow", "approval"} {
		require.Positive(t, seen[outcome{decision: "deny", reason: reason}], "no denial for %s was met", reason)
	}
	require.Greater(t, seen[outcome{decision: "allow"}], 50)
}

// compareLists holds whoCan and whatCan against requests.
func (c *court) compareLists(path string) {
	who := map[string]string{}
	for _, p := range into[wire.WhoCanResponse](c.t, c.ok("iam/whoCan", `{"action":"secrets:getSecretValue","path":%q}`, path)).Principals {
		who[p.Principal] = p.Decision
		require.NotEmpty(c.t, p.By, "%+v", p)
	}
	for _, p := range courtPrincipals {
		_, err := c.as(c.tokens[p], "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path))
		require.Equal(c.t, enforced(err).decision == "allow", who[p] == "allow", "%s is listed as %q", p, who[p])
		var readable []string
		for _, v := range into[wire.WhatCanResponse](c.t, c.ok("iam/whatCan", `{"principal":%q,"values":true}`, p)).Values {
			readable = append(readable, v.Path)
		}
		rights := into[wire.WhatCanResponse](c.t, c.ok("iam/whatCan", `{"principal":%q}`, p))
		for _, one := range courtPaths {
			_, err := c.as(c.tokens[p], "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, one))
			may := enforced(err).decision == "allow"
			listable := !fault.Is(c.listed(one), fault.NotFound)
			require.Equal(c.t, may && listable, slices.Contains(readable, one), "%s %s", p, one)
			if may {
				require.True(c.t, reaches(rights, "secrets:getSecretValue", one), "%s %s %+v", p, one, rights.Actions)
			}
		}
	}
}

// listed answers NotFound if the administrator may not list the secret: what
// denies everyone denies the administrator, too.
func (c *court) listed(path string) error {
	list := into[wire.ExplainResponse](c.t, c.ok("iam/explain", `{"principal":"admin","action":"secrets:listSecrets","path":%q}`, path))
	if list.Decision != "allow" {
		return fault.New(fault.NotFound, "not listed")
	}
	return nil
}

func reaches(rights wire.WhatCanResponse, action, path string) bool {
	return slices.ContainsFunc(rights.Actions, func(a wire.ActionReach) bool {
		return a.Action == action && slices.ContainsFunc(a.On, func(on string) bool {
			pattern, err := names.ParsePattern(on)
			return err == nil && pattern.Match(names.Path(path))
		})
	})
}

// Whoever whoCan leaves out may not, from any address, by any way to
// authenticate, whoever approves, whatever tags the secret has.
func TestWhoIsLeftOutMayUnderNoCircumstances(t *testing.T) {
	left, might := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		c := newCourt(t, r)
		path := draw(r, "path", courtPaths...)
		listed := map[string]bool{}
		for _, p := range into[wire.WhoCanResponse](t, c.ok("iam/whoCan", `{"action":"secrets:getSecretValue","path":%q}`, path)).Principals {
			listed[p.Principal] = true
			if p.Decision == "conditional" {
				require.NotEmpty(t, p.Lacks)
				might++
			}
		}
		for _, p := range courtPrincipals {
			if listed[p] {
				continue
			}
			left++
			for range 8 {
				question := fmt.Sprintf(`{"principal":%q,"action":"secrets:getSecretValue","path":%q,"sourceAddress":%q,"authMethod":%q,"approvedBy":%s,"tags":{"tier":%q}}`,
					p, path, draw(r, "from", courtSources...), draw(r, "method", "token", "oidc"), draw(r, "approved", `[]`, `["ann","bob","web"]`), draw(r, "tier", "0", "1", "9"))
				require.Equal(t, "deny", c.explain("%s", question).Decision, "%s", question)
			}
		}
	})
	require.Positive(t, left)
	require.Positive(t, might)
}

// What a simulation says of random changes is what happens when they are made
// and the same requests are sent again.
func TestSimulationsAgreeWithWhatHappens(t *testing.T) {
	changed := 0
	rapid.Check(t, func(r *rapid.T) {
		c := newCourt(t, r)
		type asked struct{ principal, path string }
		before := map[asked]bool{}
		may := func(a asked) bool {
			_, err := c.as(c.tokens[a.principal], "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, a.path))
			return enforced(err).decision == "allow"
		}
		for range rapid.IntRange(1, 8).Draw(r, "requests") {
			a := asked{draw(r, "asker", courtPrincipals...), draw(r, "asked", courtPaths...)}
			before[a] = may(a)
		}
		c.now = c.now.Add(time.Millisecond)
		name := draw(r, "changed", courtPolicies...)
		change := fmt.Sprintf(`"name":%q,"statements":[%s]`, name, c.statement())
		said := into[wire.SimulatePolicyResponse](t, c.ok("iam/simulatePolicy", `{%s}`, change))
		want := map[asked]bool{} // who would be answered otherwise
		for _, l := range said.Loses {
			want[asked{l.Principal, l.Path}] = false
		}
		for _, g := range said.Gains {
			want[asked{g.Principal, g.Path}] = true
		}
		c.ok("iam/putPolicy", `{%s}`, change)
		for a, could := range before {
			can := may(a)
			would, otherwise := want[a]
			require.Equal(t, can != could, otherwise, "%+v", a)
			if otherwise {
				changed++
				require.Equal(t, can, would, "%+v", a)
			}
		}
	})
	require.Positive(t, changed)
}
