package iam_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
)

// restricted allows all there is: what denies below is the access policy.
func restricted(t *testing.T, documents ...iam.AccessDocument) iam.Rules {
	r := rules(compile(t, "p", allow(list("*"))))
	var all []*iam.AccessPolicy
	for _, d := range documents {
		if d.Name == "" {
			d.Name = "ap"
		}
		if d.Paths == nil {
			d.Paths = list("/**")
		}
		all = append(all, compileAccess(t, d))
	}
	r.Access = iam.Accesses(all...)
	return r
}

func from(q iam.Question, source string) iam.Question {
	q.Source = netip.MustParseAddr(source)
	return q
}

func at(q iam.Question, when time.Time) iam.Question {
	q.At = when
	return q
}

// A restriction never grants: alone it leaves everything denied.
func TestAnAccessPolicyGrantsNothing(t *testing.T) {
	r := restricted(t, iam.AccessDocument{SourceCIDRs: list("0.0.0.0/0", "::/0")})
	r.Policies = nil
	require.Equal(t, iam.Decision{Reason: iam.ReasonIAM}, iam.Decide(r, about("secrets:getSecretValue", "/a")))
}

func TestSourceMustBeInAnyOfTheRanges(t *testing.T) {
	r := restricted(t, iam.AccessDocument{SourceCIDRs: list("10.0.0.0/8", "2001:db8::/32")})
	q := about("secrets:getSecretValue", "/a")
	for source, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "2001:db8::1": true,
		"11.1.2.3": false, "::ffff:11.1.2.3": false, "2001:db9::1": false, "::a01:203": false, "127.0.0.1": false, "::1": false,
	} {
		d := iam.Decide(r, from(q, source))
		require.Equal(t, want, d.Allowed, source)
		if !want {
			require.Equal(t, iam.ReasonSource, d.Reason)
			require.Equal(t, iam.Step{Policy: "ap", Access: true, Effect: iam.Deny, Action: "default actions", Matched: "path /**", Unmet: "sourceCidrs"}, d.Chain[1])
		}
	}
	q.Source = netip.Addr{}
	require.Equal(t, iam.ReasonSource, iam.Decide(r, q).Reason, "an unknown source is not a trusted one")
}

// NotBefore is the first instant of access, NotAfter the first without.
func TestWindowsAreClosedAtTheStartAndOpenAtTheEnd(t *testing.T) {
	end := noon.Add(time.Hour)
	r := restricted(t, iam.AccessDocument{NotBefore: noon, NotAfter: end})
	q := about("secrets:getSecretValue", "/a")
	for when, want := range map[time.Time]bool{
		noon.Add(-1): false, noon: true, noon.Add(1): true, end.Add(-1): true, end: false, end.Add(1): false,
		noon.In(time.FixedZone("far", 13*3600)): true, // an instant, not a clock face
	} {
		d := iam.Decide(r, at(q, when))
		require.Equal(t, want, d.Allowed, when)
		switch {
		case want:
			require.Empty(t, d.Reason)
		case when.Before(noon):
			require.Equal(t, iam.ReasonWindow, d.Reason)
			require.Equal(t, noon, d.OpensAt)
		default:
			require.Equal(t, iam.ReasonWindow, d.Reason)
			require.Zero(t, d.OpensAt, "it never opens again")
		}
	}
	// One bound alone leaves the other side open.
	require.True(t, allowed(restricted(t, iam.AccessDocument{NotBefore: noon}), at(q, noon.AddDate(1000, 0, 0))))
	require.True(t, allowed(restricted(t, iam.AccessDocument{NotAfter: noon}), at(q, noon.AddDate(-1000, 0, 0))))
}

func TestEveryAccessPolicyThatMatchesMustBeSatisfied(t *testing.T) {
	place := iam.AccessDocument{Name: "place", SourceCIDRs: list("10.0.0.0/8")}
	hours := iam.AccessDocument{Name: "hours", NotBefore: noon}
	q := about("secrets:getSecretValue", "/a")
	for _, documents := range [][]iam.AccessDocument{{place, hours}, {hours, place}} {
		r := restricted(t, documents...)
		require.True(t, allowed(r, q))
		require.False(t, allowed(r, from(q, "192.0.2.1")))
		require.False(t, allowed(r, at(q, noon.Add(-1))))

		// Who asks from a wrong place need not be told when to come back.
		d := iam.Decide(r, from(at(q, noon.Add(-1)), "192.0.2.1"))
		require.Equal(t, iam.ReasonSource, d.Reason)
		require.Zero(t, d.OpensAt)
		require.Len(t, d.Chain, 3)
	}
}

// A policy that is satisfied now and ends before the other one begins leaves
// nothing to come back for.
func TestOpensAtIsNotToldWhenAnotherPolicyHasEndedByThen(t *testing.T) {
	q := about("secrets:getSecretValue", "/a")
	later := iam.AccessDocument{Name: "later", NotBefore: noon.Add(2 * time.Hour)}
	for end, opens := range map[time.Duration]time.Time{
		time.Hour:     {},
		2 * time.Hour: {}, // the instant at which both could meet is already outside
		3 * time.Hour: later.NotBefore,
	} {
		r := restricted(t, later, iam.AccessDocument{Name: "ends", NotAfter: noon.Add(end)})
		d := iam.Decide(r, q)
		require.Equal(t, iam.ReasonWindow, d.Reason)
		require.Equal(t, opens, d.OpensAt, end)
	}
	// Of several that have not begun, the last one opens the door.
	r := restricted(t, later, iam.AccessDocument{Name: "soon", NotBefore: noon.Add(time.Hour)})
	require.Equal(t, later.NotBefore, iam.Decide(r, q).OpensAt)
}

