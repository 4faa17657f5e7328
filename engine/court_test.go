package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// court is a world with random rules, and what the properties ask about.
type court struct {
	*world
	r      *rapid.T
	tokens map[string]string
	// sessions are the break-glass sessions that were opened last.
	sessions map[string]string
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
	c := &court{world: newWorld(t), r: r, tokens: map[string]string{}, sessions: map[string]string{}}
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
		if often(r, "base behind glass", 5) {
			c.ok("iam/attachPolicy", `{"policy":"base","principal":%q,"mode":"breakGlass"}`, p)
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
	c.ok("iam/putPolicy", `{"name":"opener","statements":[{"effect":"allow","actions":["iam:openBreakGlass"]}]}`)
	c.ok("iam/attachPolicy", `{"policy":"opener","group":"everyone"}`)
	for _, p := range courtPrincipals {
		if often(r, "glass", 5) {
			c.breakGlass(p)
		}
	}
	return c
}

// breakGlass opens a session of principal, or ends the one that is open. A
// boundary may forbid to open one, and nothing may be attached for it.
func (c *court) breakGlass(principal string) {
	if id := c.sessions[principal]; id != "" && often(c.r, "close", 5) {
		c.okAs(c.tokens[principal], "iam/closeBreakGlass", fmt.Sprintf(`{"breakGlassId":%q}`, id))
		c.sessions[principal] = ""
		return
	}
	answer, err := c.as(c.tokens[principal], "iam/openBreakGlass", fmt.Sprintf(`{"reason":"r","duration":"%dm"}`, rapid.IntRange(1, 120).Draw(c.r, "duration")))
	if err != nil {
		require.Contains(c.t, []fault.Kind{fault.AccessDenied, fault.InvalidRequest, fault.Conflict}, fault.KindOf(err), "%v", err)
		return
	}
	c.sessions[principal] = into[wire.OpenBreakGlassResponse](c.t, answer).BreakGlassID
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
	switch {
	case often(c.r, "boundary", 2):
		mode = "boundary"
	case often(c.r, "break-glass", 4):
		mode = "breakGlass"
	}
	holder := fmt.Sprintf(`"principal":%q`, draw(c.r, "principal", courtPrincipals...))
	switch rapid.IntRange(0, 4).Draw(c.r, "holder") {
	case 0:
		holder = fmt.Sprintf(`"group":%q`, draw(c.r, "group", courtGroups...))
	case 1:
		if mode != "boundary" { // a boundary of everyone would hold back the one who explains
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
		at := c.now().Add(time.Duration(rapid.IntRange(-1, 3).Draw(c.r, "hours")) * time.Hour).Format(time.RFC3339)
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
		from := c.now().Add(time.Duration(rapid.IntRange(-1, 3).Draw(c.r, "from")) * time.Hour)
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
