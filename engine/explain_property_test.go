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
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

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
	rapid.Check(t, func(r *rapid.T) { holdSession(t, r) })
}

// The same over cases that never change, so what they reach never changes
// either: each reason of a denial. Chance alone misses one now and then.
func TestExplanationsAgreeOnEachOutcome(t *testing.T) {
	seen, needed := map[outcome]int{}, 0
	sessions := rapid.Custom(func(r *rapid.T) heard { return holdSession(t, r) })
	for seed := range 100 {
		one := sessions.Example(seed)
		for o, n := range one.seen {
			seen[o] += n
		}
		needed += one.needed
	}
	for _, reason := range []string{"iam", "boundary", "sourceAddress", "timeWindow", "approval"} {
		require.Positive(t, seen[outcome{decision: "deny", reason: reason}], "no denial for %s was met", reason)
	}
	require.Greater(t, seen[outcome{decision: "allow"}], 50)
	require.Greater(t, needed, 20, "sessions that were needed")
}

// heard is what came of the requests of one court, and how many of them
// needed a break-glass session.
type heard struct {
	seen   map[outcome]int
	needed int
}

// holdSession draws a court and requests, and holds what explain says of each
// against what is done.
func holdSession(t *testing.T, r *rapid.T) heard {
	out := heard{seen: map[outcome]int{}}
	c := newCourt(t, r)
	for range rapid.IntRange(3, 10).Draw(r, "requests") {
		c.setNow(c.now().Add(time.Duration(rapid.IntRange(0, 40).Draw(r, "minutes")) * time.Minute))
		c.source = netip.MustParseAddr(draw(r, "source", courtSources...))
		principal, a := draw(r, "asker", courtPrincipals...), c.ask()
		if often(r, "break glass", 3) {
			c.breakGlass(principal)
		}
		question := strings.TrimSuffix(fmt.Sprintf(`"principal":%q,"action":%q,"sourceAddress":%q,%s`, principal, a.action, c.source, a.about), ",")
		said := c.explainTo(`{%s}`, question)
		timed := c.explainTo(`{%s,"at":%q}`, question, c.now().Format("2006-01-02T15:04:05.000Z"))
		id, _, err := c.request(c.tokens[principal], a.operation, a.body)
		done := enforced(err)
		if event := c.events(audit.Filter{RequestID: id}); a.operation != "secrets/listSecrets" { // whose items are questions, too
			require.Equal(t, said.BreakGlass, event[len(event)-1].BreakGlassID, "%s %s: %s", principal, question, said.Text)
			if said.BreakGlass != "" {
				out.needed++
			}
		}
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
		out.seen[done]++
	}
	c.compareLists(draw(r, "read path", courtPaths...))
	return out
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
		c.setNow(c.now().Add(time.Millisecond))
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

// Whatever the rules are, in quarantine every question about a principal is
// denied for that reason and every request of it refused, and once it is
// released the rules say what they said before.
func TestInQuarantineNoRuleHasASay(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		c := newCourt(t, r)
		principal := draw(r, "principal", courtPrincipals...)
		// A quarantine ends its session for good: one before is as if there was none.
		c.ok("iam/quarantinePrincipal", `{"principal":%q,"reason":"drill"}`, principal)
		c.ok("iam/releasePrincipal", `{"principal":%q,"reason":"drill"}`, principal)
		var questions []string
		var before []outcome
		var asks []ask
		for range rapid.IntRange(1, 5).Draw(r, "questions") {
			a := c.ask()
			question := strings.TrimSuffix(fmt.Sprintf(`"principal":%q,"action":%q,%s`, principal, a.action, a.about), ",")
			asks, questions = append(asks, a), append(questions, question)
			before = append(before, explainedAs(c.explainTo(`{%s}`, question).Explanation))
		}
		c.ok("iam/quarantinePrincipal", `{"principal":%q,"reason":"drill"}`, principal)
		for i, question := range questions {
			said := c.explainTo(`{%s}`, question)
			require.Equal(r, outcome{decision: "deny", reason: "quarantined"}, explainedAs(said.Explanation), question)
			require.Contains(r, said.Text, "is in quarantine")
			_, _, err := c.request(c.tokens[principal], asks[i].operation, asks[i].body)
			require.True(r, fault.Is(err, fault.Unauthenticated), "%v", err)
			if !strings.Contains(asks[i].about, "tags") {
				who := into[wire.WhoCanResponse](t, c.ok("iam/whoCan", `{%s}`, strings.TrimSuffix(fmt.Sprintf(`"action":%q,%s`, asks[i].action, asks[i].about), ",")))
				require.False(r, slices.ContainsFunc(who.Principals, func(w wire.WhoCan) bool { return w.Principal == principal }), question)
			}
		}
		require.Empty(r, into[wire.WhatCanResponse](t, c.ok("iam/whatCan", `{"principal":%q,"values":true}`, principal)).Values)
		c.ok("iam/releasePrincipal", `{"principal":%q,"reason":"drill"}`, principal)
		for i, question := range questions {
			require.Equal(r, before[i], explainedAs(c.explainTo(`{%s}`, question).Explanation), question)
		}
	})
}