func TestAccessPoliciesApplyByPathActionAndPrincipal(t *testing.T) {
	r := restricted(t, iam.AccessDocument{
		Paths: list("/app/prod/**"), Actions: list("secrets:getSecretValue"), Principals: list("web", "batch"), SourceCIDRs: list("192.0.2.0/24"),
	})
	q := about("secrets:getSecretValue", "/app/prod/web/key")
	require.False(t, allowed(r, q))
	require.True(t, allowed(r, from(q, "192.0.2.7")))
	require.True(t, allowed(r, about("secrets:getSecretValue", "/app/dev/web/key")))
	require.True(t, allowed(r, about("secrets:putSecretValue", "/app/prod/web/key")))
	q.Principal = "batch"
	require.False(t, allowed(r, q))
	q.Principal = "webs"
	require.True(t, allowed(r, q))
	// It is about paths: what has none is none of its business.
	q = aboutKey("kms:decrypt", keyA)
	q.Resource.Path = ""
	require.True(t, allowed(restricted(t, iam.AccessDocument{Actions: list("*"), SourceCIDRs: list("192.0.2.0/24")}), q))
}

// Without a list of actions it is those that reveal a value or change which
// one a reader gets; browsing goes on.
func TestDefaultActionsAreThoseThatRevealOrChange(t *testing.T) {
	r := restricted(t, iam.AccessDocument{SourceCIDRs: list("192.0.2.0/24")})
	var free []string
	for _, action := range everyAction() {
		if strings.HasPrefix(string(action), "secrets:") && allowed(r, about(action, "/a")) {
			free = append(free, strings.TrimPrefix(string(action), "secrets:"))
		}
	}
	require.Equal(t, list("describeSecret", "getUsage", "listConsumers", "listSecretVersions", "listSecrets", "manageCanaries", "managePathRules", "markCompromised", "requestApproval", "updateSecret"), free)

	for _, actions := range [][]string{list("*"), list("secrets:*")} {
		r := restricted(t, iam.AccessDocument{Actions: actions, SourceCIDRs: list("192.0.2.0/24")})
		for _, action := range everyAction() {
			if strings.HasPrefix(string(action), "secrets:") {
				require.Equal(t, iam.ReasonSource, iam.Decide(r, about(action, "/a")).Reason, action)
			}
		}
	}
}

func TestErrorsOfAccessPoliciesNameFieldAndIndex(t *testing.T) {
	for _, c := range []struct {
		change      func(*iam.AccessDocument)
		field, want string
	}{
		{func(d *iam.AccessDocument) { d.Name = "" }, "name", "must not be empty"},
		{func(d *iam.AccessDocument) { d.Name = "a/b" }, "name", "has the byte 0x2f at offset 1"},
		{func(d *iam.AccessDocument) { d.Paths = nil }, "paths", `at least one is needed; "/**" is every path`},
		{func(d *iam.AccessDocument) { d.Paths = list("/a", "b") }, "paths[1]", "must start with '/'"},
		{func(d *iam.AccessDocument) { d.Paths = slices.Repeat(list("/a"), 257) }, "paths", "has 257 entries; at most 256 are allowed"},
		{func(d *iam.AccessDocument) { d.Actions = list("secrets:getSecretValue", "read") }, "actions[1]", `"read" is not an action`},
		{func(d *iam.AccessDocument) { d.Actions = list("*", "kms:decrypt") }, "actions[1]", `"kms:decrypt" is not about a path; access policies restrict actions of secrets`},
		{func(d *iam.AccessDocument) { d.Actions = list("iam:*") }, "actions[0]", `"iam:*" is not about a path`},
		{func(d *iam.AccessDocument) { d.Actions = slices.Repeat(list("*"), 257) }, "actions", "has 257 entries"},
		{func(d *iam.AccessDocument) { d.Principals = list("web", "*") }, "principals[1]", "has the byte 0x2a at offset 0"},
		{func(d *iam.AccessDocument) { d.Principals = list("") }, "principals[0]", "must not be empty"},
		{func(d *iam.AccessDocument) { d.Principals = slices.Repeat(list("web"), 257) }, "principals", "has 257 entries"},
		{func(d *iam.AccessDocument) { d.SourceCIDRs = list("10.0.0.0/8", "10.1.2.3") }, "sourceCidrs[1]", "write 10.1.2.3/32"},
		{func(d *iam.AccessDocument) { d.SourceCIDRs = list("10.1.0.0/8") }, "sourceCidrs[0]", "has bits set beyond its length; write 10.0.0.0/8"},
		{func(d *iam.AccessDocument) { d.SourceCIDRs = list("fe80::%eth0/10") }, "sourceCidrs[0]", "is not a CIDR range without a zone"},
		{func(d *iam.AccessDocument) { d.SourceCIDRs = slices.Repeat(list("::/0"), 257) }, "sourceCidrs", "has 257 entries"},
		{func(d *iam.AccessDocument) { d.NotBefore, d.NotAfter = noon, noon }, "notAfter", "must be later than notBefore"},
		{func(d *iam.AccessDocument) { d.NotBefore, d.NotAfter = noon, noon.Add(-1) }, "notAfter", "must be later than notBefore"},
		{func(d *iam.AccessDocument) { d.SourceCIDRs = nil }, "sourceCidrs", "nothing would be restricted"},
		{func(d *iam.AccessDocument) { d.SourceCIDRs = list() }, "sourceCidrs", "nothing would be restricted"},
	} {
		d := iam.AccessDocument{Name: "ap", Paths: list("/a"), SourceCIDRs: list("10.0.0.0/8")}
		require.Equal(t, "ap", compileAccess(t, d).Name())
		c.change(&d)
		p, err := iam.CompileAccessPolicy(catalogue, d)
		requireInvalid(t, err, c.field, c.want)
		require.Nil(t, p)
	}
}
